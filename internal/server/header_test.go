package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// security.md 21 to 24: what a browser claims about itself never arrives, what we
// say always does.
func TestForgedHeaders(t *testing.T) {
	s := start(t)
	alice := s.login(t, "alice")
	g := alice.signIn(t)
	s.app.requests()
	forged := []option{
		header("X-Forwarded-User", "eve"), header("X_Forwarded_User", "eve"), header("x-forwarded-USER", "eve", "mallory"),
		header("X-Forwarded-For", "6.6.6.6"), header("X-Forwarded-Host", "evil.example"), header("X-Forwarded-Proto", "http"),
		header("X-Forwarded-Port", "6"), header("X-Forwarded-Uri", "/admin"), header("X-Forwarded-Prefix", "/evil"),
		header("X_Forwarded_For", "6.6.6.6"), header("X-Forwarded.For", "6.6.6.6"), header("Forwarded", "for=6.6.6.6;host=evil.example"),
		header("X-Original-Url", "/admin"), header("X-Rewrite-Url", "/admin"), header("X-Real-Ip", "6.6.6.6"),
		header("X-Api-Key", "guess"), header("X_Api_Key", "guess"), header("X-Auth-Request-Email", "eve"), header("X-Request-Id", "evil-evil-evil"),
		header("Proxy", "http://evil.example"), header("X-Whisp-Subject", "eve"),
	}
	for name, connection := range map[string]string{
		"21": "keep-alive",
		"22": "X-Forwarded-User, Cookie, X-Forwarded-For, x-forwarded-host, X-Request-Id, Host, Authorization",
	} {
		options := append([]option{header("Connection", connection), header("Authorization", "Bearer "+g.JWT), sameOrigin}, forged...)
		answer := alice.send(t, http.MethodGet, "/page", options...).want(http.StatusOK, "")
		seen := s.app.requests()
		if len(seen) != 1 {
			t.Fatal("the app saw nothing")
		}
		for name, want := range map[string]string{
			"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": publicHost, "X-Forwarded-Proto": "https", "X-Forwarded-Port": "443",
			"X-Request-Id": answer.header.Get("X-Request-Id"),
		} {
			if got := seen[0].Header.Values(name); len(got) != 1 || got[0] != want {
				t.Errorf("%s: app got %s %q, want %q", name, name, got, want)
			}
		}
		if seen[0].Host != publicHost {
			t.Errorf("host %q", seen[0].Host)
		}
		noneOf(t, name+", app", seen[0].Header, "eve", "6.6.6.6", "evil", "/admin", "guess", "mallory", alice.cookies[sessionCookie])

		s.whisp.ForgetRequests()
		alice.send(t, http.MethodGet, "/whisp/api/user/getUser", options...)
		for _, request := range s.whisp.Requests() {
			noneOf(t, name+", Whisp", request.Header, "eve", "6.6.6.6", "evil", "/admin", "guess", "mallory", alice.cookies[sessionCookie])
			if request.Header.Get("Cookie") != "" {
				t.Errorf("%s: Whisp got cookies", name)
			}
		}
	}
}

func noneOf(t *testing.T, where string, h http.Header, words ...string) {
	t.Helper()
	all := fmt.Sprint(h)
	for _, word := range words {
		if strings.Contains(all, word) {
			t.Errorf("%s: %q arrived in %.300s", where, word, all)
		}
	}
}

// security.md 23: the right-most hop that is not a listed proxy is the client.
func TestTrustedProxies(t *testing.T) {
	for name, test := range map[string]struct {
		trusted   []string
		forwarded []string
		want      string
	}{
		"nobody listed":            {nil, []string{"1.1.1.1"}, "127.0.0.1"},
		"another listed":           {[]string{"10.0.0.0/8"}, []string{"1.1.1.1"}, "127.0.0.1"},
		"listed":                   {[]string{"127.0.0.1"}, []string{"1.1.1.1"}, "1.1.1.1"},
		"forged on the left":       {[]string{"127.0.0.0/8"}, []string{"6.6.6.6, 1.1.1.1"}, "1.1.1.1"},
		"forged in its own line":   {[]string{"127.0.0.0/8"}, []string{"6.6.6.6", "1.1.1.1"}, "1.1.1.1"},
		"two proxies":              {[]string{"127.0.0.0/8", "10.0.0.0/8"}, []string{"6.6.6.6, 1.1.1.1, 10.1.2.3"}, "1.1.1.1"},
		"all listed":               {[]string{"127.0.0.0/8", "10.0.0.0/8"}, []string{"10.9.9.9, 10.1.2.3"}, "10.9.9.9"},
		"junk on the right":        {[]string{"127.0.0.0/8"}, []string{"1.1.1.1, unknown"}, "127.0.0.1"},
		"junk behind the real one": {[]string{"127.0.0.0/8"}, []string{"<script>, 1.1.1.1"}, "1.1.1.1"},
		"no header":                {[]string{"127.0.0.0/8"}, nil, "127.0.0.1"},
		"empty":                    {[]string{"127.0.0.0/8"}, []string{""}, "127.0.0.1"},
		"IPv6":                     {[]string{"127.0.0.0/8"}, []string{"2001:db8::1"}, "2001:db8::1"},
		"mapped IPv4":              {[]string{"127.0.0.0/8", "10.0.0.0/8"}, []string{"1.1.1.1, ::ffff:10.0.0.1"}, "1.1.1.1"},
		"a zone is free text":      {[]string{"127.0.0.0/8"}, []string{"fe80::1%<b>x=y"}, "fe80::1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, func(c *setup) { c.server.TrustedProxies = test.trusted })
			s.send(t, http.MethodGet, "/page", header("X-Forwarded-For", test.forwarded...), header("X-Request-Id", "from-the-proxy_1")).want(http.StatusOK, "")
			seen := s.app.requests()
			if got := seen[0].Header.Values("X-Forwarded-For"); len(got) != 1 || got[0] != test.want {
				t.Errorf("app got %q, want %q", got, test.want)
			}
			peerListed := test.trusted != nil && test.trusted[0] != "10.0.0.0/8"
			if got := seen[0].Header.Get("X-Request-Id"); (got == "from-the-proxy_1") != peerListed {
				t.Errorf("request id %q", got)
			}
			if lines := s.logs.lines(t, "request"); lines[len(lines)-1]["client"] != test.want {
				t.Errorf("log says %v", lines[len(lines)-1]["client"])
			}
		})
	}
	s := start(t, func(c *setup) { c.server.TrustedProxies = []string{"127.0.0.1"} })
	for _, id := range []string{"short", strings.Repeat("x", 65), "with space 12", "with<b>html", `with"quote12`, "ünïcödé-12"} {
		if got := s.send(t, http.MethodGet, "/page", header("X-Request-Id", id)).header.Get("X-Request-Id"); got == id {
			t.Errorf("request id %q was believed", id)
		}
	}
}

// security.md 29
func TestLargeHeaders(t *testing.T) {
	t.Parallel()
	s := start(t)
	for name, test := range map[string]struct {
		request string
		status  int
	}{
		"29: 1 MB header":        {"GET / HTTP/1.1\r\nHost: app.example.com\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n", 431},
		"29: 1 MB path":          {"GET /" + strings.Repeat("x", 1<<20) + " HTTP/1.1\r\nHost: app.example.com\r\n\r\n", 431},
		"29: 10,000 headers":     {"GET / HTTP/1.1\r\nHost: app.example.com\r\n" + manyHeaders(10_000) + "\r\n", 431},
		"29: 1 MB of cookies":    {"GET / HTTP/1.1\r\nHost: app.example.com\r\n" + strings.Repeat("Cookie: a=b\r\n", 80_000) + "\r\n", 431},
		"29: as many as fit":     {"GET / HTTP/1.1\r\nHost: app.example.com\r\n" + manyHeaders(4000) + "\r\n", 200},
		"29: many on our routes": {"GET /auth/session HTTP/1.1\r\nHost: app.example.com\r\n" + manyHeaders(4000) + "\r\n", 401},
	} {
		t.Run(name, func(t *testing.T) {
			got := s.rawOnce(t, test.request)
			if got == nil || got.status != test.status {
				t.Errorf("got %+v, want %d", got, test.status)
			}
		})
	}
}

func manyHeaders(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "X-%x: 1\r\n", i)
	}
	return b.String()
}
