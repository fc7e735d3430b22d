package oidcsim

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"

	"github.com/go-jose/go-jose/v4"
)

// signingKey is a private key and its key id.
type signingKey struct {
	id  string
	key crypto.Signer
}

// RotateKey makes a new signing key. The old ones stay in the key set, so tokens
// signed with them still verify, until [Provider.DropOldKeys].
func (p *Provider) RotateKey() error {
	key, err := p.newKey()
	if err != nil {
		return fmt.Errorf("oidcsim: make signing key: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = append([]signingKey{{id: p.random()[:12], key: key}}, p.keys...)
	return nil
}

// DropOldKeys takes all keys but the newest out of the key set.
func (p *Provider) DropOldKeys() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = p.keys[:1]
}

func (p *Provider) newKey() (crypto.Signer, error) {
	if p.cfg.Algorithm == "RS256" {
		return rsa.GenerateKey(p.cfg.Rand, 2048)
	}
	return ecdsa.GenerateKey(elliptic.P256(), p.cfg.Rand)
}

func (p *Provider) serveJWKS(w http.ResponseWriter, r *http.Request) {
	if !method(w, r, http.MethodGet) {
		return
	}
	writeJSON(w, http.StatusOK, p.keySet())
}

func (p *Provider) keySet() jose.JSONWebKeySet {
	p.mu.Lock()
	defer p.mu.Unlock()
	var set jose.JSONWebKeySet
	for _, k := range p.keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.key.Public(), KeyID: k.id, Algorithm: p.cfg.Algorithm, Use: "sig"})
	}
	return set
}

// signed returns claims as a JWT of a kind (typ), signed as the faults demand.
func (p *Provider) signed(claims map[string]any, kind string) (string, error) {
	p.mu.Lock()
	key, forgery := p.keys[0], p.faults.Signature
	p.mu.Unlock()
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encode claims: %w", err)
	}
	switch forgery {
	case SignNone:
		return unsigned(payload), nil
	case SignHS256WithPublicKey:
		return signedWithPublicKey(payload, kind, key)
	case SignOtherKey:
		other, err := p.newKey()
		if err != nil {
			return "", err
		}
		key.key = other
	case SignHonestly:
	}
	return sign(payload, kind, jose.SignatureAlgorithm(p.cfg.Algorithm), key.key, key.id)
}

func sign(payload []byte, kind string, algorithm jose.SignatureAlgorithm, key any, id string) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: key, KeyID: id}},
		(&jose.SignerOptions{}).WithType(jose.ContentType(kind)))
	if err != nil {
		return "", fmt.Errorf("make signer: %w", err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	return jws.CompactSerialize()
}

// unsigned is the oldest JWT attack: the algorithm "none" (RFC 8725 section 2.1).
func unsigned(payload []byte) string {
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`)) + "." +
		base64.RawURLEncoding.EncodeToString(payload) + "."
}

// signedWithPublicKey is the second oldest: HMAC with the text of the public
// key as the secret (RFC 8725 section 2.1).
func signedWithPublicKey(payload []byte, kind string, key signingKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key.key.Public())
	if err != nil {
		return "", fmt.Errorf("encode public key: %w", err)
	}
	return sign(payload, kind, jose.HS256, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), key.id)
}

// accessTokenHash is at_hash (OpenID Connect Core 1.0 section 3.1.3.6); both
// algorithms on offer hash with SHA-256.
func accessTokenHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2])
}

// readHint verifies a token of ours, expired or not, and returns its claims.
func (p *Provider) readHint(token string) (map[string]any, bool) {
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(p.cfg.Algorithm)})
	if err != nil || len(jws.Signatures) != 1 {
		return nil, false
	}
	set := p.keySet()
	for _, key := range set.Key(jws.Signatures[0].Header.KeyID) {
		payload, err := jws.Verify(key)
		if err != nil {
			continue
		}
		var claims map[string]any
		if json.Unmarshal(payload, &claims) == nil {
			return claims, true
		}
	}
	return nil, false
}
