package sockproxy

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	ws "github.com/coder/websocket"

	"github.com/whisp-bff/whisp-bff/internal/setting"
	"github.com/whisp-bff/whisp-bff/internal/whispsim/sockjs"
)

// echoSession sends back what it gets.
type echoSession struct{ *sockjs.Session }

func (e echoSession) Receive(message []byte) { e.Send(message) }
func (echoSession) Closed()                  {}

// sockJSSite is a site before a SockJS server that echoes, and the requests
// that reached it.
func sockJSSite(t *testing.T, change func(*Config, *Deps)) (*site, chan *http.Request) {
	t.Helper()
	echo := sockjs.New(sockjs.Config{
		HeartBeat: time.Minute,
		Admit:     func(http.ResponseWriter, *http.Request) bool { return true },
		Open: func(_ http.ResponseWriter, _ *http.Request, _ string, session *sockjs.Session) (sockjs.Receiver, bool) {
			return echoSession{session}, true
		},
	})
	seen := make(chan *http.Request, 1000)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r
		_, serve, found := echo.Route(r.Method, strings.TrimPrefix(r.URL.Path, endpoint))
		if !found {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Access-Control-Allow-Origin", "https://anybody.example")
		w.Header().Set("Set-Cookie", "AWSALB=node1; Path=/")
		serve(w, r)
	}))
	s := newSite(t, strings.TrimPrefix(server.URL, "http://"), change)
	t.Cleanup(func() { // before newSite's: streams end first
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Drain(ctx)
		echo.Close()
		server.Close()
	})
	return s, seen
}

// sock is a browser's request below the endpoint, same-origin as fetch sends it.
func (s *site) sock(session, method, path, body string, change func(http.Header)) *http.Response {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+"/whisp/api/wsConnect"+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header = http.Header{"X-Session": {session}, "Sec-Fetch-Site": {"same-origin"}, "Content-Type": {"text/plain"}}
	if method == http.MethodPost {
		r.Header.Set("Origin", s.origin)
	}
	if change != nil {
		change(r.Header)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = response.Body.Close() })
	return response
}

// unwrap takes the SockJS frame out of a line, "" if it has none.
func unwrap(line string) string {
	line = strings.TrimPrefix(strings.TrimRight(line, "\r\n"), "data: ")
	for _, prefix := range []string{"p(", "/**/_jp.cb("} {
		var frame string
		if quoted, found := strings.CutPrefix(line, prefix); found && json.Unmarshal([]byte(strings.TrimSuffix(quoted, ");")), &frame) == nil {
			return frame
		}
	}
	if line == "o" || strings.HasPrefix(line, "a[") || strings.HasPrefix(line, "c[") {
		return line
	}
	return ""
}

// nextFrame reads lines up to one with a SockJS frame.
func nextFrame(t *testing.T, lines *bufio.Reader) string {
	t.Helper()
	for {
		line, err := lines.ReadString('\n')
		if frame := unwrap(line); frame != "" {
			return frame
		}
		if err != nil {
			t.Fatalf("no frame in the rest of the answer: %v", err)
		}
	}
}

// sockTransports are the receiving transports over HTTP.
var sockTransports = []struct {
	name, method, send string
	streams            bool
}{
	{"xhr", "POST", "xhr_send", false},
	{"jsonp", "GET", "jsonp_send", false},
	{"xhr_streaming", "POST", "xhr_send", true},
	{"eventsource", "GET", "xhr_send", true},
	{"htmlfile", "GET", "jsonp_send", true},
}

func TestSockJSTransports(t *testing.T) {
	for _, transport := range sockTransports {
		t.Run(transport.name, func(t *testing.T) {
			s, _ := sockJSSite(t, nil)
			query := "?ticket=" + s.ticket("alice", "tick.et+1=") + "&c=_jp.cb&t=123"
			receive := func() *bufio.Reader {
				r := s.sock("alice", transport.method, "/000/abc/"+transport.name+query, "", nil)
				if r.StatusCode != 200 || r.Header.Get("Access-Control-Allow-Origin") != "" ||
					!slices.Equal(r.Header["Set-Cookie"], []string{"AWSALB=node1; Path=/"}) {
					t.Fatalf("%s %v", r.Status, r.Header)
				}
				return bufio.NewReader(r.Body)
			}
			lines := receive()
			if got := nextFrame(t, lines); got != "o" {
				t.Fatalf("opened with %q", got)
			}
			s.clock.advance(25 * time.Second) // the ticket is over, the session goes on
			for _, message := range []string{"one", strings.Repeat("long ", 5000)} {
				quoted, _ := json.Marshal([]string{message})
				body := string(quoted)
				if transport.send == "jsonp_send" {
					body = url.Values{"d": {body}}.Encode()
				}
				sent := s.sock("alice", "POST", "/000/abc/"+transport.send+query, body, func(h http.Header) {
					if transport.send == "jsonp_send" {
						h.Set("Content-Type", "application/x-www-form-urlencoded")
					}
				})
				if sent.StatusCode != 204 && sent.StatusCode != 200 {
					t.Fatal(sent.Status)
				}
				if !transport.streams {
					lines = receive()
				}
				if got := nextFrame(t, lines); got != "a"+string(quoted) { // flushed: the answer has not ended
					t.Fatalf("echoed %.50q", got)
				}
			}
		})
	}
}

func TestSockJSWebSocket(t *testing.T) {
	s, _ := sockJSSite(t, nil)
	dial := func(session, server string) (*ws.Conn, *http.Response, error) {
		return ws.Dial(t.Context(), s.url+"/whisp/api/wsConnect/"+server+"/abc/websocket?ticket=t", &ws.DialOptions{
			HTTPHeader: http.Header{"X-Session": {session}, "Origin": {s.origin}},
		})
	}
	s.ticket("alice", "t")
	c, _, err := dial("alice", "000")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }()
	for _, want := range []string{"o", `a["hi"]`} {
		if _, got, err := c.Read(t.Context()); err != nil || string(got) != want {
			t.Fatalf("%q, %v", got, err)
		}
		_ = c.Write(t.Context(), ws.MessageText, []byte(`["hi"]`))
	}
	if _, r, err := dial("alice", "111"); err == nil || r.StatusCode != 401 {
		t.Errorf("a second SockJS client with the same ticket: %v", err)
	}
	if got := s.metric("sockjs_sessions"); got != 1 {
		t.Errorf("%v sessions", got)
	}
}

func TestSockJSTicketRules(t *testing.T) {
	s, seen := sockJSSite(t, nil)
	s.ticket("alice", "t")
	s.ticket("mallory", "m")
	status := func(session, method, path string) int { return s.sock(session, method, path, "", nil).StatusCode }
	for _, step := range []struct {
		session, method, path string
		want                  int
	}{
		{"alice", "GET", "/info?ticket=t", 200},
		{"mallory", "GET", "/info?ticket=t", 401},
		{"mallory", "POST", "/000/abc/xhr?ticket=t", 401},
		{"alice", "POST", "/000/abc/xhr?ticket=t", 200},
		{"alice", "POST", "/000/def/xhr?ticket=t", 200}, // the next transport of the same client
		{"alice", "POST", "/111/ghi/xhr?ticket=t", 401}, // another client
		{"mallory", "POST", "/000/abc/xhr?ticket=t", 401},
		{"mallory", "POST", "/000/abc/xhr?ticket=m", 401}, // somebody else's session with one's own ticket
		{"mallory", "POST", "/222/abc/xhr?ticket=m", 401}, // under another server id, which Spring ignores
		{"mallory", "POST", "/222/abc/xhr_send?ticket=m", 401},
		{"alice", "POST", "/000/abc/xhr_send", 401},          // ticket left out
		{"alice", "POST", "/000/abc/xhr_send?ticket=x", 401}, // another one
		{"alice", "GET", "/iframe-1.5.1.html?ticket=t", 200},
		{"alice", "GET", "?ticket=t", 403}, // a socket needs an Origin, whatever it is
		{"alice", "GET", "/000/jkl/jsonp?ticket=t&c=alert(1)", 401},
		{"alice", "GET", "/000/abc/xhr?ticket=t", 405},
	} {
		if got := status(step.session, step.method, step.path); got != step.want {
			t.Errorf("%+v: %d", step, got)
		}
	}
	s.clock.advance(21 * time.Second)
	if got := status("alice", "POST", "/000/late/xhr?ticket=t"); got != 401 {
		t.Errorf("a session that starts late: %d", got)
	}
	if got := len(seen); got != 4 {
		t.Errorf("%d requests reached Whisp", got)
	}
	s.clock.advance(time.Minute)
	s.eventually("quiet sessions released", func() bool { return s.metric("sockjs_sessions") == 0 })
}

func TestSockJSOrigins(t *testing.T) {
	s, seen := sockJSSite(t, func(_ *Config, deps *Deps) {
		deps.AllowedOrigins = []setting.URL{setting.MustURL("https://shop.example.com")}
	})
	s.ticket("alice", "t")
	for _, test := range []struct {
		name, method, path string
		origin, site       string
		want               int
	}{
		{"fetch of our page", "POST", "/000/abc/xhr", s.origin, "same-origin", 200},
		{"script tag of our page", "GET", "/info", "", "same-origin", 200},
		{"allowed page", "GET", "/info", "https://shop.example.com", "cross-site", 200},
		{"foreign fetch", "GET", "/info", "https://evil.example", "cross-site", 403},
		{"foreign script tag", "GET", "/000/x/jsonp", "", "cross-site", 403},
		{"sandboxed frame", "POST", "/000/x/xhr", "null", "cross-site", 403},
		{"sibling site", "GET", "/info", "", "same-site", 403},
		{"opened by hand", "GET", "/info", "", "none", 403},
		{"the iframe page opened by hand", "GET", "/iframe.html", "", "none", 200},
		{"no browser", "POST", "/000/x/xhr", "", "", 403},
		{"preflight of an allowed page", "OPTIONS", "/000/abc/xhr_send", "https://shop.example.com", "cross-site", 204},
		{"foreign preflight", "OPTIONS", "/000/abc/xhr_send", "https://evil.example", "cross-site", 403},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := s.sock("alice", test.method, test.path+"?ticket=t", "", func(h http.Header) {
				h.Del("Origin")
				h.Del("Sec-Fetch-Site")
				if test.origin != "" {
					h.Set("Origin", test.origin)
				}
				if test.site != "" {
					h.Set("Sec-Fetch-Site", test.site)
				}
			})
			if r.StatusCode != test.want {
				t.Errorf("%s, want %d", r.Status, test.want)
			}
			allowed := ""
			if test.origin == "https://shop.example.com" {
				allowed = test.origin
			}
			if got := r.Header.Get("Access-Control-Allow-Origin"); got != allowed || r.Header.Get("Vary") != "Origin" {
				t.Errorf("Access-Control-Allow-Origin %q, Vary %q", got, r.Header.Get("Vary"))
			}
		})
	}
	close(seen)
	for r := range seen {
		if r.Header.Get("Origin") != "" || r.Header.Get("X-Session") != "" || r.Header.Get("Cookie") != "" {
			t.Errorf("Whisp was told %v", r.Header)
		}
	}
}

func TestSockJSInfo(t *testing.T) {
	s, _ := sockJSSite(t, nil)
	r := s.sock("alice", "GET", "/info?ticket="+s.ticket("alice", "t"), "", nil)
	var info struct {
		Entropy   *int64
		WebSocket bool
		Cookie    bool `json:"cookie_needed"`
		Origins   []string
	}
	if err := json.NewDecoder(r.Body).Decode(&info); err != nil {
		t.Fatal(err)
	}
	if info.Entropy == nil || !info.WebSocket || !info.Cookie || !slices.Equal(info.Origins, []string{s.origin}) {
		t.Errorf("%+v", info)
	}
}

// A stream that is ended by us closes with a SockJS frame of its transport.
func TestSockJSStreamsEndWithACloseFrame(t *testing.T) {
	for _, transport := range sockTransports {
		for _, end := range []struct {
			name, want string
			do         func(*site)
		}{
			{"session", `c[1000,"Session ended"]`, func(s *site) { s.EndSession("alice") }},
			{"drain", `c[1012,"Service restart"]`, func(s *site) { go func() { _ = s.Drain(context.Background()) }() }},
		} {
			t.Run(transport.name+" "+end.name, func(t *testing.T) {
				s, seen := sockJSSite(t, func(cfg *Config, _ *Deps) { cfg.Drain = 0 })
				path := "/000/abc/" + transport.name + "?c=_jp.cb&ticket=" + s.ticket("alice", "t")
				first := s.sock("alice", transport.method, path, "", nil)
				lines := bufio.NewReader(first.Body)
				if got := nextFrame(t, lines); got != "o" {
					t.Fatal(got)
				}
				if transport.streams {
					end.do(s)
				} else { // a poll waits at Whisp
					<-seen
					go func() { <-seen; end.do(s) }()
					lines = bufio.NewReader(s.sock("alice", transport.method, path, "", nil).Body)
				}
				if got := nextFrame(t, lines); got != end.want {
					t.Errorf("ended with %q", got)
				}
				if rest, err := io.ReadAll(lines); err != nil || strings.TrimSpace(strings.ReplaceAll(string(rest), "</script>", "")) != "" {
					t.Errorf("after it %q, %v", rest, err)
				}
			})
		}
	}
}

func TestSockJSClientGoneReleasesUpstream(t *testing.T) {
	gone := make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "o\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(gone)
	}))
	t.Cleanup(upstream.Close)
	s := newSite(t, strings.TrimPrefix(upstream.URL, "http://"), nil)
	r := s.sock("alice", "POST", "/000/abc/xhr_streaming?ticket="+s.ticket("alice", "t"), "", nil)
	if got := nextFrame(t, bufio.NewReader(r.Body)); got != "o" {
		t.Fatal(got)
	}
	_ = r.Body.Close()
	<-gone
}

// A message on its way arrives, though its session ends meanwhile; the next one
// does not.
func TestSockJSMessageOnItsWay(t *testing.T) {
	arrived, answer := make(chan struct{}), make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/xhr_send") {
			close(arrived)
			<-answer
			w.WriteHeader(http.StatusNoContent)
			return
		}
		_, _ = io.WriteString(w, "o\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(upstream.Close)
	s := newSite(t, strings.TrimPrefix(upstream.URL, "http://"), nil)
	stream := s.sock("alice", "POST", "/000/abc/xhr_streaming?ticket="+s.ticket("alice", "t"), "", nil)
	frames := bufio.NewReader(stream.Body)
	if got := nextFrame(t, frames); got != "o" {
		t.Fatal(got)
	}
	sent := make(chan *http.Response, 1)
	go func() { sent <- s.sock("alice", "POST", "/000/abc/xhr_send?ticket=t", `["x"]`, nil) }()
	<-arrived
	s.EndSession("alice")
	if got := nextFrame(t, frames); !strings.HasPrefix(got, "c[1000") {
		t.Error(got)
	}
	close(answer)
	if r := <-sent; r.StatusCode != http.StatusNoContent {
		t.Error(r.Status)
	}
	if r := s.sock("alice", "POST", "/000/abc/xhr_send?ticket=t", `["y"]`, nil); r.StatusCode != http.StatusUnauthorized {
		t.Error(r.Status)
	}
}

func TestSockJSBodyIsBounded(t *testing.T) {
	s, seen := sockJSSite(t, func(cfg *Config, _ *Deps) { cfg.MaxMessage = 1000 })
	s.ticket("alice", "t")
	_ = s.sock("alice", "POST", "/000/abc/xhr?ticket=t", "", nil)
	<-seen
	if r := s.sock("alice", "POST", "/000/abc/xhr_send?ticket=t", strings.Repeat("x", 10_000), nil); r.StatusCode != 413 {
		t.Error(r.Status)
	}
	if len(seen) != 0 {
		t.Error("it reached Whisp")
	}
}

func TestSockJSUpstreamBreaksMidStream(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "o\na[\"half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(upstream.Close)
	s := newSite(t, strings.TrimPrefix(upstream.URL, "http://"), nil)
	r := s.sock("alice", "POST", "/000/abc/xhr_streaming?ticket="+s.ticket("alice", "t"), "", nil)
	if all, err := io.ReadAll(r.Body); err == nil {
		t.Errorf("a broken answer looks whole: %q", all)
	}
}

func TestFrameEnd(t *testing.T) {
	for _, test := range []struct {
		transport transport
		pieces    []string
		want      bool
	}{
		{xhrStream, []string{"hhhh\n"}, true},
		{xhrStream, []string{"a[\"x"}, false},
		{xhrStream, []string{"a[\"x", "\"]\n"}, true},
		{eventSource, []string{"\r\n"}, true},
		{eventSource, []string{"\r\n", "data: o\r\n"}, false},
		{eventSource, []string{"\r\n", "data: o\r", "\n\r", "\n"}, true},
		{htmlFile, []string{"<script>\n"}, false},
		{htmlFile, []string{"<script>\np(\"o\");\n</scr", "ipt>\r\n"}, true},
	} {
		end := newFrameEnd(test.transport)
		for _, piece := range test.pieces {
			end.saw([]byte(piece))
		}
		if end.reached() != test.want {
			t.Errorf("%s after %q: %v", test.transport, test.pieces, !test.want)
		}
	}
}

// Both limits of a stream: a client that takes nothing, an upstream that says nothing.
func TestSockJSStreamLimits(t *testing.T) {
	for _, test := range []struct {
		name    string
		endless bool
	}{{"slow client", true}, {"silent upstream", false}} {
		t.Run(test.name, func(t *testing.T) {
			gone := make(chan struct{})
			upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer close(gone)
				_, _ = io.WriteString(w, "o\n")
				_ = http.NewResponseController(w).Flush()
				for test.endless {
					if _, err := w.Write(make([]byte, 1<<20)); err != nil {
						break
					}
				}
				<-r.Context().Done()
			}))
			t.Cleanup(upstream.Close)
			s := newSite(t, strings.TrimPrefix(upstream.URL, "http://"), nil)
			r := s.sock("alice", "POST", "/000/abc/xhr_streaming?ticket="+s.ticket("alice", "t"), "", nil)
			if got := nextFrame(t, bufio.NewReader(r.Body)); got != "o" {
				t.Fatal(got)
			}
			s.eventually("the upstream is released", func() bool {
				s.clock.advance(5 * time.Second)
				select {
				case <-gone:
					return true
				default:
					return false
				}
			})
		})
	}
}
