package upstream

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"

	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

const (
	testKey = "key-one-0123456789"
	userID  = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// roundTrip is an upstream that is a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// reply builds an answer of Whisp; headers are "Name: value" lines.
func reply(status int, body string, headers ...string) *http.Response {
	h := http.Header{}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
	return &http.Response{
		StatusCode: status, Header: h, ContentLength: int64(len(body)),
		Body: io.NopCloser(strings.NewReader(body)), ProtoMajor: 1, ProtoMinor: 1,
	}
}

// signed makes a JWT as Whisp makes them.
func signed(t testing.TB, claims jwt.MapClaims) string {
	t.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte("the vendor's secret"))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// zeros is a random source whose jitter is always zero.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func whispConfig(base string) WhispConfig {
	cfg := DefaultWhispConfig()
	cfg.URL = setting.MustURL(base)
	cfg.APIKeys = []setting.Secret{setting.SecretValue(testKey)}
	return cfg
}

func whispDeps(t testing.TB, cfg WhispConfig) WhispDeps {
	t.Helper()
	endpoint, err := NewEndpoint(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(endpoint.Close)
	return WhispDeps{
		Endpoint: endpoint, Logger: slog.New(slog.DiscardHandler), Clock: time.Now,
		Rand: zeros{}, Metrics: NewMetrics(nil, endpoint),
	}
}

// newWhisp returns a client that talks to upstream.
func newWhisp(t testing.TB, cfg WhispConfig, upstream roundTrip) *Whisp {
	t.Helper()
	whisp, err := NewWhisp(cfg, whispDeps(t, cfg))
	if err != nil {
		t.Fatal(err)
	}
	whisp.transport = upstream
	return whisp
}

func fail(w http.ResponseWriter, _ *http.Request, err error) {
	problem.Write(w, "req-1", problem.From(err))
}

// site is whisp-bff's proxies on a real listener before real upstreams.
type site struct {
	*httptest.Server
	proxy   *WhispProxy
	tickets []string
	passed  []string
	log     *bytes.Buffer
}

// newWhispSite serves /whisp through a WhispProxy to upstream.
func newWhispSite(t *testing.T, upstream http.Handler, change ...func(*WhispConfig)) *site {
	t.Helper()
	back := httptest.NewServer(upstream)
	t.Cleanup(back.Close)
	return whispSiteTo(t, back.URL, change...)
}

func whispSiteTo(t *testing.T, base string, change ...func(*WhispConfig)) *site {
	t.Helper()
	cfg := whispConfig(base)
	for _, c := range change {
		c(&cfg)
	}
	s := &site{log: &bytes.Buffer{}}
	deps := whispDeps(t, cfg)
	deps.Logger = slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s.proxy = NewWhispProxy(cfg, WhispProxyDeps{
		WhispDeps: deps,
		Cookies:   NewBalancerCookies(setting.MustURL("https://app.example.com"), time.Now),
		Fail:      fail,
		Events: Events{
			TicketIssued: func(session string, ticket secret.Text) {
				s.tickets = append(s.tickets, session+" "+ticket.Reveal())
			},
			Passed: func(session, operation string, status int) {
				s.passed = append(s.passed, session+" "+operation+" "+http.StatusText(status))
			},
		},
	})
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		route, err := s.proxy.Match(r.Method, strings.TrimPrefix(r.URL.EscapedPath(), "/whisp"))
		if err != nil {
			fail(w, r, err)
			return
		}
		s.proxy.Serve(w, r, route, "session-1")
	}))
	t.Cleanup(s.Close)
	return s
}

// send performs a request and returns the answer with its body read.
func send(t *testing.T, method, url, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body == "" {
		request.Body, request.ContentLength = nil, 0
	}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		request.Header[name] = append(request.Header[name], value)
	}
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s %s: read body: %v", method, url, err)
	}
	return response, string(read)
}
