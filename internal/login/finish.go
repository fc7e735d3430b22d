package login

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// maxCode bounds the code parameter, in bytes.
const maxCode = 4096

// Finished is a login that has ended, well or badly.
type Finished struct {
	Identity identity.Identity
	Tokens   identity.ProviderTokens
	// ReturnTo is a safe path: where the login was to end, if the state was one
	// of ours, else "/". It is also set beside an error, for a "start again" link.
	ReturnTo string
	// SetCookies are deletions; send them beside an error, too.
	SetCookies []*http.Cookie
}

// answer is what the provider sent the browser back with, once state and cookie
// have been found to belong together.
type answer struct {
	query  url.Values
	key    []byte // the state key that opened the state
	half   []byte
	name   string // of the state, for Once
	issued pending
}

// Finish takes the query of the callback and the request's cookies. Every error
// is a problem; the package comment lists which and in which order.
//
// If the provider or the store cannot be reached before the code was used, the
// cookie is kept, so that reloading the page can still succeed.
func (rp *RelyingParty) Finish(ctx context.Context, query url.Values, cookies []*http.Cookie) (Finished, error) {
	finished := Finished{ReturnTo: "/"}
	a, opened := rp.openAnswer(query)
	if !opened {
		return finished, problem.LoginUnknown().Because(errors.New("state is missing or not ours"))
	}
	finished.ReturnTo = SafeReturnTo(a.issued.ReturnTo)
	over := []*http.Cookie{rp.jar.remove(a.issued.Suffix)}

	var held bool
	if a.half, held = rp.jar.half(cookies, a.issued); !held || !a.issued.fresh(rp.clock(), rp.cfg.ClockLeeway.D()) {
		finished.SetCookies = over
		return finished, problem.LoginUnknown().Because(errors.New("login is too old or was not begun in this browser"))
	}
	ctx, cancel := context.WithTimeout(ctx, rp.cfg.Timeout.D())
	defer cancel()
	found, err := rp.discovered(ctx)
	if err != nil {
		return finished, err
	}
	if err := rp.checkAnswer(found, a); err != nil {
		finished.SetCookies = over
		return finished, err
	}
	first, err := rp.once.SetIfAbsent(ctx, "login:"+a.name, []byte{1}, loginLife+rp.cfg.ClockLeeway.D())
	if err != nil {
		return finished, problem.StoreUnavailable().Because(fmt.Errorf("mark login as used: %w", err))
	}
	finished.SetCookies = over
	if !first {
		return finished, problem.LoginUnknown().Because(errors.New("login was already finished"))
	}
	finished.Identity, finished.Tokens, err = rp.redeem(ctx, found, a)
	return finished, err
}

// openAnswer opens the state. It says nothing yet about who sent it.
func (rp *RelyingParty) openAnswer(query url.Values) (answer, bool) {
	states := query["state"]
	if len(states) != 1 {
		return answer{}, false
	}
	issued, key, name, ok := rp.keys.open(states[0])
	return answer{query: query, key: key, name: name, issued: issued}, ok
}

// checkAnswer looks at everything that costs nothing: iss, error, code.
func (rp *RelyingParty) checkAnswer(found *provider, a answer) error {
	issuers := a.query["iss"]
	if len(issuers) > 1 || len(issuers) == 1 && issuers[0] != found.Issuer || len(issuers) == 0 && found.AnswersWithIssuer {
		return problem.LoginIssuerMismatch().Because(errors.New("iss parameter is missing or names another provider"))
	}
	if a.query.Has("error") {
		return rp.authorizeError(a.query)
	}
	if codes := a.query["code"]; len(codes) != 1 || codes[0] == "" || len(codes[0]) > maxCode {
		return problem.LoginRejected().Because(errors.New("answer has no usable code"))
	}
	return nil
}

// authorizeError maps an error of the authorization endpoint (RFC 6749 section
// 4.1.2.1, OpenID Connect Core 1.0 section 3.1.2.6). The provider's words reach
// the log only: anybody can write them into a URL.
func (rp *RelyingParty) authorizeError(query url.Values) error {
	code := query.Get("error")
	rp.log.Warn("identity provider refused a login",
		"provider_error", cleaned(code), "provider_description", cleaned(query.Get("error_description")))
	cause := errors.New("provider answered with an error")
	switch code {
	case "temporarily_unavailable", "server_error":
		return problem.ProviderUnavailable().Because(cause)
	case "invalid_request", "invalid_client", "unauthorized_client", "unsupported_response_type", "unsupported_response_mode",
		"invalid_scope", "invalid_request_uri", "invalid_request_object", "request_not_supported",
		"request_uri_not_supported", "registration_not_supported", "invalid_target":
		return problem.ProviderMisconfigured().Because(cause)
	}
	// access_denied, login_required, interaction_required, consent_required,
	// account_selection_required, and what providers made up.
	return problem.LoginDenied().Because(cause)
}

// redeem trades the code for tokens and verifies them.
func (rp *RelyingParty) redeem(ctx context.Context, found *provider, a answer) (identity.Identity, identity.ProviderTokens, error) {
	fail := func(err error) (identity.Identity, identity.ProviderTokens, error) {
		return identity.Identity{}, identity.ProviderTokens{}, err
	}
	proofs, err := deriveProofs(a.key, a.half)
	if err != nil {
		return fail(problem.Internal().Because(err))
	}
	tokens, err := rp.exchange(ctx, found, a.query.Get("code"), proofs.verifier)
	if err != nil {
		return fail(err)
	}
	verified, err := rp.verify(ctx, found, tokens, proofs.nonce)
	if err != nil {
		return fail(err)
	}
	if err := rp.checkAuthTime(verified.claims); err != nil {
		return fail(problem.LoginRejected().Because(err))
	}
	if rp.cfg.ClaimsFromUserinfo && found.UserinfoEndpoint != "" && lacksProfile(verified.claims) {
		if err := rp.addUserinfo(ctx, found, secret.New(tokens.AccessToken), verified); err != nil {
			return fail(err)
		}
	}
	claims, dropped, err := identity.DecodeClaims(verified.claims)
	if err != nil {
		return fail(problem.LoginRejected().Because(err))
	}
	if len(dropped) > 0 {
		rp.log.WarnContext(ctx, "claims dropped because they are too large", "claims", dropped)
	}
	return identity.Identity{Issuer: found.Issuer, Subject: verified.subject, Claims: claims}, rp.keep(tokens, verified), nil
}
