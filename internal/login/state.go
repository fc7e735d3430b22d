package login

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

const (
	// loginLife is how long a login may take from Begin to Finish.
	loginLife = 10 * time.Minute
	// stateKeySize is the size of a state key, in bytes.
	stateKeySize = 32
	saltSize     = 32
	// maxState bounds a sealed state: base64 of JSON around a return path.
	maxState     = 4096
	stateVersion = 1
)

// strict refuses non-zero trailing bits, so that a sealed state has one
// spelling only and cannot be used again under another.
var strict = base64.RawURLEncoding.Strict()

// pending is a login in progress, as the state parameter carries it.
type pending struct {
	Version  int    `json:"v"`
	ReturnTo string `json:"r"`
	IssuedAt int64  `json:"t"` // Unix seconds
	Hash     []byte `json:"h"` // SHA-256 of the cookie's bytes
	Suffix   string `json:"s"` // of the cookie's name
}

// stateKeys seal with the newest key and open with any.
type stateKeys [][]byte

func newStateKeys(texts []secret.Text) (stateKeys, error) {
	if len(texts) == 0 {
		return nil, errors.New("login: no state key")
	}
	keys := make(stateKeys, len(texts))
	for i, text := range texts {
		keys[i] = []byte(text.Reveal())
		if len(keys[i]) != stateKeySize {
			return nil, fmt.Errorf("login: state key %d has %d bytes, want %d", i, len(keys[i]), stateKeySize)
		}
	}
	return keys, nil
}

// seal encrypts p with AES-256-GCM. Anybody may make us seal as often as they
// like, which a key with random 96-bit nonces does not bear for ever (NIST SP
// 800-38D section 8.3): key and nonce are derived anew for each state, from a
// random salt that is sent along.
func (k stateKeys) seal(random io.Reader, p pending) (string, error) {
	plain, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("encode state: %w", err)
	}
	salt := make([]byte, saltSize)
	if _, err := io.ReadFull(random, salt); err != nil {
		return "", fmt.Errorf("draw salt: %w", err)
	}
	gcm, nonce, err := stateCipher(k[0], salt)
	if err != nil {
		return "", err
	}
	return strict.EncodeToString(gcm.Seal(salt, nonce, plain, nil)), nil
}

// open returns what was sealed, the key that opened it, and a name for this
// state that is safe to store. ok is false for anything that is not a state
// of ours; age is not checked here.
func (k stateKeys) open(state string) (p pending, key []byte, name string, ok bool) {
	if len(state) > maxState {
		return pending{}, nil, "", false
	}
	sealed, err := strict.DecodeString(state)
	if err != nil || len(sealed) <= saltSize {
		return pending{}, nil, "", false
	}
	for _, key := range k {
		gcm, nonce, err := stateCipher(key, sealed[:saltSize])
		if err != nil {
			continue
		}
		plain, err := gcm.Open(nil, nonce, sealed[saltSize:], nil)
		if err != nil {
			continue
		}
		if json.Unmarshal(plain, &p) != nil || p.Version != stateVersion {
			break
		}
		sum := sha256.Sum256(sealed)
		return p, key, base64.RawURLEncoding.EncodeToString(sum[:]), true
	}
	return pending{}, nil, "", false
}

// fresh reports whether the login began less than loginLife ago, by a clock
// that may be off by leeway on another replica.
func (p pending) fresh(now time.Time, leeway time.Duration) bool {
	age := now.Sub(time.Unix(p.IssuedAt, 0))
	return age < loginLife && age >= -leeway-time.Second // issued-at was cut to whole seconds
}

func stateCipher(key, salt []byte) (cipher.AEAD, []byte, error) {
	material, err := hkdf.Key(sha256.New, key, salt, "whisp-bff login state v1", 32+12)
	if err != nil {
		return nil, nil, fmt.Errorf("derive state key: %w", err)
	}
	block, err := aes.NewCipher(material[:32])
	if err != nil {
		return nil, nil, fmt.Errorf("state cipher: %w", err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, nil, fmt.Errorf("state cipher: %w", err)
	}
	return gcm, material[32:], nil
}

// proofs are what the provider is shown of the browser's half of a login.
type proofs struct {
	nonce    secret.Text
	verifier secret.Text // PKCE: 43 characters of base64url (RFC 7636 section 4.1)
}

func deriveProofs(key, half []byte) (proofs, error) {
	derive := func(purpose string) (secret.Text, error) {
		raw, err := hkdf.Key(sha256.New, key, half, "whisp-bff login "+purpose+" v1", 32)
		if err != nil {
			return secret.Text{}, fmt.Errorf("derive %s: %w", purpose, err)
		}
		return secret.New(base64.RawURLEncoding.EncodeToString(raw)), nil
	}
	nonce, err := derive("nonce")
	if err != nil {
		return proofs{}, err
	}
	verifier, err := derive("pkce verifier")
	return proofs{nonce: nonce, verifier: verifier}, err
}
