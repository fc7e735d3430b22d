package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/oauth2"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// ErrEnded is returned by [RelyingParty.Refresh], inside a session_required
// problem, when the provider says in so many words that the grant is over.
var ErrEnded = errors.New("provider ended the grant")

// exchange redeems the code. The error is a problem.
func (rp *RelyingParty) exchange(ctx context.Context, found *provider, code string, verifier secret.Text) (*oauth2.Token, error) {
	tokens, err := rp.oauth(found).Exchange(rp.withClient(ctx), code, oauth2.VerifierOption(verifier.Reveal()))
	if err == nil {
		return tokens, nil
	}
	failure := rp.tokenFailure(ctx, err)
	switch {
	case failure.ended:
		// The code, that is: used, expired, or not for us.
		return nil, problem.LoginRejected().Because(failure)
	case failure.unreadable:
		return nil, problem.LoginRejected().Because(failure)
	}
	return nil, failure.problem()
}

// Refresh asks for fresh tokens and returns the set to keep from now on: a token
// that did not come back anew is carried over. subject is who the session
// belongs to; a new ID token for anybody else is refused.
//
// errors.Is(err, [ErrEnded]) only if the provider answered the JSON error
// invalid_grant. Any other error (provider_unavailable, provider_refused_client,
// login_rejected) says nothing about the session: keep it and try later.
//
// Once begun, a refresh goes on when ctx is cancelled, for at most the configured
// timeout: a rotated refresh token that nobody reads would be lost, and the
// session with it.
func (rp *RelyingParty) Refresh(ctx context.Context, held identity.ProviderTokens, subject string) (identity.ProviderTokens, error) {
	if held.RefreshToken.Empty() {
		return identity.ProviderTokens{}, problem.Internal().Because(errors.New("refresh without a refresh token"))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rp.cfg.Timeout.D())
	defer cancel()
	found, err := rp.discovered(ctx)
	if err != nil {
		return identity.ProviderTokens{}, err
	}
	source := rp.oauth(found).TokenSource(rp.withClient(ctx), &oauth2.Token{RefreshToken: held.RefreshToken.Reveal()})
	tokens, err := source.Token()
	if err != nil {
		failure := rp.tokenFailure(ctx, err)
		if failure.ended {
			return identity.ProviderTokens{}, problem.SessionRequired().Because(fmt.Errorf("%w: %w", ErrEnded, failure))
		}
		return identity.ProviderTokens{}, failure.problem()
	}
	fresh := rp.keep(tokens, nil)
	fresh.IDToken, fresh.SessionID = held.IDToken, held.SessionID
	if rawIDToken(tokens) == "" {
		return fresh, nil // optional here (OpenID Connect Core 1.0 section 12.2)
	}
	verified, err := rp.verify(ctx, found, tokens, secret.Text{})
	if err != nil {
		return identity.ProviderTokens{}, err
	}
	if verified.subject != subject {
		return identity.ProviderTokens{}, problem.LoginRejected().Because(errors.New("refreshed ID token is for somebody else"))
	}
	fresh = rp.keep(tokens, verified)
	if fresh.SessionID == "" {
		fresh.SessionID = held.SessionID
	}
	return fresh, nil
}

// keep picks what outlives a request: not the access token, which nobody needs
// any more. verified may be nil.
func (rp *RelyingParty) keep(tokens *oauth2.Token, verified *verified) identity.ProviderTokens {
	kept := identity.ProviderTokens{RefreshToken: secret.New(tokens.RefreshToken)}
	if tokens.ExpiresIn > 0 {
		kept.AccessExpires = rp.clock().Add(time.Duration(tokens.ExpiresIn) * time.Second)
	}
	if verified != nil {
		kept.SessionID, kept.IssuedAt = verified.sessionID, verified.issuedAt
		if raw := rawIDToken(tokens); len(raw) <= maxHint {
			kept.IDToken = secret.New(raw)
		}
	}
	return kept
}

func rawIDToken(tokens *oauth2.Token) string {
	raw, _ := tokens.Extra("id_token").(string)
	return raw
}

func (rp *RelyingParty) withClient(ctx context.Context) context.Context {
	return context.WithValue(ctx, oauth2.HTTPClient, rp.client)
}

// tokenFailure is a token request that failed. Its text has nothing of the
// answer in it but the status.
type tokenFailure struct {
	status     int // 0 without an answer
	ended      bool
	refused    bool // us as a client
	unreadable bool // an answer that is none
	wait       time.Duration
	cause      error
}

func (f *tokenFailure) Error() string { return "token request: " + f.cause.Error() }
func (f *tokenFailure) Unwrap() error { return f.cause }

func (f *tokenFailure) problem() *problem.Problem {
	if f.refused {
		return problem.ProviderMisconfigured().Because(f)
	}
	return problem.ProviderUnavailable().After(f.wait).Because(f)
}

// tokenFailure tells failures of the token endpoint apart. Only a JSON body with
// a 4xx status ends anything: an error page of a proxy, or x/oauth2's reading of
// text/plain as a form, does not.
func (rp *RelyingParty) tokenFailure(ctx context.Context, err error) *tokenFailure {
	refusal, answered := errors.AsType[*oauth2.RetrieveError](err)
	if !answered {
		if ctx.Err() != nil {
			return &tokenFailure{cause: ctx.Err()}
		}
		if failed, network := errors.AsType[*url.Error](err); network {
			return &tokenFailure{cause: failed.Err}
		}
		return &tokenFailure{unreadable: true, cause: errors.New("answer is cut off or not a token answer")}
	}
	var body struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if json.Unmarshal(refusal.Body, &body) != nil {
		body.Error, body.Description = "", ""
	}
	status := refusal.Response.StatusCode
	rp.log.WarnContext(ctx, "identity provider refused a token request", "status", status,
		"provider_error", cleaned(body.Error), "provider_description", cleaned(body.Description))
	failure := &tokenFailure{status: status, cause: &statusError{status: status}}
	clientError := status >= 400 && status < 500
	switch {
	case status == http.StatusTooManyRequests || status == http.StatusRequestTimeout:
		failure.wait = retryAfter(refusal.Response.Header)
	case clientError && body.Error == "invalid_grant":
		failure.ended = true
	case body.Error == "temporarily_unavailable" || body.Error == "server_error":
	case clientError, status >= 300 && status < 400, body.Error != "" && status < 300:
		failure.refused = true
	}
	return failure
}
