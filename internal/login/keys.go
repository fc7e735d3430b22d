package login

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

const (
	maxKeys = 100
	// A key id we do not know asks for the key set again, but not more often
	// than this; after a failure a little sooner.
	keysPause     = 5 * time.Second
	keysPauseFail = time.Second
)

// errKeysUnavailable: the key set could not be fetched, so nothing is known
// about the signature.
var errKeysUnavailable = errors.New("key set unavailable")

// keySet is the provider's JWKS. It implements go-oidc's KeySet in place of that
// library's own, which fetches without a pause, never forgets a withdrawn key, and
// hides from its caller whether a signature is wrong or the keys are missing.
//
// Invariant: keys are those of the last fetch that worked.
type keySet struct {
	url        string
	client     *http.Client
	clock      func() time.Time
	algorithms []jose.SignatureAlgorithm
	fetching   chan struct{} // holds one value while somebody fetches

	mu   sync.Mutex
	keys []jose.JSONWebKey
	next time.Time // not fetched before, unless forced
}

func newKeySet(url string, client *http.Client, clock func() time.Time, algorithms []string) *keySet {
	set := &keySet{url: url, client: client, clock: clock, fetching: make(chan struct{}, 1)}
	for _, algorithm := range algorithms {
		set.algorithms = append(set.algorithms, jose.SignatureAlgorithm(algorithm))
	}
	return set
}

// VerifySignature implements go-oidc's KeySet: it returns the payload of a JWT
// signed by one of the keys. Headers that name keys (jku, jwk, x5u) are not
// looked at.
func (s *keySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	jws, err := jose.ParseSigned(token, s.algorithms)
	if err != nil || len(jws.Signatures) != 1 {
		return nil, errors.New("not a token signed with an allowed algorithm")
	}
	if payload, ok := s.verify(jws); ok {
		return payload, nil
	}
	if err := s.fetch(ctx, false); err != nil {
		return nil, fmt.Errorf("%w: %w", errKeysUnavailable, err)
	}
	if payload, ok := s.verify(jws); ok {
		return payload, nil
	}
	return nil, errors.New("no key of the provider verifies the signature")
}

func (s *keySet) verify(jws *jose.JSONWebSignature) ([]byte, bool) {
	header := jws.Signatures[0].Header
	s.mu.Lock()
	keys := s.keys
	s.mu.Unlock()
	for _, key := range keys {
		if header.KeyID != "" && key.KeyID != header.KeyID || key.Algorithm != "" && key.Algorithm != header.Algorithm {
			continue
		}
		if payload, err := jws.Verify(key.Key); err == nil {
			return payload, true
		}
	}
	return nil, false
}

// fetch reads the key set, one caller at a time. Unless forced it does nothing
// when that was tried a moment ago; it then fails only if there are no keys.
func (s *keySet) fetch(ctx context.Context, forced bool) error {
	select {
	case s.fetching <- struct{}{}:
		defer func() { <-s.fetching }()
	case <-ctx.Done():
		return ctx.Err()
	}
	now := s.clock()
	s.mu.Lock()
	early, none := now.Before(s.next), len(s.keys) == 0
	s.mu.Unlock()
	if early && !forced {
		if none {
			return errors.New("could not be fetched a moment ago")
		}
		return nil
	}
	keys, err := s.download(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.next = now.Add(keysPauseFail)
		return err
	}
	s.keys, s.next = keys, now.Add(keysPause)
	return nil
}

func (s *keySet) download(ctx context.Context) ([]jose.JSONWebKey, error) {
	var raw struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := getJSON(ctx, s.client, s.url, secret.Text{}, &raw); err != nil {
		return nil, err
	}
	var keys []jose.JSONWebKey
	for _, encoded := range raw.Keys {
		var key jose.JSONWebKey
		// A key we do not understand is skipped (RFC 7517 section 5), not fatal.
		if err := json.Unmarshal(encoded, &key); err == nil && usableKey(key) && len(keys) < maxKeys {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("key set has no usable key")
	}
	return keys, nil
}

// usableKey wants a public key for signatures; RSA from 2048 bits.
func usableKey(key jose.JSONWebKey) bool {
	if key.Use != "" && key.Use != "sig" {
		return false
	}
	switch public := key.Key.(type) {
	case *rsa.PublicKey:
		return public.N.BitLen() >= 2048 && public.N.BitLen() <= 8192
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return true
	}
	return false // private and symmetric keys have no business in a public document
}
