package upstream

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// tlsWhisp is an HTTPS server with HTTP/2; it returns a CA file for it.
func tlsWhisp(t *testing.T) (*httptest.Server, string) {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Proto)
	}))
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{NextProtos: []string{"h2", "http/1.1"}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are what is tested
	server.StartTLS()
	t.Cleanup(server.Close)
	return server, writeCertificate(t, server)
}

func TestEndpointSpeaksHTTP2ForRESTAndHTTP1ForSockets(t *testing.T) {
	server, ca := tlsWhisp(t)
	cfg := whispConfig(server.URL)
	cfg.CAFile = ca
	endpoint, err := NewEndpoint(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer endpoint.Close()
	for name, transport := range map[string]http.RoundTripper{"REST": endpoint.Transport(), "realtime": endpoint.RealtimeTransport()} {
		request, _ := http.NewRequestWithContext(t.Context(), "GET", endpoint.URL("/api/x", "a=b").String(), nil)
		response, err := transport.RoundTrip(request)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_ = response.Body.Close()
		if response.ProtoMajor != 2 {
			t.Errorf("%s: %s", name, response.Proto)
		}
	}
	conn, err := endpoint.DialHTTP1(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if state := conn.(*tls.Conn).ConnectionState(); state.NegotiatedProtocol != "http/1.1" {
		t.Errorf("ALPN %q", state.NegotiatedProtocol)
	}
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
}

// Every socket is a connection; only the first pays for a whole handshake.
func TestSocketsResumeTLS(t *testing.T) {
	server, ca := tlsWhisp(t)
	cfg := whispConfig(server.URL)
	cfg.CAFile = ca
	endpoint, err := NewEndpoint(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer endpoint.Close()
	for i := range 3 {
		conn, err := endpoint.DialHTTP1(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		response, err := http.ReadResponse(bufio.NewReader(conn), nil) // the ticket comes along
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		state := conn.(*tls.Conn).ConnectionState()
		if state.DidResume != (i > 0) || state.NegotiatedProtocol != "http/1.1" {
			t.Errorf("connection %d: resumed %v, ALPN %q", i, state.DidResume, state.NegotiatedProtocol)
		}
		_ = conn.Close()
	}
}

func TestEndpointTrustsOnlyWhatItIsTold(t *testing.T) {
	server, _ := tlsWhisp(t)
	cfg := whispConfig(server.URL)
	endpoint, err := NewEndpoint(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer endpoint.Close()
	if conn, err := endpoint.DialHTTP1(t.Context(), ""); err == nil {
		_ = conn.Close()
		t.Error("an unknown authority was trusted")
	}
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{empty, filepath.Join(t.TempDir(), "missing.pem")} {
		cfg.CAFile = file
		if _, err := NewEndpoint(cfg); err == nil {
			t.Errorf("%s was taken", file)
		}
	}
}

// A proxy of the environment must not see tokens.
func TestEndpointIgnoresTheEnvironmentsProxy(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	endpoint, err := NewEndpoint(whispConfig("https://whisp.test"))
	if err != nil {
		t.Fatal(err)
	}
	pools := endpoint.pools.Load()
	for _, one := range []*http.Transport{pools.own, pools.rest, pools.realtime} {
		if one.Proxy != nil {
			t.Error("a proxy is set")
		}
	}
}

func TestDialHTTP1GivesUpOnASilentTLSPeer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	cfg := whispConfig("https://" + listener.Addr().String())
	cfg.Timeouts.TLSHandshake = setting.Duration(20 * time.Millisecond)
	endpoint, err := NewEndpoint(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if conn, err := endpoint.DialHTTP1(t.Context(), ""); err == nil {
		_ = conn.Close()
		t.Error("a handshake without an answer succeeded")
	}
}

func TestURLKeepsEveryByte(t *testing.T) {
	for base, want := range map[string]string{
		"https://whisp.test":           "https://whisp.test/api/a'(b)!*~?x=%2f",
		"https://whisp.test/":          "https://whisp.test/api/a'(b)!*~?x=%2f",
		"https://whisp.test:8443/gw//": "https://whisp.test:8443/gw/api/a'(b)!*~?x=%2f",
	} {
		endpoint, err := NewEndpoint(whispConfig(base))
		if err != nil {
			t.Fatal(err)
		}
		if got := endpoint.URL("/api/a'(b)!*~", "x=%2f").String(); got != want {
			t.Errorf("%s: %s", base, got)
		}
	}
}

func TestAddress(t *testing.T) {
	for in, want := range map[string]string{
		"https://whisp.test": "whisp.test:443", "http://whisp.test": "whisp.test:80", "http://[::1]:8080": "[::1]:8080",
	} {
		u := setting.MustURL(in)
		if got := address(&u.URL); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}

func TestWhispConfigValidate(t *testing.T) {
	good := whispConfig("https://acme.api.whispchat.com")
	if err := good.Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	for want, change := range map[string]func(*WhispConfig){
		"url is required":            func(c *WhispConfig) { c.URL = setting.URL{} },
		"url is plain http":          func(c *WhispConfig) { c.URL = setting.MustURL("http://whisp.internal") },
		"url has a path":             func(c *WhispConfig) { c.URL = setting.MustURL("https://whisp.test/a/../b") },
		"api_keys is required":       func(c *WhispConfig) { c.APIKeys = nil },
		"api_keys has more than 8":   func(c *WhispConfig) { c.APIKeys = make([]setting.Secret, 9) },
		"api_keys[1] is empty":       func(c *WhispConfig) { c.APIKeys = append(c.APIKeys, setting.Secret{}) },
		"api_keys[0] has white":      func(c *WhispConfig) { c.APIKeys = []setting.Secret{setting.SecretValue("a\nb")} },
		"timeouts.dial is out":       func(c *WhispConfig) { c.Timeouts.Dial = 0 },
		"timeouts.total is out":      func(c *WhispConfig) { c.Timeouts.Total = setting.Duration(time.Hour) },
		"timeouts.proxied is out":    func(c *WhispConfig) { c.Timeouts.Proxied = 0 },
		"retries is out":             func(c *WhispConfig) { c.Retries = 3 },
		"key_retry is out":           func(c *WhispConfig) { c.KeyRetry = setting.Duration(4 * time.Second) },
		"key_retry is out of":        func(c *WhispConfig) { c.KeyRetry = setting.Duration(2 * time.Hour) },
		"max_retry_wait is out":      func(c *WhispConfig) { c.MaxRetryWait = setting.Duration(time.Hour) },
		"breaker.failures is out":    func(c *WhispConfig) { c.Breaker.Failures = 0 },
		"breaker.open_for is out":    func(c *WhispConfig) { c.Breaker.OpenFor = 0 },
		"max_connections is out":     func(c *WhispConfig) { c.MaxConnections = -1 },
		"max_body is out":            func(c *WhispConfig) { c.MaxBody = 0 },
		"refresh_patience is out":    func(c *WhispConfig) { c.RefreshPatience = setting.Duration(time.Hour) },
		"extra_routes[0].method is":  func(c *WhispConfig) { c.ExtraRoutes = []ExtraRoute{{"CONNECT", "/api/x"}} },
		"extra_routes[0].path is no": func(c *WhispConfig) { c.ExtraRoutes = []ExtraRoute{{"GET", "/actuator"}} },
	} {
		cfg := whispConfig("https://acme.api.whispchat.com")
		change(&cfg)
		err := cfg.Validate()
		if list := setting.List(err); len(list) == 0 || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
	for _, base := range []string{"http://127.0.0.1:9000", "http://localhost:9000", "https://whisp.test/gw/"} {
		cfg := whispConfig(base)
		if err := cfg.Validate(); err != nil {
			t.Errorf("%s: %v", base, err)
		}
	}
	inside := whispConfig("http://whispsim:9000")
	inside.AllowHTTP = true
	if err := inside.Validate(); err != nil {
		t.Errorf("allow_http: %v", err)
	}
}

func TestExtraRoutesCannotOpenWhatNeedsTheKey(t *testing.T) {
	for path, want := range map[string]string{
		"/api/chat/pin/{chatId}":        "",
		"/api/user/signin":              "needs the API key",
		"/api/user/SIGN-IN":             "needs the API key",
		"/api/{x}/RegisterUser":         "needs the API key",
		"/api/user/register{x}User":     "canonical",
		"/api/user/%73ignin":            "canonical",
		"/api/user//signin":             "canonical",
		"/api/x/{}":                     "canonical",
		"/api/x/{a}{b}":                 "canonical",
		"/api/x/a{b}":                   "canonical",
		"/api/":                         "canonical",
		"/whisp/api/x":                  "canonical",
		"/api/wsConnect/info":           "realtime",
		"/api/WSCONNECT":                "realtime",
		"/api/user/{registerUser}/edit": "needs the API key",
	} {
		cfg := whispConfig("https://whisp.test")
		cfg.ExtraRoutes = []ExtraRoute{{"POST", path}}
		err := cfg.Validate()
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
	}
}

func TestAppConfigValidate(t *testing.T) {
	cfg := DefaultAppConfig()
	cfg.URL = setting.MustURL("http://127.0.0.1:3000/")
	cfg.StripHeaders = []string{"X-User", "X-Webauth-*"}
	if err := cfg.Validate(); err != nil {
		t.Errorf("good: %v", err)
	}
	bad := AppConfig{URL: setting.MustURL("http://app/base"), StripHeaders: []string{"", "*", "a b"}, MaxConnections: -1, Flush: setting.Duration(time.Hour)}
	if list := setting.List(bad.Validate()); len(list) != 8 {
		t.Errorf("%d problems: %v", len(list), list)
	}
	if list := setting.List(DefaultAppConfig().Validate()); len(list) != 1 || list[0].Path != "url" {
		t.Errorf("without url: %v", list)
	}
}
