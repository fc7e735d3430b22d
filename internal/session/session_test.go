package session_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/session"
	"github.com/whisp-bff/whisp-bff/internal/setting"
	"github.com/whisp-bff/whisp-bff/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type fixture struct {
	*session.Sessions
	now      atomic.Int64
	memory   *faultyStore
	provider *provider
}

func newFixture(t *testing.T, public string) *fixture {
	t.Helper()
	f := &fixture{provider: &provider{}}
	f.now.Store(time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC).UnixNano())
	f.memory = &faultyStore{Memory: store.NewMemory(store.DefaultConfig(), f.clock)}
	f.Sessions = session.New(session.DefaultConfig(), session.Deps{
		Store: f.memory, Clock: f.clock, Logger: slog.New(slog.DiscardHandler),
		Provider: f.provider, PublicURL: setting.MustURL(public),
	})
	return f
}

func (f *fixture) clock() time.Time     { return time.Unix(0, f.now.Load()).UTC() }
func (f *fixture) step(d time.Duration) { f.now.Add(int64(d)) }

func (f *fixture) login(t *testing.T, tokens identity.ProviderTokens) secret.Text {
	t.Helper()
	_, value, err := f.Start(t.Context(), alice, tokens, secret.Text{})
	if err != nil {
		t.Fatal(err)
	}
	return value
}

var alice = identity.Identity{Issuer: "https://idp.example.com", Subject: "a-1", Claims: map[string]any{"email": "alice@example.com"}}

func TestSessionEnds(t *testing.T) {
	tests := map[string]struct {
		after func(t *testing.T, f *fixture, value secret.Text)
		gone  bool
	}{
		"not at once":                 {func(*testing.T, *fixture, secret.Text) {}, false},
		"idle":                        {func(_ *testing.T, f *fixture, _ secret.Text) { f.step(30 * time.Minute) }, true},
		"just before idle":            {func(_ *testing.T, f *fixture, _ secret.Text) { f.step(28 * time.Minute) }, false},
		"clock stepped back":          {func(_ *testing.T, f *fixture, _ secret.Text) { f.step(-time.Hour) }, false},
		"clock stepped forward a day": {func(_ *testing.T, f *fixture, _ secret.Text) { f.step(24 * time.Hour) }, true},
		"at logout":                   {func(t *testing.T, f *fixture, v secret.Text) { must(t, f.End(t.Context(), session.KeyOf(v))) }, true},
		"when somebody else logs in": {func(t *testing.T, f *fixture, v secret.Text) {
			next, _, err := f.Start(t.Context(), identity.Identity{Issuer: alice.Issuer, Subject: "b-1"}, identity.ProviderTokens{}, v)
			must(t, err)
			got, err := f.Supersede(t.Context(), v, next)
			must(t, err)
			if got.Key != session.KeyOf(v) || got.Lingers {
				t.Errorf("%+v", got)
			}
		}, true},
		"not at once when the same person logs in again": {func(t *testing.T, f *fixture, v secret.Text) {
			f.again(t, v)
			f.step(29 * time.Second)
		}, false},
		"half a minute after the same person logged in again": {func(t *testing.T, f *fixture, v secret.Text) {
			f.again(t, v)
			for range 6 {
				_, err := f.Find(t.Context(), v, false) // using it does not help
				must(t, err)
				f.step(5 * time.Second)
			}
		}, true},
		"used all day, before absolute": {func(t *testing.T, f *fixture, v secret.Text) { f.use(t, v, 11*time.Hour+50*time.Minute) }, false},
		"used all day, at absolute": {func(t *testing.T, f *fixture, v secret.Text) {
			f.use(t, v, 11*time.Hour+50*time.Minute)
			f.step(10 * time.Minute)
		}, true},
		"polled without use": {func(t *testing.T, f *fixture, v secret.Text) {
			for range 10 {
				f.step(3 * time.Minute)
				_, _ = f.Find(t.Context(), v, true)
			}
		}, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, "https://app.example.com")
			value := f.login(t, identity.ProviderTokens{})
			tt.after(t, f, value)
			found, err := f.Find(t.Context(), value, true)
			switch {
			case tt.gone && !errors.Is(err, session.ErrNone):
				t.Errorf("got %v, %v; want ErrNone", found, err)
			case !tt.gone && (err != nil || found.Identity.Subject != alice.Subject || found.Identity.Claims["email"] != "alice@example.com"):
				t.Errorf("got %+v, %v", found, err)
			}
		})
	}
}

// again logs the same person in once more in the same browser.
func (f *fixture) again(t *testing.T, previous secret.Text) {
	t.Helper()
	next, _, err := f.Start(t.Context(), alice, identity.ProviderTokens{}, previous)
	must(t, err)
	if got, err := f.Supersede(t.Context(), previous, next); err != nil || !got.Lingers {
		t.Errorf("%+v, %v", got, err)
	}
}

func (f *fixture) use(t *testing.T, value secret.Text, total time.Duration) {
	t.Helper()
	for used := time.Duration(0); used < total; used += 10 * time.Minute {
		if _, err := f.Find(t.Context(), value, false); err != nil {
			t.Fatalf("after %v: %v", used, err)
		}
		f.step(10 * time.Minute)
	}
}

func TestJunkCookiesAreNobody(t *testing.T) {
	f := newFixture(t, "https://app.example.com")
	value := f.login(t, identity.ProviderTokens{}).Reveal()
	for name, cookies := range map[string][]string{
		"none":       nil,
		"tampered":   {"A" + value[1:] + "x"},
		"flipped":    {flip(value)},
		"truncated":  {value[:42]},
		"long":       {strings.Repeat("a", 8192)},
		"duplicated": {value, value},
		"planted":    {"planted", value},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		for _, c := range cookies {
			r.AddCookie(&http.Cookie{Name: session.CookieName, Value: c})
		}
		if _, err := f.Find(t.Context(), f.FromRequest(r), false); !errors.Is(err, session.ErrNone) {
			t.Errorf("%s: %v; want ErrNone", name, err)
		}
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.AddCookie(&http.Cookie{Name: session.CookieName, Value: value})
	if _, err := f.Find(t.Context(), f.FromRequest(r), false); err != nil {
		t.Errorf("the real one: %v", err)
	}
}

func flip(value string) string {
	if value[0] == 'A' {
		return "B" + value[1:]
	}
	return "A" + value[1:]
}

func TestCookieAttributes(t *testing.T) {
	for public, want := range map[string]string{
		"https://app.example.com": "__Host-whisp-session=v; Path=/; HttpOnly; Secure; SameSite=Lax",
		"https://localhost:8443":  "__Host-whisp-session=v; Path=/; HttpOnly; Secure; SameSite=Lax",
		"http://localhost:8080":   "whisp-session=v; Path=/; HttpOnly; SameSite=Lax",
		"http://127.0.0.1:8080":   "whisp-session=v; Path=/; HttpOnly; SameSite=Lax",
	} {
		f := newFixture(t, public)
		if got := f.Cookie(secret.New("v")).String(); got != want {
			t.Errorf("%s: %s; want %s", public, got, want)
		}
		if got := f.ExpiredCookie(); got.MaxAge != -1 || got.Secure != f.Cookie(secret.New("v")).Secure || got.Path != "/" {
			t.Errorf("%s: %s does not delete the cookie", public, got)
		}
	}
}

func TestStoreHoldsNoUsableID(t *testing.T) {
	f := newFixture(t, "https://app.example.com")
	value := f.login(t, identity.ProviderTokens{})
	for key, raw := range f.memory.seen {
		if strings.Contains(key+string(raw), value.Reveal()) {
			t.Errorf("the cookie's id is in the store, under %q", key)
		}
	}
	if len(f.memory.seen) == 0 {
		t.Error("nothing was stored")
	}
}

func TestValueMovedToAnotherSessionIsRefused(t *testing.T) {
	f := newFixture(t, "https://app.example.com")
	one, two := f.login(t, identity.ProviderTokens{}), f.login(t, identity.ProviderTokens{})
	raw, err := f.memory.Get(t.Context(), "session:"+session.KeyOf(one))
	must(t, err)
	must(t, f.memory.Memory.Set(t.Context(), "session:"+session.KeyOf(two), raw, time.Hour))
	_, err = f.Find(t.Context(), two, false)
	if err == nil || errors.Is(err, session.ErrNone) {
		t.Errorf("a moved value was taken: %v", err)
	}
}

func TestStoreTroubleIsNotALogout(t *testing.T) {
	f := newFixture(t, "https://app.example.com")
	value := f.login(t, identity.ProviderTokens{})
	f.memory.fail.Store(true)
	_, err := f.Find(t.Context(), value, false)
	if problem.From(err).Code != "store_unavailable" || problem.From(err).RetryAfter == 0 {
		t.Errorf("got %v", err)
	}
	if _, err := f.Alive(t.Context(), session.KeyOf(value)); err == nil {
		t.Error("Alive claims to know")
	}
	f.memory.fail.Store(false)
	if _, err := f.Find(t.Context(), value, false); err != nil {
		t.Errorf("after recovery: %v", err)
	}
}

func TestProviderRefresh(t *testing.T) {
	tokens := func(f *fixture) identity.ProviderTokens {
		return identity.ProviderTokens{RefreshToken: secret.New("r0"), AccessExpires: f.clock().Add(5 * time.Minute)}
	}
	t.Run("one call for many requests, and the new tokens are kept", func(t *testing.T) {
		f := newFixture(t, "https://app.example.com")
		value := f.login(t, tokens(f))
		f.step(6 * time.Minute)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if _, err := f.Find(t.Context(), value, false); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		found, err := f.Find(t.Context(), value, false)
		must(t, err)
		if f.provider.calls.Load() != 1 || found.Tokens.RefreshToken.Reveal() != "r1" {
			t.Errorf("%d calls, token %q", f.provider.calls.Load(), found.Tokens.RefreshToken.Reveal())
		}
	})
	t.Run("a person disabled at the provider loses the session", func(t *testing.T) {
		f := newFixture(t, "https://app.example.com")
		value := f.login(t, tokens(f))
		f.provider.answer(fmt.Errorf("invalid_grant: %w", session.ErrNone))
		f.step(6 * time.Minute)
		for range 2 {
			if _, err := f.Find(t.Context(), value, false); !errors.Is(err, session.ErrNone) {
				t.Errorf("got %v", err)
			}
		}
	})
	t.Run("trouble at the provider ends nothing and is not repeated at once", func(t *testing.T) {
		f := newFixture(t, "https://app.example.com")
		value := f.login(t, tokens(f))
		f.provider.answer(errors.New("connection refused"))
		f.step(6 * time.Minute)
		for range 10 {
			if _, err := f.Find(t.Context(), value, false); err != nil {
				t.Fatal(err)
			}
		}
		if calls := f.provider.calls.Load(); calls != 1 {
			t.Errorf("%d calls", calls)
		}
		f.provider.answer(nil)
		f.step(31 * time.Second)
		_, err := f.Find(t.Context(), value, false)
		must(t, err)
		if calls := f.provider.calls.Load(); calls != 2 {
			t.Errorf("%d calls after the pause", calls)
		}
	})
	t.Run("a refresh that ends after a logout does not bring the session back", func(t *testing.T) {
		f := newFixture(t, "https://app.example.com")
		value := f.login(t, tokens(f))
		f.step(6 * time.Minute)
		f.provider.during = func() { must(t, f.End(context.Background(), session.KeyOf(value))) }
		for range 2 {
			if _, err := f.Find(t.Context(), value, false); !errors.Is(err, session.ErrNone) {
				t.Errorf("got %v", err)
			}
		}
	})
}

func TestLookupAllocatesLittle(t *testing.T) {
	f := newFixture(t, "https://app.example.com")
	value := f.login(t, identity.ProviderTokens{})
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() { _, _ = f.Find(ctx, value, false) }); n > 6 {
		t.Errorf("%v allocations per look-up", n)
	}
}

func TestConfigValidate(t *testing.T) {
	for name, tt := range map[string]struct {
		idle, absolute time.Duration
		want           []string
	}{
		"default":            {30 * time.Minute, 12 * time.Hour, nil},
		"idle past absolute": {2 * time.Hour, time.Hour, []string{"idle"}},
		"zero":               {0, 0, []string{"absolute", "idle"}},
		"a year":             {time.Hour, 365 * 24 * time.Hour, []string{"absolute"}},
	} {
		err := session.Config{Idle: setting.Duration(tt.idle), Absolute: setting.Duration(tt.absolute)}.Validate()
		var got []string
		for _, e := range setting.List(err) {
			got = append(got, e.Path)
		}
		if fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%s: %v; want %v", name, got, tt.want)
		}
	}
}

type provider struct {
	calls  atomic.Int32
	mu     sync.Mutex
	err    error
	sid    string
	issued time.Time // of the ID token
	during func()
}

func (p *provider) answer(err error) { p.mu.Lock(); p.err = err; p.mu.Unlock() }

func (p *provider) Refresh(_ context.Context, old identity.ProviderTokens, _ string) (identity.ProviderTokens, error) {
	n := p.calls.Add(1)
	if p.during != nil {
		p.during()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return identity.ProviderTokens{}, p.err
	}
	return identity.ProviderTokens{
		RefreshToken: secret.New(fmt.Sprintf("r%d", n)), AccessExpires: old.AccessExpires.Add(time.Hour), SessionID: p.sid, IssuedAt: p.issued,
	}, nil
}

// faultyStore records what is written and can be switched off.
type faultyStore struct {
	*store.Memory
	fail   atomic.Bool
	noSets atomic.Bool
	seen   map[string][]byte
}

var errDown = errors.New("connection refused")

func (f *faultyStore) Get(ctx context.Context, key string) ([]byte, error) {
	if f.fail.Load() {
		return nil, errDown
	}
	return f.Memory.Get(ctx, key)
}

func (f *faultyStore) Recent(ctx context.Context, key string) ([]byte, error) { return f.Get(ctx, key) }

func (f *faultyStore) Add(ctx context.Context, set, member string, ttl time.Duration) error {
	if f.noSets.Load() {
		return errDown
	}
	return f.Memory.Add(ctx, set, member, ttl)
}

func (f *faultyStore) Members(ctx context.Context, set string) ([]string, error) {
	if f.noSets.Load() {
		return nil, errDown
	}
	return f.Memory.Members(ctx, set)
}

func (f *faultyStore) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if f.seen == nil {
		f.seen = make(map[string][]byte)
	}
	f.seen[key] = value
	return f.Memory.Set(ctx, key, value, ttl)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
