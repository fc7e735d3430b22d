package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/whisp-bff/whisp-bff/internal/access"
	"github.com/whisp-bff/whisp-bff/internal/login"
)

// verifyAssertion does what an app does: it has no keys but those shown, on
// either listener.
func (s *stack) verifyAssertion(t testing.TB, text string) jwt.MapClaims {
	t.Helper()
	public, admin := s.send(t, http.MethodGet, "/auth/jwks"), s.get(t, s.admin+"/jwks")
	public.want(http.StatusOK, "").has("Content-Type", "application/jwk-set+json")
	if public.body != admin.body {
		t.Error("two sets of keys")
	}
	if strings.Contains(public.body, `"d"`) {
		t.Fatal("a private key is shown")
	}
	var set struct{ Keys []struct{ Kid, X, Y string } }
	public.decode(&set)
	claims := jwt.MapClaims{}
	_, err := jwt.ParseWithClaims(text, claims, func(token *jwt.Token) (any, error) {
		for _, key := range set.Keys {
			if key.Kid == token.Header["kid"] {
				x, _ := base64.RawURLEncoding.DecodeString(key.X)
				y, _ := base64.RawURLEncoding.DecodeString(key.Y)
				return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y))
			}
		}
		return nil, jwt.ErrTokenUnverifiable
	}, jwt.WithValidMethods([]string{"ES256"}), jwt.WithIssuer(publicOrigin), jwt.WithAudience("http://app.internal"),
		jwt.WithExpirationRequired(), jwt.WithTimeFunc(s.clock.now))
	if err != nil {
		t.Errorf("assertion: %v", err)
	}
	return claims
}

func (a *answer) cookie(name string) *http.Cookie {
	for _, c := range (&http.Response{Header: a.header}).Cookies() {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// guarded: the app's pages are public but for these.
func guarded(c *setup) {
	c.access.Rules = []access.Rule{
		{Path: "/assets/**", Require: access.Public},
		{Path: "/admin/**", Claim: "groups", Contains: "alice"},
		{Path: "/inbox/**"},
	}
}

// security.md 26, over TCP: no spelling of a guarded path gets past a guard.
func TestNoSpellingOpensAGuardedPath(t *testing.T) {
	t.Parallel()
	s := start(t, guarded)
	for _, target := range []string{
		"/admin", "/admin/", "/admin/x", "/ADMIN/x", "/Admin", "/%61dmin/x", "/admin?x=/assets/y", "/admin?/assets/", "/admin/..", "/admin/.",
		"//admin", "///admin/x", "/./admin", "/assets/../admin", "/assets/%2e%2e/admin", "/assets/.%2e/admin", "/assets/..%2fadmin", "/assets%2f..%2fadmin",
		"/assets/..;/admin", "/assets/;x/../admin", "/admin;x=1", "/admin;.css", "/admin%3b.css", "/assets\\..\\admin", "/assets/..%5cadmin", "/\\admin",
		"/assets/%252e%252e/admin", "/%2561dmin", "/admin%00", "/admin%00.css", "/admin%20", "/admin.", "/admin%2e", "/admin/%2e/x", "/admin%09", "/admin%0a",
		"/admin%2f", "/admin%2fx", "/%2fadmin", "/admin%23x", "/admin#x", "/admin%3fx", "/admin%3F/assets/y", "/assets/%c0%ae%c0%ae/admin", "/admin%ff",
		"http://" + publicHost + "/admin/x", "http://" + publicHost + "//admin", "/inbox/1", "/INBOX", "/inbox/%2e%2e/assets/x",
	} {
		got := s.rawOnce(t, "GET "+target+" HTTP/1.1\r\nHost: "+publicHost+"\r\nX-Original-URL: /assets/x\r\nX-Rewrite-URL: /assets/x\r\n"+
			"X-Forwarded-Uri: /assets/x\r\nX-HTTP-Method-Override: OPTIONS\r\nUser-Agent: kube-probe/1.30\r\nConnection: close\r\n\r\n")
		if got == nil || (got.status != http.StatusUnauthorized && got.status != http.StatusBadRequest) {
			t.Errorf("26: %s: %+v", target, got)
			continue
		}
		if !strings.HasPrefix(got.header.Get("Content-Type"), "text/plain") { // net/http's own 400
			got.has("Cache-Control", "no-store")
		}
	}
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"} {
		if got := s.send(t, method, "/admin/x"); got.status != http.StatusUnauthorized {
			t.Errorf("26: %s: %d", method, got.status)
		}
	}
	if seen := s.app.requests(); len(seen) != 0 {
		t.Errorf("26: the app got %s", seen[0].RequestURI)
	}
	for _, open := range []string{"/", "/assets/x.js", "/assets/%C3%BC.js", "/page?x=/admin", "/administer", "/a%20b"} {
		s.send(t, http.MethodGet, open).want(http.StatusOK, "")
	}
}

// A person is sent to the login and comes back to exactly where they wanted to
// go; a script is told.
func TestARefusalFitsWhoReadsIt(t *testing.T) {
	t.Parallel()
	s := start(t, guarded)
	s.waitReady(t)
	for _, target := range []string{"/inbox", "/inbox/1?folder=a%20b&x=%26y&z", "/inbox/%C3%BC?q=%zz;1", "/inbox/a%20b?next=/x//y", "/inbox/?a=b?c"} {
		b := s.browser()
		sent := b.send(t, http.MethodGet, target, navigate).want(http.StatusFound, "").has("Cache-Control", "no-store")
		location, err := url.Parse(sent.header.Get("Location"))
		if err != nil || location.Path != "/auth/login" || location.Host != "" {
			t.Fatalf("%s leads to %q", target, sent.header.Get("Location"))
		}
		if returnTo := location.Query().Get("return_to"); returnTo != target || login.SafeReturnTo(returnTo) != target {
			t.Errorf("%s comes back to %q", target, login.SafeReturnTo(returnTo))
		}
		b.send(t, http.MethodGet, b.toProvider(t, "alice", target), navigate).want(http.StatusFound, "").has("Location", target)
		b.send(t, http.MethodGet, target, navigate).want(http.StatusOK, "")
	}
	for name, options := range map[string][]option{
		"fetch": {sameOrigin}, "plain": nil, "image": {header("Sec-Fetch-Mode", "no-cors"), header("Accept", "image/avif,text/html")},
		"bearer": {navigate, header("Authorization", "Bearer x")}, "json": {header("Accept", "application/json, text/html")},
		"socket": {header("Connection", "Upgrade"), header("Upgrade", "websocket"), header("Sec-Fetch-Mode", "websocket")},
		"stale":  {sameOrigin, cookies(sessionCookie + "=" + strings.Repeat("A", 43))},
	} {
		got := s.send(t, http.MethodGet, "/inbox/1", options...).want(http.StatusUnauthorized, "session_required").has("Location", "")
		if gone := got.cookie(sessionCookie); (gone != nil) != (name == "stale") || gone != nil && gone.MaxAge >= 0 {
			t.Errorf("%s: cookie %v", name, gone)
		}
	}
	// Nothing but GET may be repeated after a login.
	for _, method := range []string{http.MethodHead, http.MethodPost} {
		s.send(t, method, "/inbox/1", navigate, header("Origin", publicOrigin)).want(http.StatusUnauthorized, "").has("Cache-Control", "no-store").has("Location", "")
	}
	// An old browser with an ended session goes to the login once, without it.
	s.send(t, http.MethodGet, "/inbox/1", header("Accept", "text/html"), cookies(sessionCookie+"="+strings.Repeat("A", 43))).want(http.StatusFound, "")
	s.app.requests()
}

func TestWhoIsKnownButMayNotIsTold(t *testing.T) {
	t.Parallel()
	s := start(t, withSources(newOutside(t), "session", "forwarded"), guarded)
	alice, bob := s.visit(t, wayOf(t, "forwarded"), "alice"), s.visit(t, wayOf(t, "forwarded"), "bob")
	alice.send(t, http.MethodGet, "/admin/x", alice.credential, navigate).want(http.StatusOK, "")
	page := bob.send(t, http.MethodGet, "/admin/x", bob.credential, navigate).want(http.StatusForbidden, "").has("Cache-Control", "no-store").has("Location", "")
	if !strings.Contains(page.body, "access_denied") || strings.Contains(page.body, "/auth/login") {
		t.Errorf("page: %s", page.body)
	}
	bob.ask(t, http.MethodGet, "/admin/x").want(http.StatusForbidden, "access_denied")
	bob.ask(t, http.MethodGet, "/inbox/x").want(http.StatusOK, "")
	if got := s.sourceOf(t, "app"); got != "forwarded" {
		t.Errorf("the log says %v", got)
	}
}

// A login whose session would not be asked for is not offered: it would come
// back here for ever.
func TestNoLoginThatWouldNotHelp(t *testing.T) {
	t.Parallel()
	bad := cookies("token=no.good.token")
	nobody := cookies("sid=anonymous-cart-0123")
	for name, test := range map[string]struct {
		sources []string
		as      option
		status  int
	}{
		"refused before the session":       {[]string{"bearer", "session"}, bad, http.StatusUnauthorized},
		"refused after the session":        {[]string{"session", "bearer"}, bad, http.StatusFound},
		"the app's nobody before":          {[]string{"app_session", "session"}, nobody, http.StatusUnauthorized},
		"the app's nobody after":           {[]string{"session", "app_session"}, nobody, http.StatusFound},
		"nobody at all":                    {[]string{"bearer", "session"}, navigate, http.StatusFound},
		"nobody, and no login to speak of": {[]string{"bearer"}, navigate, http.StatusUnauthorized},
	} {
		s := start(t, withSources(newOutside(t), test.sources...), guarded)
		got := s.send(t, http.MethodGet, "/inbox/1?x=1", navigate, test.as).want(test.status, "")
		if got.status == http.StatusUnauthorized && (!strings.Contains(got.body, `href="/inbox/1?x=1"`) || strings.Contains(got.body, "/auth/login")) {
			t.Errorf("%s: page %s", name, got.body)
		}
	}
}

// What the app is told, on guarded and on public pages, is ours alone.
func TestTheAppIsToldWhoAsks(t *testing.T) {
	t.Parallel()
	s := start(t, withSources(newOutside(t), "forwarded"), guarded, telling)
	forged := []string{"X-User-Id", "x_user_id", "X.User.Id", "X-Who", "x_who", "X-User-Groups", "X-Forwarded-User", "X_Forwarded_User", "X-Whisp-Bff-Subject"}
	forge := func(r *http.Request) {
		for _, name := range forged {
			if name != "X-Forwarded-User" {
				r.Header[name] = []string{"forged-admin"}
			}
		}
		r.Header["Connection"] = []string{"X-User-Id, X-Who, X-Forwarded-User"}
	}
	alice := s.visit(t, wayOf(t, "forwarded"), "alice")
	for _, target := range []string{"/inbox/1", "/admin/1", "/public"} {
		s.app.requests()
		alice.ask(t, http.MethodGet, target, forge).want(http.StatusOK, "")
		seen := s.app.requests()[0].Header
		if seen.Get("X-User-Id") != "alice" || seen.Get("X-User-Groups") != "staff,alice" || seen.Get("X-Forwarded-User") != "alice" {
			t.Errorf("%s: the app is told %v", target, seen)
		}
		s.secret(seen.Get("X-Who"))
		claims := s.verifyAssertion(t, seen.Get("X-Who"))
		groups, _ := json.Marshal(claims["groups"])
		if claims["sub"] != "alice" || claims["idp"] != proxyIssuer || string(groups) != `["staff","alice"]` {
			t.Errorf("%s: asserted %v", target, claims)
		}
	}
	// Nobody is nobody, whatever they say.
	s.app.requests()
	s.send(t, http.MethodGet, "/public", forge).want(http.StatusOK, "")
	for name, values := range s.app.requests()[0].Header {
		if slices.Contains(values, "forged-admin") {
			t.Errorf("21: the app believes %s", name)
		}
	}
	// A listed address is not enough.
	s.send(t, http.MethodGet, "/inbox/1", sameOrigin, header("X-Forwarded-User", "alice")).want(http.StatusUnauthorized, "credential_refused")
	s.send(t, http.MethodGet, "/inbox/1", sameOrigin, header("X_Forwarded_User", "alice"), header("X-Forwarded-Secret", proxySecret)).want(http.StatusUnauthorized, "session_required")

	// Assertions end, and the next is another.
	s.app.requests()
	s.clock.advance(2 * time.Minute)
	alice.ask(t, http.MethodGet, "/public").want(http.StatusOK, "")
	fresh := s.app.requests()[0].Header.Get("X-Who")
	s.secret(fresh)
	s.verifyAssertion(t, fresh)
}

// security.md 30: two subjects never look the same in a header.
func TestSubjectsStayApartInHeaders(t *testing.T) {
	seen := map[string]any{}
	for _, value := range []any{
		"é", "UTF-8''%C3%A9", "utf-8''%C3%A9", " admin", "admin", "admin ", "a\r\nX-Admin: 1", "a%0D%0AX-Admin:%201", "\u202eadmin", "a\x00", "a",
		[]any{"a,b"}, []any{"a", "b"}, []any{"a%2Cb"},
	} {
		text := access.HeaderValue(value)
		if other, twice := seen[text]; twice {
			t.Errorf("%q and %q are both %q", value, other, text)
		}
		seen[text] = value
		if strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r > 0x7e }) || strings.TrimSpace(text) != text {
			t.Errorf("%q is sent as %q", value, text)
		}
	}
}
