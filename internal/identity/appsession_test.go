package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// clock is one that tests step.
type clock struct{ now atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.now.Store(time.Unix(1_800_000_000, 0).UnixNano())
	return c
}

func (c *clock) time() time.Time         { return time.Unix(0, c.now.Load()) }
func (c *clock) step(d time.Duration)    { c.now.Add(int64(d)) }
func appCookies(line string) http.Header { return http.Header{"Cookie": {line}} }

func appSessionConfig() AppSessionConfig {
	cfg := DefaultAppSessionConfig()
	cfg.URL = "/me?fields=user"
	cfg.Cookies = []string{"sid", "auth.token*"}
	cfg.Issuer = "https://app.example.com"
	cfg.Subject = "user.id"
	cfg.Expires = "expires"
	cfg.Claims = map[string]string{"email": "user.email", "groups": "user.groups", "first": "user.groups[0]"}
	return cfg
}

// appLab is an app, and a source that asks it.
type appLab struct {
	source  *AppSession
	clock   *clock
	app     *httptest.Server
	asked   atomic.Int64
	metrics *prometheus.Registry
}

func newAppLab(t testing.TB, change func(*AppSessionConfig, *AppSite), answer http.HandlerFunc) *appLab {
	t.Helper()
	lab := &appLab{clock: newClock(), metrics: prometheus.NewRegistry()}
	lab.app = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		lab.asked.Add(1)
		answer(w, r)
	}))
	cfg := appSessionConfig()
	site := AppSite{PublicURL: setting.MustURL("https://app.example.com"), URL: setting.MustURL(lab.app.URL), PreserveHost: true}
	if change != nil {
		change(&cfg, &site)
	}
	var err error
	lab.source, err = NewAppSession(cfg, site, Deps{Logger: slog.New(slog.DiscardHandler), Clock: lab.clock.time, Metrics: lab.metrics})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		lab.source.Close()
		lab.app.Close()
	})
	return lab
}

func (l *appLab) identify(t testing.TB, cookies string) (Answer, error) {
	t.Helper()
	return l.source.Identify(t.Context(), from("192.0.2.1:1", appCookies(cookies)))
}

func answerJSON(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = io.WriteString(w, body)
	}
}

func answerStatus(status int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"user":{"id":"u-1"}}`) // whatever the status, the body would name somebody
	}
}

func answerAs(media, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", media)
		_, _ = io.WriteString(w, body)
	}
}

// TestAppSessionAnswers: each answer an app can give (security.md 36).
func TestAppSessionAnswers(t *testing.T) {
	const json1 = "application/json"
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"somebody":                   {answerJSON(`{"user":{"id":"u-1"}}`), "u-1"},
		"a number":                   {answerJSON(`{"user":{"id":9007199254740993}}`), "9007199254740993"},
		"problem+json is JSON":       {answerAs("application/hal+json", `{"user":{"id":"u-1"}}`), "u-1"},
		"session goes on":            {answerJSON(`{"user":{"id":"u-1"},"expires":"2027-01-15T08:00:01Z"}`), "u-1"},
		"session ends, milliseconds": {answerJSON(`{"user":{"id":"u-1"},"expires":1800000001000}`), "u-1"},
		"null":                       {answerJSON(`null`), "session_required"},
		"null user":                  {answerJSON(`{"user":null}`), "session_required"},
		"false user":                 {answerJSON(`{"user":false}`), "session_required"},
		"no user":                    {answerJSON(`{}`), "session_required"},
		"a list":                     {answerJSON(`[]`), "session_required"},
		"an empty subject":           {answerJSON(`{"user":{"id":""}}`), "session_required"},
		"a null subject":             {answerJSON(`{"user":{"id":null}}`), "session_required"},
		"the anonymous 0":            {answerJSON(`{"user":{"id":0}}`), "session_required"},
		"the anonymous text 0":       {answerJSON(`{"user":{"id":"0"}}`), "session_required"},
		"an empty body":              {answerJSON(``), "session_required"},
		"no content":                 {answerStatus(http.StatusNoContent), "session_required"},
		"an expired session":         {answerJSON(`{"user":{"id":"u-1"},"expires":"2027-01-15T08:00:00Z"}`), "session_required"},
		"an expired session, Unix":   {answerJSON(`{"user":{"id":"u-1"},"expires":1799999999}`), "session_required"},
		"400":                        {answerStatus(400, "Content-Type", json1), "session_required"},
		"401":                        {answerStatus(401, "Content-Type", json1), "session_required"},
		"403":                        {answerStatus(403, "Content-Type", json1), "session_required"},
		"404":                        {answerStatus(404, "Content-Type", json1), "session_required"},
		"419":                        {answerStatus(419, "Content-Type", json1), "session_required"},
		"a redirect to login":        {answerStatus(302, "Location", "/login", "Content-Type", json1), "session_required"},
		"a 304":                      {answerStatus(304), "session_required"},
		"a login page":               {answerAs("text/html; charset=utf-8", `<html>Sign in</html>`), "session_required"},
		"JSON that says it is HTML":  {answerAs("text/html", `{"user":{"id":"u-1"}}`), "session_required"},
		"JSON with a broken type":    {answerAs(";", `{"user":{"id":"u-1"}}`), "session_required"},
		"a true subject":             {answerJSON(`{"user":{"id":true}}`), "credential_refused"},
		"an object as subject":       {answerJSON(`{"user":{"id":{"$oid":"1"}}}`), "credential_refused"},
		"1.0":                        {answerJSON(`{"user":{"id":1.0}}`), "credential_refused"},
		"1e3":                        {answerJSON(`{"user":{"id":1e3}}`), "credential_refused"},
		"-0":                         {answerJSON(`{"user":{"id":-0}}`), "credential_refused"},
		"a line break":               {answerJSON(`{"user":{"id":"a\r\nX-Admin: 1"}}`), "credential_refused"},
		"a NUL":                      {answerJSON(`{"user":{"id":"a\u0000"}}`), "credential_refused"},
		"a long subject":             {answerJSON(`{"user":{"id":"` + strings.Repeat("u", 256) + `"}}`), "credential_refused"},
		"an odd expires":             {answerJSON(`{"user":{"id":"u-1"},"expires":"tomorrow"}`), "identity_unavailable"},
		"broken JSON":                {answerJSON(`{"user":{"id":"u-1"}`), "identity_unavailable"},
		"two documents":              {answerJSON(`{"user":{"id":"u-1"}}{"user":{"id":"u-2"}}`), "identity_unavailable"},
		"500":                        {answerStatus(500, "Content-Type", json1), "identity_unavailable"},
		"503":                        {answerStatus(503, "Content-Type", json1, "Retry-After", "7"), "identity_unavailable"},
		"429":                        {answerStatus(429, "Content-Type", json1, "Retry-After", "7"), "identity_unavailable"},
		"405":                        {answerStatus(405, "Content-Type", json1), "identity_unavailable"},
		"a shared cache's":           {answerStatus(200, "Content-Type", json1, "Age", "12"), "identity_unavailable"},
		"fresh from a shared cache":  {answerStatus(200, "Content-Type", json1, "Age", "0"), "u-1"},
		"just small enough":          {answerJSON(`{"user":{"id":"u-1"}}` + strings.Repeat(" ", 64<<10-21)), "u-1"},
		"too large":                  {answerJSON(`{"user":{"id":"u-1"}}` + strings.Repeat(" ", 64<<10-20)), "identity_unavailable"},
		"10 MB":                      {answerJSON(strings.Repeat(" ", 10<<20)), "identity_unavailable"},
		"deeply nested":              {answerJSON(strings.Repeat("[", 20_000)), "identity_unavailable"},
		"a connection that breaks":   {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "identity_unavailable"},
		"an answer that breaks off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", json1)
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"user":{"id":"u-1"}}`)
		}, "identity_unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			lab := newAppLab(t, nil, tt.answer)
			answer, err := lab.identify(t, "sid=abc")
			if got := outcome(answer, err); got != tt.want {
				t.Errorf("%s (%v), want %s", got, err, tt.want)
			}
			if err != nil && tt.want == "identity_unavailable" && strings.Contains(name, "29") && problem.From(err).RetryAfter != 7*time.Second {
				t.Errorf("retry after %s", problem.From(err).RetryAfter)
			}
			if lab.asked.Load() == 0 {
				t.Error("the app was not asked")
			}
		})
	}
}

func TestAppSessionUnreachable(t *testing.T) {
	lab := newAppLab(t, nil, answerJSON(`{}`))
	lab.app.Close()
	if _, err := lab.identify(t, "sid=abc"); problem.From(err).Code != "identity_unavailable" {
		t.Errorf("%v", err)
	}
}

func TestAppSessionSlow(t *testing.T) {
	hold := make(chan struct{})
	lab := newAppLab(t, func(c *AppSessionConfig, _ *AppSite) { c.Timeout = setting.Duration(100 * time.Millisecond) },
		func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"user":`)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-hold:
			case <-r.Context().Done():
			}
		})
	defer close(hold)
	if _, err := lab.identify(t, "sid=abc"); problem.From(err).Code != "identity_unavailable" {
		t.Errorf("%v", err)
	}
}

// TestAppSessionCookies: only the listed cookies leave, byte for byte, and
// nothing else of the request does.
func TestAppSessionCookies(t *testing.T) {
	for name, tt := range map[string]struct {
		cookies []string
		want    string // "": skipped
	}{
		"one":                       {[]string{"sid=abc"}, "sid=abc"},
		"among others":              {[]string{"a=1; sid=abc; b=2"}, "sid=abc"},
		"split":                     {[]string{"auth.token.0=x; a=1; auth.token.1=y"}, "auth.token.0=x; auth.token.1=y"},
		"in their order":            {[]string{"auth.token.1=y; sid=abc; auth.token.0=x"}, "auth.token.1=y; sid=abc; auth.token.0=x"},
		"several lines (h2)":        {[]string{"a=1", "sid=abc", "auth.token=x"}, "sid=abc; auth.token=x"},
		"twice":                     {[]string{"sid=abc; sid=def"}, "sid=abc; sid=def"},
		"odd bytes":                 {[]string{`sid="a,b\\c"={}; x=1`}, `sid="a,b\\c"={}`},
		"no spaces":                 {[]string{"a=1;sid=abc;b=2"}, "sid=abc"},
		"none":                      {[]string{"a=1; b=2"}, ""},
		"no cookies":                {nil, ""},
		"another's beginning":       {[]string{"sidx=abc; Sid=abc; auth.toke=1"}, ""},
		"a name without value":      {[]string{"sid; a=sid=abc"}, ""},
		"all empty":                 {[]string{"sid=; auth.token= "}, ""},
		"one is filled":             {[]string{"sid=; auth.token=x"}, "sid=; auth.token=x"},
		"ours are not the app's":    {[]string{"__Host-whisp-session=secret; whisp-session=s; own=1; sid=abc"}, "sid=abc"},
		"and are no reason to ask":  {[]string{"__Host-whisp-session=secret; own=1"}, ""},
		"white space around a name": {[]string{"sid =abc"}, "sid =abc"},
	} {
		t.Run(name, func(t *testing.T) {
			var seen http.Header
			lab := newAppLab(t, func(c *AppSessionConfig, s *AppSite) {
				c.Cookies = append(c.Cookies, "__Host-*", "o*") // too generous
				s.OwnCookies = []string{"own"}
			}, func(w http.ResponseWriter, r *http.Request) {
				seen = r.Header.Clone()
				answerJSON(`{"user":{"id":"u-1"}}`)(w, r)
			})
			answer, err := lab.source.Identify(t.Context(), from("192.0.2.1:1", http.Header{"Cookie": tt.cookies}))
			if got := outcome(answer, err); (got == "skip") != (tt.want == "") {
				t.Errorf("%s, %v", got, err)
			}
			if got := strings.Join(seen["Cookie"], "|"); got != tt.want {
				t.Errorf("the app got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestAppSessionQuestion(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*AppSessionConfig, *AppSite)
		line   string
		host   string // "" is the app's own
		more   http.Header
	}{
		"path": {func(*AppSessionConfig, *AppSite) {}, "GET /me?fields=user", "app.example.com", nil},
		"path, host not kept": {func(_ *AppSessionConfig, s *AppSite) { s.PreserveHost = false },
			"GET /me?fields=user", "", nil},
		"absolute URL": {func(c *AppSessionConfig, s *AppSite) {
			c.URL, s.URL = s.URL.String()+"/who", setting.MustURL("http://127.0.0.1:1")
		}, "GET /who", "", nil},
		"POST": {func(c *AppSessionConfig, _ *AppSite) { c.Method = "POST" }, "POST /me?fields=user", "app.example.com",
			http.Header{"Origin": {"https://app.example.com"}, "Content-Length": {"0"}}},
		"more headers": {func(c *AppSessionConfig, _ *AppSite) {
			c.Headers = map[string]string{"accept": "application/vnd.acme+json"}
			c.SecretHeaders = map[string]setting.Secret{"Authorization": setting.SecretValue("Bearer key")}
		}, "GET /me?fields=user", "app.example.com", http.Header{"Accept": {"application/vnd.acme+json"}, "Authorization": {"Bearer key"}}},
	} {
		t.Run(name, func(t *testing.T) {
			var seen *http.Request
			lab := newAppLab(t, tt.change, func(w http.ResponseWriter, r *http.Request) {
				seen = r
				w.Header().Set("Set-Cookie", "sid=rolled")
				answerJSON(`{"user":{"id":"u-1","email":"a@example.com","groups":["x","y"],"password":"p"},"expires":"2027-01-15T09:00:00Z"}`)(w, r)
			})
			r := from("192.0.2.1:1", http.Header{"Cookie": {"sid=abc"}, "Authorization": {"Bearer browser"}, "X-Forwarded-For": {"1.2.3.4"},
				"X-Forwarded-Host": {"evil.example.com"}, "User-Agent": {"Browser"}, "Origin": {"https://evil.example.com"}})
			answer, err := lab.source.Identify(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if got := seen.Method + " " + seen.URL.String(); got != tt.line {
				t.Errorf("asked %s, want %s", got, tt.line)
			}
			if want := strings.TrimPrefix(lab.app.URL, "http://"); seen.Host != tt.host && (tt.host != "" || seen.Host != want) {
				t.Errorf("Host %s", seen.Host)
			}
			want := http.Header{"Accept": {"application/json"}, "Cache-Control": {"no-cache"}, "User-Agent": {"whisp-bff"},
				"X-Requested-With": {"XMLHttpRequest"}, "X-Forwarded-Host": {"app.example.com"}, "X-Forwarded-Proto": {"https"},
				"X-Whisp-Bff-Asks": {"1"}, "Cookie": {"sid=abc"}}
			for name, values := range tt.more {
				want[name] = values
			}
			if !reflect.DeepEqual(seen.Header, want) {
				t.Errorf("headers\n%v, want\n%v", seen.Header, want)
			}
			claims := map[string]any{"iss": "https://app.example.com", "sub": "u-1", "email": "a@example.com", "groups": []any{"x", "y"}, "first": "x"}
			if !reflect.DeepEqual(answer.Identity.Claims, claims) || answer.Expires.Unix() != 1_800_003_600 {
				t.Errorf("%+v", answer)
			}
		})
	}
}

// TestAppSessionCache: an answer counts for exactly the cookies it was given
// for, and not for long.
func TestAppSessionCache(t *testing.T) {
	lab := newAppLab(t, nil, func(w http.ResponseWriter, r *http.Request) {
		// Every difference between cookies is a difference between people.
		quoted, _ := json.Marshal(strings.Join(r.Header["Cookie"], "|"))
		expires := "null"
		if strings.Contains(r.Header.Get("Cookie"), "ends") {
			expires = "1800000002"
		}
		if strings.Contains(r.Header.Get("Cookie"), "anonymous") {
			quoted = []byte("null")
		}
		answerJSON(fmt.Sprintf(`{"user":{"id":%s},"expires":%s}`, quoted, expires))(w, r)
	})
	ask := func(cookies string, want int64) {
		t.Helper()
		before := lab.asked.Load()
		answer, err := lab.identify(t, cookies)
		if got := outcome(answer, err); got != cookies && got != "session_required" {
			t.Errorf("%q is answered with another's %q (%v)", cookies, got, err)
		}
		if asked := lab.asked.Load() - before; asked != want {
			t.Errorf("%q asked the app %d times, want %d", cookies, asked, want)
		}
	}
	for _, cookies := range []string{"sid=a", "sid=b", "sid=a; auth.token=b", "auth.token=b; sid=a", "sid=a; sid=b", "sid=a; auth.token.0=b", "sid=anonymous", "sid=ends"} {
		ask(cookies, 1)
		ask(cookies, 0)
	}
	lab.clock.step(time.Second)
	ask("sid=anonymous", 1)
	ask("sid=a", 0)
	lab.clock.step(time.Second)
	ask("sid=ends", 1) // the session is over at its end, cached or not
	lab.clock.step(999 * time.Millisecond)
	ask("sid=a", 0)
	lab.clock.step(time.Millisecond)
	ask("sid=a", 1)
	lab.clock.step(-time.Hour) // what is kept from the future is not believed
	ask("sid=a", 1)
	if got := testutil.ToFloat64(lab.source.outcomes.WithLabelValues("cached")); got != 10 {
		t.Errorf("%v answers from the cache", got)
	}
}

func TestAppSessionCacheOff(t *testing.T) {
	lab := newAppLab(t, func(c *AppSessionConfig, _ *AppSite) { c.Cache = 0 }, answerJSON(`{"user":{"id":"u-1"}}`))
	for range 3 {
		if answer, err := lab.identify(t, "sid=abc"); outcome(answer, err) != "u-1" {
			t.Fatal(err)
		}
	}
	if lab.asked.Load() != 3 {
		t.Errorf("asked %d times", lab.asked.Load())
	}
}

// TestAppSessionTroubleIsNotKept: the app heals, and so do we.
func TestAppSessionTroubleIsNotKept(t *testing.T) {
	var healthy atomic.Bool
	lab := newAppLab(t, nil, func(w http.ResponseWriter, r *http.Request) {
		if !healthy.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		answerJSON(`{"user":{"id":"u-1"}}`)(w, r)
	})
	if _, err := lab.identify(t, "sid=abc"); problem.From(err).Code != "identity_unavailable" {
		t.Fatalf("%v", err)
	}
	healthy.Store(true)
	if answer, err := lab.identify(t, "sid=abc"); outcome(answer, err) != "u-1" {
		t.Errorf("%v", err)
	}
}

// TestAppSessionOneQuestion: a page's many requests ask once; another browser's
// neither wait for its answer nor get it.
func TestAppSessionOneQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		asked := map[string]int{}
		var mu sync.Mutex
		cfg := appSessionConfig()
		cfg.Cache = 0
		source, err := NewAppSession(cfg, AppSite{PublicURL: setting.MustURL("https://app.example.com"), URL: setting.MustURL("http://app.invalid")},
			Deps{Clock: time.Now, Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				cookie, err := r.Cookie("sid")
				if err != nil {
					return nil, err
				}
				mu.Lock()
				asked[cookie.Value]++
				mu.Unlock()
				<-hold
				return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}},
					Body: io.NopCloser(strings.NewReader(`{"user":{"id":"` + cookie.Value + `"}}`))}, nil
			})})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 50 {
			for _, who := range []string{"alice", "bob"} {
				wg.Go(func() {
					if answer, err := source.Identify(t.Context(), from("192.0.2.1:1", appCookies("sid="+who))); outcome(answer, err) != who {
						t.Errorf("%s is %+v, %v", who, answer, err)
					}
				})
			}
		}
		synctest.Wait() // all of them ask or wait
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := source.Identify(gone, from("192.0.2.1:1", appCookies("sid=alice"))); problem.From(err).Code != "identity_unavailable" {
			t.Errorf("a browser that left gets %v", err)
		}
		close(hold)
		wg.Wait()
		source.Close()
		if asked["alice"] != 1 || asked["bob"] != 1 || len(asked) != 2 {
			t.Errorf("asked %v", asked)
		}
	})
}

// TestAppSessionClaimsAreOnesOwn: what one request does to its claims, the next does not see.
func TestAppSessionClaimsAreOnesOwn(t *testing.T) {
	lab := newAppLab(t, nil, answerJSON(`{"user":{"id":"u-1","email":"a@example.com"}}`))
	first, err := lab.identify(t, "sid=abc")
	if err != nil {
		t.Fatal(err)
	}
	first.Identity.Claims["email"] = "changed"
	if second, err := lab.identify(t, "sid=abc"); err != nil || second.Identity.Claims["email"] != "a@example.com" {
		t.Errorf("%+v, %v", second, err)
	}
}

// TestAppSessionLoop: a question that comes back is not asked again.
func TestAppSessionLoop(t *testing.T) {
	lab := newAppLab(t, nil, answerJSON(`{"user":{"id":"u-1"}}`))
	header := appCookies("sid=abc")
	header.Set("X-Whisp-Bff-Asks", "1")
	if _, err := lab.source.Identify(t.Context(), from("127.0.0.1:1", header)); problem.From(err).Code != "credential_refused" || lab.asked.Load() != 0 {
		t.Errorf("%v, asked %d times", err, lab.asked.Load())
	}
	cfg := appSessionConfig()
	cfg.URL = "https://APP.example.com:443/me"
	if _, err := NewAppSession(cfg, AppSite{PublicURL: setting.MustURL("https://app.example.com")}, quietDeps()); err == nil {
		t.Error("whisp-bff asks itself")
	}
}

// TestAppSessionFlood: garbage cookies push each other out.
func TestAppSessionFlood(t *testing.T) {
	source, err := NewAppSession(appSessionConfig(), AppSite{PublicURL: setting.MustURL("https://app.example.com"), URL: setting.MustURL("http://app.invalid")},
		Deps{Clock: newClock().time, Transport: roundTrip(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 401, Header: http.Header{}, Body: http.NoBody}, nil
		})})
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxAppAnswers + 1000 {
		if _, err := source.Identify(t.Context(), from("192.0.2.1:1", appCookies(fmt.Sprint("sid=garbage", i)))); problem.From(err).Code != "session_required" {
			t.Fatal(err)
		}
	}
	if n := source.cache.len(); n != maxAppAnswers {
		t.Errorf("%d answers are kept", n)
	}
}

func TestAppSessionConfigValidate(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*AppSessionConfig)
		paths  []string
	}{
		"good":           {func(*AppSessionConfig) {}, nil},
		"absolute":       {func(c *AppSessionConfig) { c.URL = "http://auth.internal:3000/me?x=1" }, nil},
		"nothing given":  {func(c *AppSessionConfig) { *c = DefaultAppSessionConfig() }, []string{"cookies", "issuer", "subject", "url"}},
		"relative":       {func(c *AppSessionConfig) { c.URL = "me" }, []string{"url"}},
		"no scheme":      {func(c *AppSessionConfig) { c.URL = "//evil.example.com/me" }, []string{"url"}},
		"a back slash":   {func(c *AppSessionConfig) { c.URL = `/\evil.example.com` }, []string{"url"}},
		"a password":     {func(c *AppSessionConfig) { c.URL = "http://a:b@auth.internal/me" }, []string{"url"}},
		"a file":         {func(c *AppSessionConfig) { c.URL = "file:///etc/passwd" }, []string{"url"}},
		"a fragment":     {func(c *AppSessionConfig) { c.URL = "/me#x" }, []string{"url"}},
		"a line break":   {func(c *AppSessionConfig) { c.URL = "/me\r\nX: 1" }, []string{"url"}},
		"DELETE":         {func(c *AppSessionConfig) { c.Method = "DELETE" }, []string{"method"}},
		"every cookie":   {func(c *AppSessionConfig) { c.Cookies = []string{"*", "a*b", "a b", ""} }, []string{"cookies[0]", "cookies[1]", "cookies[2]", "cookies[3]"}},
		"our cookies":    {func(c *AppSessionConfig) { c.Cookies = []string{"__Host-whisp-session", "whisp-*"} }, []string{"cookies[0]", "cookies[1]"}},
		"fixed headers":  {func(c *AppSessionConfig) { c.Headers = map[string]string{"cookie": "a", "X_Forwarded_Proto": "http"} }, []string{"headers.X_Forwarded_Proto", "headers.cookie"}},
		"a split header": {func(c *AppSessionConfig) { c.Headers = map[string]string{"X-A": "a\r\nB: c"} }, []string{"headers.X-A"}},
		"a secret Host": {func(c *AppSessionConfig) {
			c.SecretHeaders = map[string]setting.Secret{"host": setting.SecretValue("x")}
		}, []string{"secret_headers.host"}},
		"broken paths": {func(c *AppSessionConfig) {
			c.Subject, c.Expires, c.Claims = "user[", "a..b", map[string]string{"email": "", "sub": "user.id"}
		}, []string{"claims.email", "claims.sub", "expires", "subject"}},
		"times and numbers": {func(c *AppSessionConfig) {
			c.Cache, c.Timeout, c.MaxConnections = setting.Duration(time.Hour), 0, 0
		}, []string{"cache", "max_connections", "timeout"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := appSessionConfig()
			tt.change(&cfg)
			wantProblems(t, cfg.Validate(), tt.paths)
			site := AppSite{PublicURL: setting.MustURL("https://app.example.com"), URL: setting.MustURL("http://127.0.0.1:3000")}
			if _, err := NewAppSession(cfg, site, quietDeps()); (err != nil) != (tt.paths != nil) {
				t.Errorf("NewAppSession says %v", err)
			}
		})
	}
}

// FuzzAppSession: whatever the app answers, somebody comes out with a clean
// subject, or a problem does.
func FuzzAppSession(f *testing.F) {
	for _, body := range []string{`{"user":{"id":"u-1"}}`, `null`, `{"user":{"id":1e999}}`, `{"user":{"id":"\ud800"}}`, `[`, `{"user":{"id":"x"},"expires":-1}`} {
		f.Add([]byte(body), "application/json", 200)
	}
	var mu sync.Mutex
	var response http.Response
	source, err := NewAppSession(appSessionConfig(), AppSite{PublicURL: setting.MustURL("https://app.example.com"), URL: setting.MustURL("http://app.invalid")},
		Deps{Clock: newClock().time, Transport: roundTrip(func(*http.Request) (*http.Response, error) {
			r := response
			return &r, nil
		})})
	if err != nil {
		f.Fatal(err)
	}
	codes := []string{"session_required", "credential_refused", "identity_unavailable"}
	f.Fuzz(func(t *testing.T, body []byte, media string, status int) {
		mu.Lock()
		defer mu.Unlock()
		response = http.Response{StatusCode: status, Header: http.Header{"Content-Type": {media}}, Body: io.NopCloser(strings.NewReader(string(body)))}
		found, err := source.ask(t.Context(), []string{"sid=abc"})
		answer, nobody := found.result()
		switch {
		case err == nil && nobody == nil:
			if validSubject(answer.Identity.Subject) != nil || answer.Identity.Issuer != "https://app.example.com" || status < 200 || status > 299 {
				t.Errorf("%d %q is %+v", status, body, answer)
			}
		case err == nil && !slices.Contains(codes, problem.From(nobody).Code), err != nil && !slices.Contains(codes, problem.From(err).Code):
			t.Errorf("%d %q is %v, %v", status, body, nobody, err)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
