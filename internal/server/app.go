package server

import (
	"net/http"
	"net/url"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/problem"
)

// appHandler is the customer's app.
type appHandler interface {
	ServeAs(w http.ResponseWriter, r *http.Request, identity http.Header)
}

// serveApp hands on to the customer's app, if whoever asks may have the path.
func (s *Site) serveApp(x *exchange) {
	x.route = routeApp
	guard, err := s.parts.Policy.For(x.r.URL)
	if err != nil {
		x.fail(err)
		return
	}
	if guard.Public() && !s.tells {
		// Nobody needs to know, so nobody is asked: a provider that is down must not
		// slow the app's pages.
		s.useSession(x)
		s.app.ServeAs(x, x.r, nil)
		return
	}
	answer, err := s.identify(x, x.r, false)
	switch {
	case err != nil && !guard.Public():
		s.refuse(x, err)
		return
	case err != nil: // the page is for everybody, this one included
		s.app.ServeAs(x, x.r, nil)
		return
	case !guard.Allows(answer.Identity):
		s.refuse(x, problem.AccessDenied())
		return
	}
	headers, err := s.describe(answer.Identity)
	if err != nil {
		x.fail(err)
		return
	}
	s.app.ServeAs(x, x.r, headers)
}

// useSession counts as a use of our own session, if there is one. Neither "no
// session" nor a store that does not answer keeps anybody from the app.
func (s *Site) useSession(x *exchange) {
	value := s.parts.Sessions.FromRequest(x.r)
	if value.Empty() {
		return
	}
	if found, err := s.parts.Sessions.Use(x.r.Context(), value); err == nil {
		x.source, x.who = identity.SourceSession, found.Identity
	}
}

// describe is what the app is told about an identity.
func (s *Site) describe(id identity.Identity) (http.Header, error) {
	headers := make(http.Header, 4)
	s.parts.Policy.Tell(headers, id)
	if s.parts.Assertions != nil {
		assertion, err := s.parts.Assertions.Sign(id)
		if err != nil {
			return nil, err
		}
		headers.Set(s.parts.Assertions.Header(), assertion.Reveal())
	}
	return headers, nil
}

// refuse sends a person who is not signed in to the login, and shows everybody
// else what is wrong: a fetch that followed a redirect would take the login
// page for an answer.
//
// There is no loop in it. A login whose session would not be asked for, since the
// source that refused is asked before it, is not offered. An ended session's
// cookie is gone with the redirect. Whoever is known but may not is told so.
func (s *Site) refuse(x *exchange, err error) {
	signedOut := problem.From(err).Status == http.StatusUnauthorized
	if signedOut && s.loginHelps[x.source] && navigation(x.r) && x.r.Method == http.MethodGet {
		redirect(x, "/auth/login?return_to="+url.QueryEscape(x.r.URL.RequestURI()))
		return
	}
	if err := s.explain(x, err, x.r.URL.RequestURI()); err != nil {
		x.fail(err)
	}
}
