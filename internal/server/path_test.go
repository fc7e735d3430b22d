package server_test

import (
	"net/http"
	"strings"
	"testing"
)

// security.md 25: however the two routes that take the key are spelled, the key
// never travels, and Whisp never sees the call.
func TestKeyRoutesInOtherSpellings(t *testing.T) {
	s := start(t)
	alice := s.login(t, "alice")
	alice.signIn(t)
	for _, operation := range []string{"signin", "registerUser"} {
		before := s.whisp.Calls(map[string]string{"signin": "signIn", "registerUser": "registerUser"}[operation])
		for _, path := range []string{
			"/whisp/api/user/" + operation, "/whisp//api/user/" + operation, "/whisp/./api/user/" + operation,
			"/whisp/api/x/../user/" + operation, "/whisp/api/user/%2e%2e/user/" + operation, "/whisp/api/user%2f" + operation,
			"/whisp/api/user/" + operation + ";v=1", "/whisp/api/user/" + strings.ToUpper(operation), "/whisp/api/user/" + operation + ".",
			"/whisp/api/user/" + operation + "/", "/whisp/api/user/" + operation + "%20", "/whisp/api/user/" + operation + "%00",
			"/whisp/api/user/%2573ignin", "/whisp/api/user/%73ignin", "/whisp/api/user/%72egisterUser", "/whisp/../whisp/api/user/" + operation,
			"/WHISP/api/user/" + operation, "/whisp%2fapi/user/" + operation, "/%77hisp/api/user/" + operation, `/whisp/api\user\` + operation,
			"/whisp/api/auth/getTicket/../../user/" + operation, "/whisp/api/wsConnect/../user/" + operation, "/whisp/api/wsConnect%2f..%2fuser/" + operation,
			"/whisp/api/messages/getMessages/..%2f..%2fuser%2f" + operation, "/whisp", "/whisp/", "/whisp/api", "/whisp/api/", "/whisp/api/user",
			"/whisp/api/user/" + operation + "?x=1", "/whisp/api/user/" + operation + "%3fx", "/whisp/api/user/getUser%23/../" + operation,
		} {
			a := alice.send(t, http.MethodPost, path, sameOrigin, header("X-HTTP-Method-Override", "POST"), header("X-Api-Key", "guess"),
				body("application/json", `{"username":"alice","password":"x"}`))
			toApp := a.status == http.StatusOK && a.body == "app"
			if !toApp && a.status != http.StatusForbidden && a.status != http.StatusBadRequest && a.status != http.StatusMethodNotAllowed {
				t.Errorf("25: %s: %d %s", path, a.status, a.body)
			}
		}
		for _, line := range []string{"POST //whisp/api/user/" + operation, "POST https://" + publicHost + "/whisp/api/user/" + operation, "POST http://x@" + publicHost + "/whisp/api/user/" + operation} {
			got := s.rawOnce(t, line+" HTTP/1.1\r\nHost: "+publicHost+"\r\nOrigin: "+publicOrigin+"\r\nCookie: "+sessionCookie+"="+alice.cookies[sessionCookie]+"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			if got == nil || (got.status != http.StatusForbidden && got.body != "app") {
				t.Errorf("25: %s: %+v", line, got)
			}
		}
		if after := s.whisp.Calls(map[string]string{"signin": "signIn", "registerUser": "registerUser"}[operation]); after != before {
			t.Errorf("25: %s reached Whisp %d times", operation, after-before)
		}
	}
	for _, r := range s.app.requests() {
		if strings.Contains(r.Header.Get("Cookie"), sessionCookie) || r.Header.Get("X-Api-Key") != "" {
			t.Errorf("%s reached the app with what is ours", r.URL.Path)
		}
	}
}

// Our own paths in other spellings are the app's, or refused; never ours.
func TestOwnRoutesInOtherSpellings(t *testing.T) {
	s := start(t)
	alice := s.login(t, "alice")
	for path, where := range map[string]string{
		"/auth/session/":           "app",
		"/auth//session":           "app",
		"/Auth/session":            "app",
		"/auth/SESSION":            "app",
		"/auth/./session":          "app",
		"/auth/x/../session":       "app",
		"/auth/session%20":         "app",
		"/auth/session%00":         "app",
		"/auth/session;a=b":        "app",
		"/auth/session.":           "app",
		"/auth/%2573ession":        "app",
		"/auth%2f/session":         "app",
		"/auth":                    "app",
		"/auth/":                   "app",
		"/auth/other":              "app",
		"/authx/session":           "app",
		"/whispx/api/user/getUser": "app",
		"/%61uth/session":          "path_not_canonical",
		"/auth%2fsession":          "path_not_canonical",
		"/auth/sess%69on":          "path_not_canonical",
		"/whisp%2Fapi":             "path_not_canonical",
		"/auth/session?" + strings.Repeat("a=b&", 5000): "path_not_canonical",
	} {
		a := alice.send(t, http.MethodGet, path, sameOrigin)
		got := a.code()
		if a.status == http.StatusOK && a.body == "app" {
			got = "app"
		}
		if got != where {
			t.Errorf("%.60s: %d %s %.100s, want %s", path, a.status, got, a.body, where)
		}
	}
	// What the app gets is what was sent.
	s.app.requests()
	for _, path := range []string{"/a%2Fb/%2e%2e/c;d=1//e?x=1;y&z=%zz", "/%F0%9F%99%82"} {
		alice.send(t, http.MethodGet, path)
		if seen := s.app.requests(); len(seen) != 1 || seen[0].RequestURI != path {
			t.Errorf("app saw %v, sent %s", seen, path)
		}
	}
}

// Requests that are none of a browser's.
func TestForms(t *testing.T) {
	s := start(t)
	for name, test := range map[string]struct {
		request string
		status  int
		code    string
	}{
		"28: foreign host":              {"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421, "host_unknown"},
		"28: foreign host, login":       {"GET /auth/login HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421, "host_unknown"},
		"28: other port":                {"GET / HTTP/1.1\r\nHost: app.example.com:8080\r\n\r\n", 421, "host_unknown"},
		"28: suffix":                    {"GET / HTTP/1.1\r\nHost: app.example.com.evil.example\r\n\r\n", 421, "host_unknown"},
		"28: trailing dot":              {"GET / HTTP/1.1\r\nHost: app.example.com.\r\n\r\n", 421, "host_unknown"},
		"28: user":                      {"GET / HTTP/1.1\r\nHost: app.example.com@evil.example\r\n\r\n", 400, ""},
		"28: two hosts":                 {"GET / HTTP/1.1\r\nHost: app.example.com\r\nHost: evil.example\r\n\r\n", 400, ""},
		"28: the same twice":            {"GET / HTTP/1.1\r\nHost: app.example.com\r\nHost: app.example.com\r\n\r\n", 400, ""},
		"28: none":                      {"GET / HTTP/1.1\r\n\r\n", 400, ""},
		"28: empty":                     {"GET / HTTP/1.1\r\nHost:\r\n\r\n", 421, "host_unknown"},
		"28: HTTP/1.0 without":          {"GET / HTTP/1.0\r\n\r\n", 421, "host_unknown"},
		"28: space":                     {"GET / HTTP/1.1\r\nHost: app.example.com evil\r\n\r\n", 400, ""},
		"28: X-Forwarded-Host":          {"GET / HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: app.example.com\r\n\r\n", 421, "host_unknown"},
		"28: upper case is the same":    {"GET / HTTP/1.1\r\nHost: APP.Example.COM\r\n\r\n", 200, ""},
		"28: default port is the same":  {"GET / HTTP/1.1\r\nHost: app.example.com:443\r\n\r\n", 200, ""},
		"absolute-form":                 {"GET https://app.example.com/x HTTP/1.1\r\nHost: app.example.com\r\n\r\n", 200, ""},
		"28: absolute-form, other host": {"GET http://evil.example/ HTTP/1.1\r\nHost: app.example.com\r\n\r\n", 421, "host_unknown"},
		// RFC 9112 section 3.2.2: the target's host counts.
		"28: absolute-form, ours":    {"GET http://app.example.com/ HTTP/1.1\r\nHost: evil.example\r\n\r\n", 200, ""},
		"opaque":                     {"GET http:auth/session HTTP/1.1\r\nHost: app.example.com\r\n\r\n", 400, "path_not_canonical"},
		"OPTIONS *":                  {"OPTIONS * HTTP/1.1\r\nHost: app.example.com\r\n\r\n", 400, "path_not_canonical"},
		"GET *":                      {"GET * HTTP/1.1\r\nHost: app.example.com\r\n\r\n", 400, "path_not_canonical"},
		"no slash":                   {"GET auth/session HTTP/1.1\r\nHost: app.example.com\r\n\r\n", 400, ""},
		"CONNECT":                    {"CONNECT evil.example:443 HTTP/1.1\r\nHost: app.example.com\r\n\r\n", 405, "method_not_allowed"},
		"CONNECT with a path":        {"CONNECT /auth/session HTTP/1.1\r\nHost: app.example.com\r\n\r\n", 405, "method_not_allowed"},
		"TRACE":                      {"TRACE / HTTP/1.1\r\nHost: app.example.com\r\nCookie: a=b\r\n\r\n", 405, "method_not_allowed"},
		"HTTP/2 preface":             {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "path_not_canonical"},
		"HTTP/0.9":                   {"GET /\r\n\r\n", 400, ""},
		"HTTP/3.7":                   {"GET / HTTP/3.7\r\nHost: app.example.com\r\n\r\n", 505, ""},
		"NUL in a header":            {"GET / HTTP/1.1\r\nHost: app.example.com\r\nX: a\x00b\r\n\r\n", 400, ""},
		"space before the colon":     {"GET / HTTP/1.1\r\nHost: app.example.com\r\nX-Forwarded-User : eve\r\n\r\n", 400, ""},
		"header without a name":      {"GET / HTTP/1.1\r\nHost: app.example.com\r\n: x\r\n\r\n", 400, ""},
		"TLS":                        {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, ""},
		"unknown expectation":        {"GET / HTTP/1.1\r\nHost: app.example.com\r\nExpect: tea\r\n\r\n", 417, ""},
		"27: bare CR ends no line":   {"GET / HTTP/1.1\rHost: app.example.com\r\r\n\r\n", 400, ""},
		"51: h2c":                    {"GET /auth/session HTTP/1.1\r\nHost: app.example.com\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", 401, "session_required"},
		"51: h2c to the app":         {"GET / HTTP/1.1\r\nHost: app.example.com\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", 200, ""},
		"61: kube-probe is a client": {"GET /auth/session HTTP/1.1\r\nHost: app.example.com\r\nUser-Agent: kube-probe/1.30\r\n\r\n", 401, "session_required"},
		"61: health checker":         {"GET /whisp/api/user/getUser HTTP/1.1\r\nHost: app.example.com\r\nUser-Agent: GoogleHC/1.0\r\n\r\n", 401, "session_required"},
		"61: admin paths are not":    {"GET /metrics HTTP/1.1\r\nHost: app.example.com\r\n\r\n", 200, ""}, // the app's
	} {
		t.Run(name, func(t *testing.T) {
			got := s.rawOnce(t, test.request)
			if got == nil {
				t.Fatal("no answer")
			}
			got.want(test.status, test.code)
			if got.status == 200 && got.body != "app" {
				t.Errorf("not from the app: %q", got.body)
			}
			if got.status == http.StatusMethodNotAllowed && got.header.Get("Allow") == "" {
				t.Error("405 without Allow")
			}
		})
	}
	for _, r := range s.app.requests() {
		if r.Header.Get("Upgrade") != "" || r.Header.Get("Http2-Settings") != "" {
			t.Errorf("51: an h2c upgrade reached the app")
		}
	}
}
