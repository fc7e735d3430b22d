package session

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// record is a session as stored. It repeats its own key, so that a value that
// turns up under another key (a moved value, a reply meant for somebody else)
// is refused.
type record struct {
	Key           string         `json:"key"`
	Issuer        string         `json:"iss"`
	Subject       string         `json:"sub"`
	Claims        map[string]any `json:"claims,omitempty"`
	IDToken       string         `json:"idt,omitempty"`
	RefreshToken  string         `json:"rt,omitempty"`
	AccessExpires time.Time      `json:"aexp,omitzero"`
	ProviderSID   string         `json:"sid,omitempty"`
	Created       time.Time      `json:"at"`
	Expires       time.Time      `json:"exp"`
	Previous      string         `json:"prev,omitempty"`
	Lingers       bool           `json:"lingers,omitempty"`
}

func encode(s *Session) ([]byte, error) {
	encoded, err := json.Marshal(record{
		Key:    s.Key,
		Issuer: s.Identity.Issuer, Subject: s.Identity.Subject, Claims: s.Identity.Claims,
		IDToken: s.Tokens.IDToken.Reveal(), RefreshToken: s.Tokens.RefreshToken.Reveal(),
		AccessExpires: s.Tokens.AccessExpires, ProviderSID: s.Tokens.SessionID,
		Created: s.Created, Expires: s.Expires, Previous: s.Previous, Lingers: s.Lingers,
	})
	if err != nil {
		return nil, fmt.Errorf("encode session: %w", err)
	}
	return encoded, nil
}

func decode(key string, raw []byte) (*Session, error) {
	var r record
	// Numbers stay as the provider wrote them: a subject-like claim of 17
	// digits must not come back rounded.
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err := decoder.Decode(&r); err != nil {
		// The error text of encoding/json can quote the value.
		return nil, fmt.Errorf("session record is not what was stored (%T)", err)
	}
	if storeKey(r.Key) != key || strings.TrimSpace(r.Subject) == "" {
		return nil, fmt.Errorf("session record belongs to another key")
	}
	return &Session{
		Key:      r.Key,
		Identity: identity.Identity{Issuer: r.Issuer, Subject: r.Subject, Claims: r.Claims}.Keyed(),
		Tokens: identity.ProviderTokens{
			IDToken: secret.New(r.IDToken), RefreshToken: secret.New(r.RefreshToken),
			AccessExpires: r.AccessExpires, SessionID: r.ProviderSID,
		},
		Created:  r.Created,
		Expires:  r.Expires,
		Previous: r.Previous,
		Lingers:  r.Lingers,
	}, nil
}
