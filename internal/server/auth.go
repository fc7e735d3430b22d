package server

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/broker"
	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/login"
	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/session"
)

// findSession looks up the session of a request without asking the provider: an
// error is session_required or store_unavailable.
func (s *Site) findSession(x *exchange) (*session.Session, error) {
	found, err := s.parts.Sessions.Use(x.r.Context(), s.parts.Sessions.FromRequest(x.r))
	if errors.Is(err, session.ErrNone) {
		return nil, problem.SessionRequired()
	}
	if err != nil {
		return nil, err
	}
	x.source, x.who = identity.SourceSession, found.Identity
	return found, nil
}

// login starts the authorization code flow.
func (s *Site) login(x *exchange) error {
	returnTo := x.r.URL.Query().Get("return_to")
	start, err := s.parts.Login.Begin(x.r.Context(), returnTo, x.r.Cookies())
	if err != nil {
		return s.explain(x, err, login.SafeReturnTo(returnTo))
	}
	setCookies(x, start.SetCookies)
	redirect(x, start.URL)
	return nil
}

// callback finishes it. Whoever comes here with a session and a login that is
// not in progress (a reload, a second click) goes on into the app.
func (s *Site) callback(x *exchange) error {
	finished, err := s.parts.Login.Finish(x.r.Context(), x.r.URL.Query(), x.r.Cookies())
	setCookies(x, finished.SetCookies)
	if err != nil {
		if problem.From(err).Code == problem.LoginUnknown().Code {
			if _, sessionErr := s.findSession(x); sessionErr == nil {
				redirect(x, "/")
				return nil
			}
		}
		return s.explain(x, err, finished.ReturnTo)
	}
	previous := s.parts.Sessions.FromRequest(x.r)
	started, value, err := s.parts.Sessions.Start(x.r.Context(), finished.Identity, finished.Tokens, previous)
	if err != nil {
		return s.explain(x, err, finished.ReturnTo)
	}
	if err := s.supersede(x, previous, started); err != nil {
		return s.explain(x, err, finished.ReturnTo)
	}
	x.source, x.who = identity.SourceSession, started.Identity
	setCookies(x, []*http.Cookie{s.parts.Sessions.Cookie(value)})
	// Whoever used this browser before, known by another source, is not here now.
	if _, err := s.forgetDevice(x, false); err != nil {
		s.deps.Logger.WarnContext(x.r.Context(), "device not ended at login", "request_id", x.id, "error", err)
	}
	redirect(x, finished.ReturnTo)
	return nil
}

// supersede ends what the browser had before. Another tab of the same person may
// be chatting right now: the grant goes over to the new session, and tunnels live
// until they notice.
func (s *Site) supersede(x *exchange, previous secret.Text, started *session.Session) error {
	ctx := x.r.Context()
	old, err := s.parts.Sessions.Supersede(ctx, previous, started)
	switch {
	case err != nil:
		return err
	case old.Lingers:
		// Tunnels do not notice by themselves that their session got shorter.
		time.AfterFunc(session.Lingering, func() { s.endTunnels(context.WithoutCancel(ctx), old.Key) })
		return s.parts.Broker.Inherit(ctx, old.Key, broker.Caller{Session: started.Key, Identity: started.Identity, Until: started.Expires})
	case old.Key != "":
		s.endAtWhisp(ctx, x, old.Key)
	}
	return nil
}

// showSession tells who is signed in, whichever source knows. With ?slide=false
// a page can poll without keeping the session alive; expiresAt is the session's
// absolute end then, since an idle session may end sooner.
func (s *Site) showSession(x *exchange) error {
	peek := x.r.URL.Query().Get("slide") == "false"
	found, err := s.identify(x, x.r, peek)
	if err != nil {
		return err
	}
	if found.Authorization && !peek && !s.parts.Devices.FromRequest(x.r).Empty() {
		// This is where a page shows a renewed token.
		if _, err := s.holder(x, found, false); err != nil {
			return err
		}
	}
	answer := struct {
		Subject string         `json:"subject"`
		Issuer  string         `json:"issuer"`
		Claims  map[string]any `json:"claims"`
		// ExpiresAt is left out if the credential does not say.
		ExpiresAt time.Time `json:"expiresAt,omitzero"`
	}{found.Identity.Subject, found.Identity.Issuer, found.Identity.Claims, found.Expires.UTC()}
	if found.Session != "" && !peek {
		answer.ExpiresAt = s.parts.Sessions.UnusedUntil(found.Expires).UTC()
	}
	return writeJSON(x, answer)
}

// logout ends the session here first, whatever happens to Whisp and the
// provider: then tunnels, then the refresh token at Whisp. Without a session it
// does the same nothing, so that it can be repeated.
func (s *Site) logout(x *exchange) error {
	ctx := x.r.Context()
	found, err := s.findSession(x)
	if err != nil && problem.From(err).Code != problem.SessionRequired().Code {
		return err
	}
	answer := struct {
		// LogoutURL is where the browser should go to end the session at the
		// provider, too; a path of ours if the provider has no such page.
		LogoutURL string `json:"logoutUrl"`
		// WhispRevoked is false if Whisp could not be told.
		WhispRevoked bool `json:"whispRevoked"`
	}{LogoutURL: s.parts.PostLogoutPath, WhispRevoked: true}
	// The cookie alone says which: a session that ended by itself just now, idle or
	// at the provider, may still hold a grant and sockets.
	key := session.KeyOf(s.parts.Sessions.FromRequest(x.r))
	if key != "" {
		if err := s.parts.Sessions.End(ctx, key); err != nil {
			return err
		}
		answer.WhispRevoked = s.endAtWhisp(ctx, x, key)
	}
	if found != nil && found.Previous != "" { // it may linger
		if err := s.parts.Sessions.End(ctx, found.Previous); err != nil {
			return err
		}
		answer.WhispRevoked = s.endAtWhisp(ctx, x, found.Previous) && answer.WhispRevoked
	}
	if found != nil {
		if s.parts.Login != nil {
			if there, ok := s.parts.Login.LogoutURL(found.Tokens.IDToken); ok {
				answer.LogoutURL = there
			}
		}
	}
	revoked, err := s.forgetDevice(x, key == "")
	if err != nil {
		return err
	}
	answer.WhispRevoked = answer.WhispRevoked && revoked
	x.Header().Del("Set-Cookie") // said once is enough, see identify
	setCookies(x, []*http.Cookie{s.parts.Sessions.ExpiredCookie()})
	if navigation(x.r) {
		x.Header().Set("Cache-Control", "no-store")
		x.Header().Set("Location", answer.LogoutURL)
		x.WriteHeader(http.StatusSeeOther)
		return nil
	}
	return writeJSON(x, answer)
}

// forgetDevice ends what a browser holds whose sign-in is not ours: the sign-in
// itself is for the app to end. The cookie alone says which browser; if there is
// none and ask is set, the sources do. revoked is false if there may be something
// that Whisp was not told of.
func (s *Site) forgetDevice(x *exchange, ask bool) (revoked bool, err error) {
	ctx := x.r.Context()
	value := s.parts.Devices.FromRequest(x.r)
	var key string
	switch {
	case !value.Empty():
		key, err = s.parts.Devices.Current(ctx, value)
	case ask:
		answer, refused := s.identify(x, x.r, true)
		if refused != nil {
			return problem.From(refused).Status == http.StatusUnauthorized, nil
		}
		key, err = s.parts.Devices.CurrentOf(ctx, answer.Identity)
	default:
		return true, nil
	}
	if errors.Is(err, session.ErrNone) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if err := s.parts.Devices.End(ctx, key); err != nil {
		return false, err
	}
	return s.endAtWhisp(ctx, x, key), nil
}

// endAtWhisp closes an ended session's tunnels and revokes its grant; false if
// Whisp could not be told. A browser that leaves does not stop it.
func (s *Site) endAtWhisp(ctx context.Context, x *exchange, sessionKey string) bool {
	s.endTunnels(ctx, sessionKey)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := s.parts.Broker.SignOut(ctx, sessionKey); err != nil {
		s.deps.Logger.WarnContext(ctx, "refresh token not revoked at Whisp", "request_id", x.id, "error", err)
		return false
	}
	return true
}

// endTunnels closes the tunnels of a holder, here and on the other replicas.
func (s *Site) endTunnels(ctx context.Context, holder string) {
	s.parts.Realtime.EndSession(holder)
	if s.deps.Ended != nil {
		s.deps.Ended(ctx, holder)
	}
}

// explain answers a person with a page and everybody else with the problem.
// returnTo is where the person wanted to go.
func (s *Site) explain(x *exchange, err error, returnTo string) error {
	if !navigation(x.r) {
		return err
	}
	x.cause = problem.From(err)
	writeErrorPage(x, x.cause, s.wayOut(x, returnTo))
	return nil
}

// wayOut is the link on an error page: a login that ends where the person wanted
// to go, or, if one would not help, that place itself.
func (s *Site) wayOut(x *exchange, returnTo string) link {
	switch {
	case x.cause.Code == problem.AccessDenied().Code:
		return link{"/", "Go to the start page"}
	case x.route == routeApp && (x.cause.Status != http.StatusUnauthorized || !s.loginHelps[x.source]):
		return link{login.SafeReturnTo(returnTo), "Try again"}
	}
	return link{"/auth/login?return_to=" + url.QueryEscape(returnTo), "Start again"}
}

// redirect answers 302 with no body to be cached.
func redirect(x *exchange, location string) {
	x.Header().Set("Cache-Control", "no-store")
	x.Header().Set("Referrer-Policy", "no-referrer") // the callback's URL has a code in it
	x.Header().Set("Location", location)
	x.WriteHeader(http.StatusFound)
}

func setCookies(x *exchange, cookies []*http.Cookie) {
	for _, c := range cookies {
		http.SetCookie(x, c)
	}
}

// jsonBody reports whether the body claims to be JSON. A form cannot.
func jsonBody(r *http.Request) bool {
	media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(media), "application/json")
}
