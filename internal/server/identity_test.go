package server_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/access"
	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/session"
	"github.com/whisp-bff/whisp-bff/internal/setting"
	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

// The main path for whoever signs in elsewhere.
func TestEverySourceFromSignInToLogout(t *testing.T) {
	t.Parallel()
	for _, w := range ways() {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			o := newOutside(t)
			s := start(t, withSources(o, w.source))
			alice := s.visit(t, w, "alice")

			var shown struct{ Subject, Issuer string }
			alice.ask(t, http.MethodGet, "/auth/session").want(http.StatusOK, "").decode(&shown)
			if shown.Subject != "alice" || shown.Issuer != w.issuer || len(alice.cookies) != 0 {
				t.Errorf("session shows %+v, cookies %d", shown, len(alice.cookies))
			}
			g := alice.signIn(t, alice.credential)
			if g.Username != "alice" || alice.cookies[deviceCookie] == "" || len(alice.cookies) != 1 {
				t.Errorf("username %q, cookies %d", g.Username, len(alice.cookies))
			}
			if again := alice.signIn(t, alice.credential); again != g {
				t.Error("a live grant was not answered again")
			}
			alice.sdk(t, http.MethodGet, "/user/getUser", g.JWT).want(http.StatusOK, "")
			alice.sdk(t, http.MethodPost, "/auth/refresh", g.RefreshToken, body("application/json", `{"expiredJwt":"`+g.JWT+`"}`)).want(http.StatusOK, "")
			chat := alice.chat(t, g)

			// The device alone is nobody, unless it stands for a token.
			bare := s.send(t, http.MethodGet, "/whisp/api/user/getUser", sameOrigin, cookies(deviceCookie+"="+alice.cookies[deviceCookie]), header("Authorization", "Bearer "+g.JWT))
			if w.alone {
				bare.want(http.StatusOK, "")
			} else {
				bare.want(http.StatusUnauthorized, "session_required")
			}
			s.send(t, http.MethodPost, "/auth/whisp/sign-in", sameOrigin, cookies(deviceCookie+"="+alice.cookies[deviceCookie])).want(http.StatusUnauthorized, "session_required")

			for range 2 { // it can be repeated
				var out struct {
					WhispRevoked bool
					LogoutURL    string
				}
				alice.ask(t, http.MethodPost, "/auth/logout").want(http.StatusOK, "").decode(&out)
				if !out.WhispRevoked || out.LogoutURL != "/" || s.whisp.RefreshTokenAlive(secretOf(g.RefreshToken)) {
					t.Errorf("logout: %+v, alive %v", out, s.whisp.RefreshTokenAlive(secretOf(g.RefreshToken)))
				}
			}
			chat.wantClosed(t, 1000)
			if w.alone {
				alice.sdk(t, http.MethodGet, "/user/getUser", g.JWT).want(http.StatusUnauthorized, "session_required")
			}

			// The sign-in elsewhere has not ended, so the next one works at once.
			next := alice.signIn(t, alice.credential)
			if next.RefreshToken == g.RefreshToken {
				t.Error("a revoked grant was answered")
			}
			chat = alice.chat(t, next)
			alice.ask(t, http.MethodPost, "/auth/whisp/sign-out").want(http.StatusNoContent, "").has("Cache-Control", "no-store")
			if s.whisp.RefreshTokenAlive(secretOf(next.RefreshToken)) {
				t.Error("the refresh token lives after sign-out")
			}
			alice.ask(t, http.MethodGet, "/auth/session").want(http.StatusOK, "")
			_ = chat.CloseNow()

			// The app sees the app's own, and nothing that is for us.
			alice.ask(t, http.MethodGet, "/page").want(http.StatusOK, "")
			for _, r := range s.app.requests() {
				line := strings.Join(r.Header["Cookie"], ";")
				if strings.Contains(line, "whisp-device") || r.Header.Get("X-Token") != "" || r.Header.Get("X-Forwarded-Secret") != "" {
					t.Error("the app saw a credential of ours")
				}
			}
			if got := s.sourceOf(t, "sign_in"); got != w.source {
				t.Errorf("the log says %v", got)
			}
			for _, token := range o.introspected() {
				if token != "opaque-token-of-alice" {
					t.Error("a token of Whisp's was introspected")
				}
			}
		})
	}
}

// A bad credential ends the search, and so does the app's word that it is
// nobody: the good one behind it is not looked at.
func TestABadCredentialNeverFallsThrough(t *testing.T) {
	t.Parallel()
	o := newOutside(t)
	s := start(t, withSources(o, "bearer", "introspection", "forwarded", "app_session"))
	good := wayOf(t, "app_session").credential(t, s, "bob")
	s.send(t, http.MethodGet, "/auth/session", sameOrigin, good).want(http.StatusOK, "")
	for _, w := range ways() {
		if w.bad == nil {
			continue
		}
		for _, target := range []string{"/auth/session", "/auth/check", "/auth/check/x"} {
			s.send(t, http.MethodGet, target, sameOrigin, good, w.bad).want(http.StatusUnauthorized, "credential_refused")
		}
		s.send(t, http.MethodPost, "/auth/whisp/sign-in", sameOrigin, good, w.bad).want(http.StatusUnauthorized, "credential_refused")
		if got := s.sourceOf(t, "sign_in"); got != w.source {
			t.Errorf("%s: the log says %v", w.name, got)
		}
	}
	if s.whisp.Calls("registerUser") != 0 {
		t.Error("somebody was registered")
	}
}

func TestOrderDecidesBetweenSources(t *testing.T) {
	t.Parallel()
	o := newOutside(t)
	bearer, app := wayOf(t, "bearer in a cookie"), wayOf(t, "app_session")
	for _, order := range [][]string{{"bearer", "app_session"}, {"app_session", "bearer"}} {
		s := start(t, withSources(o, order...))
		var shown struct{ Subject string }
		s.send(t, http.MethodGet, "/auth/session", sameOrigin, bearer.credential(t, s, "alice"), app.credential(t, s, "bob")).
			want(http.StatusOK, "").decode(&shown)
		want := map[string]string{"bearer": "alice", "app_session": "bob"}[order[0]]
		if shown.Subject != want || s.sourceOf(t, "session") != order[0] {
			t.Errorf("%v: %s, the log says %v", order, shown.Subject, s.sourceOf(t, "session"))
		}
	}
}

// security.md 37. Somebody else signs in to the app; whisp-bff is told nothing.
func TestSwitchingAccountsInTheApp(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"app_session", "forwarded", "bearer in Authorization"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, withSources(newOutside(t), wayOf(t, name).source))
			alice := s.visit(t, wayOf(t, name), "alice")
			hers := alice.signIn(t, alice.credential)
			chat := alice.chat(t, hers)

			bob := alice.become(t, "bob")
			his := bob.signIn(t, bob.credential)
			if his.Username != "bob" || his.RefreshToken == hers.RefreshToken || s.whisp.RefreshTokenAlive(secretOf(hers.RefreshToken)) {
				t.Errorf("after the switch: %s, hers alive %v", his.Username, s.whisp.RefreshTokenAlive(secretOf(hers.RefreshToken)))
			}
			chat.wantClosed(t, 1000)
			bob.chat(t, his)

			again := alice.signIn(t, alice.credential)
			if again.UserID != hers.UserID || again.RefreshToken == hers.RefreshToken || s.whisp.RefreshTokenAlive(secretOf(his.RefreshToken)) {
				t.Error("back again: the old grant was returned, or the one in between lives")
			}
			alice.chat(t, again)
		})
	}
}

func TestTwoBrowsersOfOnePersonHoldTwoGrants(t *testing.T) {
	t.Parallel()
	s := start(t, withSources(newOutside(t), "forwarded"))
	laptop, phone := s.visit(t, wayOf(t, "forwarded"), "alice"), s.visit(t, wayOf(t, "forwarded"), "alice")
	one, two := laptop.signIn(t, laptop.credential), phone.signIn(t, phone.credential)
	if one.UserID != two.UserID || one.RefreshToken == two.RefreshToken {
		t.Error("want one account and two grants")
	}
	laptop.ask(t, http.MethodPost, "/auth/logout").want(http.StatusOK, "")
	if s.whisp.RefreshTokenAlive(secretOf(one.RefreshToken)) || !s.whisp.RefreshTokenAlive(secretOf(two.RefreshToken)) {
		t.Error("the logout of one is not the logout of one")
	}
}

// A program that keeps no cookies is one device, and can log out.
func TestAClientWithoutCookies(t *testing.T) {
	t.Parallel()
	s := start(t, withSources(newOutside(t), "bearer"))
	w := wayOf(t, "bearer in a header")
	program := []option{w.credential(t, s, "alice"), header("Origin", publicOrigin)}
	var first, second grant
	s.send(t, http.MethodPost, "/auth/whisp/sign-in", program...).want(http.StatusOK, "").has("Set-Cookie", "").decode(&first)
	s.send(t, http.MethodPost, "/auth/whisp/sign-in", program...).want(http.StatusOK, "").has("Set-Cookie", "").decode(&second)
	s.secret(first.JWT)
	s.secret(first.RefreshToken)
	if first != second {
		t.Error("two grants")
	}
	s.send(t, http.MethodGet, "/whisp/api/user/getUser", append(program, header("Authorization", "Bearer "+first.JWT))...).want(http.StatusOK, "")
	var out struct{ WhispRevoked bool }
	s.send(t, http.MethodPost, "/auth/logout", program...).want(http.StatusOK, "").decode(&out)
	if !out.WhispRevoked || s.whisp.RefreshTokenAlive(secretOf(first.RefreshToken)) {
		t.Error("logout left the grant alive")
	}
}

// A sign-in that is under way when somebody else takes the browser over fails,
// and leaves nothing alive at Whisp.
func TestASignInLosesToTheNextPerson(t *testing.T) {
	t.Parallel()
	s := start(t, withSources(newOutside(t), "forwarded"))
	alice := s.visit(t, wayOf(t, "forwarded"), "alice")
	alice.signIn(t, alice.credential)
	alice.ask(t, http.MethodPost, "/auth/whisp/sign-out").want(http.StatusNoContent, "")
	before, logouts := s.whisp.Calls("signIn"), s.whisp.Calls("logout")
	s.whisp.Fail(whispsim.Fault{Operation: "signIn", Times: 1, Delay: 700 * time.Millisecond})
	ended := make(chan *answer, 1)
	slow := alice.cookies[deviceCookie]
	go func() {
		ended <- s.send(t, http.MethodPost, "/auth/whisp/sign-in", alice.credential, sameOrigin, cookies(deviceCookie+"="+slow))
	}()
	for s.whisp.Calls("signIn") == before && len(s.whisp.Faults()) > 0 {
		time.Sleep(time.Millisecond)
	}
	bob := alice.become(t, "bob")
	his := bob.signIn(t, bob.credential)
	(<-ended).want(http.StatusUnauthorized, "session_required")
	if his.Username != "bob" || !s.whisp.RefreshTokenAlive(secretOf(his.RefreshToken)) || s.whisp.Calls("logout") != logouts+1 {
		t.Errorf("bob is %s; %d revocations", his.Username, s.whisp.Calls("logout")-logouts)
	}
}

// The SDK's calls work until the token's end; a page that renews its token says
// so at /auth/session.
func TestADeviceStandsForATokenUntilItsEnd(t *testing.T) {
	t.Parallel()
	s := start(t, withSources(newOutside(t), "bearer"), func(c *setup) { c.realtime.IdleTimeout = setting.Duration(2 * time.Hour) })
	w := wayOf(t, "bearer in Authorization")
	with := func(life time.Duration) option { return header("Authorization", "Bearer "+mint(t, s, "alice", life)) }
	alice := s.visit(t, w, "alice")
	g := alice.signIn(t, with(50*time.Minute))
	chat := alice.chat(t, g)
	refresh := func() *answer {
		return alice.sdk(t, http.MethodPost, "/auth/refresh", g.RefreshToken, body("application/json", `{"expiredJwt":"`+g.JWT+`"}`))
	}
	s.clock.advance(45 * time.Minute) // longer than idle, and nobody said anything
	refresh().want(http.StatusOK, "")
	alice.send(t, http.MethodGet, "/auth/session?slide=false", sameOrigin, with(time.Hour)).want(http.StatusOK, "")
	alice.send(t, http.MethodGet, "/auth/session", sameOrigin, with(20*time.Minute)).want(http.StatusOK, "")
	s.clock.advance(15 * time.Minute)
	refresh().want(http.StatusOK, "")
	s.clock.advance(5 * time.Minute)
	refresh().want(http.StatusUnauthorized, "session_required")
	chat.wantClosed(t, 1000)
	if got := s.sourceOf(t, "whisp"); got != nil {
		t.Errorf("the log says %v", got)
	}

	// And from then on with the next.
	g = alice.signIn(t, with(50*time.Minute))
	alice.chat(t, g)
}

// Whoever was known by Authorization at sign-in stays that person below /whisp,
// where that header is Whisp's and a later source sees somebody else.
func TestALaterSourceDoesNotTakeOverBelowWhisp(t *testing.T) {
	t.Parallel()
	s := start(t, withSources(newOutside(t), "bearer", "app_session"))
	alice := s.visit(t, wayOf(t, "bearer in Authorization"), "alice")
	for name, sid := range map[string]string{"somebody else": "app-session-of-bob", "nobody": "anonymous-cart"} {
		alice.cookies["sid"] = sid
		g := alice.signIn(t, alice.credential)
		chat := alice.chat(t, g)
		if got := s.sourceOf(t, "realtime"); got != nil && got != "device" {
			t.Errorf("%s: the log says %v", name, got)
		}
		if !s.whisp.RefreshTokenAlive(secretOf(g.RefreshToken)) {
			t.Errorf("%s: the grant was revoked", name)
		}
		_ = chat.CloseNow()
	}
}

// An ended session is refused once; its cookie is gone then and the next source
// speaks.
func TestAnEndedSessionMakesWay(t *testing.T) {
	t.Parallel()
	s := start(t, withSources(newOutside(t), "session", "app_session"))
	b := s.login(t, "alice")
	app := wayOf(t, "app_session").credential(t, s, "bob")
	var shown struct{ Subject string }
	b.send(t, http.MethodGet, "/auth/session", sameOrigin, app).want(http.StatusOK, "").decode(&shown)
	if shown.Subject != "demo-alice" {
		t.Errorf("%s answers while the session lives", shown.Subject)
	}
	s.clock.advance(31 * time.Minute)
	b.send(t, http.MethodGet, "/auth/session", sameOrigin, app).want(http.StatusUnauthorized, "session_required")
	if b.cookies[sessionCookie] != "" || s.sourceOf(t, "session") != "session" {
		t.Error("the cookie stays")
	}
	b.send(t, http.MethodGet, "/auth/session", sameOrigin, app).want(http.StatusOK, "").decode(&shown)
	if shown.Subject != "bob" {
		t.Errorf("then %s", shown.Subject)
	}
}

// A login here takes the browser from whoever was known otherwise.
func TestLoginEndsTheDevice(t *testing.T) {
	t.Parallel()
	s := start(t, withSources(newOutside(t), "session", "app_session"))
	bob := s.visit(t, wayOf(t, "app_session"), "bob")
	his := bob.signIn(t, bob.credential)
	chat := bob.chat(t, his)
	s.waitReady(t)
	bob.send(t, http.MethodGet, bob.toProvider(t, "alice", "/"), navigate).want(http.StatusFound, "")
	chat.wantClosed(t, 1000)
	if s.whisp.RefreshTokenAlive(secretOf(his.RefreshToken)) {
		t.Error("his refresh token lives")
	}
	hers := bob.signIn(t, bob.credential)
	if hers.UserID == his.UserID {
		t.Error("she got his account")
	}
}

// Nobody can tell who it is: 503, and never "nobody" where it matters.
func TestTroubleIsNotNobody(t *testing.T) {
	t.Parallel()
	o := newOutside(t)
	guardAdmin := func(c *setup) {
		c.access.Rules = []access.Rule{{Path: "/admin/**"}}
		c.access.Headers = map[string]string{"X-User-Id": "sub"}
	}
	store := func(c *setup) {
		c.noLogin = true
		c.sources = func(*stack, *session.Sessions) []identity.Source {
			return []identity.Source{answering{name: "session", err: problem.StoreUnavailable()}}
		}
	}
	for name, test := range map[string]struct {
		source func(*setup)
		as     string
		code   string
	}{
		"provider": {withSources(o, "introspection"), "introspection", "identity_unavailable"},
		"app":      {withSources(o, "app_session"), "app_session", "identity_unavailable"},
		"store":    {store, "forwarded", "store_unavailable"},
	} {
		o.breakDown()
		s := start(t, test.source, guardAdmin)
		who := wayOf(t, test.as).credential(t, s, "alice")
		for _, target := range []string{"/auth/session", "/auth/check", "/auth/check/admin", "/admin/users"} {
			s.send(t, http.MethodGet, target, sameOrigin, who).want(http.StatusServiceUnavailable, test.code)
		}
		s.send(t, http.MethodPost, "/auth/whisp/sign-in", sameOrigin, who).want(http.StatusServiceUnavailable, test.code)
		page := s.send(t, http.MethodGet, "/admin/users?x=1", who, navigate)
		if test.as != "introspection" { // a bearer token is no person's
			page.want(http.StatusServiceUnavailable, "").has("Cache-Control", "no-store")
			if !strings.Contains(page.body, `href="/admin/users?x=1"`) || strings.Contains(page.body, "/auth/login") {
				t.Errorf("%s: the page leads elsewhere: %s", name, page.body)
			}
		}
		s.app.requests()
		s.send(t, http.MethodGet, "/page", who).want(http.StatusOK, "")
		if seen := s.app.requests(); len(seen) != 1 || seen[0].Header.Get("X-User-Id") != "" {
			t.Errorf("%s: the app saw %v", name, seen)
		}
	}
}

// Where nobody needs to be known nobody is asked.
func TestPublicPagesAskNobody(t *testing.T) {
	t.Parallel()
	o := newOutside(t)
	s := start(t, withSources(o, "introspection"), func(c *setup) { c.access.Rules = []access.Rule{{Path: "/admin/**"}} })
	who := wayOf(t, "introspection").credential(t, s, "alice")
	s.send(t, http.MethodGet, "/page", who).want(http.StatusOK, "")
	if asked := o.introspected(); len(asked) != 0 {
		t.Error("the provider was asked")
	}
	s.send(t, http.MethodGet, "/admin/x", who).want(http.StatusOK, "")
	if asked := o.introspected(); !slices.Equal(asked, []string{"opaque-token-of-alice"}) {
		t.Errorf("%d questions", len(asked))
	}
}
