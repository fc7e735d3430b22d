package sockproxy

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// request is a handshake that would be let in, but for what a test changes.
func (s *site) request(method, path string, change func(http.Header)) *http.Response {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+"/whisp"+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header = http.Header{
		"Connection": {"keep-alive, Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="}, "Origin": {s.origin}, "X-Session": {"alice"},
	}
	if change != nil {
		change(r.Header)
	}
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = response.Body.Close()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	return response
}

// security.md 44, 45, 51 and RFC 6455 section 4.2.1: all of it before Whisp is dialled.
func TestHandshakeRefused(t *testing.T) {
	const socket = "/api/wsConnect?ticket=good"
	set := func(name, value string) func(http.Header) { return func(h http.Header) { h[name] = []string{value} } }
	del := func(name string) func(http.Header) { return func(h http.Header) { h.Del(name) } }
	for _, test := range []struct {
		name, method, path string
		change             func(http.Header)
		status             int
		code               string
	}{
		{"foreign origin", "GET", socket, set("Origin", "https://evil.example"), 403, "origin_forbidden"},
		{"null origin", "GET", socket, set("Origin", "null"), 403, "origin_forbidden"},
		{"no origin", "GET", socket, del("Origin"), 403, "origin_forbidden"},
		{"no origin, same site", "GET", socket, func(h http.Header) { h.Del("Origin"); h.Set("Sec-Fetch-Site", "same-origin") }, 403, "origin_forbidden"},
		{"two origins", "GET", socket, func(h http.Header) { h.Add("Origin", h.Get("Origin")) }, 403, "origin_forbidden"},

		{"no ticket", "GET", "/api/wsConnect", nil, 401, "ticket_refused"},
		{"empty ticket", "GET", "/api/wsConnect?ticket=", nil, 401, "ticket_refused"},
		{"unknown ticket", "GET", "/api/wsConnect?ticket=other", nil, 401, "ticket_refused"},
		{"two tickets", "GET", socket + "&ticket=good", nil, 401, "ticket_refused"},
		{"another session's ticket", "GET", socket, set("X-Session", "mallory"), 401, "ticket_refused"},
		{"10 kB ticket", "GET", "/api/wsConnect?ticket=" + strings.Repeat("x", 10_000), nil, 401, "ticket_refused"},
		{"ticket with a line break", "GET", "/api/wsConnect?ticket=good%0d%0aX:y", nil, 401, "ticket_refused"},

		{"no upgrade", "GET", socket, del("Upgrade"), 400, "upgrade_invalid"},
		{"h2c", "GET", socket, set("Upgrade", "h2c"), 400, "upgrade_invalid"},
		{"connection without upgrade", "GET", socket, set("Connection", "keep-alive"), 400, "upgrade_invalid"},
		{"old version", "GET", socket, set("Sec-Websocket-Version", "8"), 426, "upgrade_invalid"},
		{"short key", "GET", socket, set("Sec-Websocket-Key", "AAAA"), 400, "upgrade_invalid"},
		{"no key", "GET", socket, del("Sec-Websocket-Key"), 400, "upgrade_invalid"},
		{"bad subprotocol", "GET", socket, set("Sec-Websocket-Protocol", "a b"), 400, "upgrade_invalid"},
		{"subprotocol twice", "GET", socket, set("Sec-Websocket-Protocol", "a, a"), 400, "upgrade_invalid"},
		{"POST", "POST", socket, nil, 405, "method_not_allowed"},

		{"upgrade on info", "GET", "/api/wsConnect/info?ticket=good", nil, 400, "upgrade_invalid"},
		{"upgrade on xhr", "POST", "/api/wsConnect/000/abc/xhr?ticket=good", nil, 400, "upgrade_invalid"},
		{"upgrade elsewhere", "GET", "/api/user/getUser", nil, 403, "route_forbidden"},
		{"longer path", "GET", "/api/wsConnected?ticket=good", nil, 403, "route_forbidden"},
		{"dotted server id", "GET", "/api/wsConnect/a.b/abc/websocket?ticket=good", nil, 403, "route_forbidden"},
		{"encoded slash", "GET", "/api/wsConnect/000%2fabc/websocket?ticket=good", nil, 403, "route_forbidden"},
		{"unknown transport", "GET", "/api/wsConnect/000/abc/other?ticket=good", nil, 403, "route_forbidden"},
		{"xhr_send of a session nobody opened", "POST", "/api/wsConnect/000/abc/xhr_send?ticket=good", del("Upgrade"), 401, "ticket_refused"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t, "127.0.0.1:1", nil)
			s.ticket("alice", "good")
			response := s.request(test.method, test.path, test.change)
			body, _ := io.ReadAll(response.Body)
			if response.StatusCode != test.status || !strings.Contains(string(body), `"code":"`+test.code+`"`) {
				t.Errorf("%d %s; want %d %s", response.StatusCode, body, test.status, test.code)
			}
			if test.status == 426 && response.Header.Get("Sec-WebSocket-Version") != "13" {
				t.Error("426 does not say which version")
			}
			if test.status == 405 && response.Header.Get("Allow") != "GET" {
				t.Errorf("405 allows %q", response.Header.Get("Allow"))
			}
			if s.dials.Load() != 0 {
				t.Error("Whisp was dialled")
			}
			if got := s.metric("refused_total", "code", test.code); got != 1 {
				t.Errorf("counted %v times", got)
			}
		})
	}
}

func TestTicketReplayed(t *testing.T) {
	s := newSite(t, echoUpstream(t), nil)
	s.ticket("alice", "good")
	if r := s.request("GET", "/api/wsConnect?ticket=good", nil); r.StatusCode != 101 {
		t.Fatal(r.Status)
	}
	if r := s.request("GET", "/api/wsConnect?ticket=good", nil); r.StatusCode != 401 || s.dials.Load() != 1 {
		t.Errorf("%s after %d dials", r.Status, s.dials.Load())
	}
}

func TestTicketTooLate(t *testing.T) {
	s := newSite(t, echoUpstream(t), nil)
	s.ticket("alice", "good")
	s.clock.advance(21 * time.Second)
	if r := s.request("GET", "/api/wsConnect?ticket=good", nil); r.StatusCode != 401 || s.dials.Load() != 0 {
		t.Errorf("%s after %d dials", r.Status, s.dials.Load())
	}
}

func TestAllowedOriginAndSubprotocol(t *testing.T) {
	s := newSite(t, echoUpstream(t), func(_ *Config, deps *Deps) {
		deps.AllowedOrigins = []setting.URL{setting.MustURL("https://Shop.Example.com:443")}
	})
	s.ticket("alice", "one")
	r := s.request("GET", "/api/wsConnect?ticket=one", func(h http.Header) {
		h.Set("Origin", "https://shop.example.com")
		h.Set("Sec-Websocket-Protocol", "v12.stomp, v11.stomp")
		h.Set("Sec-Websocket-Extensions", "permessage-deflate")
	})
	if r.StatusCode != 101 || r.Header.Get("Sec-Websocket-Protocol") != "v12.stomp" || r.Header.Get("Sec-Websocket-Extensions") != "" {
		t.Errorf("%s %v", r.Status, r.Header)
	}
	s.ticket("alice", "two")
	if r := s.request("GET", "/api/wsConnect/websocket?ticket=two", nil); r.StatusCode != 101 || len(r.Header["Sec-Websocket-Protocol"]) != 0 {
		t.Errorf("%s %v", r.Status, r.Header)
	}
}

func TestLimits(t *testing.T) {
	s := newSite(t, echoUpstream(t), func(cfg *Config, _ *Deps) { cfg.MaxTunnels, cfg.MaxTunnelsPerUser = 3, 2 })
	s.dialWS("alice")
	second := s.dialWS("alice")
	status := func(session string) int {
		s.ticket(session, "t-"+session)
		return s.request("GET", "/api/wsConnect?ticket=t-"+session, func(h http.Header) { h.Set("X-Session", session) }).StatusCode
	}
	if got := status("alice"); got != 503 {
		t.Errorf("alice's third: %d", got)
	}
	if got := status("bob"); got != 101 {
		t.Errorf("bob's first: %d", got)
	}
	if got := status("carol"); got != 503 {
		t.Errorf("the fourth of all: %d", got)
	}
	_ = second.CloseNow()
	s.eventually("a place is free", func() bool { return s.metric("tunnels") < 3 })
	if got := status("carol"); got != 101 {
		t.Errorf("after one left: %d", got)
	}
}

// What Whisp may answer instead of 101, and what the browser gets: an ordinary
// answer, on a connection that goes on.
func TestUpstreamRefusesTheHandshake(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer string
		status int
		code   string
		retry  string
	}{
		{"ticket", "HTTP/1.1 401 Unauthorized\r\nContent-Length: 3\r\n\r\nno!", 401, "ticket_refused", ""},
		{"origin", "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", 403, "origin_forbidden", ""},
		{"not found", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 404, "not_found", ""},
		{"busy", "HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", 503, "whisp_rate_limited", "7"},
		{"down", "HTTP/1.1 503 Down\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n", 503, "whisp_failed", "3"},
		{"page", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 502, "whisp_bad_answer", ""},
		{"redirect", "HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n", 502, "whisp_bad_answer", ""},
		{"wrong accept", "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n", 502, "whisp_bad_answer", ""},
		{"garbage", "hello\r\n\r\n", 503, "whisp_unreachable", ""},
		{"nothing", "", 503, "whisp_unreachable", ""},
		{"endless header", "HTTP/1.1 101 S\r\nX: " + strings.Repeat("x", 70_000), 503, "whisp_unreachable", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t, scripted(t, func(c net.Conn) { _, _ = io.WriteString(c, test.answer) }), nil)
			s.ticket("alice", "good")
			r := s.request("GET", "/api/wsConnect?ticket=good", nil)
			body, _ := io.ReadAll(r.Body)
			if r.StatusCode != test.status || !strings.Contains(string(body), `"code":"`+test.code+`"`) || r.Header.Get("Retry-After") != test.retry {
				t.Errorf("%d %s, Retry-After %q", r.StatusCode, body, r.Header.Get("Retry-After"))
			}
			if s.metric("tunnels") != 0 {
				t.Error("it still counts as a tunnel")
			}
		})
	}
}

func TestUpstreamHangsInTheHandshake(t *testing.T) {
	hung := make(chan struct{})
	s := newSite(t, scripted(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 101 ") // a drip that never ends
		_, _ = c.Read(make([]byte, 1))
		close(hung)
	}), func(cfg *Config, _ *Deps) { cfg.HandshakeTimeout = setting.Duration(100 * time.Millisecond) })
	s.ticket("alice", "good")
	if r := s.request("GET", "/api/wsConnect?ticket=good", nil); r.StatusCode != 503 {
		t.Error(r.Status)
	}
	<-hung // and Whisp's side was closed
	if p := <-s.problems; p.Code != "whisp_timeout" {
		t.Error(p)
	}
}

func TestEndSessionWhileOpening(t *testing.T) {
	asked := make(chan struct{})
	s := newSite(t, scripted(t, func(c net.Conn) {
		close(asked)
		_, _ = c.Read(make([]byte, 1))
	}), nil)
	s.ticket("alice", "good")
	go func() {
		<-asked
		s.EndSession("alice")
	}()
	if r := s.request("GET", "/api/wsConnect?ticket=good", nil); r.StatusCode != 401 {
		t.Error(r.Status)
	}
	s.ticket("alice", "late") // a request that was checked just before the session ended
	if r := s.request("GET", "/api/wsConnect?ticket=late", nil); r.StatusCode != 401 || s.dials.Load() != 1 {
		t.Errorf("%s after %d dials", r.Status, s.dials.Load())
	}
}

// scripted is an upstream that reads one request head and leaves the rest to say.
func scripted(t *testing.T, say func(net.Conn)) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			readHead(t, c)
			say(c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-done })
	return listener.Addr().String()
}

// security.md 46: with everything logged, neither ticket nor query shows.
func TestTicketsAreNotLogged(t *testing.T) {
	var logged strings.Builder
	s := newSite(t, echoUpstream(t), func(_ *Config, deps *Deps) {
		deps.Logger = slog.New(slog.NewJSONHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	s.ticket("alice", "t0p-s3cret")
	r := s.request("GET", "/api/wsConnect?ticket=t0p-s3cret", nil)
	_ = r.Body.Close()
	s.settled()
	s.request("GET", "/api/wsConnect?ticket=t0p-s3cret", nil)
	if text := logged.String(); !strings.Contains(text, "tunnel ended") || strings.Contains(text, "s3cret") {
		t.Error(text)
	}
	recorder := httptest.NewRecorder()
	families, _ := s.metrics.Gather()
	for _, family := range families {
		_, _ = recorder.WriteString(family.String())
	}
	if strings.Contains(recorder.Body.String(), "s3cret") {
		t.Error("in the metrics")
	}
}

func TestConfigValidate(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
	bad := Config{MaxTunnels: -1, MaxMessage: -1}
	if got := len(setting.List(bad.Validate())); got != 8 {
		t.Errorf("%d problems: %v", got, bad.Validate())
	}
}
