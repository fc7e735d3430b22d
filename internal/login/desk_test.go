package login_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/whisp-bff/whisp-bff/internal/login"
	"github.com/whisp-bff/whisp-bff/internal/oidcsim"
	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	issuer = "https://login.example.com/realms/acme"
	public = "https://app.example.com"
)

// desk is a relying party, its provider, a browser's login cookies and a log,
// in a synctest bubble: time is fake, so nobody ever waits.
type desk struct {
	*login.RelyingParty
	t        *testing.T
	provider *oidcsim.Provider
	once     *memoryOnce
	log      *lockedBuffer
	cookies  map[string]*http.Cookie
}

type setup struct {
	provider oidcsim.Config
	login    login.Config
	deps     login.Deps
}

// inBubble runs body in a bubble, with a desk that change has adjusted.
func inBubble(t *testing.T, change func(*setup), body func(t *testing.T, d *desk)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { body(t, newDesk(t, change)) })
}

func newDesk(t *testing.T, change func(*setup)) *desk {
	t.Helper()
	d := &desk{t: t, once: &memoryOnce{seen: map[string]bool{}}, log: &lockedBuffer{}, cookies: map[string]*http.Cookie{}}
	s := setup{
		provider: oidcsim.Config{
			Issuer: issuer,
			Clients: []oidcsim.Client{{
				ID: "web", Secret: secret.New("client-secret-value"), RedirectURIs: []string{public + "/auth/callback"},
				PostLogoutRedirectURIs: []string{public + "/"},
			}},
			TrustLoginHint: true, RefreshWithoutScope: true, Clock: time.Now, Rand: rand.Reader,
		},
		login: login.DefaultConfig(),
	}
	s.login.Issuer = setting.MustURL(issuer)
	s.login.ClientID = "web"
	s.login.ClientSecret = setting.SecretValue("client-secret-value")
	s.login.ExtraAuthorizeParams = map[string]string{"login_hint": "alice"}
	s.deps = login.Deps{
		Logger: slog.New(slog.NewJSONHandler(d.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Clock:  time.Now, Rand: rand.Reader, PublicURL: setting.MustURL(public), Once: d.once,
		StateKeys: []secret.Text{secret.New(strings.Repeat("k", 32))},
	}
	if change != nil {
		change(&s)
	}
	var err error
	if d.provider, err = oidcsim.New(s.provider); err != nil {
		t.Fatal(err)
	}
	if s.deps.Transport == nil {
		s.deps.Transport = inMemory{d.provider}
	}
	if d.RelyingParty, err = login.New(s.login, s.deps); err != nil {
		t.Fatal(err)
	}
	return d
}

// begin starts a login in this browser and returns the callback's query, as the
// provider's redirect carries it.
func (d *desk) begin(returnTo string) url.Values {
	d.t.Helper()
	start, err := d.Begin(d.t.Context(), returnTo, d.jar())
	if err != nil {
		d.t.Fatal(err)
	}
	d.take(start.SetCookies)
	return d.visit(start.URL)
}

// visit follows the authorization request, logged in by its login_hint.
func (d *desk) visit(address string) url.Values {
	d.t.Helper()
	recorder := httptest.NewRecorder()
	d.provider.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, address, nil))
	location, err := recorder.Result().Location()
	if err != nil {
		d.t.Fatalf("the provider did not redirect: %d %s", recorder.Code, recorder.Body)
	}
	if got := location.Scheme + "://" + location.Host + location.Path; got != public+"/auth/callback" {
		d.t.Fatalf("redirected to %s", got)
	}
	return location.Query()
}

func (d *desk) finish(query url.Values) (login.Finished, error) {
	finished, err := d.Finish(d.t.Context(), query, d.jar())
	d.take(finished.SetCookies)
	return finished, err
}

func (d *desk) jar() []*http.Cookie {
	var list []*http.Cookie
	for _, c := range d.cookies {
		list = append(list, &http.Cookie{Name: c.Name, Value: c.Value})
	}
	return list
}

func (d *desk) take(set []*http.Cookie) {
	for _, c := range set {
		if c.MaxAge < 0 {
			delete(d.cookies, c.Name)
		} else {
			d.cookies[c.Name] = c
		}
	}
}

func (d *desk) faults(f oidcsim.Faults) { d.provider.SetFaults(f) }

func fails(endpoint oidcsim.Endpoint, how http.HandlerFunc) oidcsim.Faults {
	return oidcsim.Faults{Endpoints: map[oidcsim.Endpoint]http.HandlerFunc{endpoint: how}}
}

// wantCode checks that err is the problem with that code, and that nothing of
// query can be read in it or in the log.
func (d *desk) wantCode(err error, code string, query url.Values) {
	d.t.Helper()
	if err == nil {
		d.t.Fatalf("no error, want %s", code)
	}
	if got := problem.From(err).Code; got != code {
		d.t.Errorf("problem %s (%v), want %s", got, err, code)
	}
	d.wantSilence(err, query)
}

func (d *desk) wantSilence(err error, query url.Values) {
	d.t.Helper()
	text := d.log.String()
	if err != nil {
		text += err.Error()
	}
	for _, name := range []string{"state", "code"} {
		if value := query.Get(name); len(value) > 8 && strings.Contains(text, value) {
			d.t.Errorf("%s appears in an error or in the log", name)
		}
	}
	for _, cookie := range d.cookies {
		if strings.Contains(text, cookie.Value) {
			d.t.Error("a cookie value appears in an error or in the log")
		}
	}
	if strings.Contains(text, "client-secret-value") || strings.Contains(text, "eyJ") {
		d.t.Errorf("a secret or token appears in an error or in the log: %s", text)
	}
}

// inMemory is a transport without a network: it calls the handler.
type inMemory struct{ handler http.Handler }

func (m inMemory) RoundTrip(r *http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	inner := r.Clone(r.Context())
	inner.RequestURI = r.URL.RequestURI()
	if inner.Body == nil {
		inner.Body = http.NoBody
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.handler.ServeHTTP(recorder, inner)
	}()
	select {
	case <-done:
		response := recorder.Result()
		response.Request = r
		return response, nil
	case <-r.Context().Done():
		<-done // handlers of oidcsim end with the request
		return nil, r.Context().Err()
	}
}

// broken is a transport to a provider that is down.
type broken struct{}

func (broken) RoundTrip(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }

type memoryOnce struct {
	mu   sync.Mutex
	seen map[string]bool
	err  error
}

func (o *memoryOnce) SetIfAbsent(_ context.Context, key string, _ []byte, ttl time.Duration) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return false, o.err
	}
	if !strings.HasPrefix(key, "login:") && !strings.HasPrefix(key, "logout-token:") || ttl < 10*time.Minute || ttl > 20*time.Minute {
		return false, io.ErrNoProgress
	}
	first := !o.seen[key]
	o.seen[key] = true
	return first, nil
}

func (o *memoryOnce) Has(_ context.Context, key string) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seen[key] && o.err == nil, o.err
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
