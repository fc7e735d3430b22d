package server_test

import (
	"net/http"
	"testing"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// The main path, as a browser with the SDK walks it.
func TestFromLoginToLogout(t *testing.T) {
	s := start(t)
	alice := s.login(t, "alice")

	var shown struct{ Subject, Issuer string }
	alice.send(t, http.MethodGet, "/auth/session", sameOrigin).want(http.StatusOK, "").decode(&shown)
	if shown.Subject != "demo-alice" || shown.Issuer != s.provider.Issuer() {
		t.Errorf("session shows %+v", shown)
	}
	g := alice.signIn(t)
	if again := alice.signIn(t); again != g {
		t.Error("a live grant was not answered again")
	}
	if s.whisp.Calls("registerUser") != 1 {
		t.Errorf("%d accounts registered", s.whisp.Calls("registerUser"))
	}
	alice.send(t, http.MethodGet, "/whisp/api/user/getUser", sameOrigin, header("Authorization", "Bearer "+g.JWT)).want(http.StatusOK, "")

	socket := alice.socket(t, alice.ticket(t, g))
	socket.connect(t, g.JWT)

	var out struct {
		LogoutURL    string
		WhispRevoked bool
	}
	before := alice.cookies[sessionCookie]
	alice.send(t, http.MethodPost, "/auth/logout", sameOrigin).want(http.StatusOK, "").has("Cache-Control", "no-store").decode(&out)
	if !out.WhispRevoked || out.LogoutURL == "" || s.whisp.RefreshTokenAlive(secret.New(g.RefreshToken)) {
		t.Errorf("logout answered %+v, refresh token alive %v", out.WhispRevoked, s.whisp.RefreshTokenAlive(secret.New(g.RefreshToken)))
	}
	socket.wantClosed(t, 1000)
	if alice.cookies[sessionCookie] != "" {
		t.Error("the cookie stays")
	}

	alice.send(t, http.MethodPost, "/auth/logout", sameOrigin).want(http.StatusOK, "").decode(&out)
	if !out.WhispRevoked {
		t.Error("second logout claims a failure")
	}
	alice.cookies[sessionCookie] = before
	for _, path := range []string{"/auth/session", "/whisp/api/user/getUser", "/whisp/api/wsConnect?ticket=x"} {
		alice.send(t, http.MethodGet, path, sameOrigin, header("Authorization", "Bearer "+g.JWT)).want(http.StatusUnauthorized, "session_required")
	}
	alice.send(t, http.MethodPost, "/auth/whisp/sign-in", sameOrigin).want(http.StatusUnauthorized, "session_required")
}
