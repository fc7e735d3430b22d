package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/telemetry"
)

const (
	houseHost   = "localhost:8080"
	houseSecret = "secret-of-the-auth-proxy-of-32-bytes-or-more"
)

// runningHouse is a serving whisp-bff in this process, told to reload when the
// test says so.
type runningHouse struct {
	t           *testing.T
	file        string
	base, admin string
	hangups     chan os.Signal
	logs        *lockedLog
	client      *http.Client
	apps        [2]*httptest.Server
	stop        func() error
}

// lockedLog keeps lines for whoever waits for one.
type lockedLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

const houseConfig = `public_url: http://localhost:8080
app: {url: "APP0"}
identity:
  sources: [forwarded]
  forwarded: {trusted_peers: ["127.0.0.1"], secrets: [{file: secret}], issuer: "https://login.example.com"}
access:
  headers: {X-First: sub}
whisp: {url: "http://127.0.0.1:1", api_keys: [{value: first-api-key-0001}]}
account: {master_secrets: [{value: master-secret-of-more-than-32-bytes-0001}]}
realtime: {drain: 0s}
server: {listen: "127.0.0.1:0", admin_listen: "127.0.0.1:0"}
log: {format: json}
`

// startHouse starts two apps, of which the first is configured, and whisp-bff.
// Each app tells who it is and which identity header it got.
func startHouse(t *testing.T, app http.HandlerFunc) *runningHouse {
	t.Helper()
	h := &runningHouse{
		t: t, file: filepath.Join(t.TempDir(), "config.yaml"), hangups: make(chan os.Signal, 1), logs: &lockedLog{},
		client: &http.Client{Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	for i := range h.apps {
		h.apps[i] = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if app != nil && r.URL.Path != "/who" {
				app(w, r)
				return
			}
			fmt.Fprintf(w, "app %d first %q second %q", i, r.Header.Get("X-First"), r.Header.Get("X-Second"))
		}))
		t.Cleanup(h.apps[i].Close)
	}
	h.write("secret", houseSecret)
	h.configure(houseConfig)
	source := newSource(h.file)
	cfg, err := source.load()
	if err != nil {
		t.Fatal(err)
	}
	logger, level := telemetry.NewAdjustableLogger(cfg.Log, h.logs)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, start{cfg: cfg, source: source, hangups: h.hangups, logger: logger, level: level})
	}()
	h.stop = sync.OnceValue(func() error {
		cancel()
		h.client.CloseIdleConnections()
		select {
		case err := <-ended:
			return err
		case <-time.After(30 * time.Second):
			return fmt.Errorf("does not end")
		}
	})
	t.Cleanup(func() {
		if err := h.stop(); err != nil {
			t.Error(err)
		}
	})
	var listening struct{ Public, Admin string }
	h.until(`"msg":"listening"`, &listening)
	h.base, h.admin = "http://"+listening.Public, "http://"+listening.Admin
	return h
}

func (h *runningHouse) write(name, text string) {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(filepath.Dir(h.file), name), []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *runningHouse) configure(text string) {
	h.write("config.yaml", strings.NewReplacer("APP0", h.apps[0].URL, "APP1", h.apps[1].URL).Replace(text))
}

// until waits for a line of the log and decodes it.
func (h *runningHouse) until(part string, into any) {
	h.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		for line := range strings.SplitSeq(h.logs.String(), "\n") {
			if strings.Contains(line, part) {
				if err := json.Unmarshal([]byte(line), into); err != nil {
					h.t.Fatal(err)
				}
				return
			}
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("no %s in the log: %s", part, h.logs)
		}
	}
}

// reload asks for a reload and returns once it is done, as the metric says.
func (h *runningHouse) reload(text, outcome string) {
	h.t.Helper()
	h.configure(text)
	series := fmt.Sprintf("whisp_bff_config_reloads_total{outcome=%q} ", outcome)
	before := h.metric(series)
	h.hangups <- syscall.SIGHUP
	for deadline := time.Now().Add(20 * time.Second); h.metric(series) == before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("not %s: %s", outcome, h.logs)
		}
	}
}

func (h *runningHouse) metric(series string) string {
	h.t.Helper()
	_, body := h.get(h.admin+"/metrics", nil)
	_, rest, _ := strings.Cut(body, "\n"+series)
	value, _, _ := strings.Cut(rest, "\n")
	return value
}

func (h *runningHouse) get(address string, header http.Header) (int, string) {
	h.t.Helper()
	status, body, err := h.ask(address, header)
	if err != nil {
		h.t.Fatal(err)
	}
	return status, body
}

func (h *runningHouse) ask(address string, header http.Header) (int, string, error) {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, address, nil)
	if err != nil {
		return 0, "", err
	}
	request.Host = houseHost
	for name, values := range header {
		request.Header[name] = values
	}
	if host := header.Get("Host"); host != "" {
		request.Host = host
	}
	response, err := h.client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

// asAlice is what the auth proxy sends, with a secret.
func asAlice(secret string) http.Header {
	return http.Header{"X-Forwarded-User": {"alice"}, "X-Forwarded-Secret": {secret}}
}

func TestHouseTakesEveryKindOfChange(t *testing.T) {
	h := startHouse(t, nil)
	change := func(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(houseConfig) }
	const other = "another-secret-of-the-auth-proxy-of-32-bytes"
	foreign := func(more ...string) http.Header {
		header := asAlice(houseSecret)
		header.Set("Origin", "https://shop.example.com")
		for i := 0; i < len(more); i += 2 {
			header.Set(more[i], more[i+1])
		}
		return header
	}
	socket := []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-Websocket-Version", "13", "Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}
	guess := http.Header{"Authorization": {"Bearer a-guess"}}
	for _, step := range []struct {
		name, path    string
		header        http.Header
		before, after string // parts of status and body
		text          string
	}{
		{"the app", "/who", nil, "200 app 0", "200 app 1", change("APP0", "APP1")},
		{"what the app is told", "/who", asAlice(houseSecret), `first "alice" second ""`, `first "" second "alice"`, change("X-First", "X-Second")},
		{"an access rule", "/who", nil, "200 app 0", "401 ", change("access:\n", "access:\n  default: signed_in\n")},
		{"a secret of an identity source", "/auth/session", asAlice(other), "401 ", `"subject":"alice"`, change("{file: secret}", "{value: "+other+"}")},
		{"allowed origins", "/auth/session", foreign(), "origin_forbidden", `"subject":"alice"`, change(`"127.0.0.1:0", admin`, `"127.0.0.1:0", allowed_origins: ["https://shop.example.com"], admin`)},
		{"allowed origins of sockets", "/whisp/api/wsConnect?ticket=x", foreign(socket...), "origin_forbidden", "401 ", change(`"127.0.0.1:0", admin`, `"127.0.0.1:0", allowed_origins: ["https://shop.example.com"], admin`)},
		{"the allow-list of Whisp", "/whisp/api/chat/pinned", asAlice(houseSecret), "route_forbidden", "whisp_unreachable", change(`"http://127.0.0.1:1",`, `"http://127.0.0.1:1", extra_routes: [{method: GET, path: /api/chat/pinned}],`)},
		{"the admin token", "ADMIN/admin/accounts?issuer=i&subject=s", guess, "404 ", "401 ", change(`server: {`, `server: {admin_token: {value: admin-token-of-at-least-32-bytes-0001}, `)},
		{"profiles", "ADMIN/debug/pprof/symbol", nil, "404 ", "200 num_symbols", change(`server: {`, `server: {pprof: true, `)},
		{"a limit", "ADMIN/metrics", nil, "whisp_bff_realtime_tunnels_limit 20000", "whisp_bff_realtime_tunnels_limit 7", change("{drain: 0s}", "{drain: 0s, max_tunnels: 7}")},
		{"another host", "/who", http.Header{"Host": {"other.example.com"}}, "421 ", "200 ", change(`server: {`, `server: {extra_hosts: [other.example.com], `)},
	} {
		address := h.base + step.path
		if path, ok := strings.CutPrefix(step.path, "ADMIN"); ok {
			address = h.admin + path
		}
		shows := func(when, want string) {
			t.Helper()
			status, body := h.get(address, step.header)
			if got := fmt.Sprintf("%d %s", status, body); !strings.Contains(got, want) {
				t.Errorf("%s, %s: got %s, want %s", step.name, when, got, want)
			}
		}
		shows("before", step.before)
		h.reload(step.text, outcomeApplied)
		shows("after", step.after)
		h.reload(houseConfig, outcomeApplied)
		shows("back again", step.before)
	}

	if strings.Contains(h.logs.String(), `"level":"DEBUG"`) {
		t.Error("debug lines at level info")
	}
	h.reload(change("{format: json}", "{format: json, level: debug, access_log: false}"), outcomeApplied)
	before := strings.Count(h.logs.String(), `"msg":"request"`)
	h.get(h.base+"/who", nil)
	if after := strings.Count(h.logs.String(), `"msg":"request"`); after != before {
		t.Error("the access log goes on")
	}
	if got := h.metric("whisp_bff_config_restart_pending "); got != "0" {
		t.Errorf("%s keys wait for a restart", got)
	}
	for _, secret := range []string{houseSecret, other, "admin-token-of", "api-key-0001", "bytes-0001"} {
		if strings.Contains(h.logs.String(), secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
}

// Half of one configuration and half of the other is never seen, and no request
// fails, while they take turns. Streams and refused files do not disturb.
func TestHouseReloadsUnderRequests(t *testing.T) {
	more := make(chan struct{})
	h := startHouse(t, func(w http.ResponseWriter, r *http.Request) {
		for _, part := range []string{"begin\n", "end\n"} {
			_, _ = io.WriteString(w, part)
			_ = http.NewResponseController(w).Flush()
			if part == "begin\n" {
				<-more
			}
		}
	})
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, h.base+"/stream", nil)
	request.Host = houseHost
	stream, err := h.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Body.Close() }()
	lines := bufio.NewReader(stream.Body)
	if line, err := lines.ReadString('\n'); line != "begin\n" {
		t.Fatalf("stream began with %q, %v", line, err)
	}

	second := strings.NewReplacer("APP0", "APP1", "X-First", "X-Second").Replace(houseConfig)
	whole := map[string]bool{`app 0 first "alice" second ""`: true, `app 1 first "" second "alice"`: true}
	stop := make(chan struct{})
	var asking sync.WaitGroup
	var answers atomic.Int64
	for range 8 {
		asking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				status, body, err := h.ask(h.base+"/who", asAlice(houseSecret))
				if err != nil || status != http.StatusOK || !whole[body] {
					t.Errorf("got %d %s, %v", status, body, err)
					return
				}
				answers.Add(1)
			}
		})
	}
	for i := range 20 {
		before := answers.Load()
		h.reload([]string{second, houseConfig}[i%2], outcomeApplied)
		for deadline := time.Now().Add(20 * time.Second); answers.Load() < before+8 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		}
		if i%5 == 0 {
			h.reload(strings.Replace(houseConfig, "drain", "drein", 1), outcomeRefused)
			if got := h.metric("whisp_bff_config_last_reload_success "); got != "0" {
				t.Errorf("the metric of success is %s after a refused file", got)
			}
		}
	}
	close(stop)
	asking.Wait()
	if answers.Load() < 160 {
		t.Errorf("only %d answers", answers.Load())
	}
	close(more)
	if line, err := lines.ReadString('\n'); line != "end\n" {
		t.Errorf("the stream of the first configuration ended with %q, %v", line, err)
	}
	if err := h.stop(); err != nil {
		t.Error(err)
	}
}
