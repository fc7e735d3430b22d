package server_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/oidcsim"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// security.md 1: wherever return_to points, the browser stays on our origin.
func TestRedirectsNeverLeaveTheOrigin(t *testing.T) {
	s := start(t)
	s.waitReady(t)
	for _, returnTo := range []string{
		"//evil.example", `/\evil.example`, `/\/evil.example`, "https:evil.example", "https://app.example.com@evil.example",
		"%2f%2fevil.example", "/%2f%2fevil.example", "/%09/evil.example", "\t//evil.example", "/x\r\nSet-Cookie: a=b",
		"/.//evil.example", "/..//evil.example", "javascript:alert(1)", "/" + strings.Repeat("x", 10_000), "", "x", "/auth/login", "/auth/callback?x",
	} {
		b := s.browser()
		b.send(t, http.MethodGet, b.toProvider(t, "alice", returnTo), navigate).want(http.StatusFound, "").has("Location", "/")
	}
	b := s.browser()
	b.send(t, http.MethodGet, b.toProvider(t, "alice", "/inbox?folder=2#top"), navigate).
		want(http.StatusFound, "").has("Location", "/inbox?folder=2#top").has("Cache-Control", "no-store").has("Referrer-Policy", "no-referrer")
}

// security.md 2, 3, 6, 7: each ends on a page that a person understands, with
// no session, and "Start again" leads to where the person wanted to go.
func TestCallbacksThatFail(t *testing.T) {
	type world struct {
		s        *stack
		b        *browser
		callback string
	}
	for _, test := range []struct {
		name   string
		spoil  func(*testing.T, *world)
		faults oidcsim.Faults
		status int
		code   string
		again  string
	}{
		{"2: no state", func(_ *testing.T, w *world) { w.callback = "/auth/callback?code=x" }, oidcsim.Faults{}, 400, "login_unknown", "%2f"},
		{"2: nothing at all", func(_ *testing.T, w *world) { w.callback = "/auth/callback" }, oidcsim.Faults{}, 400, "login_unknown", "%2f"},
		{"2: foreign state", func(_ *testing.T, w *world) { w.callback = "/auth/callback?code=x&state=" + strings.Repeat("A", 200) }, oidcsim.Faults{}, 400, "login_unknown", "%2f"},
		{"2: expired state", func(_ *testing.T, w *world) { w.s.clock.advance(11 * time.Minute) }, oidcsim.Faults{}, 400, "login_unknown", "%2finbox%3fa%3d1%26b%3d2"},
		{"2: reused state", func(t *testing.T, w *world) {
			kept := *w.b
			kept.cookies = map[string]string{}
			for name, value := range w.b.cookies {
				kept.cookies[name] = value
			}
			w.b.send(t, http.MethodGet, w.callback, navigate).want(http.StatusFound, "")
			w.b = &kept
		}, oidcsim.Faults{}, 400, "login_unknown", "%2finbox%3fa%3d1%26b%3d2"},
		{"3: another browser", func(_ *testing.T, w *world) { w.b = w.s.browser() }, oidcsim.Faults{}, 400, "login_unknown", "%2finbox%3fa%3d1%26b%3d2"},
		{"4: nonce", nil, oidcsim.Faults{IDToken: func(c map[string]any) { c["nonce"] = "other" }}, 401, "login_rejected", "%2finbox%3fa%3d1%26b%3d2"},
		{"4: alg none", nil, oidcsim.Faults{Signature: oidcsim.SignNone}, 401, "login_rejected", "%2finbox%3fa%3d1%26b%3d2"},
		{"6: mix-up", nil, oidcsim.Faults{CallbackIssuer: "https://evil.example"}, 400, "login_issuer_mismatch", "%2finbox%3fa%3d1%26b%3d2"},
		{"7: denied", nil, oidcsim.Faults{AuthorizeError: "access_denied", AuthorizeErrorDescription: "<script>alert(1)</script>"}, 403, "login_denied", "%2finbox%3fa%3d1%26b%3d2"},
		{"54: token endpoint fails", nil, oidcsim.Faults{Endpoints: map[oidcsim.Endpoint]http.HandlerFunc{oidcsim.Token: oidcsim.Status(500)}}, 503, "provider_unavailable", "%2finbox%3fa%3d1%26b%3d2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t)
			s.waitReady(t)
			s.provider.SetFaults(test.faults)
			w := &world{s: s, b: s.browser()}
			w.callback = w.b.toProvider(t, "alice", "/inbox?a=1&b=2")
			if test.spoil != nil {
				test.spoil(t, w)
			}
			page := w.b.send(t, http.MethodGet, w.callback, navigate).want(test.status, "")
			if !strings.HasPrefix(page.header.Get("Content-Type"), "text/html") ||
				!strings.Contains(page.header.Get("Content-Security-Policy"), "default-src 'none'") ||
				!strings.Contains(page.body, test.code) || !strings.Contains(page.body, page.header.Get("X-Request-Id")) {
				t.Errorf("page %v %s", page.header, page.body)
			}
			if strings.Contains(page.body, "<script") || strings.Contains(page.body, "alert(1)") {
				t.Error("7: the provider's words are on the page")
			}
			if !strings.Contains(strings.ToLower(page.body), `href="/auth/login?return_to=`+test.again+`"`) {
				t.Errorf("does not start again at %s: %s", test.again, page.body)
			}
			if w.b.cookies[sessionCookie] != "" {
				t.Error("a session was made")
			}
			// A script gets the problem instead of the page.
			if code := s.send(t, http.MethodGet, "/auth/callback", sameOrigin).code(); code != "login_unknown" {
				t.Errorf("fetch got %q", code)
			}
		})
	}
}

// A page reloaded after login is no error to its reader.
func TestCallbackAgainWithASession(t *testing.T) {
	s := start(t)
	alice := s.login(t, "alice")
	alice.send(t, http.MethodGet, "/auth/callback?code=x&state=y", navigate).want(http.StatusFound, "").has("Location", "/")
}

// security.md 8: all of many tabs finish, and what they leave is bounded.
func TestTwentyTabs(t *testing.T) {
	s := start(t)
	s.waitReady(t)
	b := s.browser()
	var callbacks []string
	for range 20 {
		callbacks = append(callbacks, b.toProvider(t, "alice", "/tab"))
		if len(b.cookies) > 32 {
			t.Fatalf("%d cookies", len(b.cookies))
		}
	}
	finished := 0
	for _, callback := range callbacks {
		got := b.send(t, http.MethodGet, callback, navigate)
		if got.status == http.StatusFound && got.header.Get("Location") == "/tab" {
			finished++
		}
	}
	if finished != 20 {
		t.Errorf("%d of 20 logins finished", finished)
	}
	if len(b.cookies) != 1 {
		t.Errorf("%d cookies are left", len(b.cookies))
	}
}

// security.md 9: never the session id from before, and the old session is gone.
func TestLoginMakesANewSession(t *testing.T) {
	s := start(t)
	b := s.login(t, "alice")
	old := b.cookies[sessionCookie]
	g := b.signIn(t)
	b.send(t, http.MethodGet, b.toProvider(t, "bob", "/"), navigate).want(http.StatusFound, "")
	if b.cookies[sessionCookie] == old {
		t.Error("same session id")
	}
	if s.whisp.RefreshTokenAlive(secretOf(g.RefreshToken)) {
		t.Error("the old session's refresh token lives")
	}
	s.send(t, http.MethodGet, "/auth/session", cookies(sessionCookie+"="+old)).want(http.StatusUnauthorized, "session_required")

	planted := s.browser()
	planted.cookies[sessionCookie] = strings.Repeat("A", 43)
	planted.send(t, http.MethodGet, planted.toProvider(t, "alice", "/"), navigate).want(http.StatusFound, "")
	if planted.cookies[sessionCookie] == strings.Repeat("A", 43) {
		t.Error("9: a planted id became a session")
	}
}

// security.md 11: claims are data.
func TestOddClaims(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.waitReady(t)
	for name, claims := range map[string]map[string]any{
		"template":    {"preferred_username": "{{.sub}}", "name": "{{range}}", "email": "{{"},
		"right-left":  {"preferred_username": "ali\u202ece", "name": "\u202e\x00"},
		"emoji":       {"preferred_username": "🙂🙂🙂🙂", "name": "🙂"},
		"none":        {},
		"many groups": {"preferred_username": "grouper", "groups": make([]string, 20_000)},
		"line breaks": {"preferred_username": "x\r\nSet-Cookie: evil=1", "email": "a@b.c\r\nX: y"},
	} {
		s.provider.SetClaims("carol", claims)
		b := s.browser()
		got := b.send(t, http.MethodGet, b.toProvider(t, "carol", "/"), navigate)
		if got.status >= 500 {
			t.Errorf("%s: %d", name, got.status)
		}
		if b.cookies["evil"] != "" {
			t.Errorf("30: %s split the answer", name)
		}
		if b.cookies[sessionCookie] == "" {
			continue
		}
		b.send(t, http.MethodGet, "/auth/session", sameOrigin).want(http.StatusOK, "")
		if got := b.send(t, http.MethodPost, "/auth/whisp/sign-in", sameOrigin); got.status >= 500 {
			t.Errorf("%s: sign-in %d %s", name, got.status, got.body)
		}
	}
}

// security.md 12: whatever a cookie holds, it is a session or none.
func TestBrokenSessionCookies(t *testing.T) {
	s := start(t)
	good := s.login(t, "alice").cookies[sessionCookie]
	for name, line := range map[string]string{
		"12: tampered":   sessionCookie + "=" + flip(good),
		"12: truncated":  sessionCookie + "=" + good[:42],
		"12: longer":     sessionCookie + "=" + good + "A",
		"12: empty":      sessionCookie + "=",
		"12: 8 kB":       sessionCookie + "=" + strings.Repeat("A", 8<<10),
		"12: duplicated": sessionCookie + "=" + good + "; " + sessionCookie + "=" + strings.Repeat("B", 43),
		"12: other name": "whisp-session=" + good,
		"12: junk":       ";;;===\x01\x7f, ,",
		"12: case":       "__host-whisp-session=" + good,
	} {
		t.Run(name, func(t *testing.T) {
			if strings.ContainsAny(line, "\x01\x7f") {
				got := s.rawOnce(t, "GET /auth/session HTTP/1.1\r\nHost: "+publicHost+"\r\nCookie: "+line+"\r\nConnection: close\r\n\r\n")
				if got == nil || (got.status != 400 && got.status != 401) {
					t.Errorf("got %v", got)
				}
				return
			}
			s.send(t, http.MethodGet, "/auth/session", sameOrigin, cookies(line)).want(http.StatusUnauthorized, "session_required")
			s.send(t, http.MethodPost, "/auth/whisp/sign-in", sameOrigin, cookies(line)).want(http.StatusUnauthorized, "session_required")
			s.send(t, http.MethodGet, "/", cookies(line)).want(http.StatusOK, "")
		})
	}
}

// security.md 13 and 15: idle and absolute ends hold on every path, also when
// the clock is stepped back.
func TestSessionsEnd(t *testing.T) {
	s := start(t, func(c *setup) {
		c.session.Idle, c.session.Absolute = setting.Duration(10*time.Minute), setting.Duration(time.Hour)
	})
	alice := s.login(t, "alice")
	s.clock.advance(9 * time.Minute)
	alice.send(t, http.MethodGet, "/auth/session?slide=false", sameOrigin).want(http.StatusOK, "")
	s.clock.advance(90 * time.Second)
	alice.send(t, http.MethodGet, "/auth/session", sameOrigin).want(http.StatusUnauthorized, "session_required") // not kept alive by polling

	bob := s.login(t, "bob")
	for range 7 { // using the app is using the session
		s.clock.advance(8 * time.Minute)
		bob.send(t, http.MethodGet, "/page").want(http.StatusOK, "")
	}
	bob.send(t, http.MethodGet, "/auth/session", sameOrigin).want(http.StatusOK, "")
	s.clock.advance(-30 * time.Minute)
	bob.send(t, http.MethodGet, "/auth/session", sameOrigin).want(http.StatusOK, "")
	s.clock.advance(35 * time.Minute) // 61 minutes after login
	bob.send(t, http.MethodGet, "/auth/session", sameOrigin).want(http.StatusUnauthorized, "session_required")
	bob.send(t, http.MethodPost, "/auth/whisp/sign-in", sameOrigin).want(http.StatusUnauthorized, "session_required")
}

// A person disabled at the provider is out at the next refresh of its tokens.
func TestEndedByTheProvider(t *testing.T) {
	s := start(t)
	alice := s.login(t, "alice")
	alice.signIn(t)
	s.provider.Disable("alice")
	s.clock.advance(11 * time.Minute) // past the access token
	alice.send(t, http.MethodGet, "/auth/session", sameOrigin).want(http.StatusUnauthorized, "session_required")
}

// A form gets a redirect, fetch gets JSON.
func TestLogoutByForm(t *testing.T) {
	s := start(t)
	alice := s.login(t, "alice")
	form := []option{navigate, header("Origin", publicOrigin), header("Sec-Fetch-Site", "same-origin"), body("application/x-www-form-urlencoded", "a=b")}
	out := alice.send(t, http.MethodPost, "/auth/logout", form...).want(http.StatusSeeOther, "").has("Cache-Control", "no-store")
	target, err := url.Parse(out.header.Get("Location"))
	if err != nil || !strings.HasPrefix(target.String(), s.provider.Issuer()) ||
		target.Query().Get("post_logout_redirect_uri") != publicOrigin+"/" {
		t.Errorf("leads to %s://%s%s", target.Scheme, target.Host, target.Path)
	}
	s.secret(target.Query().Get("id_token_hint"))
	if len(alice.cookies) != 0 {
		t.Error("cookies stay")
	}
	again := alice.send(t, http.MethodPost, "/auth/logout", form...).want(http.StatusSeeOther, "")
	if again.header.Get("Location") != "/" {
		t.Errorf("second logout leads to %q", again.header.Get("Location"))
	}
}

// security.md 62: a logout that could not reach Whisp says so, and holds here.
func TestLogoutWithoutWhisp(t *testing.T) {
	s := start(t)
	alice := s.login(t, "alice")
	alice.signIn(t)
	s.whisp.Fail(failing("logout", 500))
	before := alice.cookies[sessionCookie]
	var out struct{ WhispRevoked bool }
	alice.send(t, http.MethodPost, "/auth/logout", sameOrigin).want(http.StatusOK, "").decode(&out)
	if out.WhispRevoked {
		t.Error("claims to have revoked")
	}
	s.send(t, http.MethodGet, "/auth/session", cookies(sessionCookie+"="+before)).want(http.StatusUnauthorized, "session_required")
}

// A session that the provider ended leaves a grant and sockets at Whisp; logout
// ends them though there is no session any more.
func TestLogoutAfterTheProviderEndedIt(t *testing.T) {
	s := start(t)
	alice := s.login(t, "alice")
	g := alice.signIn(t)
	socket := alice.socket(t, alice.ticket(t, g))
	socket.connect(t, g.JWT)
	s.provider.Disable("alice")
	s.clock.advance(11 * time.Minute)
	alice.send(t, http.MethodPost, "/auth/logout", sameOrigin).want(http.StatusOK, "")
	if s.whisp.RefreshTokenAlive(secretOf(g.RefreshToken)) {
		t.Error("the refresh token lives")
	}
	socket.wantClosed(t, 1000)
}

func TestProviderDown(t *testing.T) {
	s := start(t, func(c *setup) { c.providerUp = func() bool { return false } })
	page := s.send(t, http.MethodGet, "/auth/login?return_to=%2Finbox%3Fa%3D1", navigate).want(http.StatusServiceUnavailable, "")
	if !strings.Contains(page.body, "provider_unavailable") || page.header.Get("Retry-After") == "" {
		t.Errorf("%v %s", page.header, page.body)
	}
	if !strings.Contains(page.body, `href="/auth/login?return_to=%2Finbox%3Fa%3D1"`) {
		t.Errorf("start again forgets where to: %s", page.body)
	}
	s.send(t, http.MethodGet, "/auth/login").want(http.StatusServiceUnavailable, "provider_unavailable")
	s.send(t, http.MethodGet, "/page").want(http.StatusOK, "")
}
