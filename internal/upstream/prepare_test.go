package upstream

import (
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// A certificate authority is exchanged while calls are under way: those end well,
// new connections are made with the new trust, and a file that is no good changes
// nothing.
func TestEndpointTakesANewAuthorityWhileCallsAreUnderWay(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/slow" {
			_ = http.NewResponseController(w).Flush()
			<-release
		}
		_, _ = io.WriteString(w, "done")
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	server.StartTLS()
	defer server.Close()
	cfg := whispConfig(server.URL)
	cfg.CAFile = writeCertificate(t, server)
	endpoint, err := NewEndpoint(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer endpoint.Close()
	get := func(path string) (*http.Response, error) {
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, endpoint.URL(path, "").String(), nil)
		return endpoint.Transport().RoundTrip(request)
	}
	slow, err := get("/api/slow")
	if err != nil {
		t.Fatal(err)
	}

	bad := cfg
	bad.CAFile = filepath.Join(t.TempDir(), "missing.pem")
	if _, err := endpoint.Prepare(bad); err == nil {
		t.Error("a missing file was taken")
	}
	other := cfg
	other.CAFile = "" // the system's authorities, who do not know the server
	use, err := endpoint.Prepare(other)
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := get("/api/before-use"); err != nil {
		t.Errorf("preparing changed something: %v", err)
	} else {
		_ = answer.Body.Close()
	}
	use()
	if answer, err := get("/api/after"); err == nil {
		_ = answer.Body.Close()
		t.Error("the old authority is still trusted")
	}
	if conn, err := endpoint.DialHTTP1(t.Context(), ""); err == nil {
		_ = conn.Close()
		t.Error("the old authority is still trusted for sockets")
	}

	close(release)
	body, err := io.ReadAll(slow.Body)
	_ = slow.Body.Close()
	if err != nil || string(body) != "done" {
		t.Errorf("the call under way got %q, %v", body, err)
	}
	if use, err = endpoint.Prepare(cfg); err != nil {
		t.Fatal(err)
	}
	use()
	answer, err := get("/api/back")
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
}

// Calls go on while keys and pace are exchanged, each with a key of one list.
func TestWhispTakesKeysAndPaceWhileCallsAreUnderWay(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen[r.Header.Get("X-Api-Key")]++
		mu.Unlock()
		w.WriteHeader(http.StatusBadRequest) // to an empty registerUser: the key is good
	}))
	defer server.Close()
	cfg := whispConfig(server.URL)
	endpoint, err := NewEndpoint(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer endpoint.Close()
	whisp, err := NewWhisp(cfg, WhispDeps{
		Endpoint: endpoint, Logger: slog.New(slog.DiscardHandler), Clock: time.Now, Rand: rand.Reader, Metrics: NewMetrics(nil, endpoint),
	})
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := whisp.ProbeKey(t.Context()); err != nil && !errors.Is(err, ErrKeyChanged) {
					t.Error(err)
					return
				}
			}
		})
	}
	next := cfg
	next.Retries, next.KeyRetry, next.Timeouts.Total = 0, setting.Duration(5*time.Second), setting.Duration(20*time.Second)
	for i := range 50 {
		key := []string{"key-two-0123456789", testKey}[i%2]
		next.APIKeys = []setting.Secret{setting.SecretValue(key)}
		use, err := whisp.Prepare(next)
		if err != nil {
			t.Fatal(err)
		}
		use()
		mu.Lock()
		before := seen[key]
		mu.Unlock()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			mu.Lock()
			now := seen[key]
			mu.Unlock()
			if now > before {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the new key is not used")
			}
		}
	}
	close(stop)
	asking.Wait()

	next.APIKeys = []setting.Secret{setting.SecretValue("has white space")}
	if _, err := whisp.Prepare(next); err == nil {
		t.Error("an unusable key was taken")
	}
	if got := *whisp.pace.Load(); got.retries != 0 || got.total != 20*time.Second {
		t.Errorf("pace is %+v", got)
	}
}

func writeCertificate(t *testing.T, server *httptest.Server) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(file, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
