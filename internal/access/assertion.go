package access

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// Assertions signs short-lived JWTs (RFC 7519, ES256) about who asks, and shows
// the keys to verify them with as a JWK Set (RFC 7517).
//
// The signing keys are derived from the master secrets, so replicas have the
// same; the newest signs, all are shown. An assertion names the identity's own
// issuer in the claim "idp", since sub is unique only together with it.
type Assertions struct {
	cfg    AssertionConfig
	issuer string
	clock  func() time.Time
	keys   []signingKey // newest first
	jwks   []byte

	mu     sync.Mutex
	signed map[string]signedAssertion // by identity key and claims
}

type signingKey struct {
	id      string
	private *ecdsa.PrivateKey
}

type signedAssertion struct {
	text  secret.Text
	until time.Time
}

// signedLimit bounds the assertions remembered: about 1 KiB each.
const signedLimit = 10_000

// NewAssertions derives the keys from secrets, newest first. issuer is our
// public origin. It returns nil if cfg is not enabled.
func NewAssertions(cfg AssertionConfig, issuer string, secrets []secret.Text, clock func() time.Time) (*Assertions, error) {
	if !cfg.Enabled {
		return nil, nil
	}
	if len(secrets) == 0 {
		return nil, errors.New("access.assertion: no secret to derive keys from")
	}
	a := &Assertions{cfg: cfg, issuer: issuer, clock: clock, signed: make(map[string]signedAssertion)}
	for _, from := range secrets {
		key, err := deriveKey(from)
		if err != nil {
			return nil, err
		}
		a.keys = append(a.keys, key)
	}
	var err error
	a.jwks, err = encodeJWKS(a.keys)
	return a, err
}

// Header is the name of the header that carries assertions.
func (a *Assertions) Header() string { return a.cfg.Header }

// Headers are the names that carry assertions. They must be removed from every
// request before. a may be nil.
func (a *Assertions) Headers() []string {
	if a == nil {
		return nil
	}
	return []string{a.cfg.Header}
}

// JWKS is the JWK Set as JSON.
func (a *Assertions) JWKS() []byte { return a.jwks }

// Sign returns an assertion about id with at least half its life left. A claim
// of more than 4 KiB is left out.
func (a *Assertions) Sign(id identity.Identity) (secret.Text, error) {
	now := a.clock()
	claims := jwt.MapClaims{
		"iss": a.issuer, "aud": a.cfg.Audience, "sub": id.Subject, "idp": id.Issuer,
	}
	for _, name := range a.cfg.Claims {
		value, ok := claim(id, name)
		if _, taken := claims[name]; !ok || taken {
			continue
		}
		encoded, err := json.Marshal(value)
		if err != nil {
			return secret.Text{}, fmt.Errorf("encode assertion: %w", err)
		}
		if len(encoded) <= maxHeaderValue { // many servers take 8 KiB of headers in all
			claims[name] = value
		}
	}
	// Signing costs more than all the rest of a request, so one is used twice.
	cacheKey, err := json.Marshal(claims)
	if err != nil {
		return secret.Text{}, fmt.Errorf("encode assertion: %w", err)
	}
	a.mu.Lock()
	known, ok := a.signed[string(cacheKey)]
	a.mu.Unlock()
	if ok && now.Before(known.until) && known.until.Sub(now) <= a.cfg.Life.D()/2 {
		return known.text, nil
	}
	claims["iat"], claims["exp"] = now.Unix(), now.Add(a.cfg.Life.D()).Unix()
	token := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	token.Header["kid"] = a.keys[0].id
	text, err := token.SignedString(a.keys[0].private)
	if err != nil {
		return secret.Text{}, fmt.Errorf("sign assertion: %w", err)
	}
	fresh := signedAssertion{secret.New(text), now.Add(a.cfg.Life.D() / 2)}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.signed) >= signedLimit {
		clear(a.signed) // losing them costs a signature each
	}
	a.signed[string(cacheKey)] = fresh
	return fresh.text, nil
}

// deriveKey turns a secret into a P-256 key: HKDF output that is a valid scalar,
// which nearly every 32 bytes are.
func deriveKey(from secret.Text) (signingKey, error) {
	for attempt := range 16 {
		scalar, err := hkdf.Key(sha256.New, []byte(from.Reveal()), nil, fmt.Sprintf("whisp-bff assertion key v1 %d", attempt), 32)
		if err != nil {
			return signingKey{}, fmt.Errorf("derive assertion key: %w", err)
		}
		private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar)
		if err != nil {
			continue
		}
		public, err := private.PublicKey.Bytes()
		if err != nil {
			return signingKey{}, fmt.Errorf("encode assertion key: %w", err)
		}
		sum := sha256.Sum256(public)
		return signingKey{id: base64.RawURLEncoding.EncodeToString(sum[:12]), private: private}, nil
	}
	return signingKey{}, errors.New("derive assertion key: no valid scalar")
}

func encodeJWKS(keys []signingKey) ([]byte, error) {
	type jwk struct {
		Type      string `json:"kty"`
		Use       string `json:"use"`
		Algorithm string `json:"alg"`
		ID        string `json:"kid"`
		Curve     string `json:"crv"`
		X         string `json:"x"`
		Y         string `json:"y"`
	}
	set := struct {
		Keys []jwk `json:"keys"`
	}{}
	for _, key := range keys {
		point, err := key.private.PublicKey.Bytes() // 0x04, X, Y (SEC 1 section 2.3.3)
		if err != nil {
			return nil, fmt.Errorf("encode assertion key: %w", err)
		}
		set.Keys = append(set.Keys, jwk{
			Type: "EC", Use: "sig", Algorithm: "ES256", ID: key.id, Curve: "P-256",
			X: base64.RawURLEncoding.EncodeToString(point[1:33]), Y: base64.RawURLEncoding.EncodeToString(point[33:]),
		})
	}
	return json.Marshal(set)
}
