package sockjs_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/whisp-bff/whisp-bff/internal/whispsim/sockjs"
)

// echo is an application that sends back what it gets, and knows two commands.
type echo struct {
	session *sockjs.Session
	closed  chan<- string
	id      string
}

func (e *echo) Receive(message []byte) {
	switch text := string(message); {
	case text == "close":
		e.session.Close(3001, "as \"you\" wish")
	case strings.HasPrefix(text, "many "):
		for range 100 {
			e.session.Send([]byte(strings.Repeat("x", 10_000)))
		}
	default:
		e.session.Send(message)
	}
}

func (e *echo) Closed() { e.closed <- e.id }

// bench is an echo endpoint below /echo.
type bench struct {
	t      *testing.T
	sockjs *sockjs.Server
	url    string
	client *http.Client
	closed chan string // ids of sessions whose receiver was told
}

func start(t *testing.T, cfg sockjs.Config) *bench {
	t.Helper()
	b := &bench{t: t, client: &http.Client{Transport: &http.Transport{}}, closed: make(chan string, 100)}
	cfg.Admit = func(http.ResponseWriter, *http.Request) bool { return true }
	cfg.Open = func(w http.ResponseWriter, r *http.Request, server string, session *sockjs.Session) (sockjs.Receiver, bool) {
		if server == "no" {
			w.WriteHeader(http.StatusUnauthorized)
			return nil, false
		}
		return &echo{session: session, closed: b.closed, id: r.URL.Path}, true
	}
	b.sockjs = sockjs.New(cfg)
	var handlers sync.WaitGroup
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handlers.Add(1)
		defer handlers.Done()
		if r.Method == http.MethodOptions {
			sockjs.ServePreflight(w, r)
			return
		}
		_, serve, found := b.sockjs.Route(r.Method, strings.TrimPrefix(r.URL.Path, "/echo"))
		if !found {
			http.NotFound(w, r)
			return
		}
		serve(w, r)
	}))
	b.url = server.URL + "/echo"
	t.Cleanup(func() {
		b.sockjs.Close()
		server.CloseClientConnections()
		server.Close()
		handlers.Wait()
		b.client.CloseIdleConnections()
	})
	return b
}

type reply struct {
	status int
	header http.Header
	body   string
}

// open starts a request and leaves its body unread.
func (b *bench) open(ctx context.Context, method, path, kind, body string) *http.Response {
	b.t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, b.url+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Content-Type", kind)
	answer, err := b.client.Do(r)
	if err != nil {
		b.t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer
}

func (b *bench) call(method, path, body string) reply {
	b.t.Helper()
	kind := "text/plain"
	if strings.HasPrefix(body, "d=") {
		kind = "application/x-www-form-urlencoded"
	}
	answer := b.open(b.t.Context(), method, path, kind, body)
	defer func() { _ = answer.Body.Close() }()
	text, _ := io.ReadAll(answer.Body)
	return reply{answer.StatusCode, answer.Header, string(text)}
}

// TestScript reads like a session: request, status, body.
func TestScript(t *testing.T) {
	type step struct {
		method, path, body string
		status             int
		want               string
	}
	cases := map[string][]step{
		"xhr": {
			{"POST", "/000/a/xhr_send", `["x"]`, 404, ""},
			{"POST", "/000/a/xhr", "", 200, "o\n"},
			{"POST", "/000/a/xhr_send", `["x","y"]`, 204, ""},
			{"POST", "/other/a/xhr", "", 200, `a["x","y"]` + "\n"},
			{"POST", "/000/a/xhr_send", ``, 500, "Payload expected."},
			{"POST", "/000/a/xhr_send", `["x`, 500, "Broken JSON encoding."},
			{"POST", "/000/a/xhr_send", `"x"`, 500, "Broken JSON encoding."},
			{"POST", "/000/a/xhr_send", `[]`, 204, ""},
			{"POST", "/000/a/xhr_send", "[\"\U0001F44D\u2028é\\u0001\\\"\"]", 204, ""},
			{"POST", "/000/a/xhr", "", 200, `a["\ud83d\udc4d\u2028é\u0001\""]` + "\n"},
			{"POST", "/000/a/xhr_send", `["last","close","too late"]`, 404, ""},
			{"POST", "/000/a/xhr", "", 200, `a["last"]` + "\n"},
			{"POST", "/000/a/xhr", "", 200, `c[3001,"as \"you\" wish"]` + "\n"},
			{"POST", "/000/a/xhr", "", 200, `c[3001,"as \"you\" wish"]` + "\n"},
			{"POST", "/000/a/xhr_send", `["x"]`, 404, ""},
		},
		"jsonp": {
			{"GET", "/000/a/jsonp", "", 500, `"callback" parameter required`},
			{"GET", "/000/a/jsonp?c=x(y)", "", 500, `invalid "callback" parameter`},
			{"GET", "/000/a/jsonp?c=%3Cscript%3E", "", 500, `invalid "callback" parameter`},
			{"GET", "/000/a/jsonp?c=_j.p0", "", 200, `/**/_j.p0("o");` + "\r\n"},
			{"POST", "/000/a/jsonp_send", "d=%5B%22%3C%2Fscript%3E%22%5D", 200, "ok"},
			{"GET", "/000/a/jsonp?c=x", "", 200, `/**/x("a[\"\u003c/script\u003e\"]");` + "\r\n"},
			{"POST", "/000/a/jsonp_send", `["x"]`, 200, "ok"},
			{"POST", "/000/a/jsonp_send", `d=`, 500, "Payload expected."},
			{"POST", "/000/a/jsonp_send", `d=%zz`, 500, "Broken form encoding."},
			{"POST", "/000/b/jsonp_send", `["x"]`, 404, ""},
		},
		"refused": {
			{"POST", "/no/a/xhr", "", 401, ""},
			{"POST", "/no/a/xhr_send", `["x"]`, 404, ""},
			{"POST", "/000/a/xhr", "", 200, "o\n"},
		},
		"paths": {
			{"GET", "", "", 200, "Welcome to SockJS!\n"},
			{"GET", "/", "", 200, "Welcome to SockJS!\n"},
			{"GET", "/000/a/xhr", "", 405, ""},
			{"POST", "/000/a/eventsource", "", 405, ""},
			{"POST", "/info", "", 405, ""},
			{"GET", "/000/a/websocket", "", 400, `Can "Upgrade" only to "WebSocket".`},
			{"POST", "/0.0/a/xhr", "", 404, "404 page not found\n"},
			{"POST", "/000/a.b/xhr", "", 404, "404 page not found\n"},
			{"POST", "/000//xhr", "", 404, "404 page not found\n"},
			{"POST", "/000/a/xhr/", "", 404, "404 page not found\n"},
			{"POST", "/000/a/nonsense", "", 404, "404 page not found\n"},
			{"GET", "/iframeX.html", "", 404, "404 page not found\n"},
		},
	}
	for name, steps := range cases {
		t.Run(name, func(t *testing.T) {
			b := start(t, sockjs.Config{})
			for i, s := range steps {
				r := b.call(s.method, s.path, s.body)
				if r.status != s.status || r.body != s.want {
					t.Fatalf("step %d: %s %s: %d %q, want %d %q", i, s.method, s.path, r.status, r.body, s.status, s.want)
				}
			}
		})
	}
}

// read reads n bytes of a streaming answer.
func read(t *testing.T, from *bufio.Reader, n int) string {
	t.Helper()
	text := make([]byte, n)
	if _, err := io.ReadFull(from, text); err != nil {
		t.Fatalf("stream: %v", err)
	}
	return string(text)
}

func TestStreamingStartsWithPrelude(t *testing.T) {
	b := start(t, sockjs.Config{})
	for transport, want := range map[string]struct{ kind, start, frame string }{
		"xhr_streaming": {"application/javascript;charset=UTF-8", strings.Repeat("h", 2048) + "\no\n", "a[\"x\"]\n"},
		"eventsource":   {"text/event-stream;charset=UTF-8", "\r\ndata: o\r\n\r\n", "data: a[\"x\"]\r\n\r\n"},
		"htmlfile":      {"text/html;charset=UTF-8", "<!doctype html>\n", "<script>\np(\"a[\\\"x\\\"]\");\n</script>\r\n"},
	} {
		t.Run(transport, func(t *testing.T) {
			method := http.MethodGet
			if transport == "xhr_streaming" {
				method = http.MethodPost
			}
			answer := b.open(t.Context(), method, "/000/"+transport+"/"+transport+"?c=cb", "text/plain", "")
			defer func() { _ = answer.Body.Close() }()
			if got := answer.Header.Get("Content-Type"); got != want.kind {
				t.Errorf("Content-Type = %s", got)
			}
			if !strings.Contains(answer.Header.Get("Cache-Control"), "no-store") {
				t.Errorf("Cache-Control = %s", answer.Header.Get("Cache-Control"))
			}
			stream := bufio.NewReader(answer.Body)
			if got := read(t, stream, len(want.start)); got != want.start {
				t.Errorf("start = %q", got)
			}
			if transport == "htmlfile" {
				page := want.start
				for !strings.Contains(page, `p("o");`) {
					page += read(t, stream, 1)
				}
				if before, _, _ := strings.Cut(page, "\r\n\r\n"); len(before) < 2048 || !strings.Contains(before, "parent.cb;") {
					t.Errorf("prelude of %d bytes: %s", len(before), before)
				}
				_ = read(t, stream, len("\n</script>\r\n"))
			}
			b.call("POST", "/000/"+transport+"/xhr_send", `["x"]`)
			if got := read(t, stream, len(want.frame)); got != want.frame {
				t.Errorf("frame = %q, want %q", got, want.frame)
			}
		})
	}
}

func TestStreamRotatesAtItsLimit(t *testing.T) {
	b := start(t, sockjs.Config{})
	b.call("POST", "/000/a/xhr", "")
	b.call("POST", "/000/a/xhr_send", `["many "]`) // 1 MB
	messages := 0
	for range 7 { // what is left then fits: that stream would stay open
		r := b.call("POST", "/000/a/xhr_streaming", "")
		if n := len(r.body); n < 128<<10 || n > 150<<10 {
			t.Errorf("answer of %d bytes", n)
		}
		for line := range strings.SplitSeq(r.body, "\n") {
			var list []string
			if strings.HasPrefix(line, "a") && json.Unmarshal([]byte(line[1:]), &list) == nil {
				messages += len(list)
			}
		}
	}
	if messages != 98 {
		t.Errorf("%d messages, want 98", messages)
	}
}

func TestSecondReceiverIsRefused(t *testing.T) {
	b := start(t, sockjs.Config{})
	answer := b.open(t.Context(), "POST", "/000/a/xhr_streaming", "text/plain", "")
	defer func() { _ = answer.Body.Close() }()
	read(t, bufio.NewReader(answer.Body), 2051)
	if r := b.call("POST", "/000/a/xhr", ""); r.body != `c[2010,"Another connection still open"]`+"\n" {
		t.Errorf("body = %q", r.body)
	}
}

func TestAbortedReceiverEndsTheSession(t *testing.T) {
	b := start(t, sockjs.Config{})
	ctx, abort := context.WithCancel(t.Context())
	answer := b.open(ctx, "POST", "/000/a/xhr_streaming", "text/plain", "")
	read(t, bufio.NewReader(answer.Body), 2051)
	abort()
	_ = answer.Body.Close()
	if id := <-b.closed; id != "/echo/000/a/xhr_streaming" {
		t.Errorf("closed: %s", id)
	}
	if r := b.call("POST", "/000/a/xhr", ""); r.body != `c[1002,"Connection interrupted"]`+"\n" {
		t.Errorf("body = %q", r.body)
	}
}

func TestSessionNobodyPollsEnds(t *testing.T) {
	b := start(t, sockjs.Config{DisconnectDelay: 20 * time.Millisecond})
	b.call("POST", "/000/a/xhr", "")
	<-b.closed
	if r := b.call("POST", "/000/a/xhr_send", `["x"]`); r.status != 404 {
		t.Errorf("status = %d", r.status)
	}
	if r := b.call("POST", "/000/a/xhr", ""); r.body != "o\n" {
		t.Errorf("body = %q, want a new session", r.body)
	}
}

func TestHeartBeats(t *testing.T) {
	b := start(t, sockjs.Config{HeartBeat: 10 * time.Millisecond})
	b.call("POST", "/000/a/xhr", "")
	if r := b.call("POST", "/000/a/xhr", ""); r.body != "h\n" {
		t.Errorf("body = %q", r.body)
	}
	ws, _, err := websocket.Dial(t.Context(), b.url+"/000/b/websocket", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.CloseNow() }()
	for _, want := range []string{"o", "h", "h"} {
		if _, text, err := ws.Read(t.Context()); err != nil || string(text) != want {
			t.Errorf("message = %q, %v, want %q", text, err, want)
		}
	}
}

func TestWebSocket(t *testing.T) {
	b := start(t, sockjs.Config{})
	dial := func(id string) (*websocket.Conn, error) {
		ws, _, err := websocket.Dial(t.Context(), b.url+"/000/"+id+"/websocket", nil)
		if err == nil {
			t.Cleanup(func() { _ = ws.CloseNow() })
		}
		return ws, err
	}
	ws, err := dial("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dial("a"); err == nil {
		t.Error("a second connection joined a session")
	}
	got := func() string {
		_, text, err := ws.Read(t.Context())
		if err != nil {
			return fmt.Sprint(int(websocket.CloseStatus(err)))
		}
		return string(text)
	}
	for _, send := range []string{`["x","y"]`, ``, `"z"`, `["close"]`} {
		if err := ws.Write(t.Context(), websocket.MessageText, []byte(send)); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"o", `a["x"]`, `a["y"]`, `a["z"]`, `c[3001,"as \"you\" wish"]`, "3001"} {
		if text := got(); text != want {
			t.Errorf("got %s, want %s", text, want)
		}
	}
	<-b.closed

	if ws, err = dial("b"); err != nil {
		t.Fatal(err)
	}
	_ = got()
	if err := ws.Write(t.Context(), websocket.MessageText, []byte(`["broken`)); err != nil {
		t.Fatal(err)
	}
	if text := got(); text != "-1" {
		t.Errorf("got %s, want a cut", text)
	}
	<-b.closed
}

func TestInfoIframeAndPreflight(t *testing.T) {
	b := start(t, sockjs.Config{ClientURL: `/sock"js.js`})
	var info struct {
		Entropy      *uint32
		Origins      []string
		CookieNeeded bool `json:"cookie_needed"`
		WebSocket    bool
	}
	r := b.call("GET", "/info", "")
	if err := json.Unmarshal([]byte(r.body), &info); err != nil || info.Entropy == nil || !info.WebSocket || info.Origins[0] != "*:*" {
		t.Errorf("info = %s", r.body)
	}
	for _, path := range []string{"/iframe.html", "/iframe-1.0.0-a_b.html"} {
		r := b.call("GET", path, "")
		if r.status != 200 || !strings.Contains(r.body, `src="/sock&#34;js.js"`) || r.header.Get("Cache-Control") != "public, max-age=31536000" {
			t.Errorf("%s: %d %v %s", path, r.status, r.header, r.body)
		}
		again, err := http.NewRequestWithContext(t.Context(), "GET", b.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		again.Header.Set("If-None-Match", r.header.Get("ETag"))
		answer, err := b.client.Do(again)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != 304 {
			t.Errorf("%s again: %d", path, answer.StatusCode)
		}
	}
	if r := b.call("OPTIONS", "/000/a/xhr", ""); r.status != 204 || r.header.Get("Access-Control-Max-Age") != "31536000" {
		t.Errorf("preflight: %d %v", r.status, r.header)
	}
}

func TestCloseEndsEverything(t *testing.T) {
	b := start(t, sockjs.Config{})
	answer := b.open(t.Context(), "POST", "/000/a/xhr_streaming", "text/plain", "")
	defer func() { _ = answer.Body.Close() }()
	b.call("POST", "/000/b/xhr", "")
	ws, _, err := websocket.Dial(t.Context(), b.url+"/000/c/websocket", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.CloseNow() }()
	b.sockjs.Close()
	for range 3 {
		<-b.closed
	}
	if _, err := io.ReadAll(answer.Body); err == nil {
		t.Error("the stream ended as if all was well")
	}
	if r := b.call("POST", "/000/d/xhr", ""); r.status != 404 {
		t.Errorf("status = %d after Close", r.status)
	}
}
