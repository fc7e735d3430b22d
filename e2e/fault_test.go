//go:build e2e

package e2e

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

// hurried is the section whisp with short times, so that the test has them too.
const hurried = `  timeouts: {dial: 1s, response_header: 2s, total: 5s}
  max_retry_wait: 500ms
  breaker: {failures: 1000}
`

// bound is timeouts.total above, and what a busy machine needs on top. Without
// any limit a hanging Whisp would hang us for ever.
const bound = 45 * time.Second

// A faulty Whisp gives a problem answer with its own code within the configured
// time; once Whisp is well the same session signs in, without any restart.
func TestFaultsOfWhisp(t *testing.T) {
	t.Parallel()
	front := &front{}
	st := newStack(t, setup{whisp: hurried, whispURL: front.listen(t)})
	front.serve(t, st.sim)
	st.login(t, "alice").signIn(t) // the account exists from here on

	fails := func(f whispsim.Fault) func() {
		f.Operation = "signIn"
		return func() { st.sim.Fail(f) }
	}
	heals := func() { st.sim.Heal("*") }
	for _, c := range []struct {
		name       string
		ail, fix   func()
		status     int
		code       string
		retryAfter string
	}{
		{"refused", front.down, func() { front.up(t) }, 503, "whisp_unreachable", ""},
		{"hanging", fails(whispsim.Fault{Hang: true}), heals, 503, "whisp_timeout", ""},
		{"500", fails(whispsim.Fault{Status: 500, Body: "oops"}), heals, 503, "whisp_failed", ""},
		{"503 without a body", fails(whispsim.Fault{Status: 503}), heals, 503, "whisp_failed", ""},
		{"429 with Retry-After", fails(whispsim.Fault{Status: 429, RetryAfter: "7"}), heals, 503, "whisp_rate_limited", "7"},
		{"garbage", fails(whispsim.Fault{Garbage: true}), heals, 502, "whisp_bad_answer", ""},
		{"no Authorization header", fails(whispsim.Fault{NoAuthorization: true}), heals, 502, "whisp_bad_answer", ""},
		{"cut in the middle", fails(whispsim.Fault{Drop: whispsim.DropMid}), heals, 503, "whisp_unreachable", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			alice := st.login(t, "alice")
			c.ail()
			within(t, bound, "the answer", func() {
				resp, body := alice.fetch(t, http.MethodPost, "/auth/whisp/sign-in", "")
				problem := decode[problemBody](t, body)
				if resp.StatusCode != c.status || problem.Code != c.code || problem.Message == "" || problem.RequestID == "" {
					t.Errorf("answered %s %s, want %d %s", resp.Status, body, c.status, c.code)
				}
				if got := resp.Header.Get("Retry-After"); c.retryAfter != "" && got != c.retryAfter {
					t.Errorf("Retry-After is %q, want %q", got, c.retryAfter)
				}
			})
			c.fix()
			eventually(t, "a sign-in once Whisp is well", func() bool {
				resp, _ := alice.fetch(t, http.MethodPost, "/auth/whisp/sign-in", "")
				return resp.StatusCode == http.StatusOK
			})
		})
	}
}

// A fault that passes is not seen at all where repeating is safe.
func TestRefreshOutlivesShortFaults(t *testing.T) {
	t.Parallel()
	st := newStack(t, setup{})
	alice := st.login(t, "alice")
	in := alice.signIn(t)
	st.sim.Fail(whispsim.Fault{Operation: "refreshToken", Status: 503, Times: 1})

	resp, body := alice.whisp(t, http.MethodPost, "auth/refresh", `{"expiredJwt":"`+in.JWT+`"}`, in.RefreshToken)
	if resp.StatusCode != http.StatusOK || len(resp.Header.Get("Authorization")) < len("Bearer ")+20 {
		t.Errorf("refresh over one 503: %s %s", resp.Status, body)
	}
}

// front is a server whose port can stop and start listening.
type front struct {
	address string
	handler http.Handler
	server  *httptest.Server
}

// listen picks the address; nothing listens there before serve.
func (f *front) listen(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.address = listener.Addr().String()
	_ = listener.Close()
	return "http://" + f.address
}

func (f *front) serve(t testing.TB, handler http.Handler) {
	t.Helper()
	f.handler = handler
	f.up(t)
	t.Cleanup(f.down)
}

func (f *front) up(t testing.TB) {
	t.Helper()
	listener, err := net.Listen("tcp", f.address)
	if err != nil {
		t.Fatal(err)
	}
	f.server = &httptest.Server{Listener: listener, Config: &http.Server{Handler: f.handler}}
	f.server.Start()
}

// down refuses new connections and cuts the old ones.
func (f *front) down() {
	f.server.CloseClientConnections()
	f.server.Close()
}
