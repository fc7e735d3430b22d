package broker

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// Credentials derives Whisp passwords. Whisp has no "change password" and no
// "sign in as": whoever registers an account must be able to say its password
// for ever, so it is derived and never stored.
type Credentials struct {
	masters []master // newest first
}

type master struct {
	value secret.Text
	// fingerprint names the secret in links; it cannot be turned back.
	fingerprint string
}

// NewCredentials takes the master secrets, newest first; at least one.
func NewCredentials(masters []secret.Text) (*Credentials, error) {
	c := &Credentials{}
	for _, value := range masters {
		mark, err := derive(value, 6, "whisp-bff master fingerprint v1")
		if err != nil {
			return nil, err
		}
		c.masters = append(c.masters, master{value: value, fingerprint: base64.RawURLEncoding.EncodeToString(mark)})
	}
	if len(c.masters) == 0 {
		return nil, fmt.Errorf("no master secret")
	}
	return c, nil
}

// password derives the account password of one identity: HKDF-SHA-256
// (RFC 5869) over the master secret with version, issuer and subject as info,
// each length-prefixed. 192 bits in base64url behind a prefix with one
// character of every class that a strict password policy asks for.
func (m master) password(id identity.Identity) (secret.Text, error) {
	raw, err := derive(m.value, 24, "whisp-bff credential v1", id.Issuer, id.Subject)
	if err != nil {
		return secret.Text{}, err
	}
	return secret.New("Wb1-" + base64.RawURLEncoding.EncodeToString(raw)), nil
}

// byFingerprint returns the master secret a link was made with.
func (c *Credentials) byFingerprint(fingerprint string) (master, bool) {
	for _, m := range c.masters {
		if m.fingerprint == fingerprint {
			return m, true
		}
	}
	return master{}, false
}

func (c *Credentials) newest() master { return c.masters[0] }

// DeriveKey derives a 32-byte key for another purpose from a master secret, so
// that replicas share keys without one more setting. Different purposes give
// unrelated keys.
func DeriveKey(from secret.Text, purpose string) (secret.Text, error) {
	raw, err := derive(from, 32, "whisp-bff key v1", purpose)
	return secret.New(string(raw)), err
}

func derive(from secret.Text, length int, fields ...string) ([]byte, error) {
	var info strings.Builder
	for _, field := range fields {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(field)))
		info.Write(size[:])
		info.WriteString(field)
	}
	raw, err := hkdf.Key(sha256.New, []byte(from.Reveal()), nil, info.String(), length)
	if err != nil {
		return nil, fmt.Errorf("derive %d bytes: %w", length, err)
	}
	return raw, nil
}

// shortHash is a short name for an identity that is the same on every replica
// and after every loss: n lower-case base32 characters, 5 bits each.
func shortHash(id identity.Identity, n int) string {
	sum := sha256.Sum256([]byte("whisp-bff suffix v1 " + id.Key()))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:n]
}
