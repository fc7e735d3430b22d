package doctor_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/config"
	"github.com/whisp-bff/whisp-bff/internal/doctor"
	"github.com/whisp-bff/whisp-bff/internal/oidcsim"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

// Secrets of the world; all have hunter2 in them, which no report may show.
const (
	apiKey       = "wk-hunter2-api-key"
	clientSecret = "hunter2-client-secret-of-the-world"
	masterSecret = "hunter2-master-secret-of-more-than-32-bytes"
	redisSecret  = "hunter2-redis"
)

// world is everything around whisp-bff, well until a test breaks it.
type world struct {
	t        *testing.T
	dir      string
	provider *oidcsim.Provider
	whisp    *whispsim.Server
	// app, providerFront and whispFront serve; a test may put something else there.
	app, providerFront, whispFront swap
	issuer, whispURL, appURL       string
	// text is the configuration, to be changed by replace and add.
	text    string
	resolve func(context.Context, string) ([]string, error)
	timeout time.Duration
	// redis, once started
	redis string
}

// swap is a handler that can be replaced.
type swap struct{ now atomic.Pointer[http.Handler] }

func (s *swap) set(h http.Handler) { s.now.Store(&h) }

func (s *swap) ServeHTTP(w http.ResponseWriter, r *http.Request) { (*s.now.Load()).ServeHTTP(w, r) }

func answers(status int, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	})
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		t: t, dir: t.TempDir(), timeout: 20 * time.Second,
		resolve: func(context.Context, string) ([]string, error) { return []string{"192.0.2.1"}, nil },
	}
	w.app.set(answers(http.StatusOK, "{}"))
	w.appURL = serve(t, &w.app)
	provider, err := oidcsim.New(oidcsim.Config{
		Clients: []oidcsim.Client{{
			ID: "web", Secret: secret.New(clientSecret), RedirectURIs: []string{"https://app.example.com/auth/callback"},
		}, {ID: "public", RedirectURIs: []string{"https://app.example.com/auth/callback"}}},
		Clock: time.Now, Rand: rand.Reader,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.provider = provider
	w.providerFront.set(provider)
	w.issuer = serve(t, &w.providerFront)
	if err := provider.SetIssuer(w.issuer); err != nil {
		t.Fatal(err)
	}
	w.startWhisp(whispsim.Config{})
	w.file("api-key", apiKey, 0o600)
	w.file("client-secret", clientSecret, 0o600)
	w.file("master-secret", masterSecret, 0o600)
	w.text = fmt.Sprintf(`public_url: https://app.example.com
app:
  url: %s
login:
  issuer: %s
  client_id: web
  client_secret: {file: client-secret}
whisp:
  url: %s
  api_keys: [{file: api-key}]
account:
  master_secrets: [{file: master-secret}]
server: {listen: "127.0.0.1:0", admin_listen: "127.0.0.1:0"}
`, w.appURL, w.issuer, w.whispURL)
	return w
}

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return server.URL
}

// startWhisp puts another Whisp in the place of the one before.
func (w *world) startWhisp(cfg whispsim.Config) {
	cfg.APIKeys, cfg.RecordLimit = []secret.Text{secret.New(apiKey)}, -1
	sim := whispsim.New(cfg)
	w.t.Cleanup(sim.Close)
	w.whisp = sim
	w.whispFront.set(sim)
	if w.whispURL == "" {
		w.whispURL = serve(w.t, &w.whispFront)
	}
}

func (w *world) file(name, content string, mode os.FileMode) {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := errors.Join(os.WriteFile(path, []byte(content), mode), os.Chmod(path, mode)); err != nil {
		w.t.Fatal(err)
	}
}

// replace changes one part of the configuration.
func (w *world) replace(old, replacement string) {
	w.t.Helper()
	if !strings.Contains(w.text, old) {
		w.t.Fatalf("the configuration has no %q", old)
	}
	w.text = strings.Replace(w.text, old, replacement, 1)
}

// add puts lines at the end of the configuration.
func (w *world) add(lines string) { w.text += lines + "\n" }

// startRedis starts a redis-server that demands a password, and uses it.
func (w *world) startRedis(args ...string) {
	w.t.Helper()
	for range 5 { // another process may take the port first
		if w.redis = redisServer(w.t, args); w.redis != "" {
			break
		}
	}
	if w.redis == "" {
		w.t.Fatal("redis-server does not start")
	}
	w.useRedis(w.redis)
}

func (w *world) useRedis(address string) {
	w.file("redis-password", redisSecret, 0o600)
	w.file("seal-key", "hunter2-seal-key-of-at-least-32-bytes-length", 0o600)
	w.add(fmt.Sprintf(`store: {kind: redis, redis: {addresses: [%q], timeout: 10s, password: {file: redis-password}}, seal_keys: [{file: seal-key}]}`, address))
}

// redisServer returns the address of a redis-server that lives as long as the test,
// or nothing if it ended at once. Its port is below those that systems give to
// connections and listeners by themselves.
func redisServer(t *testing.T, args []string) string {
	t.Helper()
	port := strconv.Itoa(10_000 + mathrand.IntN(20_000))
	server := exec.Command("redis-server", append([]string{
		"--port", port, "--bind", "127.0.0.1", "--dir", t.TempDir(), "--requirepass", redisSecret,
	}, args...)...)
	if err := server.Start(); err != nil {
		t.Fatalf("this test runs a real Redis (make test installs it): %v", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = server.Wait() // killed
		close(ended)
	}()
	t.Cleanup(func() {
		_ = server.Process.Kill()
		<-ended
	})
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		select {
		case <-ended:
			return ""
		case <-time.After(5 * time.Millisecond): // the interval of the poll
		}
		if conn, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			_ = conn.Close()
			return "127.0.0.1:" + port
		}
	}
	t.Fatal("redis-server does not answer")
	return ""
}

// examine checks the configuration as it is now.
func (w *world) examine() doctor.Report {
	w.t.Helper()
	path := filepath.Join(w.dir, "config.yaml")
	w.file("config.yaml", w.text, 0o600)
	cfg, err := config.Load(path, func(string) (string, bool) { return "", false }, config.Disk)
	if err != nil {
		w.t.Fatalf("the configuration must be valid:\n%v", err)
	}
	report := doctor.Examine(w.t.Context(), cfg, doctor.Deps{
		Clock: time.Now, Rand: rand.Reader, Logger: slog.New(slog.DiscardHandler), Timeout: w.timeout, Resolve: w.resolve,
	})
	encoded, err := json.Marshal(report)
	if err != nil {
		w.t.Fatal(err)
	}
	if strings.Contains(string(encoded), "hunter2") {
		w.t.Errorf("the report shows a secret: %s", encoded)
	}
	for _, f := range report.Findings {
		if f.Detail == "" || strings.ContainsAny(f.Detail+f.Advice, "\n\r") || (f.Status == doctor.Fail || f.Status == doctor.Warn) && f.Advice == "" {
			w.t.Errorf("lacks a detail or advice, or has several lines: %+v", f)
		}
	}
	return report
}

func lines(report doctor.Report) string {
	var out strings.Builder
	for _, f := range report.Findings {
		fmt.Fprintf(&out, "%-4s %s: %s → %s\n", f.Status, f.Name, f.Detail, f.Advice)
	}
	return out.String()
}
