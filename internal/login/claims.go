package login

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// maxClaims bounds the claims of one identity, in bytes of JSON. Beyond it the
// largest claims are left out whole, with a warning that names them, until the
// rest fits: somebody in ten thousand groups can log in and has no groups, rather
// than some. iss and sub are never left out. An answer of more than
// [maxAnswer] fails the login.
const maxClaims = 64 << 10

// protocolClaims served the login and say nothing about the person.
var protocolClaims = []string{
	"aud", "azp", "exp", "iat", "nbf", "jti", "nonce", "at_hash", "c_hash", "s_hash", "sid", "_claim_names", "_claim_sources",
}

// lacksProfile reports whether the ID token leaves open who this is to people.
func lacksProfile(claims map[string]json.RawMessage) bool {
	has := func(name string) bool {
		raw, ok := claims[name]
		return ok && string(raw) != "null" && string(raw) != `""`
	}
	return !has("email") || !has("name") && !has("preferred_username")
}

// addUserinfo fetches userinfo and adds the claims that the ID token does not
// have: what is signed wins. The error is a problem.
func (rp *RelyingParty) addUserinfo(ctx context.Context, found *provider, access secret.Text, v *verified) error {
	var info map[string]json.RawMessage
	if err := getJSON(ctx, rp.client, found.UserinfoEndpoint, access, &info); err != nil {
		cause := fmt.Errorf("userinfo: %w", err)
		if status, ok := errors.AsType[*statusError](err); ok && status.status < 500 && status.status != 429 {
			return problem.LoginRejected().Because(cause)
		}
		if _, garbage := errors.AsType[*garbageError](err); garbage {
			return problem.LoginRejected().Because(cause)
		}
		return problem.ProviderUnavailable().Because(cause)
	}
	var subject string
	if err := json.Unmarshal(info["sub"], &subject); err != nil || subject != v.subject {
		// OpenID Connect Core 1.0 section 5.3.2: else it may be anybody's.
		return problem.LoginRejected().Because(errors.New("userinfo: sub differs from the ID token's"))
	}
	for name, value := range info {
		if _, signed := v.claims[name]; !signed {
			v.claims[name] = value
		}
	}
	return nil
}

// decodeClaims bounds and decodes claims. Numbers become json.Number, so that a
// long employee number survives. dropped names what was too large, cleaned.
func decodeClaims(raw map[string]json.RawMessage) (claims map[string]any, dropped []string, err error) {
	for _, name := range protocolClaims {
		delete(raw, name)
	}
	size := 0
	for name, value := range raw {
		size += len(name) + len(value)
	}
	for size > maxClaims {
		name, cost := largest(raw)
		if name == "" {
			return nil, nil, errors.New("claims are too large")
		}
		delete(raw, name)
		dropped = append(dropped, cleaned(name))
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
