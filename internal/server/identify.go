package server

import (
	"errors"
	"net/http"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/broker"
	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/session"
)

// caller is who sends a request, and as which browser.
type caller struct {
	identity identity.Identity
	// holder is the key of the session or device that holds grant, tickets and
	// tunnels.
	holder string
	// until is when whatever the holder holds should end at the latest.
	until time.Time
}

func (c caller) broker() broker.Caller {
	return broker.Caller{Session: c.holder, Identity: c.identity, Until: c.until}
}

// identify asks the sources who sends the request; using anything of ours is
// using the session, unless peek is set. The error is a problem.
func (s *Server) identify(x *exchange, r *http.Request, peek bool) (identity.Answer, error) {
	answer, err := s.parts.Identity.Identify(x.r.Context(), r)
	x.source = answer.Source
	if err != nil {
		if problem.From(err).Code == problem.SessionRequired().Code && answer.Source == identity.SourceSession {
			// The session has ended. Its cookie goes, or it would keep every
			// other source from being asked.
			setCookies(x, []*http.Cookie{s.parts.Sessions.ExpiredCookie()})
		}
		return answer, err
	}
	x.who = answer.Identity
	if answer.Session == "" || peek {
		return answer, nil
	}
	if _, err := s.parts.Sessions.Touch(x.r.Context(), answer.Session); err != nil {
		return answer, asSessionRequired(err)
	}
	return answer, nil
}

// caller identifies and finds the browser's holder. create makes a device cookie
// for a browser that has none; a client without cookies is one device per
// identity.
func (s *Server) caller(x *exchange, create bool) (caller, error) {
	answer, err := s.identify(x, x.r, false)
	if err != nil {
		return caller{}, err
	}
	if answer.Session != "" {
		return caller{identity: answer.Identity, holder: answer.Session, until: answer.Expires}, nil
	}
	value := s.parts.Devices.FromRequest(x.r)
	if value.Empty() && create {
		if value, err = s.parts.Devices.NewValue(); err != nil {
			return caller{}, err
		}
		setCookies(x, []*http.Cookie{s.parts.Devices.Cookie(value)})
	}
	device, err := s.parts.Devices.Recognise(x.r.Context(), value, session.Recognition{
		Identity: answer.Identity, CredentialEnds: answer.Expires, Resumable: answer.Authorization,
	})
	if err != nil {
		return caller{}, err
	}
	if device.Replaced != "" {
		// Somebody else uses this browser now.
		s.endAtWhisp(x.r.Context(), x, device.Replaced)
	}
	return caller{identity: answer.Identity, holder: device.Key, until: device.Until}, nil
}

// whispCaller is caller for calls below /whisp. There the Authorization header
// is Whisp's: the SDK puts Whisp's JWT or refresh token into it, so no source may
// see it. A page whose own credential belongs there is known by its device for as
// long as that credential lives.
func (s *Server) whispCaller(x *exchange) (caller, error) {
	authorization, present := x.r.Header["Authorization"]
	if present {
		delete(x.r.Header, "Authorization")
		defer func() { x.r.Header["Authorization"] = authorization }()
	}
	found, err := s.caller(x, false)
	if err == nil || !s.deps.Resumable || x.source != "" || problem.From(err).Code != problem.SessionRequired().Code {
		return found, err
	}
	device, resumeErr := s.parts.Devices.Resume(x.r.Context(), s.parts.Devices.FromRequest(x.r))
	if errors.Is(resumeErr, session.ErrNone) {
		return caller{}, err
	}
	if resumeErr != nil {
		return caller{}, resumeErr
	}
	x.source, x.identityKey = "device", session.IdentityKeyOf(device.Key)
	return caller{holder: device.Key, until: device.Until}, nil
}

// userKey names the person behind a holder, for limits per person.
func (c caller) userKey() string {
	if session.IsDevice(c.holder) {
		return session.IdentityKeyOf(c.holder)
	}
	return c.identity.Key()
}

func asSessionRequired(err error) error {
	if errors.Is(err, session.ErrNone) {
		return problem.SessionRequired().Because(err)
	}
	return err
}

// withCaller wraps endpoints that act for a browser.
func (s *Server) withCaller(next func(*exchange, caller) error) func(*exchange) error {
	return func(x *exchange) error {
		found, err := s.caller(x, true)
		if err != nil {
			return err
		}
		return next(x, found)
	}
}
