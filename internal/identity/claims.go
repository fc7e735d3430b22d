package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"time"
)

// MaxClaims bounds the claims of one identity, in bytes of JSON. Beyond it the
// largest claims are left out whole, until the rest fits: somebody in ten thousand
// groups is let in and has no groups, rather than some. iss and sub are never
// left out.
const MaxClaims = 64 << 10

// protocolClaims served to prove who somebody is and say nothing about them.
var protocolClaims = []string{
	"active", "aud", "azp", "cnf", "exp", "iat", "nbf", "jti", "nonce", "at_hash", "c_hash", "s_hash", "sid",
	"token_type", "_claim_names", "_claim_sources",
}

// ValidSubject reports whether subject can name a person: 1 to 255 bytes of
// UTF-8 without control characters.
func ValidSubject(subject string) bool { return validSubject(subject) == nil }

// DecodeClaims bounds and decodes claims, leaving out those of the protocol; it
// changes raw. Numbers become [json.Number], so that a long employee number
// survives. dropped names what was too large, in the sender's own words.
func DecodeClaims(raw map[string]json.RawMessage) (claims map[string]any, dropped []string, err error) {
	for _, name := range protocolClaims {
		delete(raw, name)
	}
	size := 0
	for name, value := range raw {
		size += len(name) + len(value)
	}
	for size > MaxClaims {
		name, cost := largest(raw)
		if name == "" {
			return nil, nil, errors.New("claims are too large")
		}
		delete(raw, name)
		dropped = append(dropped, name)
		size -= cost
	}
	claims = make(map[string]any, len(raw))
	for name, value := range raw {
		decoder := json.NewDecoder(bytes.NewReader(value))
		decoder.UseNumber()
		var decoded any
		if err := decoder.Decode(&decoded); err != nil {
			return nil, nil, errors.New("a claim is no JSON")
		}
		claims[name] = decoded
	}
	slices.Sort(dropped)
	return claims, dropped, nil
}

// largest finds the claim that takes the most room; of equals the first by name.
func largest(raw map[string]json.RawMessage) (name string, cost int) {
	for candidate, value := range raw {
		if candidate == "iss" || candidate == "sub" {
			continue
		}
		if c := len(candidate) + len(value); c > cost || c == cost && candidate < name {
			name, cost = candidate, c
		}
	}
	return name, cost
}

// lastNumericDate is the end of the year 9999: beyond it a number is no date,
// and converting it might wrap around into the past.
const lastNumericDate = 253402300799

// TimeClaim reads a NumericDate (RFC 7519 section 2). ok is false if the claim
// is absent or null; one that is no number, or no date, is an error.
func TimeClaim(claims map[string]json.RawMessage, name string) (at time.Time, ok bool, err error) {
	raw, ok := claims[name]
	if !ok || string(raw) == "null" {
		return time.Time{}, false, nil
	}
	var seconds float64
	if err := json.Unmarshal(raw, &seconds); err != nil || seconds < 0 || seconds > lastNumericDate {
		return time.Time{}, false, errors.New(name + " is no date")
	}
	return time.Unix(int64(seconds), 0), true, nil
}
