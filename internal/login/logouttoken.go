package login

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/keyset"
	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
)

const (
	// maxLogoutToken bounds a logout token, in bytes; honest ones have about one
	// kilobyte.
	maxLogoutToken = 8 << 10
	// logoutLife is how old a logout token may be, whatever its exp says:
	// providers send it the moment they issue it (two minutes of life are
	// recommended), and for so long its jti has to be remembered.
	logoutLife = 10 * time.Minute
	// maxProviderSession bounds a sid, and maxTokenID a jti, in bytes.
	maxProviderSession, maxTokenID = 1024, 1024

	logoutEvent = "http://schemas.openid.net/event/backchannel-logout"
)

var errReplayed = errors.New("jti was seen before")

// Logout is what a provider asks for with a logout token.
type Logout struct {
	Issuer string
	// ProviderSession is the sid: whose sessions end that began with that sign-in
	// at the provider. If it is empty, all sessions of Subject end.
	ProviderSession string
	// Subject may be empty where there is a ProviderSession.
	Subject string
	// IssuedAt is the provider's time of the logout.
	IssuedAt time.Time
}

// BackChannelLogout verifies a logout token (OpenID Connect Back-Channel Logout
// 1.0 section 2.6), calls end with what it asks for, and remembers its jti, so
// that the token works once, on whichever replica.
//
// Checked: size; typ, where there is one; signature by an allowed algorithm and a
// key from the provider's key set; iss, aud; exp and iat, within the leeway and no
// older than ten minutes; the event; that there is no nonce; jti, and sub or sid;
// that the jti has not been seen. Not checked: azp and nbf, which the
// specification does not give these tokens, and encryption, which is not supported.
//
// The jti is noted after end has succeeded: a token whose logout failed for
// a reason of ours can be sent again. Copies that come at the same moment may
// therefore all get to end, which must be something that can be repeated; one of
// them succeeds.
//
// Errors: logout_token_invalid, provider_unavailable, store_unavailable, and those
// of end.
func (rp *RelyingParty) BackChannelLogout(ctx context.Context, token secret.Text, end func(context.Context, Logout) error) error {
	ctx, cancel := context.WithTimeout(ctx, rp.cfg.Timeout.D())
	defer cancel()
	verified, err := rp.verifyLogout(ctx, token)
	if err != nil {
		return err
	}
	seen := logoutKey(verified)
	switch used, err := rp.once.Has(ctx, seen); {
	case used:
		return logoutInvalid(errReplayed)
	case err != nil:
		return problem.StoreUnavailable().Because(fmt.Errorf("look for a logout token: %w", err))
	}
	if err := end(ctx, Logout{
		Issuer: verified.Issuer, ProviderSession: verified.SessionID, Subject: verified.Subject, IssuedAt: verified.IssuedAt,
	}); err != nil {
		return err
	}
	// The sooner of exp and logoutLife would do: then its times refuse it.
	first, err := rp.once.SetIfAbsent(ctx, seen, []byte{1}, logoutLife+2*rp.cfg.ClockLeeway.D())
	switch {
	case err != nil:
		return problem.StoreUnavailable().Because(fmt.Errorf("mark a logout token as used: %w", err))
	case !first:
		return logoutInvalid(errReplayed)
	}
	return nil
}

// verifyLogout does all but the look for the jti. The error is a problem.
func (rp *RelyingParty) verifyLogout(ctx context.Context, token secret.Text) (*oidc.LogoutToken, error) {
	raw := token.Reveal()
	if len(raw) > maxLogoutToken {
		return nil, logoutInvalid(errors.New("is too long"))
	}
	if err := checkLogoutType(raw); err != nil {
		return nil, logoutInvalid(err)
	}
	found, err := rp.discovered(ctx)
	if err != nil {
		return nil, err
	}
	keys := &watchedKeys{keys: found.keySet}
	verifier := oidc.NewVerifier(rp.cfg.Issuer.String(), keys, &oidc.Config{
		ClientID: rp.cfg.ClientID, SupportedSigningAlgs: rp.cfg.SigningAlgorithms, SkipExpiryCheck: true,
	})
	verified, err := verifier.VerifyLogout(ctx, raw)
	switch {
	case errors.Is(keys.err, keyset.ErrUnavailable):
		return nil, problem.ProviderUnavailable().Because(keys.err)
	case err != nil:
		return nil, logoutInvalid(errors.New(cleaned(err.Error())))
	}
	if err := rp.checkLogout(verified); err != nil {
		return nil, logoutInvalid(err)
	}
	return verified, nil
}

func logoutInvalid(err error) error {
	return problem.LogoutTokenInvalid().Because(fmt.Errorf("logout token: %w", err))
}

// checkLogoutType wants "logout+jwt", "JWT" or nothing as typ (section 2.4, RFC
// 8725 section 3.11): a token of another kind, such as an access token ("at+jwt"),
// says that it is none of ours.
func checkLogoutType(raw string) error {
	encoded, _, _ := strings.Cut(raw, ".")
	decoded, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return errors.New("is no JWT")
	}
	var header struct {
		Type string `json:"typ"`
	}
	if json.Unmarshal(decoded, &header) != nil {
		return errors.New("is no JWT")
	}
	kind := strings.ToLower(header.Type)
	switch strings.TrimPrefix(kind, "application/") {
	case "", "jwt", "logout+jwt":
		return nil
	}
	return errors.New("typ is another kind of token's")
}

// checkLogout is what go-oidc leaves to us.
func (rp *RelyingParty) checkLogout(token *oidc.LogoutToken) error {
	var claims struct {
		Events map[string]json.RawMessage `json:"events"`
	}
	if err := token.Claims(&claims); err != nil {
		return errors.New("events is no object")
	}
	now, leeway := rp.clock(), rp.cfg.ClockLeeway.D()
	switch event := bytes.TrimSpace(claims.Events[logoutEvent]); {
	case len(event) == 0 || event[0] != '{':
		return errors.New("events lacks the logout event, or it is no object")
	case !now.Add(-leeway).Before(token.Expiry):
		return errors.New("exp is past")
	case token.IssuedAt.IsZero() || token.IssuedAt.After(now.Add(leeway)):
		return errors.New("iat is missing or in the future")
	case token.IssuedAt.Before(now.Add(-leeway - logoutLife)):
		return errors.New("iat is too long ago")
	case token.Subject != "" && !identity.ValidSubject(token.Subject):
		return errors.New("sub is too long or not text")
	case len(token.SessionID) > maxProviderSession || len(token.TokenID) > maxTokenID:
		return errors.New("sid or jti is too long")
	}
	return nil
}

// logoutKey names a logout token in the store.
func logoutKey(token *oidc.LogoutToken) string {
	h := sha256.New()
	for _, field := range []string{"whisp-bff logout token v1", token.Issuer, token.TokenID} {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(field)))
		h.Write(size[:])
		h.Write([]byte(field))
	}
	return "logout-token:" + base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}
