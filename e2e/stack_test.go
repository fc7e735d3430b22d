//go:build e2e

package e2e

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/cmd/whisp-demo/web"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

// stack is whisp-bff and everything around it.
type stack struct {
	origin string // where browsers go: http://localhost:…
	issuer string // of the provider started last
	admin  string
	sim    *whispsim.Server
	ahead  atomic.Int64 // how far Whisp's clock is ahead of ours, a time.Duration
	bff    *process

	apiKey, clientSecret, masterSecret string
}

// setup says what is special about a stack; the zero value is the ordinary one.
type setup struct {
	sim       whispsim.Config // APIKeys is filled in
	whisp     string          // more lines of the section whisp, indented by two
	more      string          // more sections
	logLevel  string          // default debug
	noStart   bool            // leave whisp-bff and provider to the test
	whispURL  string          // default the simulator's
	issuerURL string          // default a provider started here
}

// newStack starts everything and waits until whisp-bff is ready.
func newStack(t testing.TB, s setup) *stack {
	t.Helper()
	ports := freePorts(t, 2)
	st := &stack{
		origin:       fmt.Sprintf("http://localhost:%d", ports[0]),
		admin:        fmt.Sprintf("http://127.0.0.1:%d", ports[1]),
		apiKey:       rand.Text(),
		clientSecret: rand.Text(),
		masterSecret: rand.Text() + rand.Text(),
	}
	s.sim.APIKeys = []secret.Text{secret.New(st.apiKey)}
	s.sim.Clock = func() time.Time { return time.Now().Add(time.Duration(st.ahead.Load())) }
	s.sim.SockJSClientURL = st.origin + "/lab/sockjs.js"
	st.sim = whispsim.New(s.sim)
	whisp := httptest.NewServer(st.sim)
	app := httptest.NewServer(appWithLab(t))
	t.Cleanup(func() {
		st.sim.Close()
		whisp.Close()
		app.Close()
	})
	if s.whispURL == "" {
		s.whispURL = whisp.URL
	}
	if s.issuerURL == "" {
		s.issuerURL = st.startProvider(t, 0)
	}
	st.startBFF(t, s, app.URL)
	if !s.noStart {
		st.waitReady(t)
	}
	return st
}

// startProvider runs oidc-provider and returns its issuer.
func (st *stack) startProvider(t testing.TB, port int) string {
	t.Helper()
	options, err := json.Marshal(map[string]any{
		"port": port, "clientId": "web", "clientSecret": st.clientSecret, "publicURL": st.origin,
	})
	if err != nil {
		t.Fatal(err)
	}
	provider := startScript(t, "provider.mjs", string(options))
	var listening struct{ Issuer string }
	provider.line(t, &listening)
	st.issuer = listening.Issuer
	return st.issuer
}

const configuration = `public_url: %s
app:
  url: %s
login:
  issuer: %s
  client_id: web
  client_secret: {value: %s}
whisp:
  url: %s
  api_keys:
    - {value: %s}
%saccount:
  master_secrets:
    - {value: %s}
server: {listen: "%s", admin_listen: "%s"}
log: {level: %s, format: json}
%s`

func (st *stack) startBFF(t testing.TB, s setup, appURL string) {
	t.Helper()
	if s.logLevel == "" {
		s.logLevel = "debug"
	}
	if s.more == "" {
		s.more = "realtime: {drain: 0s}\n"
	}
	text := fmt.Sprintf(configuration, st.origin, appURL, s.issuerURL, st.clientSecret, s.whispURL, st.apiKey, s.whisp,
		st.masterSecret, "127.0.0.1:"+portOf(st.origin), "127.0.0.1:"+portOf(st.admin), s.logLevel, s.more)
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	st.bff = start(t, "whisp-bff", tools.bff, "serve", "--config", file)
}

func (st *stack) waitReady(t testing.TB) {
	t.Helper()
	eventually(t, "whisp-bff ready", func() bool {
		select {
		case <-st.bff.exited:
			t.Fatalf("whisp-bff ended: %v\n%s", st.bff.err, st.bff.log)
		default:
		}
		return st.readyz() == http.StatusOK
	})
}

// readyz returns the status of /readyz, 0 if nobody answers.
func (st *stack) readyz() int {
	resp, err := http.Get(st.admin + "/readyz")
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// jwtsExpire makes every JWT that Whisp has given out expire now.
func (st *stack) jwtsExpire() { st.ahead.Add(int64(10 * time.Minute)) }

func (st *stack) metrics(t testing.TB) string {
	t.Helper()
	resp, err := http.Get(st.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// appWithLab is the demo's app plus the page of lab/ with the clients in it.
func appWithLab(t testing.TB) http.Handler {
	t.Helper()
	app, err := web.Handler([]web.Person{
		{Username: "alice", Name: "Alice Anderson"}, {Username: "bob", Name: "Bob Brown"},
		{Username: "carol", Name: "Carol Clark"}, {Username: "dave", Name: "Dave Dubois"},
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", app)
	mux.HandleFunc("GET /lab/blank", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, `<!doctype html><title>Blank</title><link rel="icon" href="data:,">`)
	})
	for path, file := range map[string]string{
		"/lab/":            "lab/index.html",
		"/lab/lab.mjs":     "lab/lab.mjs",
		"/lab/chatter.mjs": "chatter.mjs",
		"/lab/sockjs.js":   "node_modules/sockjs-client/dist/sockjs.js",
		"/lab/stomp.js":    "node_modules/@stomp/stompjs/bundles/stomp.umd.js",
	} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			text, err := os.ReadFile(file)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			w.Header().Set("Content-Type", mediaType(file))
			_, _ = w.Write(text)
		})
	}
	return mux
}

func mediaType(file string) string {
	if strings.HasSuffix(file, ".html") {
		return "text/html; charset=utf-8"
	}
	return "text/javascript; charset=utf-8"
}

// freePorts returns n different ports nobody listens on now. They are below those
// that systems give to connections and to port 0 by themselves, or one might be
// taken until a child process listens on it.
func freePorts(t testing.TB, n int) []int {
	t.Helper()
	var ports []int
	for range 1000 {
		port := 10_000 + mathrand.IntN(20_000)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		defer func() { _ = listener.Close() }() // at the end: all are different
		if ports = append(ports, port); len(ports) == n {
			return ports
		}
	}
	t.Fatal("no free ports")
	return nil
}

func portOf(url string) string { return url[strings.LastIndex(url, ":")+1:] }

// within fails the test if what takes longer than limit.
func within(t testing.TB, limit time.Duration, what string, do func()) {
	t.Helper()
	began := time.Now()
	do()
	if took := time.Since(began); took > limit {
		t.Errorf("%s took %s, more than %s", what, took.Round(time.Millisecond), limit)
	}
}
