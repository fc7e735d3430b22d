package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/login"
	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/session"
)

const (
	// backChannelBodyLimit bounds the form with the logout token, in bytes.
	backChannelBodyLimit = 16 << 10
	// refusalPause is the least time between two log lines about refused logout
	// tokens: anybody can send such.
	refusalPause = 10 * time.Second
)

// backChannel is what the server remembers of back-channel logouts.
type backChannel struct {
	outcomes *prometheus.CounterVec
	logged   atomic.Int64 // when a refusal was logged last, Unix nanoseconds
}

func newBackChannel(registry prometheus.Registerer) *backChannel {
	b := &backChannel{outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "whisp_bff_backchannel_logouts_total",
		Help: "Back-channel logouts: ended, no_session if there was nothing to end, invalid for a refused token, failed.",
	}, []string{"outcome"})}
	registry.MustRegister(b.outcomes)
	return b
}

// backChannelLogout is where the provider says that a sign-in there has ended
// (OpenID Connect Back-Channel Logout 1.0 section 2.5). The token in the body is
// all that counts: there is no browser, so neither origin nor cookies are looked
// at.
//
// Sessions and tunnels have ended when it answers; Whisp is told afterwards, from
// the broker's outbox.
func (s *Site) backChannelLogout(x *exchange) error {
	x.Header().Set("Cache-Control", "no-store")
	token, err := logoutToken(x)
	ended := 0
	if err == nil {
		// A provider that does not wait for the answer wants the logout all the same.
		err = s.parts.Login.BackChannelLogout(context.WithoutCancel(x.r.Context()), token,
			func(ctx context.Context, asked login.Logout) (err error) {
				ended, err = s.endAsked(ctx, x, asked)
				return err
			})
	}
	outcome := "ended"
	switch {
	case err != nil && problem.From(err).Code == problem.LogoutTokenInvalid().Code:
		outcome = "invalid"
		s.refuseLogoutToken(x, problem.From(err))
		err = nil
	case err != nil:
		outcome = "failed"
	case ended == 0:
		outcome = "no_session"
	}
	s.backChannel.outcomes.WithLabelValues(outcome).Inc()
	if err == nil && outcome != "invalid" {
		x.WriteHeader(http.StatusOK)
	}
	return err
}

// logoutToken reads the body, which must be a form with one logout_token.
func logoutToken(x *exchange) (secret.Text, error) {
	x.r.Body = http.MaxBytesReader(x, x.r.Body, backChannelBodyLimit)
	if err := x.r.ParseForm(); err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			return secret.Text{}, problem.LogoutTokenInvalid().Because(errors.New("the body is too large"))
		}
		return secret.Text{}, problem.LogoutTokenInvalid().Because(errors.New("the body is no form"))
	}
	tokens := x.r.PostForm["logout_token"] //nolint:forbidigo // of a request, not the function of net/http
	if len(tokens) != 1 {
		return secret.Text{}, problem.LogoutTokenInvalid().Because(fmt.Errorf("the form has %d logout_token, not one", len(tokens)))
	}
	return secret.New(tokens[0]), nil
}

// refuseLogoutToken answers as section 2.8 wants (RFC 6749 section 5.2), with our
// code and request id beside.
func (s *Site) refuseLogoutToken(x *exchange, p *problem.Problem) {
	x.cause = p
	body, err := json.Marshal(struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
		Code        string `json:"code"`
		RequestID   string `json:"requestId"`
	}{"invalid_request", p.Message, p.Code, x.id})
	if err != nil { // strings: cannot fail
		panic(err)
	}
	x.Header().Set("Content-Type", "application/json")
	x.Header().Set("X-Content-Type-Options", "nosniff")
	x.WriteHeader(p.Status)
	_, _ = x.Write(body)

	now, last := s.deps.Clock().UnixNano(), s.backChannel.logged.Load()
	if since := now - last; since >= 0 && since < int64(refusalPause) || !s.backChannel.logged.CompareAndSwap(last, now) {
		return // the metric counts them
	}
	s.deps.Logger.WarnContext(x.r.Context(), "back-channel logout refused", "request_id", x.id, "client", x.client, "cause", clip(p.Unwrap().Error(), 500))
}

// endAsked ends what a logout token asks for, and returns how many sessions and
// devices that were.
func (s *Site) endAsked(ctx context.Context, x *exchange, asked login.Logout) (ended int, err error) {
	person := identity.Identity{Issuer: asked.Issuer, Subject: asked.Subject}
	by, group := "sub", session.OfIdentity(person)
	if asked.ProviderSession != "" {
		by, group = "sid", session.OfProviderSession(asked.Issuer, asked.ProviderSession)
	}
	// First, so that a login that is under way is either found or refused.
	if err := s.parts.Sessions.RefuseLate(ctx, group, asked.IssuedAt); err != nil {
		return 0, err
	}
	devices := 0
	if by == "sid" {
		ended, err = s.parts.Sessions.EndGroup(ctx, group, s.endHeld)
	} else {
		ended, devices, err = s.endPerson(ctx, person)
	}
	if err != nil {
		return ended, fmt.Errorf("end sessions: %w", err)
	}
	attributes := []any{"request_id", x.id, "by", by, "sessions", ended, "devices", devices}
	if asked.Subject != "" {
		attributes = append(attributes, "identity", person.Key()[:12])
	}
	s.deps.Logger.InfoContext(ctx, "logged out by the provider", attributes...)
	return ended + devices, nil
}

// endPerson ends all sessions of a person, and the devices that hold a grant of
// theirs. It may be repeated.
func (s *Site) endPerson(ctx context.Context, person identity.Identity) (sessions, devices int, err error) {
	sessions, err = s.parts.Sessions.EndGroup(ctx, session.OfIdentity(person), s.endHeld)
	if err != nil {
		return sessions, 0, err
	}
	alive, err := s.devicesOf(ctx, person)
	if err != nil {
		return sessions, 0, err
	}
	for _, key := range alive {
		if err := s.parts.Devices.End(ctx, key); err != nil {
			return sessions, devices, err
		}
		devices++
		if err := s.endHeld(ctx, key); err != nil {
			return sessions, devices, err
		}
	}
	return sessions, devices, nil
}

// devicesOf returns the keys of live devices that hold a grant of the person.
func (s *Site) devicesOf(ctx context.Context, person identity.Identity) ([]string, error) {
	holders, err := s.parts.Broker.Holders(ctx, person)
	if err != nil {
		return nil, err
	}
	var alive []string
	for _, key := range holders {
		if !session.IsDevice(key) {
			continue
		}
		ok, err := s.parts.Devices.Alive(ctx, key)
		if err != nil {
			return nil, err
		}
		if ok {
			alive = append(alive, key)
		}
	}
	return alive, nil
}

// endHeld closes an ended holder's tunnels, here and elsewhere, and has its grant
// revoked without waiting for Whisp.
func (s *Site) endHeld(ctx context.Context, holder string) error {
	s.endTunnels(ctx, holder)
	return s.parts.Broker.SignOutSoon(ctx, holder)
}
