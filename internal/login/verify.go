package login

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/keyset"
	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// verified is a verified ID token.
type verified struct {
	subject   string
	sessionID string // sid
	issuedAt  time.Time
	claims    map[string]json.RawMessage
}

// watchedKeys lets verify learn that keys were missing, which go-oidc's error
// does not carry.
type watchedKeys struct {
	keys *keySet
	err  error
}

func (w *watchedKeys) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	payload, err := w.keys.VerifySignature(ctx, token)
	w.err = err
	return payload, err
}

// verify checks the ID token in tokens (OpenID Connect Core 1.0 section 3.1.3.7).
// The nonce must be as given; an empty one is not compared, for a refresh
// answers no authentication request. The error is a problem.
//
// go-oidc does the signature, the algorithm, iss and aud; times it would check
// with other tolerances than ours, so we do.
func (rp *RelyingParty) verify(ctx context.Context, found *provider, tokens *oauth2.Token, nonce secret.Text) (*verified, error) {
	keys := &watchedKeys{keys: found.keySet}
	verifier := oidc.NewVerifier(found.Issuer, keys, &oidc.Config{
		ClientID: rp.cfg.ClientID, SupportedSigningAlgs: rp.cfg.SigningAlgorithms, SkipExpiryCheck: true,
	})
	token, err := verifier.Verify(ctx, rawIDToken(tokens))
	switch {
	case errors.Is(keys.err, keyset.ErrUnavailable):
		return nil, problem.ProviderUnavailable().Because(keys.err)
	case err != nil:
		return nil, problem.LoginRejected().Because(errors.New("ID token: " + cleaned(err.Error())))
	}
	v := &verified{subject: token.Subject, issuedAt: token.IssuedAt}
	if err := token.Claims(&v.claims); err != nil {
		return nil, problem.LoginRejected().Because(errors.New("ID token: claims are no JSON object"))
	}
	if err := rp.checkToken(token, tokens, nonce, v); err != nil {
		return nil, problem.LoginRejected().Because(fmt.Errorf("ID token: %w", err))
	}
	return v, nil
}

func (rp *RelyingParty) checkToken(token *oidc.IDToken, tokens *oauth2.Token, nonce secret.Text, v *verified) error {
	var own struct {
		AuthorizedParty *string `json:"azp"`
		SessionID       string  `json:"sid"`
	}
	if err := token.Claims(&own); err != nil {
		return errors.New("azp or sid is no string")
	}
	v.sessionID = own.SessionID
	switch {
	case token.Issuer != rp.cfg.Issuer.String():
		return errors.New("iss is not the configured issuer") // go-oidc makes an exception for Google
	case !identity.ValidSubject(token.Subject):
		return errors.New("sub is empty, too long or not text")
	case own.AuthorizedParty != nil && *own.AuthorizedParty != rp.cfg.ClientID:
		return errors.New("azp is another client")
	case own.AuthorizedParty == nil && len(token.Audience) > 1:
		return errors.New("several audiences and no azp")
	case !nonce.Empty() && subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(nonce.Reveal())) != 1:
		return errors.New("nonce is not the one we sent")
	}
	if err := rp.checkTimes(token, v.claims); err != nil {
		return err
	}
	if token.AccessTokenHash != "" && token.VerifyAccessToken(tokens.AccessToken) != nil {
		return errors.New("at_hash does not match the access token")
	}
	return nil
}

// checkTimes wants exp in the future and iat and nbf not, each within the leeway.
func (rp *RelyingParty) checkTimes(token *oidc.IDToken, claims map[string]json.RawMessage) error {
	now, leeway := rp.clock(), rp.cfg.ClockLeeway.D()
	notBefore, hasNotBefore, err := identity.TimeClaim(claims, "nbf")
	switch {
	case err != nil:
		return err
	case token.Expiry.IsZero() || !now.Add(-leeway).Before(token.Expiry):
		return errors.New("exp is missing or past")
	case token.IssuedAt.IsZero() || token.IssuedAt.After(now.Add(leeway)):
		return errors.New("iat is missing or in the future")
	case hasNotBefore && notBefore.After(now.Add(leeway)):
		return errors.New("nbf is in the future")
	}
	return nil
}

// checkAuthTime holds the provider to the max_age we asked for.
func (rp *RelyingParty) checkAuthTime(claims map[string]json.RawMessage) error {
	if rp.cfg.MaxAge == 0 {
		return nil
	}
	authTime, ok, err := identity.TimeClaim(claims, "auth_time")
	if err != nil {
		return err
	}
	if !ok || rp.clock().Sub(authTime) > rp.cfg.MaxAge.D()+rp.cfg.ClockLeeway.D() {
		return errors.New("auth_time is missing or older than max_age")
	}
	return nil
}
