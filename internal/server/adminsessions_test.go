package server_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/session"
)

func alicesSessions(s *stack) string {
	return "/admin/sessions?" + url.Values{"issuer": {s.provider.Issuer()}, "subject": {"demo-alice"}}.Encode()
}

type listedSessions struct {
	Sessions []struct {
		Handle, Source   string
		Created, Expires time.Time
		Lingering        bool
	}
	Devices int
	Next    string
}

func (s *stack) sessionsOf(t testing.TB) (got listedSessions) {
	t.Helper()
	s.administer(t, http.MethodGet, alicesSessions(s), "").want(http.StatusOK, "").has("Cache-Control", "no-store").decode(&got)
	return got
}

type endedSessions struct{ Sessions, Devices int }

func TestAdminSessions(t *testing.T) {
	t.Parallel()
	s := start(t, withAdminToken)
	s.revoking(t)
	if got := s.sessionsOf(t); len(got.Sessions) != 0 || got.Next != "" {
		t.Errorf("nobody is signed in: %+v", got)
	}
	laptop, bob := s.login(t, "alice"), s.login(t, "bob")
	got := s.sessionsOf(t)
	if len(got.Sessions) != 1 || got.Sessions[0].Source != "session" || got.Sessions[0].Lingering ||
		got.Sessions[0].Expires.Sub(got.Sessions[0].Created) != 12*time.Hour {
		t.Fatalf("%+v", got)
	}
	handle := got.Sessions[0].Handle
	if value := laptop.cookies[sessionCookie]; strings.Contains(value, handle) || strings.Contains(session.KeyOf(secretOf(value)), handle) {
		t.Error("the handle is a part of the cookie or of the key")
	}

	// Again in the same browser: the old one lingers.
	laptop.send(t, http.MethodGet, laptop.toProvider(t, "alice", "/"), navigate).want(http.StatusFound, "")
	phone := s.login(t, "alice")
	lingering := 0
	for _, each := range s.sessionsOf(t).Sessions {
		if each.Lingering {
			lingering++
			if each.Handle != handle {
				t.Error("another one lingers")
			}
		}
	}
	if lingering != 1 || len(s.sessionsOf(t).Sessions) != 3 {
		t.Errorf("%d linger of %+v", lingering, s.sessionsOf(t))
	}
	after := s.administer(t, http.MethodGet, alicesSessions(s)+"&after="+strings.Repeat("z", 22), "").want(http.StatusOK, "")
	if strings.Contains(after.body, "handle") {
		t.Errorf("after the last one: %s", after.body)
	}

	// One of them, then all that are left.
	g, chat := phone.chatting(t)
	var ended endedSessions
	s.administer(t, http.MethodDelete, alicesSessions(s)+"&handle="+handle, "").want(http.StatusOK, "").decode(&ended)
	if ended != (endedSessions{1, 0}) || len(s.sessionsOf(t).Sessions) != 2 {
		t.Errorf("one: %+v", ended)
	}
	laptop.send(t, http.MethodGet, "/auth/session", sameOrigin).want(http.StatusOK, "")
	s.administer(t, http.MethodDelete, alicesSessions(s), "").want(http.StatusOK, "").has("Cache-Control", "no-store").decode(&ended)
	if ended != (endedSessions{2, 0}) {
		t.Errorf("all: %+v", ended)
	}
	laptop.wantGone(t)
	phone.wantGone(t)
	chat.wantClosed(t, 1000)
	s.wantRevoked(t, g)
	bob.send(t, http.MethodGet, "/auth/session", sameOrigin).want(http.StatusOK, "")
	for _, again := range []string{alicesSessions(s), alicesSessions(s) + "&handle=" + handle} {
		s.administer(t, http.MethodDelete, again, "").want(http.StatusOK, "").decode(&ended)
		if ended != (endedSessions{}) {
			t.Errorf("%s again: %+v", again, ended)
		}
	}
	s.login(t, "alice") // nobody is locked out
}

func TestAdminSessionsRefuses(t *testing.T) {
	t.Parallel()
	s := start(t, withAdminToken)
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		for _, query := range []string{"", "?issuer=i", "?subject=s", "?issuer=i&subject=", "?issuer=i&issuer=i&subject=s", "?issuer=i&subject=s&x=1", "?issuer=i&subject=%00"} {
			s.administer(t, method, "/admin/sessions"+query, "").want(http.StatusUnprocessableEntity, "identity_invalid")
		}
		s.administer(t, method, alicesSessions(s), "", header("Authorization", "Bearer "+flip(adminToken))).want(http.StatusUnauthorized, "admin_token_refused")
		s.administer(t, method, alicesSessions(s), "", header("Origin", publicOrigin)).want(http.StatusForbidden, "origin_forbidden")
	}
	s.administer(t, http.MethodDelete, alicesSessions(s)+"&handle=", "").want(http.StatusUnprocessableEntity, "identity_invalid")
	s.administer(t, http.MethodDelete, alicesSessions(s)+"&after=x", "").want(http.StatusUnprocessableEntity, "identity_invalid")
	s.administer(t, http.MethodGet, alicesSessions(s)+"&handle=x", "").want(http.StatusUnprocessableEntity, "identity_invalid")
	s.administer(t, http.MethodPost, alicesSessions(s), "").want(http.StatusMethodNotAllowed, "method_not_allowed").has("Allow", "DELETE, GET")
}

// Whoever is known by another source holds a device: it ends, and the sign-in
// elsewhere does not.
func TestAdminEndsDevices(t *testing.T) {
	t.Parallel()
	s := start(t, withAdminToken, func(c *setup) {
		c.sources = func(s *stack, _ *session.Sessions) []identity.Source {
			who := identity.Identity{Issuer: s.provider.Issuer(), Subject: "demo-alice", Claims: map[string]any{"preferred_username": "alice"}}
			return []identity.Source{answering{name: "forwarded", answer: identity.Answer{Identity: who}}}
		}
	})
	s.revoking(t)
	s.waitReady(t)
	b := s.browser()
	g, chat := b.chatting(t)
	if got := s.sessionsOf(t); got.Devices != 1 || len(got.Sessions) != 0 {
		t.Errorf("%+v", got)
	}
	var ended endedSessions
	s.administer(t, http.MethodDelete, alicesSessions(s), "").want(http.StatusOK, "").decode(&ended)
	if ended != (endedSessions{0, 1}) {
		t.Errorf("%+v", ended)
	}
	chat.wantClosed(t, 1000)
	s.wantRevoked(t, g)
	if got := s.sessionsOf(t); got.Devices != 0 {
		t.Errorf("%+v", got)
	}
	next, chat := b.chatting(t)
	// A logout of all of the person's by the provider does the same.
	s.backChannel(t, s.logoutToken(t, "demo-alice", "")).want(http.StatusOK, "")
	chat.wantClosed(t, 1000)
	s.wantRevoked(t, next)
}
