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
	// unused is when the holder ends if it is not used again.
	unused time.Time
}

func (c caller) broker() broker.Caller {
	return broker.Caller{Session: c.holder, Identity: c.identity, Until: c.until}
}

// identify asks the sources who sends the request; using anything of ours is
// using the session, unless peek is set. The error is a problem.
func (s *Site) identify(x *exchange, r *http.Request, peek bool) (identity.Answer, error) {
	ctx := x.r.Context()
	if peek {
		ctx = session.Peek(ctx)
	}
	answer, err := s.parts.Identity.Identify(ctx, r)
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
	return answer, nil
}

// caller identifies and finds the browser's holder.
func (s *Site) caller(x *exchange, create bool) (caller, error) {
	answer, err := s.identify(x, x.r, false)
	if err != nil {
		return caller{}, err
	}
	return s.holder(x, answer, create)
}

// holder finds what holds the grant of whoever was identified: our own session,
// or the browser as a device. create makes a device cookie for a browser that has
// none; a client without cookies is one device per identity.
func (s *Site) holder(x *exchange, answer identity.Answer, create bool) (found caller, err error) {
	if answer.Session != "" {
		return caller{
			identity: answer.Identity, holder: answer.Session,
			until: answer.Expires, unused: s.parts.Sessions.UnusedUntil(answer.Expires),
		}, nil
	}
	value := s.parts.Devices.FromRequest(x.r)
	if value.Empty() && create && (answer.Authorization || keepsCookies(x.r)) {
		if value, err = s.parts.Devices.NewValue(); err != nil {
			return caller{}, err
		}
		setCookies(x, []*http.Cookie{s.parts.Devices.Cookie(value)})
	}
	device, err := s.parts.Devices.Recognise(x.r.Context(), value, session.Recognition{
		Identity: answer.Identity, CredentialEnds: answer.Expires, Resumable: answer.Authorization, Source: answer.Source,
	})
	if err != nil {
		return caller{}, err
	}
	if device.Replaced != "" {
		// Somebody else uses this browser now.
		s.endAtWhisp(x.r.Context(), x, device.Replaced)
	}
	return caller{identity: answer.Identity, holder: device.Key, until: device.Until, unused: device.Unused}, nil
}

// keepsCookies tells a browser from a program that would come without the
// cookie again, and get one more grant each time. Whoever signs in by
// Authorization needs the cookie below /whisp anyway and is not asked.
func keepsCookies(r *http.Request) bool {
	return r.Header.Get("Sec-Fetch-Site") != "" || len(r.Header["Cookie"]) > 0
}

// whispCaller is caller for calls below /whisp. There the Authorization header
// is Whisp's: the SDK puts Whisp's JWT or refresh token into it, so no source may
// see it. A page whose own credential belongs there is known by its device for as
// long as that credential lives and its issuer is trusted, and this counts as much as the credential
// would: only the sources that are asked before it outrank it.
func (s *Site) whispCaller(x *exchange) (caller, error) {
	if authorization, present := x.r.Header["Authorization"]; present {
		delete(x.r.Header, "Authorization")
		defer func() { x.r.Header["Authorization"] = authorization }()
	}
	answer, err := s.identify(x, x.r, false)
	if reader := s.parts.Identity.ReadsAuthorization(); s.parts.Identity.Outranks(reader, x.source) {
		device, resumeErr := s.parts.Devices.Resume(x.r.Context(), s.parts.Devices.FromRequest(x.r), s.parts.Identity.TrustsInAuthorization)
		switch {
		case resumeErr == nil:
			x.source, x.identityKey = sourceDevice, session.IdentityKeyOf(device.Key)
			return caller{holder: device.Key, until: device.Until, unused: device.Unused}, nil
		case !errors.Is(resumeErr, session.ErrNone):
			return caller{}, resumeErr
		}
	}
	if err != nil {
		return caller{}, err
	}
	return s.holder(x, answer, false)
}

// sourceDevice is what the log says of callers known by [session.Devices.Resume].
const sourceDevice = "device"

// userKey names the person behind a holder, for limits per person.
func (c caller) userKey() string {
	if session.IsDevice(c.holder) {
		return session.IdentityKeyOf(c.holder)
	}
	return c.identity.Key()
}
