package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

type appSite struct {
	*httptest.Server
	app *App
	log *bytes.Buffer
}

func newAppSite(t *testing.T, app http.Handler, change ...func(*AppConfig)) *appSite {
	t.Helper()
	back := httptest.NewServer(app)
	t.Cleanup(back.Close)
	return appSiteTo(t, back.URL, change...)
}

func appSiteTo(t *testing.T, base string, change ...func(*AppConfig)) *appSite {
	t.Helper()
	cfg := DefaultAppConfig()
	cfg.URL = setting.MustURL(base)
	for _, c := range change {
		c(&cfg)
	}
	s := &appSite{log: &bytes.Buffer{}}
	app, err := NewApp(cfg, AppDeps{
		Logger:        slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		PublicURL:     setting.MustURL("https://app.example.com"),
		ClientAddress: func(*http.Request) string { return "203.0.113.9" },
		Fail:          fail,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.app = app
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", "req-1")
		w.Header().Add("Set-Cookie", "__Host-whisp-session=renewed")
		app.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	t.Cleanup(app.Close)
	return s
}

// raw sends bytes as they are and returns the first answer.
func raw(t *testing.T, base, request string) (*http.Response, string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	return response, string(body)
}

// security.md 21 to 24: nothing that lies about the caller gets through,
// however it is spelled; everything else does, byte for byte.
func TestAppSeesTheRequestWithoutForgeries(t *testing.T) {
	var seen *http.Request
	s := newAppSite(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r }),
		func(c *AppConfig) { c.StripHeaders = []string{"X-User", "X-Webauth-*"} })
	forgeries := []string{
		"X-Forwarded-For: 1.2.3.4", "X-Forwarded-For: 5.6.7.8", "x-forwarded-user: admin", "X_Forwarded_User: admin", "X.Forwarded.User: admin",
		"X-FORWARDED-EMAIL: a@b", "X_Forwarded_For: 1.2.3.4", "X-Forwarded-Host: evil.test", "X-Forwarded-Proto: gopher", "X-Forwarded-Port: 1",
		"X-Forwarded-Prefix: /evil", "X-Forwarded-Uri: /admin", "Forwarded: for=1.2.3.4", "X-Real-Ip: 1.2.3.4", "X_Real_Ip: 1.2.3.4",
		"X-Original-Url: /admin", "X-Rewrite-Url: /admin", "X-Auth-Request-User: admin", "X_auth.Request-Email: a@b", "X-Api-Key: stolen",
		"x_api_key: stolen", "X-Whisp-User: admin", "Proxy: http://evil.test", "X_User: admin", "X-WEBAUTH-USER: admin", "x_webauth_role: admin",
	}
	request := "GET /a%2Fb//c/../d;v=1?x=1;y=%zz&z HTTP/1.1\r\nHost: app.example.com\r\n" +
		"Connection: X-Forwarded-For, X-Forwarded-Host, Cookie, X-Hop\r\nX-Hop: 1\r\nAccept: text/html\r\nX-Custom: kept\r\nX-Userland: kept\r\n" +
		"Authorization: Basic eDp5\r\n" + strings.Join(forgeries, "\r\n") + "\r\n\r\n"
	if response, body := raw(t, s.URL, request); response.StatusCode != 200 {
		t.Fatalf("%d %s", response.StatusCode, body)
	}
	want := map[string]string{
		"Accept": "text/html", "X-Custom": "kept", "X-Userland": "kept", "Authorization": "Basic eDp5",
		"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Host": "app.example.com", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "443",
	}
	for name, values := range seen.Header {
		if len(values) != 1 || want[name] != values[0] {
			t.Errorf("the app sees %s: %q", name, values)
		}
		delete(want, name)
	}
	if len(want) != 0 {
		t.Errorf("the app misses %v", want)
	}
	if seen.RequestURI != "/a%2Fb//c/../d;v=1?x=1;y=%zz&z" || seen.Host != "app.example.com" {
		t.Errorf("the app sees %s at %s", seen.RequestURI, seen.Host)
	}
}

func TestAppSeesItsOwnCookiesOnly(t *testing.T) {
	s := newAppSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%q", r.Header["Cookie"])
	}), func(c *AppConfig) { c.PreserveHost = false })
	_, body := send(t, "GET", s.URL, "", `Cookie: a="1 2";  b=%zz`, "Cookie: __Host-whisp-session=s; c=3; __Host-whisp-lb-A=1; whisp-login-7=x")
	if body != `["a=\"1 2\";  b=%zz; c=3"]` && body != `["a=\"1 2\";  b=%zz" "c=3"]` {
		t.Errorf("got %s", body)
	}
}

func TestAppHost(t *testing.T) {
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host) })
	for _, preserve := range []bool{true, false} {
		s := newAppSite(t, echo, func(c *AppConfig) { c.PreserveHost = preserve })
		_, body := raw(t, s.URL, "GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
		if (body == "app.example.com") != preserve {
			t.Errorf("preserve_host %v: the app sees %s", preserve, body)
		}
	}
}

func TestAppAnswersPassButNotOverOurs(t *testing.T) {
	s := newAppSite(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for _, line := range []string{"sid=1; Path=/", "__Host-whisp-session=evil; Path=/; Secure", "=whisp-lb-a=evil", "theme=dark"} {
			w.Header().Add("Set-Cookie", line)
		}
		w.Header().Set("X-Request-Id", "the app's")
		w.Header().Set("Trailer", "X-Checksum")
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprint(w, "short and stout")
		w.Header().Set("X-Checksum", "abc")
	}))
	for range 2 {
		response, body := send(t, "GET", s.URL, "")
		if want := []string{"__Host-whisp-session=renewed", "sid=1; Path=/", "theme=dark"}; !slices.Equal(response.Header["Set-Cookie"], want) {
			t.Errorf("Set-Cookie %q", response.Header["Set-Cookie"])
		}
		if got := response.Header["X-Request-Id"]; !slices.Equal(got, []string{"the app's"}) {
			t.Errorf("X-Request-Id %q", got)
		}
		if response.StatusCode != http.StatusTeapot || body != "short and stout" || response.Trailer.Get("X-Checksum") != "abc" {
			t.Errorf("%d %q %v", response.StatusCode, body, response.Trailer)
		}
	}
	if n := strings.Count(s.log.String(), "belongs to whisp-bff"); n != 1 {
		t.Errorf("warned %d times, want once", n)
	}
}

func TestEarlyHintsPass(t *testing.T) {
	s := newAppSite(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</app.css>; rel=preload; as=style")
		w.Header().Set("Set-Cookie", "__Host-whisp-session=evil")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Set-Cookie")
		fmt.Fprint(w, "page")
	}))
	hints := make(chan textproto.MIMEHeader, 1)
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		if code == http.StatusEarlyHints {
			hints <- h
		}
		return nil
	}})
	request, _ := http.NewRequestWithContext(ctx, "GET", s.URL, nil)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if h := <-hints; len(h) != 1 || h.Get("Link") == "" {
		t.Errorf("hints %v", h)
	}
	if response.Header.Get("X-Request-Id") != "req-1" || !slices.Equal(response.Header["Set-Cookie"], []string{"__Host-whisp-session=renewed"}) {
		t.Errorf("the hint wiped or added headers: %v", response.Header)
	}
}

func TestAppStreamsAreFlushedAtOnce(t *testing.T) {
	next := make(chan struct{})
	s := newAppSite(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			<-next
		}
	}))
	request, _ := http.NewRequestWithContext(t.Context(), "GET", s.URL, nil)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for i := range 3 { // each event must arrive before the next is sent
		if !lines.Scan() || lines.Text() != fmt.Sprintf("data: %d", i) {
			t.Fatalf("event %d: %q", i, lines.Text())
		}
		lines.Scan()
		next <- struct{}{}
	}
}

type countingReader struct{ left, served int64 }

func (c *countingReader) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), c.left)
	c.left -= n
	c.served += n
	return int(n), nil
}

func TestLargeUploadIsStreamed(t *testing.T) {
	const size = 100 << 20
	var before, during runtime.MemStats
	s := newAppSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.CopyN(io.Discard, r.Body, size/2)
		runtime.GC()
		runtime.ReadMemStats(&during)
		m, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n+m)
	}))
	runtime.GC()
	runtime.ReadMemStats(&before)
	request, _ := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/upload", &countingReader{left: size})
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	if string(body) != fmt.Sprint(size) {
		t.Errorf("the app read %s bytes", body)
	}
	if grown := int64(during.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("half way through 100 MB the heap has grown by %d bytes", grown)
	}
}

// With Expect: 100-continue a refused upload is never sent.
func TestExpectContinueReachesTheApp(t *testing.T) {
	s := newAppSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	}))
	transport := &http.Transport{ExpectContinueTimeout: time.Minute}
	defer transport.CloseIdleConnections()
	for path, want := range map[string]int64{"/no": 0, "/yes": 1 << 20} {
		body := &countingReader{left: 1 << 20}
		request, _ := http.NewRequestWithContext(t.Context(), "POST", s.URL+path, body)
		request.ContentLength = body.left
		request.Header.Set("Expect", "100-continue")
		response, err := transport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		if body.served != want {
			t.Errorf("%s: %d bytes were sent, want %d (status %d)", path, body.served, want, response.StatusCode)
		}
	}
}

// The hot reload of a dev server: a WebSocket through us.
func TestAppWebSocket(t *testing.T) {
	s := newAppSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"vite-hmr"}, InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer conn.CloseNow()
		conn.SetReadLimit(1 << 20)
		for {
			kind, data, err := conn.Read(r.Context())
			if err != nil {
				return
			}
			if err := conn.Write(r.Context(), kind, append([]byte("echo "), data...)); err != nil {
				return
			}
		}
	}))
	dial := func() (*websocket.Conn, error) {
		transport := &http.Transport{}
		conn, _, err := websocket.Dial(t.Context(), s.URL+"/ws", &websocket.DialOptions{
			Subprotocols: []string{"vite-hmr"}, HTTPClient: &http.Client{Transport: transport},
		})
		return conn, err
	}
	first, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer first.CloseNow()
	first.SetReadLimit(1 << 20)
	if first.Subprotocol() != "vite-hmr" {
		t.Errorf("subprotocol %q", first.Subprotocol())
	}
	large := strings.Repeat("x", 200_000)
	for _, text := range []string{"hello", large} {
		if err := first.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if _, data, err := first.Read(t.Context()); err != nil || string(data) != "echo "+text {
			t.Fatalf("got %.20q %v", data, err)
		}
	}
	s.app.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, _, err := first.Read(ctx); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after Close the socket lives: %v", err)
	}
	if second, err := dial(); err == nil {
		_ = second.CloseNow()
		t.Error("after Close a new socket opens")
	}
	if response, _ := send(t, "GET", s.URL, ""); response.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("after Close an ordinary request gets %d", response.StatusCode)
	}
}

// What the client sends ahead of the 101 must not be lost.
func TestAppUpgradeKeepsEarlyBytes(t *testing.T) {
	s := newAppSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		early := make([]byte, 5)
		_, _ = io.ReadFull(buffered, early)
		_, _ = conn.Write(early)
	}))
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\nearly")
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v %v", response, err)
	}
	if got, err := io.ReadAll(reader); err != nil || string(got) != "early" {
		t.Errorf("got %q %v", got, err)
	}
}

// security.md 51: no channel but a WebSocket, and only after 101.
func TestOtherUpgradesAreNotForwarded(t *testing.T) {
	s := newAppSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%q %q %q", r.Header.Get("Connection"), r.Header.Get("Upgrade"), r.Header.Get("Http2-Settings"))
	}))
	for _, request := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\nx",
		"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n",
	} {
		if response, body := raw(t, s.URL, request); response.StatusCode != 200 || body != `"" "" ""` {
			t.Errorf("%q: %d %s", request, response.StatusCode, body)
		}
	}
	unasked := newAppSite(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	}))
	if response, body := send(t, "GET", unasked.URL, ""); response.StatusCode != http.StatusBadGateway || code(body) != "app_unreachable" {
		t.Errorf("101 without being asked: %d %s", response.StatusCode, body)
	}
}

func TestRequestsThatAreNoneOfTheApps(t *testing.T) {
	arrived := false
	s := newAppSite(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived = true }))
	for request, want := range map[string]int{
		"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n": http.StatusMethodNotAllowed,
		"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n":                           http.StatusMethodNotAllowed,
		"GET http:admin HTTP/1.1\r\nHost: x\r\n\r\n":                    http.StatusBadRequest,
		"GET * HTTP/1.1\r\nHost: x\r\n\r\n":                             http.StatusBadRequest,
	} {
		if response, body := raw(t, s.URL, request); response.StatusCode != want || arrived {
			t.Errorf("%q: %d %s, arrived %v", request, response.StatusCode, body, arrived)
		}
	}
}

// security.md 27, as far as it shows here: what the app gets is framed anew.
func TestAppGetsOneUnambiguousRequest(t *testing.T) {
	var count int
	s := newAppSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		count++
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%q CL=%q TE=%q trailer=%v", body, r.Header.Get("Content-Length"), r.TransferEncoding, r.Trailer)
	}))
	_, body := raw(t, s.URL, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\nTrailer: X-Forwarded-User\r\nConnection: close\r\n\r\n"+
		"5;ext=\"a\"\r\nhello\r\n0\r\nX-Forwarded-User: admin\r\n\r\n")
	if body != `"hello" CL="" TE=["chunked"] trailer=map[]` || count != 1 {
		t.Errorf("%d requests, %s", count, body)
	}
}

func TestAppFaults(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := "http://" + listener.Addr().String()
	_ = listener.Close()
	release := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer hanging.Close()
	defer close(release)
	for name, c := range map[string]struct {
		base   string
		status int
		code   string
	}{
		"refused": {refused, http.StatusBadGateway, "app_unreachable"},
		"hanging": {hanging.URL, http.StatusGatewayTimeout, "app_timeout"},
	} {
		s := appSiteTo(t, c.base, func(c *AppConfig) { c.Timeouts.ResponseHeader = setting.Duration(50 * time.Millisecond) })
		if response, body := send(t, "GET", s.URL, ""); response.StatusCode != c.status || code(body) != c.code {
			t.Errorf("%s: %d %s", name, response.StatusCode, body)
		}
	}
}

func TestAppClientGoneIsSilent(t *testing.T) {
	entered := make(chan struct{})
	s := newAppSite(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-r.Context().Done()
	}))
	w := httptest.NewRecorder()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	s.app.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/", nil))
	if w.Code != StatusClientGone || w.Body.Len() != 0 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
