// Package keyset holds the public keys that somebody signs tokens with.
//
// [Parse] and [ParsePEM] read a published document into a bounded list of keys
// that can verify signatures; what they do not understand they leave out
// (RFC 7517 section 5). A [Set] is such a list behind a URL: fetched when it is
// needed, by one caller for all, at most once per interval however many bad
// tokens arrive; withdrawn keys are forgotten; keys that cannot be refreshed are
// used for a bounded time and no longer.
//
// The package does no HTTP and no cryptography of its own: it is handed how to
// fetch, and how to check one key. Headers of a token that name keys (jku, jwk,
// x5u, x5c) have no way in.
package keyset

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

const (
	// MaxKeys is how many keys of one document are kept; the rest is ignored.
	MaxKeys = 100
	// MaxDocument is the longest document that is looked at, in bytes.
	MaxDocument = 1 << 20
)

// Key is a public key for signatures: an *[rsa.PublicKey] of 2048 to 8192 bits,
// an *[ecdsa.PublicKey] on a NIST curve, or an [ed25519.PublicKey].
type Key struct {
	// ID is the kid; empty if the document gives none.
	ID string
	// Algorithm is the only one the key may be used with; empty for any that
	// its type allows.
	Algorithm string
	Public    any
}

// For reports whether a signature of alg (RFC 7518 section 3.1, RFC 8037 section
// 3.1) can be of this key.
func (k Key) For(alg string) bool {
	if k.Algorithm != "" && k.Algorithm != alg {
		return false
	}
	switch public := k.Public.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(alg, "RS") || strings.HasPrefix(alg, "PS")
	case *ecdsa.PublicKey:
		return alg == map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[public.Curve.Params().BitSize]
	case ed25519.PublicKey:
		return alg == "EdDSA"
	}
	return false
}

// Parse reads a JWK Set (RFC 7517 section 5). It is an error if no key in it
// can be used. The error quotes nothing of the document.
func Parse(document []byte) ([]Key, error) {
	if len(document) > MaxDocument {
		return nil, errors.New("key set is too large")
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(document, &set); err != nil {
		return nil, errors.New("key set is not the JSON it should be")
	}
	var keys []Key
	for _, encoded := range set.Keys {
		if len(keys) == MaxKeys {
			break
		}
		var key jose.JSONWebKey
		if json.Unmarshal(encoded, &key) == nil && (key.Use == "" || key.Use == "sig") && usable(key.Key) {
			keys = append(keys, Key{ID: key.KeyID, Algorithm: key.Algorithm, Public: key.Key})
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("key set has no usable key")
	}
	return keys, nil
}

// ParsePEM reads public keys and certificates from PEM; of a certificate only
// the key counts: neither its dates nor its issuer are checked. A private key is
// an error, and so is a document without any key, or with one that cannot be used.
func ParsePEM(document []byte) ([]Key, error) {
	if len(document) > MaxDocument {
		return nil, errors.New("PEM is too large")
	}
	var keys []Key
	for block, rest := pem.Decode(document); block != nil && len(keys) < MaxKeys; block, rest = pem.Decode(rest) {
		public, err := publicKey(block)
		if err != nil {
			return nil, err
		}
		if !usable(public) {
			return nil, errors.New("PEM has a key that is too short, or of a kind not used for signatures")
		}
		keys = append(keys, Key{Public: public})
	}
	if len(keys) == 0 {
		return nil, errors.New("PEM has no public key")
	}
	return keys, nil
}

func publicKey(block *pem.Block) (any, error) {
	switch block.Type {
	case "PUBLIC KEY":
		if key, err := x509.ParsePKIXPublicKey(block.Bytes); err == nil {
			return key, nil
		}
	case "RSA PUBLIC KEY":
		if key, err := x509.ParsePKCS1PublicKey(block.Bytes); err == nil {
			return key, nil
		}
	case "CERTIFICATE":
		if certificate, err := x509.ParseCertificate(block.Bytes); err == nil {
			return certificate.PublicKey, nil
		}
	default:
		return nil, errors.New("PEM has something that is neither a public key nor a certificate")
	}
	return nil, errors.New("PEM has a public key or certificate that cannot be read")
}

// usable wants a public key for signatures. Private and symmetric keys have no
// business in a public document.
func usable(key any) bool {
	switch public := key.(type) {
	case *rsa.PublicKey:
		return public.N.BitLen() >= 2048 && public.N.BitLen() <= 8192
	case *ecdsa.PublicKey:
		return public.Curve == elliptic.P256() || public.Curve == elliptic.P384() || public.Curve == elliptic.P521()
	case ed25519.PublicKey:
		return true
	}
	return false
}
