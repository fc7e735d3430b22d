package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/whisp-bff/whisp-bff/internal/access"
)

// telling configures identity headers and the assertion.
func telling(c *setup) {
	c.access.Headers = map[string]string{"X-User-Id": "sub", "X-User-Groups": "groups", "X-Forwarded-User": "sub"}
	c.access.Assertion.Enabled = true
	c.access.Assertion.Header = "X-Who"
	c.access.Assertion.Audience = "http://app.internal"
	c.access.Assertion.Claims = []string{"groups"}
}

func TestCheckSaysWhoItIs(t *testing.T) {
	t.Parallel()
	for _, w := range ways() {
		s := start(t, withSources(newOutside(t), w.source), telling)
		alice := s.visit(t, w, "alice")
		for target, status := range map[string]int{
			"/auth/check": http.StatusAccepted, "/auth/check?x=1": http.StatusAccepted,
			"/auth/check/": http.StatusOK, "/auth/check/any/path?query=1": http.StatusOK,
		} {
			got := alice.send(t, http.MethodGet, target, alice.credential).want(status, "").
				has("X-Whisp-Bff-Subject", "alice").has("X-Whisp-Bff-Issuer", w.issuer).has("X-User-Id", "alice").
				has("Cache-Control", "no-store").has("Set-Cookie", "").has("Location", "")
			s.secret(got.header.Get("X-Who"))
			claims := s.verifyAssertion(t, got.header.Get("X-Who"))
			if claims["sub"] != "alice" || claims["idp"] != w.issuer {
				t.Errorf("%s: assertion says %v", w.name, claims)
			}
		}
		if got := s.sourceOf(t, "check"); got != w.source {
			t.Errorf("%s: the log says %v", w.name, got)
		}
	}
}

// Whatever the request that it is about looks like, nobody is 401: never a
// redirect, and never a yes, which every 2xx is to nginx and Traefik.
func TestCheckOfNobody(t *testing.T) {
	t.Parallel()
	s := start(t, telling, func(c *setup) { c.access.Rules = []access.Rule{{Path: "/admin/**"}} })
	preflight := func(r *http.Request) {
		r.Header.Set("Origin", publicOrigin)
		r.Header.Set("Access-Control-Request-Method", "PUT")
	}
	looks := map[string][]option{
		"plain": nil, "navigation": {navigate}, "fetch": {sameOrigin}, "preflight": {preflight},
		"foreign":    {header("Origin", "https://evil.example"), header("Sec-Fetch-Site", "cross-site"), navigate},
		"old client": {header("Accept", "text/html")},
		"stale":      {cookies(sessionCookie + "=" + strings.Repeat("A", 43)), navigate},
		"upgrade":    {header("Connection", "Upgrade"), header("Upgrade", "websocket"), header("Sec-WebSocket-Version", "13")},
	}
	for name, options := range looks {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "REPORT", "PURGE"} {
			for _, target := range []string{"/auth/check", "/auth/check/", "/auth/check/page?x=1"} {
				got := s.send(t, method, target, options...)
				got.has("Cache-Control", "no-store").has("Location", "").has("X-User-Id", "").has("X-Whisp-Bff-Subject", "").has("X-Who", "")
				if got.status != http.StatusUnauthorized {
					t.Errorf("%s: %s %s: %d", name, method, target, got.status)
				}
				for _, c := range (&http.Response{Header: got.header}).Cookies() {
					if name != "stale" || c.MaxAge >= 0 {
						t.Errorf("%s: set the cookie %s", name, c.Name)
					}
				}
			}
		}
	}
}

// And somebody is a yes to all of it.
func TestCheckOfSomebodyByEveryMethod(t *testing.T) {
	t.Parallel()
	s := start(t)
	alice := s.login(t, "alice")
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "REPORT"} {
		alice.send(t, method, "/auth/check", header("Origin", "https://evil.example"), header("Access-Control-Request-Method", "PUT")).
			want(http.StatusAccepted, "").has("X-Whisp-Bff-Subject", "demo-alice").has("Access-Control-Allow-Origin", "")
		alice.send(t, method, "/auth/check/p", navigate).want(http.StatusOK, "")
	}
}

// Envoy appends any path there is. It is not looked at, and does not reach
// anything else.
func TestCheckOfOddPaths(t *testing.T) {
	t.Parallel()
	s := start(t)
	alice := s.login(t, "alice")
	cookie := sessionCookie + "=" + alice.cookies[sessionCookie]
	for _, path := range []string{
		"//x", "/../../auth/logout", "/..%2f..%2fadmin", "/%2e%2e/x", "/a;b=c", "/%00", "/x?y=%zz&z=1;2", "/%", "/\\x", "/auth/login", "/whisp/api/user/signin",
		"/" + strings.Repeat("x", 20_000), "/?" + strings.Repeat("q=1&", 6_000),
	} {
		for who, line := range map[string]string{"alice": "Cookie: " + cookie + "\r\n", "nobody": ""} {
			got := s.rawOnce(t, "GET /auth/check"+path+" HTTP/1.1\r\nHost: "+publicHost+"\r\n"+line+"Connection: close\r\n\r\n")
			if got == nil {
				t.Errorf("%.40s: no answer", path)
				continue
			}
			want := map[string]int{"alice": http.StatusOK, "nobody": http.StatusUnauthorized}[who]
			if path == "/%" { // no URL at all: net/http's own answer
				want = http.StatusBadRequest
			}
			if got.status != want || got.header.Get("Location") != "" {
				t.Errorf("%s at %.40s: %d, want %d", who, path, got.status, want)
			}
		}
	}
	// What only looks like it is the app's, or nobody's.
	for target, status := range map[string]int{"/auth/checker": 200, "/AUTH/check": 200, "/auth//check": 200} {
		s.send(t, http.MethodGet, target).want(status, "").has("X-Whisp-Bff-Subject", "")
	}
	for _, r := range s.app.requests() {
		if strings.HasPrefix(r.URL.Path, "/auth/check/") {
			t.Errorf("the app got %s", r.URL.Path)
		}
	}
}
