package session_test

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/session"
	"github.com/whisp-bff/whisp-bff/internal/setting"
	"github.com/whisp-bff/whisp-bff/internal/store"
)

// ender notes whom EndGroup hands on.
type ender struct {
	mu   sync.Mutex
	keys []string
	err  error
}

func (e *ender) then(_ context.Context, key string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.keys = append(e.keys, key)
	return e.err
}

func (e *ender) took() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	keys := e.keys
	e.keys = nil
	slices.Sort(keys)
	return keys
}

func (f *fixture) alive(t *testing.T, value secret.Text) bool {
	t.Helper()
	alive, err := f.Alive(t.Context(), session.KeyOf(value))
	must(t, err)
	return alive
}

func (f *fixture) members(t *testing.T, group session.Group) int {
	t.Helper()
	n := 0
	for after := ""; ; {
		page, next, err := f.List(t.Context(), group, after, 2)
		must(t, err)
		n += len(page)
		if next == "" {
			return n
		}
		after = next
	}
}

func withSID(sid string) identity.ProviderTokens { return identity.ProviderTokens{SessionID: sid} }

func TestEndGroup(t *testing.T) {
	f := newFixture(t, "https://app.example.com")
	laptop, phone := f.login(t, withSID("one")), f.login(t, withSID("two"))
	second := f.login(t, withSID("one")) // logged in again without a new sign-in at the provider
	other, foreign := identity.Identity{Issuer: alice.Issuer, Subject: "b-1"}, identity.Identity{Issuer: "https://other.example.com", Subject: "a-1"}
	var rest []secret.Text
	for _, id := range []identity.Identity{other, foreign} {
		_, value, err := f.Start(t.Context(), id, withSID("three"), secret.Text{})
		must(t, err)
		rest = append(rest, value)
	}

	var e ender
	ended, err := f.EndGroup(t.Context(), session.OfProviderSession(alice.Issuer, "one"), e.then)
	must(t, err)
	want := []string{session.KeyOf(laptop), session.KeyOf(second)}
	slices.Sort(want)
	if got := e.took(); ended != 2 || !slices.Equal(got, want) {
		t.Errorf("%d ended, %v", ended, got)
	}
	if f.alive(t, laptop) || f.alive(t, second) || !f.alive(t, phone) {
		t.Error("not the sessions of that sign-in ended")
	}
	if n := f.members(t, session.OfIdentity(alice)); n != 1 {
		t.Errorf("alice has %d sessions", n)
	}
	if ended, err := f.EndGroup(t.Context(), session.OfProviderSession(alice.Issuer, "one"), e.then); ended != 0 || err != nil || len(e.took()) != 0 {
		t.Errorf("once more: %d, %v", ended, err)
	}

	ended, err = f.EndGroup(t.Context(), session.OfIdentity(alice), e.then)
	must(t, err)
	if got := e.took(); ended != 1 || !slices.Equal(got, []string{session.KeyOf(phone)}) || f.alive(t, phone) {
		t.Errorf("%d ended, %v", ended, got)
	}
	for _, value := range rest {
		if !f.alive(t, value) {
			t.Error("somebody else's session ended")
		}
	}
}

// What follows on a session's end and fails is done again with the next call.
func TestEndGroupIsRepeatable(t *testing.T) {
	f := newFixture(t, "https://app.example.com")
	value := f.login(t, withSID("one"))
	group := session.OfProviderSession(alice.Issuer, "one")
	e := ender{err: problem.StoreUnavailable()}
	if ended, err := f.EndGroup(t.Context(), group, e.then); ended != 1 || problem.From(err).Code != "store_unavailable" {
		t.Errorf("%d ended, %v", ended, err)
	}
	if f.alive(t, value) {
		t.Error("the session lives on")
	}
	e.err = nil
	for i, want := range []int{2, 0} {
		if _, err := f.EndGroup(t.Context(), group, e.then); err != nil {
			t.Fatal(err)
		}
		if i == 0 && len(e.took()) != want || i == 1 && len(e.took()) != want {
			t.Errorf("call %d", i)
		}
	}
}

func TestIndexFollowsSessions(t *testing.T) {
	all, one := session.OfIdentity(alice), session.OfProviderSession(alice.Issuer, "one")
	for name, tt := range map[string]struct {
		then func(t *testing.T, f *fixture, value secret.Text)
		all  int
		one  int
	}{
		"login":   {func(*testing.T, *fixture, secret.Text) {}, 1, 1},
		"logout":  {func(t *testing.T, f *fixture, v secret.Text) { must(t, f.End(t.Context(), session.KeyOf(v))) }, 0, 0},
		"idle":    {func(_ *testing.T, f *fixture, _ secret.Text) { f.step(31 * time.Minute) }, 0, 0},
		"in use":  {func(t *testing.T, f *fixture, v secret.Text) { f.use(t, v, 11*time.Hour) }, 1, 1},
		"again":   {func(t *testing.T, f *fixture, v secret.Text) { f.again(t, v) }, 2, 1},
		"settled": {func(t *testing.T, f *fixture, v secret.Text) { f.again(t, v); f.step(session.Lingering) }, 1, 0},
		"refresh": {func(t *testing.T, f *fixture, _ secret.Text) {
			// The provider gives the session another name when it refreshes it.
			renewed := f.login(t, identity.ProviderTokens{RefreshToken: secret.New("r0"), AccessExpires: f.clock().Add(time.Second), SessionID: "zero"})
			f.provider.sid = "one"
			_, err := f.Find(t.Context(), renewed, false)
			must(t, err)
		}, 2, 2},
		"forgotten by the store": {func(t *testing.T, f *fixture, v secret.Text) {
			must(t, f.memory.Delete(t.Context(), "session:"+session.KeyOf(v)))
		}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, "https://app.example.com")
			value := f.login(t, withSID("one"))
			tt.then(t, f, value)
			if got := f.members(t, all); got != tt.all {
				t.Errorf("alice has %d sessions, want %d", got, tt.all)
			}
			if got := f.members(t, one); got != tt.one {
				t.Errorf("the sign-in has %d sessions, want %d", got, tt.one)
			}
			if left, _ := f.memory.Members(t.Context(), "sessions:"+alice.Key()); len(left) != tt.all {
				t.Errorf("%d members are left behind in the store", len(left)-tt.all)
			}
		})
	}
}

func TestList(t *testing.T) {
	f := newFixture(t, "https://app.example.com")
	first := f.login(t, withSID("one"))
	created := f.clock()
	f.step(time.Minute)
	f.again(t, first)
	page, next, err := f.List(t.Context(), session.OfIdentity(alice), "", 10)
	if err != nil || next != "" || len(page) != 2 {
		t.Fatalf("%v, %q, %v", page, next, err)
	}
	var lingering session.Entry
	for _, entry := range page {
		if len(entry.Handle) != 22 || entry.Handle == session.KeyOf(first)[:22] {
			t.Errorf("handle %q", entry.Handle)
		}
		if entry.Lingers {
			lingering = entry
		}
	}
	if !lingering.Created.Equal(created) || !lingering.Expires.Equal(f.clock().Add(session.Lingering)) {
		t.Errorf("lingering: %+v", lingering)
	}

	var e ender
	if ended, err := f.EndOne(t.Context(), session.OfIdentity(alice), lingering.Handle, e.then); err != nil || ended != 1 {
		t.Errorf("%d ended, %v", ended, err)
	}
	if f.alive(t, first) || f.members(t, session.OfIdentity(alice)) != 1 {
		t.Error("not that one ended")
	}
	if ended, err := f.EndOne(t.Context(), session.OfIdentity(alice), "nobody's", e.then); err != nil || ended != 0 {
		t.Errorf("unknown handle: %d ended, %v", ended, err)
	}
}

// A session ends with the ones that linger behind it.
func TestEndGroupTakesLingeringAlong(t *testing.T) {
	f := newFixture(t, "https://app.example.com")
	old := f.login(t, withSID("old"))
	next, value, err := f.Start(t.Context(), alice, withSID("new"), old)
	must(t, err)
	_, err = f.Supersede(t.Context(), old, next)
	must(t, err)
	var e ender
	_, err = f.EndGroup(t.Context(), session.OfProviderSession(alice.Issuer, "new"), e.then)
	must(t, err)
	if f.alive(t, old) || f.alive(t, value) || len(e.took()) != 2 {
		t.Error("a session lives on")
	}
}

// That holds when the first call fails and the session that named the lingering one is
// gone; a repetition is about both.
func TestEndGroupTakesLingeringAlongDespiteAFailure(t *testing.T) {
	f := newFixture(t, "https://app.example.com")
	old := f.login(t, withSID("old"))
	next, value, err := f.Start(t.Context(), alice, withSID("new"), old)
	must(t, err)
	_, err = f.Supersede(t.Context(), old, next)
	must(t, err)
	group := session.OfProviderSession(alice.Issuer, "new")
	want := []string{session.KeyOf(old), session.KeyOf(value)}
	slices.Sort(want)
	e := ender{err: problem.StoreUnavailable()}
	for range 2 {
		if _, err := f.EndGroup(t.Context(), group, e.then); problem.From(err).Code != "store_unavailable" {
			t.Errorf("%v; want store_unavailable", err)
		}
		if f.alive(t, old) || f.alive(t, value) {
			t.Error("a session lives on")
		}
		if got := e.took(); !slices.Equal(got, want) {
			t.Errorf("then was called for %v", got)
		}
	}
	e.err = nil
	for _, want := range [][]string{want, nil} {
		if _, err := f.EndGroup(t.Context(), group, e.then); err != nil {
			t.Error(err)
		}
		if got := e.took(); !slices.Equal(got, want) {
			t.Errorf("the store is well: then was called for %v", got)
		}
	}
}

func TestLoginThatALogoutOvertook(t *testing.T) {
	at := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	sid, everywhere := session.OfProviderSession(alice.Issuer, "one"), session.OfIdentity(alice)
	for name, tt := range map[string]struct {
		group   session.Group
		issued  time.Time
		later   time.Duration
		refused bool
	}{
		"issued before":               {sid, at.Add(-time.Second), 0, true},
		"issued in that second":       {sid, at, 0, true},
		"issued after":                {sid, at.Add(time.Second), 0, false},
		"all of the person's":         {everywhere, at.Add(-time.Second), 0, true},
		"another sign-in's":           {session.OfProviderSession(alice.Issuer, "two"), at.Add(-time.Second), 0, false},
		"no ID token":                 {sid, time.Time{}, 0, false},
		"longer ago than logins live": {sid, at.Add(-time.Second), time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, "https://app.example.com")
			must(t, f.RefuseLate(t.Context(), tt.group, at))
			f.step(tt.later)
			started, _, err := f.Start(t.Context(), alice, identity.ProviderTokens{SessionID: "one", IssuedAt: tt.issued}, secret.Text{})
			switch {
			case !tt.refused && err != nil:
				t.Error(err)
			case tt.refused && (started != nil || problem.From(err).Code != "login_rejected"):
				t.Errorf("%v, %v", started, err)
			case tt.refused && f.members(t, everywhere) != 0:
				t.Error("it left a session behind")
			}
		})
	}
}

// Logouts that come in another order than they were made refuse what the latest does.
func TestOlderLogoutDoesNotOvertakeANewerOne(t *testing.T) {
	at := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	f := newFixture(t, "https://app.example.com")
	group := session.OfProviderSession(alice.Issuer, "one")
	for _, logout := range []time.Time{at, at.Add(-time.Minute)} {
		must(t, f.RefuseLate(t.Context(), group, logout))
	}
	login := func(issued time.Time) error {
		_, _, err := f.Start(t.Context(), alice, identity.ProviderTokens{SessionID: "one", IssuedAt: issued}, secret.Text{})
		return err
	}
	if err := login(at); problem.From(err).Code != "login_rejected" {
		t.Errorf("a login before the newer logout: %v", err)
	}
	must(t, f.RefuseLate(t.Context(), group, at.Add(time.Minute)))
	if err := login(at.Add(time.Minute)); problem.From(err).Code != "login_rejected" {
		t.Errorf("a login before the newest logout: %v", err)
	}
	must(t, login(at.Add(time.Minute+time.Second)))
}

func TestIndexFailure(t *testing.T) {
	t.Run("at login: no session that could not be found", func(t *testing.T) {
		f := newFixture(t, "https://app.example.com")
		f.memory.noSets.Store(true)
		if _, _, err := f.Start(t.Context(), alice, withSID("one"), secret.Text{}); problem.From(err).Code != "store_unavailable" {
			t.Errorf("%v", err)
		}
		for key := range f.memory.seen {
			if _, err := f.memory.Get(t.Context(), key); err == nil {
				t.Errorf("%s is still there", key)
			}
		}
	})
	t.Run("at refresh: the session goes on", func(t *testing.T) {
		f := newFixture(t, "https://app.example.com")
		value := f.login(t, identity.ProviderTokens{RefreshToken: secret.New("r0"), AccessExpires: f.clock().Add(time.Second), SessionID: "one"})
		f.memory.noSets.Store(true)
		f.provider.sid = "two"
		found, err := f.Find(t.Context(), value, false)
		if err != nil || found.Tokens.RefreshToken.Reveal() != "r1" || found.Tokens.SessionID != "one" {
			t.Errorf("%+v, %v", found, err)
		}
	})
	t.Run("at logout: it counts", func(t *testing.T) {
		f := newFixture(t, "https://app.example.com")
		value := f.login(t, withSID("one"))
		f.memory.noSets.Store(true)
		must(t, f.End(t.Context(), session.KeyOf(value)))
		if f.alive(t, value) {
			t.Error("the session lives on")
		}
	})
	t.Run("at a logout of all: nobody knows", func(t *testing.T) {
		f := newFixture(t, "https://app.example.com")
		f.memory.noSets.Store(true)
		var e ender
		if _, err := f.EndGroup(t.Context(), session.OfIdentity(alice), e.then); problem.From(err).Code != "store_unavailable" || !errors.Is(err, errDown) {
			t.Errorf("%v", err)
		}
	})
}

// A refresh under way does not bring back what a logout ended.
func TestEndGroupDuringRefresh(t *testing.T) {
	f := newFixture(t, "https://app.example.com")
	value := f.login(t, identity.ProviderTokens{RefreshToken: secret.New("r0"), AccessExpires: f.clock().Add(time.Second), SessionID: "one"})
	var e ender
	f.provider.during = func() {
		_, err := f.EndGroup(t.Context(), session.OfProviderSession(alice.Issuer, "one"), e.then)
		if err != nil {
			t.Error(err)
		}
	}
	if _, err := f.Find(t.Context(), value, false); !errors.Is(err, session.ErrNone) {
		t.Errorf("%v; want ErrNone", err)
	}
	if f.alive(t, value) {
		t.Error("the session is back")
	}
}

// A refresh may make the session part of another sign-in at the provider, which was
// logged out before the session could be found there.
func TestRefreshThatALogoutOvertook(t *testing.T) {
	for name, tt := range map[string]struct {
		sid   string        // of the refreshed token
		after time.Duration // from the logout to that token
		ends  bool
	}{
		"issued before the logout":    {"two", -time.Second, true},
		"issued after the logout":     {"two", time.Second, false},
		"another sign-in's":           {"three", -time.Second, false},
		"the session's own as before": {"one", -time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, "https://app.example.com")
			value := f.login(t, identity.ProviderTokens{RefreshToken: secret.New("r0"), AccessExpires: f.clock().Add(time.Second), SessionID: "one"})
			group := session.OfProviderSession(alice.Issuer, "two")
			var e ender
			f.provider.sid, f.provider.issued = tt.sid, f.clock().Add(tt.after)
			f.provider.during = func() {
				must(t, f.RefuseLate(t.Context(), group, f.clock()))
				if ended, err := f.EndGroup(t.Context(), group, e.then); ended != 0 || err != nil {
					t.Errorf("%d ended, %v", ended, err)
				}
			}
			_, err := f.Find(t.Context(), value, false)
			if tt.ends != errors.Is(err, session.ErrNone) || tt.ends == f.alive(t, value) {
				t.Errorf("%v; alive: %v", err, f.alive(t, value))
			}
			if tt.ends && f.members(t, group)+f.members(t, session.OfIdentity(alice)) != 0 {
				t.Error("it is still listed")
			}
		})
	}
}

// countedSets counts what is added, and is durable or not.
type countedSets struct {
	*store.Memory
	durable bool
	added   int
}

func (c *countedSets) Durable() bool { return c.durable }

func (c *countedSets) Add(ctx context.Context, set, member string, ttl time.Duration) error {
	c.added++
	return c.Memory.Add(ctx, set, member, ttl)
}

// A session in use is found, however many sessions came since it began. In memory that
// costs its two memberships a minute, in a store that drops none nothing.
func TestASessionInUseIsFound(t *testing.T) {
	for _, durable := range []bool{false, true} {
		now := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
		clock := func() time.Time { return now }
		cfg := store.DefaultConfig()
		cfg.MaxEntries = 640
		counted := &countedSets{Memory: store.NewMemory(cfg, clock), durable: durable}
		sessions := session.New(session.DefaultConfig(), session.Deps{
			Store: counted, Clock: clock, Logger: slog.New(slog.DiscardHandler), PublicURL: setting.MustURL("https://app.example.com"),
		})
		_, value, err := sessions.Start(t.Context(), alice, withSID("one"), secret.Text{})
		must(t, err)
		const rounds, crowd = 100, 20 // of others, two memberships each: more than there is room for
		for range rounds {
			now = now.Add(time.Minute)
			for range 3 {
				_, err := sessions.Find(t.Context(), value, false)
				must(t, err)
			}
			for range crowd {
				_, _, err := sessions.Start(t.Context(), identity.Identity{Issuer: alice.Issuer, Subject: rand.Text()}, withSID(rand.Text()), secret.Text{})
				must(t, err)
			}
		}
		want := 2 + 2*rounds*crowd
		if !durable {
			want += 2 * rounds
			var e ender
			for _, group := range []session.Group{session.OfProviderSession(alice.Issuer, "one"), session.OfIdentity(alice)} {
				page, _, err := sessions.List(t.Context(), group, "", 2)
				if err != nil || len(page) != 1 {
					t.Errorf("listed: %v, %v", page, err)
				}
			}
			if ended, err := sessions.EndGroup(t.Context(), session.OfIdentity(alice), e.then); ended != 1 || err != nil {
				t.Errorf("%d ended, %v", ended, err)
			}
		}
		if counted.added != want {
			t.Errorf("durable %v: %d memberships added, want %d", durable, counted.added, want)
		}
	}
}
