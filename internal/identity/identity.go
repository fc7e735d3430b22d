// Package identity says who a caller is.
//
// An [Identity] is an issuer, a subject and claims. Only issuer and subject
// together name a person: e-mail addresses and user names are reused, renamed
// and chosen by their owners, so nothing may be looked up by them.
package identity

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// Identity is a person as an OpenID Provider (or another source) names them.
type Identity struct {
	// Issuer exactly as in the token, trailing slash included.
	Issuer string
	// Subject is unique and never reassigned within Issuer (OpenID Connect Core 1.0 section 2).
	Subject string
	// Claims as decoded from JSON. Their values are the provider's and often
	// the user's own words: never trusted, never executed, never a key.
	Claims map[string]any

	key string // see Keyed
}

// Keyed returns the identity with its [Identity.Key] computed once and for all:
// Issuer and Subject must not be changed afterwards.
func (i Identity) Keyed() Identity {
	i.key = i.Key()
	return i
}

// Key is a fixed-length name for (Issuer, Subject): 43 characters of unpadded
// base64url. Both fields are length-prefixed before hashing, so no two
// pairs share a key (compare CVE-2023-35941).
func (i Identity) Key() string {
	if i.key != "" {
		return i.key
	}
	h := sha256.New()
	for _, field := range []string{"whisp-bff identity v1", i.Issuer, i.Subject} {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(field)))
		h.Write(size[:])
		h.Write([]byte(field))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// Zero reports whether nobody is named.
func (i Identity) Zero() bool { return i.Issuer == "" && i.Subject == "" }

// ProviderTokens is what an OpenID Provider gave for one login.
type ProviderTokens struct {
	// IDToken is kept as id_token_hint for RP-initiated logout.
	IDToken secret.Text
	// RefreshToken is empty if the provider gave none.
	RefreshToken secret.Text
	// AccessExpires is when the access token ends; zero if the provider did not say.
	AccessExpires time.Time
	// SessionID is the sid claim (OpenID Connect Front-Channel Logout 1.0 section 3), if any.
	SessionID string
	// IssuedAt is the iat claim of the ID token; zero if there was none. It is for
	// the moment of the login or refresh and not kept with a session.
	IssuedAt time.Time
}
