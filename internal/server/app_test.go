package server_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// What the app answers arrives as it answered.
func TestAppAnswersPassUntouched(t *testing.T) {
	s := start(t, func(c *setup) {
		c.app = func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/empty404":
				w.WriteHeader(http.StatusNotFound)
			case "/empty405":
				w.WriteHeader(http.StatusMethodNotAllowed)
			case "/204":
				w.WriteHeader(http.StatusNoContent)
			case "/304":
				w.Header().Set("Etag", `"x"`)
				w.WriteHeader(http.StatusNotModified)
			case "/teapot":
				w.WriteHeader(http.StatusTeapot)
				_, _ = io.WriteString(w, "tea")
			case "/401":
				w.Header().Set("Www-Authenticate", `Basic realm="app"`)
				w.WriteHeader(http.StatusUnauthorized)
			case "/redirect":
				w.Header().Set("Location", "https://elsewhere.example/x")
				w.WriteHeader(http.StatusFound)
			case "/length":
				w.Header().Set("Content-Length", "3")
				_, _ = io.WriteString(w, "abc")
			case "/cors":
				w.Header().Set("Access-Control-Allow-Origin", "*")
				w.Header().Set("Set-Cookie", "theme=dark; Path=/")
				w.Header().Add("Set-Cookie", "__Host-whisp-session=stolen; Path=/; Secure")
			case "/trailer":
				w.Header().Set("Trailer", "X-Sum")
				_, _ = io.WriteString(w, "body")
				w.Header().Set("X-Sum", "42")
			case "/gzip":
				w.Header().Set("Content-Encoding", "gzip")
				_, _ = io.WriteString(w, "\x1f\x8bnot really")
			}
		}
	})
	for path, want := range map[string]struct {
		status int
		body   string
		header string
		value  string
	}{
		"/empty404": {404, "", "Content-Type", ""},
		"/empty405": {405, "", "Content-Type", ""},
		"/204":      {204, "", "Content-Length", ""},
		"/304":      {304, "", "Etag", `"x"`},
		"/teapot":   {418, "tea", "Content-Length", "3"},
		"/401":      {401, "", "Www-Authenticate", `Basic realm="app"`},
		"/redirect": {302, "", "Location", "https://elsewhere.example/x"},
		"/length":   {200, "abc", "Content-Length", "3"},
		"/cors":     {200, "", "Set-Cookie", "theme=dark; Path=/"},
		"/gzip":     {200, "\x1f\x8bnot really", "Content-Encoding", "gzip"},
	} {
		a := s.send(t, http.MethodGet, path)
		if a.status != want.status || a.body != want.body || strings.Join(a.header.Values(want.header), "|") != want.value {
			t.Errorf("%s: %d %q %v", path, a.status, a.body, a.header)
		}
		if want.status == 200 {
			head := s.send(t, http.MethodHead, path)
			if head.status != 200 || head.body != "" {
				t.Errorf("HEAD %s: %d %q", path, head.status, head.body)
			}
		}
	}
	response := s.open(t, http.MethodGet, "/trailer")
	read, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil || string(read) != "body" || response.Trailer.Get("X-Sum") != "42" {
		t.Errorf("trailer: %q %v %v", read, response.Trailer, err)
	}
}

func TestEarlyHints(t *testing.T) {
	s := start(t, func(c *setup) {
		c.app = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "</style.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			_, _ = io.WriteString(w, "page")
		}
	})
	var hints []string
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		hints = append(hints, fmt.Sprint(code, h.Get("Link")))
		return nil
	}}
	a := s.send(t, http.MethodGet, "/", func(r *http.Request) {
		*r = *r.WithContext(httptrace.WithClientTrace(r.Context(), trace))
	}).want(http.StatusOK, "")
	if a.body != "page" || len(hints) != 1 || hints[0] != "103</style.css>; rel=preload" {
		t.Errorf("hints %v, body %q", hints, a.body)
	}
	if lines := s.logs.lines(t, "request"); lines[0]["status"] != 200.0 {
		t.Errorf("log says %v", lines[0]["status"])
	}
}

// An event arrives while the answer goes on.
func TestServerSentEvents(t *testing.T) {
	// A channel each: a handler that has not yet seen its reader leave must
	// not take what is meant for the next.
	next := map[string]chan struct{}{http.MethodGet: make(chan struct{}), http.MethodPost: make(chan struct{})}
	s := start(t, func(c *setup) {
		c.app = func(w http.ResponseWriter, r *http.Request) {
			more := next[r.Method]
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "text/event-stream")
			for {
				_, _ = io.WriteString(w, "data: x\n\n")
				_ = http.NewResponseController(w).Flush()
				select {
				case <-more:
				case <-r.Context().Done():
					return
				}
			}
		}
	})
	for _, options := range [][]option{nil, {body("text/plain", "subscribe")}} {
		method := http.MethodGet
		if options != nil {
			method = http.MethodPost
		}
		response := s.open(t, method, "/events", options...)
		reader := bufio.NewReader(response.Body)
		for range 3 {
			if line, err := reader.ReadString('\n'); line != "data: x\n" || err != nil {
				t.Fatalf("%q %v", line, err)
			}
			_, _ = reader.ReadString('\n')
			next[method] <- struct{}{}
		}
		_ = response.Body.Close()
	}
}

// Hot reload of a development server.
func TestAppWebSocket(t *testing.T) {
	s := start(t, func(c *setup) {
		c.app = func(w http.ResponseWriter, r *http.Request) {
			conn, err := websocket.Accept(w, r, nil)
			if err != nil {
				return
			}
			defer func() { _ = conn.CloseNow() }()
			for {
				kind, message, err := conn.Read(r.Context())
				if err != nil || conn.Write(r.Context(), kind, message) != nil {
					return
				}
			}
		}
	})
	b := s.browser()
	conn, _, err := b.handshake(t, "/hot?token=not-for-logs")
	if err != nil {
		t.Fatal(err)
	}
	s.secret("not-for-logs")
	if err := conn.Write(t.Context(), websocket.MessageText, []byte("reload")); err != nil {
		t.Fatal(err)
	}
	if _, got, err := conn.Read(t.Context()); string(got) != "reload" || err != nil {
		t.Errorf("%q %v", got, err)
	}
	_ = conn.Close(websocket.StatusNormalClosure, "")
	// At shutdown it ends, though nobody can say so to the app.
	conn, _, err = b.handshake(t, "/hot")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if _, _, err := conn.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("the app's socket lives on: %v", err)
	}
}

// security.md 54, the app's part.
func TestAppFaults(t *testing.T) {
	s := start(t, func(c *setup) {
		c.app = func(w http.ResponseWriter, r *http.Request) {
			conn, buffered, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer func() { _ = conn.Close() }()
			switch r.URL.Path {
			case "/garbage":
				_, _ = buffered.WriteString("\x00\xff garbage\r\n\r\n")
			case "/099":
				_, _ = buffered.WriteString("HTTP/1.1 099 Odd\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")
			case "/999":
				_, _ = buffered.WriteString("HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\nok")
			case "/half":
				_, _ = buffered.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
			case "/halfchunk":
				_, _ = buffered.WriteString("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
			case "/101":
				_, _ = buffered.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			case "/split":
				_, _ = buffered.WriteString("HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: evil=1\r\nContent-Length: 0\r\n\r\n")
			}
			_ = buffered.Flush()
		}
	})
	for path, want := range map[string]int{"/garbage": 502, "/nothing": 502, "/999": 999, "/101": 502, "/099": 502, "/split": 502} {
		a := s.send(t, http.MethodGet, path)
		if a.status != want && (path != "/099" || a.status != 500) {
			t.Errorf("54: %s: %d %s", path, a.status, a.body)
		}
		if a.header.Get("Set-Cookie") != "" {
			t.Errorf("54: %s: a cookie of a broken answer came through", path)
		}
	}
	for _, path := range []string{"/half", "/halfchunk"} {
		if got := s.rawOnce(t, "GET "+path+" HTTP/1.1\r\nHost: "+publicHost+"\r\n\r\n"); got != nil && got.whole {
			t.Errorf("54: %s looks whole: %+v", path, got)
		}
	}
	for range 50 { // whatever statuses an app invents
		s.send(t, http.MethodGet, "/999")
	}
	if text := s.metricsText(t); strings.Contains(text, `status="999"`) || !strings.Contains(text, `status="0"`) {
		t.Error("an invented status became a label")
	}
}

func TestAppDown(t *testing.T) {
	s := start(t)
	alice := s.login(t, "alice")
	s.stopApp()
	alice.send(t, http.MethodGet, "/page").want(http.StatusBadGateway, "app_unreachable")
	alice.send(t, http.MethodPost, "/page", body("text/plain", strings.Repeat("x", 100_000))).want(http.StatusBadGateway, "app_unreachable")
	alice.signIn(t) // chat goes on
}
