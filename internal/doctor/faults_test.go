package doctor_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/doctor"
	"github.com/whisp-bff/whisp-bff/internal/oidcsim"
	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

// fault is one thing wrong with the world, and what the report must say of it:
// status, name, and parts of detail and advice.
type fault struct {
	name   string
	broken func(w *world)
	status doctor.Status
	check  string
	says   string
	advice string
}

func endpoint(at oidcsim.Endpoint, h http.HandlerFunc) func(*world) {
	return func(w *world) {
		w.provider.SetFaults(oidcsim.Faults{Endpoints: map[oidcsim.Endpoint]http.HandlerFunc{at: h}})
	}
}

func metadata(change func(map[string]any)) func(*world) {
	return func(w *world) { w.provider.SetFaults(oidcsim.Faults{Metadata: change}) }
}

// dated answers like h, by a clock that is off.
func dated(h http.Handler, off time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(off).UTC().Format(http.TimeFormat))
		h.ServeHTTP(w, r)
	})
}

// hang answers nothing. The examination must not wait for ever.
func (w *world) hang(at *swap) {
	at.set(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only a read body lets the server notice the client leaving
		<-r.Context().Done()
	}))
	w.timeout = 500 * time.Millisecond
}

func key(second string) func(*world) {
	return func(w *world) {
		w.file("second", second, 0o600)
		w.replace("{file: api-key}", "{file: second}")
	}
}

// overTLS puts a TLS server with a certificate of nobody we know in front of the app.
func overTLS(caFile bool, host string) func(*world) {
	return func(w *world) {
		server := httptest.NewUnstartedServer(&w.app)
		server.Config.ErrorLog = quiet()
		server.StartTLS()
		w.t.Cleanup(server.Close)
		address := strings.Replace(server.URL, "127.0.0.1", host, 1)
		ca := ""
		if caFile {
			w.file("ca.pem", pemOf(server.Certificate()), 0o600)
			ca = "\n  ca_file: " + filepath.Join(w.dir, "ca.pem")
		}
		w.replace("url: "+w.appURL, "url: "+address+ca)
	}
}

func caFile(content func() string) func(*world) {
	return func(w *world) {
		w.file("ca.pem", content(), 0o600)
		w.replace("whisp:\n", "whisp:\n  ca_file: "+filepath.Join(w.dir, "ca.pem")+"\n")
	}
}

var faults = []fault{
	{"provider down", func(w *world) { w.replace("issuer: "+w.issuer, "issuer: http://127.0.0.1:1") }, doctor.Fail, "login.discovery", "nothing listens at 127.0.0.1:1", "start it"},
	{"provider that does not resolve", func(w *world) { w.replace("issuer: "+w.issuer, "issuer: https://login.invalid") }, doctor.Fail, "login.discovery", "", ""},
	{"provider of another issuer", metadata(func(m map[string]any) { m["issuer"] = "https://other.example.com" }), doctor.Fail, "login.discovery", `metadata is of issuer "https://other.example.com"`, "exactly as the provider does"},
	{"issuer with a slash too many", func(w *world) { w.replace("issuer: "+w.issuer, "issuer: "+w.issuer+"/") }, doctor.Fail, "login.discovery", "metadata is of issuer", "slash at the end included"},
	{"provider answers 500", endpoint(oidcsim.Discovery, oidcsim.Status(500)), doctor.Fail, "login.discovery", "status 500", "/.well-known/openid-configuration"},
	{"provider answers garbage", endpoint(oidcsim.Discovery, oidcsim.Garbage()), doctor.Fail, "login.discovery", "not the JSON it should be", "/.well-known/openid-configuration"},
	{"provider hangs", func(w *world) { w.hang(&w.providerFront) }, doctor.Fail, "login.discovery", "does not answer in time", "firewall"},
	{"redirect URI while the provider is down", func(w *world) { w.replace("issuer: "+w.issuer, "issuer: http://127.0.0.1:1") }, doctor.Info, "login.redirect_uri", "was not asked", "register https://app.example.com/auth/callback"},
	{"no keys", endpoint(oidcsim.JWKS, answers(200, `{"keys":[]}`).ServeHTTP), doctor.Fail, "login.keys", "no usable key", "jwks_uri"},
	{"key set not found", endpoint(oidcsim.JWKS, oidcsim.Status(404)), doctor.Fail, "login.keys", "status 404", "jwks_uri"},
	{"keys of another algorithm", func(w *world) { w.replace("client_id: web", "client_id: web\n  signing_algorithms: [RS256]") }, doctor.Fail, "login.keys", "none of 1 keys goes with RS256", "login.signing_algorithms"},
	{"no S256", metadata(func(m map[string]any) { m["code_challenge_methods_supported"] = []string{"plain"} }), doctor.Warn, "login.pkce", "without S256", "at the provider"},
	{"PKCE not told", metadata(func(m map[string]any) { delete(m, "code_challenge_methods_supported") }), doctor.Info, "login.pkce", "does not tell", ""},
	{"scope nobody knows", func(w *world) { w.replace("client_id: web", "client_id: web\n  scopes: [openid, chat]") }, doctor.Warn, "login.scopes", "does not list chat", "login.scopes"},
	{"wrong client secret", func(w *world) { w.file("client-secret", "hunter2-another-secret", 0o600) }, doctor.Fail, "login.client", "refuses client_id or client_secret", "the client's page"},
	{"unknown client", func(w *world) { w.replace("client_id: web", "client_id: nobody") }, doctor.Fail, "login.client", "refuses client_id", "the client's page"},
	{"client refused in other words", endpoint(oidcsim.Token, oidcsim.OAuthError(401, "access_denied")), doctor.Fail, "login.client", "refuses client_id or client_secret", "the client's page"},
	{"a clock that a cache kept", func(w *world) {
		stale := dated(w.provider, -time.Hour)
		w.providerFront.set(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Age", "3600")
			stale.ServeHTTP(rw, r)
		}))
	}, doctor.Info, "login.clock", "not verified", ""},
	{"client that is not looked at", endpoint(oidcsim.Token, oidcsim.OAuthError(400, "invalid_grant")), doctor.Info, "login.client", "not verified", ""},
	{"token endpoint fails", endpoint(oidcsim.Token, oidcsim.Status(503)), doctor.Info, "login.client", "not verified", ""},
	{"redirect URI not registered", func(w *world) { w.replace("https://app.example.com", "https://www.example.com") }, doctor.Fail, "login.redirect_uri", "status 400", "register https://www.example.com/auth/callback"},
	{"redirect URI not told", endpoint(oidcsim.Authorize, oidcsim.Status(200)), doctor.Info, "login.redirect_uri", "not verified", "register https://app.example.com/auth/callback"},
	{"authorization endpoint sends elsewhere", endpoint(oidcsim.Authorize, oidcsim.Redirect("https://evil.example.com/auth/callback?x=hunter2")), doctor.Info, "login.redirect_uri", "not verified", "register"},
	{"provider's clock ahead", func(w *world) { w.providerFront.set(dated(w.provider, time.Hour)) }, doctor.Fail, "login.clock", "ahead of this machine's clock, 30s is tolerated", "NTP"},
	{"provider's clock behind", func(w *world) { w.providerFront.set(dated(w.provider, -time.Hour)) }, doctor.Fail, "login.clock", "behind this machine's clock", "NTP"},

	{"issuer of bearer tokens down", func(w *world) {
		w.add(`identity: {sources: [bearer], bearer: [{issuer: "http://127.0.0.1:1", audience: [web]}]}`)
	}, doctor.Fail, "identity.bearer[0]", "nothing listens", "start it"},
	{"issuer of bearer tokens is right", func(w *world) {
		w.add(`identity: {sources: [bearer], bearer: [{issuer: "` + w.issuer + `", audience: [web]}]}`)
	}, doctor.OK, "identity.bearer[0]", "1 of 1 keys", ""},
	{"bearer algorithm of no key", func(w *world) {
		w.add(`identity: {sources: [bearer], bearer: [{issuer: "` + w.issuer + `", audience: [web], algorithms: [RS256]}]}`)
	}, doctor.Fail, "identity.bearer[0]", "none of 1 keys", "list the algorithm"},
	{"introspection lets everybody in", introspection(200, `{"active":true,"sub":"x"}`), doctor.Fail, "identity.introspection", "takes a made-up token for good", "do not serve"},
	{"introspection refuses us", introspection(401, `{}`), doctor.Fail, "identity.introspection", "refuses our client_id", "compare url, client_id"},
	{"introspection is right", introspection(200, `{"active":false}`), doctor.OK, "identity.introspection", "does not know a made-up token", ""},
	{"app session lets everybody in", appSession(200, `{"id":"root"}`), doctor.Fail, "identity.app_session", "knows somebody by a made-up cookie", "do not serve"},
	{"app session fails", appSession(500, `{}`), doctor.Fail, "identity.app_session", "500", "the endpoint must answer"},

	{"Whisp down", func(w *world) { w.replace(w.whispURL, "http://127.0.0.1:1") }, doctor.Fail, "whisp.url", "nothing listens at 127.0.0.1:1", "start it"},
	{"Whisp is a black hole", func(w *world) { w.hang(&w.whispFront) }, doctor.Fail, "whisp.url", "does not answer in time", "firewall"},
	{"Whisp answers 503", func(w *world) { w.whisp.Fail(whispsim.Fault{Operation: "*", Status: 503}) }, doctor.Warn, "whisp.url", "answers 503", "try again"},
	{"Whisp is something else", func(w *world) { w.whispFront.set(http.NotFoundHandler()) }, doctor.Fail, "whisp.url", "does not answer like Whisp (status 404)", "base URL"},
	{"Whisp's clock", func(w *world) { w.whispFront.set(dated(w.whisp, -10*time.Minute)) }, doctor.Fail, "whisp.clock", "behind this machine's clock", "NTP"},
	{"key refused", key("wk-hunter2-revoked"), doctor.Fail, "whisp.api_keys[0]", "refuses it (401)", "Whisp console"},
	{"key refused with 403", func(w *world) {
		w.startWhisp(whispsim.Config{KeyRefusedStatus: 403})
		key("wk-hunter2-revoked")(w)
	}, doctor.Fail, "whisp.api_keys[0]", "refuses it (403)", "Whisp console"},
	{"one of two keys refused", func(w *world) {
		w.file("second", "wk-hunter2-revoked", 0o600)
		w.replace("[{file: api-key}]", "[{file: second}, {file: api-key}]")
	}, doctor.Warn, "whisp.api_keys[0]", "refuses it (401)", "Whisp console"},
	{"keys are not looked at", func(w *world) { w.whispFront.set(answers(400, `{"message":"username"}`)) }, doctor.Info, "whisp.api_keys[0]", "not verified", ""},
	{"key known and not allowed", func(w *world) {
		w.whispFront.set(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			status := http.StatusUnauthorized
			if r.Header.Get("X-Api-Key") == apiKey {
				status = http.StatusForbidden
			}
			rw.WriteHeader(status)
		}))
	}, doctor.Warn, "whisp.api_keys[0]", "known, and not allowed", "plan"},

	{"app down", func(w *world) { w.replace("url: "+w.appURL, "url: http://127.0.0.1:1") }, doctor.Fail, "app.url", "nothing listens at 127.0.0.1:1", "start it"},
	{"app answers 500", func(w *world) { w.app.set(answers(500, "")) }, doctor.Warn, "app.url", "answers 500", "the app's log"},
	{"app refuses the host", func(w *world) { w.app.set(answers(403, "")) }, doctor.Warn, "app.url", "answers 403 to Host: app.example.com", "preserve_host"},
	{"app hangs up", func(w *world) {
		w.app.set(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	}, doctor.Fail, "app.url", "ends the connection without an answer", "log"},
	{"app speaks another protocol", func(w *world) { w.replace("url: "+w.appURL, "url: http://"+garbage(w.t)) }, doctor.Fail, "app.url", "malformed HTTP", "another port"},
	{"app does not speak TLS", func(w *world) { w.replace("url: http://", "url: https://") }, doctor.Fail, "app.url", "does not speak TLS", "http://"},
	{"app's certificate is nobody's", overTLS(false, "127.0.0.1"), doctor.Fail, "app.url", "signed by nobody this machine trusts", "app.ca_file"},
	{"app's certificate is for another name", overTLS(true, "localhost"), doctor.Fail, "app.url", "for another name", "name"},
	{"app's certificate is right", overTLS(true, "127.0.0.1"), doctor.OK, "app.ca_file", "1 certificates, valid until", ""},

	{"CA file missing", func(w *world) { w.replace("whisp:\n", "whisp:\n  ca_file: /nowhere/ca.pem\n") }, doctor.Fail, "whisp.ca_file", "no such file", "correct the path"},
	{"CA file expired", caFile(func() string { return certificateUntil(-time.Hour) }), doctor.Fail, "whisp.ca_file", "expired on", "new certificate"},
	{"CA file expires soon", caFile(func() string { return certificateUntil(48 * time.Hour) }), doctor.Warn, "whisp.ca_file", "expires on", "next certificate"},
	{"CA file is none", caFile(func() string { return "hello" }), doctor.Fail, "whisp.ca_file", "no PEM certificate", "BEGIN CERTIFICATE"},

	{"name that does not resolve", func(w *world) {
		w.resolve = func(context.Context, string) ([]string, error) { return nil, &net.DNSError{IsNotFound: true} }
	}, doctor.Warn, "public_url.dns", "app.example.com does not resolve here", "where the browsers are"},
	{"http on loopback", func(w *world) { w.replace("https://app.example.com", "http://localhost:8080") }, doctor.Info, "public_url", "session cookie whisp-session", "https"},
	{"listener in use", func(w *world) {
		w.replace(`listen: "127.0.0.1:0"`, fmt.Sprintf("listen: %q", strings.TrimPrefix(w.appURL, "http://")))
	}, doctor.Info, "server.listen", "is in use", "if whisp-bff is running here"},
	{"listener on an address of nobody", func(w *world) { w.replace(`listen: "127.0.0.1:0"`, `listen: "192.0.2.7:8080"`) }, doctor.Fail, "server.listen", "no address of this machine", ":port"},
	{"secret that everybody reads", func(w *world) { w.file("api-key", apiKey, 0o644) }, doctor.Warn, "configuration", "whisp.api_keys[0] names the file api-key, which every user of this machine can read", "0400"},
	{"secret in the file", func(w *world) { w.replace("{file: master-secret}", "{value: "+masterSecret+"}") }, doctor.Warn, "configuration", "account.master_secrets[0] written into the file itself", "{env: …}"},
	{"memory", func(*world) {}, doctor.Info, "store", "in memory", "kind: redis"},
}

// garbage is a server that says what no HTTP client wants to hear, at length.
func garbage(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = http.ReadRequest(bufio.NewReader(conn)) // whatever it is
			_, _ = io.WriteString(conn, "\x1b[2J"+strings.Repeat("garbage ", 100)+"\r\n\r\n")
			_ = conn.Close()
		}
	}()
	return listener.Addr().String()
}

func introspection(status int, body string) func(*world) {
	return func(w *world) {
		url := serve(w.t, answers(status, body))
		w.file("introspection", "hunter2-introspection", 0o600)
		w.add(`identity: {sources: [introspection], introspection: {url: "` + url + `", issuer: x, client_id: c, client_secret: {file: introspection}, any_audience: true}}`)
	}
}

func appSession(status int, body string) func(*world) {
	return func(w *world) {
		w.app.set(answers(status, body))
		w.add(`identity: {sources: [app_session], app_session: {url: /me, cookies: [sid], issuer: x, subject: id}}`)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			f.broken(w)
			f.found(t, w.examine())
		})
	}
}

// found fails the test unless the report says what it must.
func (f fault) found(t *testing.T, report doctor.Report) {
	t.Helper()
	for _, found := range report.Findings {
		if found.Name == f.check && found.Status == f.status && strings.Contains(found.Detail, f.says) && strings.Contains(found.Advice, f.advice) {
			if f.status == doctor.Fail && report.OK {
				t.Error("the report is ok")
			}
			return
		}
	}
	t.Errorf("not found: %s %s: %q → %q in\n%s", f.status, f.check, f.says, f.advice, lines(report))
}
