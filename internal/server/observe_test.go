package server_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// security.md 46 and 63: what a request line and headers hold is not logged.
func TestAccessLog(t *testing.T) {
	s := start(t)
	alice := s.login(t, "alice")
	for _, text := range []string{"query-of-a-person", "agent-of-a-person", "referer-of-a-person", "header-of-a-person", "body-of-a-person", "language-of-a-person"} {
		s.secret(text)
	}
	tell := []option{
		header("User-Agent", "agent-of-a-person"), header("Referer", publicOrigin+"/?referer-of-a-person"), header("X-Any", "header-of-a-person"),
		header("Accept-Language", "language-of-a-person"), body("text/plain", "body-of-a-person"),
	}
	for _, path := range []string{
		"/page?query-of-a-person", "/auth/session?query-of-a-person", "/auth/login?return_to=/query-of-a-person", "/auth/callback?code=query-of-a-person&state=query-of-a-person",
		"/whisp/api/user/getUser?query-of-a-person", "/whisp/api/wsConnect?ticket=query-of-a-person", "/whisp/api/wsConnect/info?ticket=query-of-a-person", "/whisp/query-of-a-person", "/auth%2fsession?query-of-a-person",
	} {
		alice.send(t, http.MethodGet, path, append([]option{sameOrigin}, tell...)...)
		s.send(t, http.MethodPost, path, tell...)
		s.send(t, http.MethodGet, path, host("query-of-a-person"))
	}
	s.send(t, http.MethodGet, "/"+strings.Repeat("long", 1000))
	s.send(t, "METHOD"+strings.Repeat("X", 5000), "/page")
	lines := s.logs.lines(t, "request")
	for _, line := range lines {
		for name, value := range line {
			switch name {
			case "time", "level", "msg", "request_id", "method", "route", "status", "bytes", "ms", "client", "path", "identity_source", "identity", "code", "cause":
			default:
				t.Errorf("the access log has %s", name)
			}
			if len(fmt.Sprint(value)) > 600 {
				t.Errorf("%s is %d bytes long", name, len(fmt.Sprint(value)))
			}
		}
	}
	if last := lines[len(lines)-1]; last["path"] != "/page" || last["route"] != "app" || last["client"] != "127.0.0.1" {
		t.Errorf("last line %v", last)
	}
	if strings.Contains(s.logs.String(), "superfluous") {
		t.Error("an answer was begun twice")
	}
}

// Nothing that a client chooses becomes a label.
func TestMetricLabels(t *testing.T) {
	s := start(t, func(c *setup) {
		c.app = func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(400 + len(r.URL.Path)%100) }
	})
	alice := s.login(t, "alice")
	alice.signIn(t)
	count := func() int { return strings.Count(s.metricsText(t), "\n") }
	requests := func(n int) {
		for i := range n {
			alice.send(t, fmt.Sprintf("M%d", i), fmt.Sprintf("/p%d", i), header("Origin", fmt.Sprintf("https://o%d.example", i)))
			alice.send(t, fmt.Sprintf("M%d", i), "/auth/session")
			alice.send(t, fmt.Sprintf("M%d", i), "/whisp/api/user/getUser", sameOrigin)
			alice.send(t, http.MethodGet, fmt.Sprintf("/whisp/api/user/u%d", i), sameOrigin)
			alice.send(t, http.MethodGet, "/", host(fmt.Sprintf("h%d.example", i)))
			alice.send(t, http.MethodGet, fmt.Sprintf("/auth/callback?state=%d", i))
		}
	}
	requests(12)
	before := count()
	requests(12)
	if after := count(); after != before {
		t.Errorf("series grew from %d to %d lines", before, after)
	}
	known := regexp.MustCompile(`route="(none|login|callback|logout|session|sign_in|sign_out|whisp|realtime|app|preflight)"`)
	for _, found := range regexp.MustCompile(`route="[^"]*"`).FindAllString(s.metricsText(t), -1) {
		if !known.MatchString(found) {
			t.Errorf("label %s", found)
		}
	}
}
