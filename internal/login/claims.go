package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
)

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
