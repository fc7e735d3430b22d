package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

var writes = []string{"/auth/logout", "/auth/whisp/sign-in", "/auth/whisp/sign-out", "/whisp/api/auth/logoutAll", "/whisp/api/user/changeUsername"}

// security.md 17
func TestWritesFromElsewhere(t *testing.T) {
	s := start(t)
	alice := s.login(t, "alice")
	for name, options := range map[string][]option{
		"cross-site":             {header("Sec-Fetch-Site", "cross-site")},
		"same-site":              {header("Sec-Fetch-Site", "same-site")},
		"foreign origin":         {header("Origin", "https://evil.example"), header("Sec-Fetch-Site", "same-origin")},
		"null origin":            {header("Origin", "null"), header("Sec-Fetch-Site", "cross-site")},
		"null origin, no site":   {header("Origin", "null")},
		"http origin":            {header("Origin", "http://"+publicHost)},
		"other port":             {header("Origin", publicOrigin+":8443")},
		"suffix":                 {header("Origin", publicOrigin+".evil.example")},
		"prefix":                 {header("Origin", "https://evil-"+publicHost)},
		"user":                   {header("Origin", publicOrigin+"@evil.example")},
		"two origins":            {header("Origin", publicOrigin, "https://evil.example")},
		"two in one":             {header("Origin", publicOrigin+" https://evil.example")},
		"empty origin":           {header("Origin", "")},
		"text/plain form":        {header("Origin", "https://evil.example"), body("text/plain", `{"fresh":true,"a":"="}`)},
		"neither":                {},
		"neither, JSON":          {body("application/json", "{}")},
		"only a referer":         {header("Referer", publicOrigin+"/")},
		"X-Requested-With alone": {header("X-Requested-With", "XMLHttpRequest")},
	} {
		for _, path := range writes {
			a := alice.send(t, http.MethodPost, path, options...)
			if a.status != http.StatusForbidden || (a.code() != "origin_forbidden" && !strings.HasSuffix(path, "changeUsername")) {
				t.Errorf("17: %s, %s: %d %s", path, name, a.status, a.body)
			}
			if a.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("18: %s, %s: allow header", path, name)
			}
		}
	}
	alice.send(t, http.MethodGet, "/auth/session", sameOrigin).want(http.StatusOK, "")
}

// security.md 18
func TestPreflights(t *testing.T) {
	const shop = "https://shop.example.com"
	s := start(t, func(c *setup) { c.server.AllowedOrigins = []setting.URL{setting.MustURL(shop)} })
	alice := s.login(t, "alice")
	for _, path := range []string{"/auth/session", "/auth/whisp/sign-in", "/auth/logout", "/whisp/api/chat/getChats", "/whisp/api/user/signin"} {
		for _, origin := range []string{"https://evil.example", "null", shop + ".evil.example", "http://shop.example.com", publicOrigin} {
			a := s.send(t, http.MethodOptions, path, header("Origin", origin), header("Access-Control-Request-Method", "POST"))
			a.want(http.StatusNoContent, "").has("Vary", "Origin")
			for name := range a.header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("18: %s to %s got %s", origin, path, name)
				}
			}
		}
		s.send(t, http.MethodOptions, path, header("Origin", shop), header("Access-Control-Request-Method", "POST"), header("Access-Control-Request-Headers", "content-type")).
			want(http.StatusNoContent, "").has("Access-Control-Allow-Origin", shop).has("Access-Control-Allow-Credentials", "true").has("Vary", "Origin")
	}
	var g grant
	signIn := alice.send(t, http.MethodPost, "/auth/whisp/sign-in", header("Origin", shop), header("Sec-Fetch-Site", "same-site"))
	signIn.want(http.StatusOK, "").has("Access-Control-Allow-Origin", shop).has("Vary", "Origin").decode(&g)
	if !strings.Contains(signIn.header.Get("Access-Control-Expose-Headers"), "Authorization") {
		t.Error("18: Authorization is not exposed")
	}
	s.secret(g.JWT)
	alice.send(t, http.MethodPost, "/whisp/api/auth/refresh", header("Origin", shop), header("Authorization", "Bearer "+g.RefreshToken),
		body("application/json", `{"expiredJwt":"`+g.JWT+`"}`)).want(http.StatusOK, "").has("Access-Control-Allow-Origin", shop)
	// Errors need the headers, too, or the page cannot read them.
	s.send(t, http.MethodGet, "/auth/session", header("Origin", shop)).want(http.StatusUnauthorized, "session_required").has("Access-Control-Allow-Origin", shop)
	// The app's own paths are the app's own matter.
	s.send(t, http.MethodOptions, "/page", header("Origin", shop), header("Access-Control-Request-Method", "POST")).
		want(http.StatusOK, "").has("Access-Control-Allow-Origin", "")
	// Sockets, too.
	if conn, _, err := alice.handshake(t, "/whisp/api/wsConnect?ticket="+alice.ticket(t, g), header("Origin", shop)); err != nil {
		t.Errorf("socket from an allowed origin: %v", err)
	} else {
		_ = conn.CloseNow()
	}
}

// security.md 19
func TestReadsChangeNothing(t *testing.T) {
	s := start(t)
	alice := s.login(t, "alice")
	g := alice.signIn(t)
	for _, path := range writes {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete, http.MethodPatch, "PROPFIND"} {
			a := alice.send(t, method, path, sameOrigin)
			if a.status != http.StatusMethodNotAllowed && (!strings.HasSuffix(path, "changeUsername") || a.status != http.StatusForbidden) {
				t.Errorf("19: %s %s: %d", method, path, a.status)
			}
			if a.status == http.StatusMethodNotAllowed && a.header.Get("Allow") != http.MethodPost {
				t.Errorf("%s %s: Allow is %q", method, path, a.header.Get("Allow"))
			}
			if method != http.MethodHead {
				a.want(a.status, a.code())
			}
		}
	}
	alice.send(t, http.MethodGet, "/auth/session", sameOrigin).want(http.StatusOK, "")
	if !s.whisp.RefreshTokenAlive(secretOf(g.RefreshToken)) {
		t.Error("19: a read ended the grant")
	}
	for _, path := range []string{"/auth/session", "/auth/login", "/auth/callback"} {
		a := s.send(t, http.MethodPost, path, sameOrigin).want(http.StatusMethodNotAllowed, "method_not_allowed")
		a.has("Allow", http.MethodGet)
	}
}

// security.md 20
func TestPrivateAnswersStayPrivate(t *testing.T) {
	s := start(t)
	alice := s.login(t, "alice")
	for _, a := range []*answer{
		alice.send(t, http.MethodPost, "/auth/whisp/sign-in", sameOrigin),
		alice.send(t, http.MethodGet, "/auth/session", sameOrigin),
	} {
		a.want(http.StatusOK, "").has("Cache-Control", "no-store").has("X-Content-Type-Options", "nosniff").
			has("Content-Type", "application/json").has("Cross-Origin-Resource-Policy", "same-origin")
	}
	// As a script or in a frame of a foreign page, with the cookie or not.
	for _, dest := range []string{"script", "iframe", "image"} {
		alice.send(t, http.MethodGet, "/auth/session", header("Sec-Fetch-Site", "cross-site"), header("Sec-Fetch-Dest", dest), header("Sec-Fetch-Mode", "no-cors")).
			want(http.StatusForbidden, "origin_forbidden")
	}
}

func TestSignInBodies(t *testing.T) {
	t.Parallel()
	s := start(t)
	alice := s.login(t, "alice")
	first := alice.signIn(t)
	for name, test := range map[string]struct {
		contentType, body string
		status            int
		code              string
	}{
		"empty":                  {"application/json", "", 200, ""},
		"nothing, no type":       {"", "", 200, ""},
		"white space":            {"application/json", " \r\n\t", 200, ""},
		"object":                 {"application/json; charset=utf-8", "{}", 200, ""},
		"not fresh":              {"Application/JSON", `{"fresh": false}`, 200, ""},
		"unknown field":          {"application/json", `{"fresh":true,"admin":true}`, 400, "body_invalid"},
		"username":               {"application/json", `{"username":"bob"}`, 400, "credentials_not_accepted"},
		"password":               {"application/json", `{"password":"x"}`, 400, "credentials_not_accepted"},
		"credentials at the end": {"application/json", `{"remember":[{"a":1}],"password":"x"}`, 400, "credentials_not_accepted"},
		"both, and more":         {"application/json", `{"username":"bob","password":"x","remember":1}`, 400, "credentials_not_accepted"},
		"null username":          {"application/json", `{"username":null}`, 400, "credentials_not_accepted"},
		"other case":             {"application/json", `{"Username":"bob"}`, 400, "credentials_not_accepted"},
		"other case of ours":     {"application/json", `{"FRESH":true}`, 400, "body_invalid"},
		"text/plain":             {"text/plain", `{"fresh":true}`, 400, "body_invalid"},
		"form":                   {"application/x-www-form-urlencoded", "fresh=true", 400, "body_invalid"},
		"no type":                {"", `{"fresh":true}`, 400, "body_invalid"},
		"duplicate keys":         {"application/json", `{"fresh":false,"fresh":true}`, 400, "body_invalid"},
		"5 KiB":                  {"application/json", `{"fresh":false` + strings.Repeat(" ", 5<<10) + "}", 413, "body_too_large"},
		"array":                  {"application/json", "[]", 400, "body_invalid"},
		"null":                   {"application/json", "null", 400, "body_invalid"},
		"string":                 {"application/json", `"fresh"`, 400, "body_invalid"},
		"fresh as text":          {"application/json", `{"fresh":"true"}`, 400, "body_invalid"},
		"fresh null":             {"application/json", `{"fresh":null}`, 400, "body_invalid"},
		"two values":             {"application/json", `{} {"fresh":true}`, 400, "body_invalid"},
		"deep":                   {"application/json", strings.Repeat("[", 4000), 400, "body_invalid"},
		"deep in a field":        {"application/json", `{"fresh":` + strings.Repeat(`{"a":`, 600) + "1" + strings.Repeat("}", 600) + "}", 400, "body_invalid"},
		"broken":                 {"application/json", `{"fresh":`, 400, "body_invalid"},
		"invalid UTF-8 in name":  {"application/json", "{\"fre\xffsh\":true}", 400, "body_invalid"},
		"JSON with BOM":          {"application/json", "\ufeff{}", 400, "body_invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			alice.send(t, http.MethodPost, "/auth/whisp/sign-in", sameOrigin, body(test.contentType, test.body)).want(test.status, test.code)
		})
	}
	if alice.signIn(t) != first {
		t.Error("one of them made a new grant")
	}
	fresh := alice.signIn(t, body("application/json", `{"fresh":true}`))
	if fresh.RefreshToken == first.RefreshToken || s.whisp.RefreshTokenAlive(secretOf(first.RefreshToken)) {
		t.Error("fresh: the old grant lives")
	}
	alice.send(t, http.MethodPost, "/auth/whisp/sign-out", sameOrigin).want(http.StatusNoContent, "").has("Cache-Control", "no-store")
	if s.whisp.RefreshTokenAlive(secretOf(fresh.RefreshToken)) {
		t.Error("sign-out: the grant lives")
	}
	alice.signIn(t) // the session stays
}
