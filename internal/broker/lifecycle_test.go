package broker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/broker"
	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/store"
	"github.com/whisp-bff/whisp-bff/internal/upstream"
)

func TestRenamedElsewhereIsFoundByTheRefreshTokenThatIsLeft(t *testing.T) {
	f := newFixture(t, true)
	alice := person("1", "alice")
	first := f.signIn("s", alice)
	f.whisp.move("alice", "alicia")
	fresh, err := f.SignIn(t.Context(), f.caller("s", alice), true)
	if err != nil || fresh.UserID != first.UserID || fresh.Username != "alicia" {
		t.Fatalf("%+v, %v", fresh, err)
	}
	if other := f.signIn("another", alice); other.UserID != first.UserID {
		t.Errorf("another session got %s", other.UserID)
	}
	if f.whisp.count("register") != 1 {
		t.Error("registered again")
	}
}

func TestLostAccount(t *testing.T) {
	alice := person("1", "alice")
	t.Run("by default nobody gets a second one", func(t *testing.T) {
		f := newFixture(t, true)
		first := f.signIn("s", alice)
		f.whisp.move("alice", "alicia") // or deleted: from here it looks the same
		for range 2 {
			if _, err := f.SignIn(t.Context(), f.caller("new", alice), false); f.code(err) != "account_lost" {
				t.Fatalf("got %v", err)
			}
		}
		f.whisp.move("alicia", "alice")
		if got := f.signIn("new", alice); got.UserID != first.UserID {
			t.Errorf("healed: %s", got.UserID)
		}
	})
	t.Run("an administrator releases it", func(t *testing.T) {
		f := newFixture(t, true)
		first := f.signIn("s", alice)
		f.whisp.remove("alice")
		if _, err := f.SignIn(t.Context(), f.caller("new", alice), false); f.code(err) != "account_lost" {
			t.Fatalf("got %v", err)
		}
		must(t, f.Release(t.Context(), alice))
		if got := f.signIn("new", alice); got.UserID == first.UserID || got.Username != "alice" {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("on_lost: register", func(t *testing.T) {
		f := newFixture(t, true)
		f.account.OnLost = broker.LostRegisters
		f.restart(true)
		first := f.signIn("s", alice)
		f.whisp.remove("alice")
		if got := f.signIn("new", alice); got.UserID == first.UserID {
			t.Errorf("got %+v", got)
		}
	})
}

func TestWhatBrowsersDoToTheirOwnAccounts(t *testing.T) {
	alice, bob := person("1", "alice"), person("2", "bob")
	t.Run("rename", func(t *testing.T) {
		f := newFixture(t, true)
		first := f.signIn("s", alice)
		jwt, _, err := f.whisp.ChangeUsername(t.Context(), first.JWT, "queen")
		must(t, err)
		must(t, f.Renamed(t.Context(), alice.Key(), jwt))
		for _, session := range []string{"s", "later"} {
			if got := f.signIn(session, alice); got.UserID != first.UserID || got.Username != "queen" || got.JWT.Equal(first.JWT) {
				t.Errorf("%s: %+v", session, got)
			}
		}
		must(t, f.SignOut(t.Context(), "s"))
		if f.whisp.alive(first.RefreshToken) {
			t.Error("the refresh token of before the rename outlives the logout")
		}
	})
	t.Run("a rename of somebody else's account changes nothing", func(t *testing.T) {
		f := newFixture(t, true)
		f.signIn("s", alice)
		bobs := f.signIn("b", bob)
		jwt, _, err := f.whisp.ChangeUsername(t.Context(), bobs.JWT, "robert")
		must(t, err)
		must(t, f.Renamed(t.Context(), alice.Key(), jwt)) // bob's token in alice's session
		if got := f.signIn("later", alice); got.Username != "alice" {
			t.Errorf("alice is %s", got.Username)
		}
	})
	t.Run("delete", func(t *testing.T) {
		f := newFixture(t, true)
		first := f.signIn("s", alice)
		f.whisp.remove("alice")
		must(t, f.Deleted(t.Context(), "s", alice.Key()))
		if got := f.signIn("s", alice); got.UserID == first.UserID || got.Username != "alice" {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("delete, while Whisp does not answer", func(t *testing.T) {
		f := newFixture(t, true)
		first := f.signIn("s", alice)
		f.whisp.remove("alice")
		f.whisp.set("refresh", problem.WhispTimeout())
		if err := f.Deleted(t.Context(), "s", alice.Key()); err == nil {
			t.Error("claims to have found out")
		}
		f.whisp.set("refresh", nil)
		f.step(10 * time.Minute)
		if got := f.signIn("s", alice); got.UserID == first.UserID || got.Username != "alice" {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("a deletion of somebody else's account, while Whisp does not answer", func(t *testing.T) {
		f := newFixture(t, true)
		first := f.signIn("s", alice)
		f.whisp.set("refresh", problem.WhispTimeout())
		if err := f.Deleted(t.Context(), "s", alice.Key()); err == nil {
			t.Error("claims to have found out")
		}
		f.whisp.set("refresh", nil)
		if got := f.signIn("other", alice); got.UserID != first.UserID {
			t.Errorf("got %+v", got)
		}
		f.whisp.move("alice", "alicia") // the doubt must be gone by now
		if _, err := f.SignIn(t.Context(), f.caller("third", alice), false); f.code(err) != "account_lost" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a deletion of somebody else's account changes nothing", func(t *testing.T) {
		f := newFixture(t, true)
		first := f.signIn("s", alice)
		must(t, f.Deleted(t.Context(), "s", alice.Key())) // alice's account lives
		account, found, err := f.Find(t.Context(), alice)
		if err != nil || !found || account.UserID != first.UserID {
			t.Errorf("%+v, %v, %v", account, found, err)
		}
	})
	t.Run("log out of another refresh token", func(t *testing.T) {
		f := newFixture(t, true)
		first := f.signIn("s", alice)
		must(t, f.LoggedOut(t.Context(), "s")) // Whisp ended some token, not the grant's
		if got := f.signIn("s", alice); !got.RefreshToken.Equal(first.RefreshToken) {
			t.Error("a good refresh token was thrown away, and nobody will revoke it")
		}
	})
	t.Run("log out", func(t *testing.T) {
		f := newFixture(t, true)
		first := f.signIn("s", alice)
		must(t, f.whisp.Logout(t.Context(), first.JWT, first.RefreshToken))
		must(t, f.LoggedOut(t.Context(), "s"))
		if got := f.signIn("s", alice); got.RefreshToken.Equal(first.RefreshToken) {
			t.Error("a dead refresh token was handed out")
		}
	})
}

func TestInherit(t *testing.T) {
	f := newFixture(t, true)
	alice, bob := person("1", "alice"), person("2", "bob")
	first := f.signIn("old", alice)
	must(t, f.Inherit(t.Context(), "old", f.caller("new", alice)))
	if got := f.signIn("new", alice); !got.RefreshToken.Equal(first.RefreshToken) || f.whisp.count("signin") != 1 {
		t.Error("the grant did not go over")
	}
	must(t, f.Inherit(t.Context(), "new", f.caller("bobs", bob)))
	if got := f.signIn("bobs", bob); got.UserID == first.UserID || f.whisp.alive(first.RefreshToken) {
		t.Error("bob inherited from alice, or her token lives on")
	}
	must(t, f.Inherit(t.Context(), "nobody", f.caller("x", alice)))
}

// A logout of both sessions comes while the grant is on its way from one to the
// other, and finds it at neither.
func TestLogoutDuringInherit(t *testing.T) {
	f := newFixture(t, true)
	alice := person("1", "alice")
	g := f.signIn("old", alice)
	f.sessions.end("new")
	must(t, f.Inherit(t.Context(), "old", f.caller("new", alice)))
	if f.whisp.alive(g.RefreshToken) {
		t.Error("the refresh token outlives both sessions")
	}
}

func TestLogOutEverywhere(t *testing.T) {
	f := newFixture(t, true)
	alice, bob := person("1", "alice"), person("2", "bob")
	var before []broker.Grant
	for i := range 3 {
		before = append(before, f.signIn(fmt.Sprint("s", i), alice))
	}
	bobs := f.signIn("b", bob)
	f.whisp.mu.Lock()
	for _, g := range before {
		delete(f.whisp.tokens, g.RefreshToken.Reveal())
	}
	f.whisp.mu.Unlock()
	must(t, f.LoggedOutEverywhere(t.Context(), alice.Key()))
	for i, old := range before {
		if got := f.signIn(fmt.Sprint("s", i), alice); got.RefreshToken.Equal(old.RefreshToken) {
			t.Errorf("session %d still gets its dead refresh token", i)
		}
	}
	if got := f.signIn("b", bob); !got.RefreshToken.Equal(bobs.RefreshToken) {
		t.Error("bob lost his grant")
	}
}

// security.md 62: a logout counts although Whisp is down.
func TestRevocationsAreMadeUpFor(t *testing.T) {
	f := newFixture(t, true)
	var grants []broker.Grant
	for i := range 3 {
		grants = append(grants, f.signIn(fmt.Sprint("s", i), person("1", "alice")))
	}
	f.whisp.set("logout", problem.WhispUnreachable())
	f.whisp.set("refresh", problem.WhispUnreachable())
	for i := range 3 {
		if err := f.SignOut(t.Context(), fmt.Sprint("s", i)); f.code(err) != "whisp_unreachable" {
			t.Errorf("sign-out: %v", err)
		}
	}
	f.restart(true) // nothing is lost by a restart
	if err := f.WorkOutbox(t.Context()); err == nil {
		t.Error("claims to have revoked while Whisp is down")
	}
	f.step(10 * time.Minute) // by now the JWTs are dead
	f.whisp.set("logout", nil)
	f.whisp.set("refresh", nil)
	must(t, f.WorkOutbox(t.Context()))
	for i, g := range grants {
		if f.whisp.alive(g.RefreshToken) {
			t.Errorf("refresh token %d lives on", i)
		}
	}
	calls := f.whisp.count("logout")
	must(t, f.WorkOutbox(t.Context()))
	if f.whisp.count("logout") != calls {
		t.Error("revoked again what is revoked")
	}
}

// One revocation that Whisp will never take keeps nothing behind it waiting.
func TestRevocationsDoNotBlockEachOther(t *testing.T) {
	f := newFixture(t, true)
	var grants []broker.Grant
	for i := range 10 {
		grants = append(grants, f.signIn(fmt.Sprint("s", i), person("1", "alice")))
	}
	f.whisp.set("logout", problem.WhispUnreachable())
	for i := range grants {
		_ = f.SignOut(t.Context(), fmt.Sprint("s", i))
	}
	f.whisp.set("logout", nil)
	for _, stubborn := range []error{problem.WhispBadAnswer(), &upstream.InvalidError{Message: "malformed"}} {
		f.whisp.mu.Lock()
		f.whisp.poisoned, f.whisp.poison = grants[3].RefreshToken, stubborn
		f.whisp.mu.Unlock()
		_ = f.WorkOutbox(t.Context())
	}
	for i, g := range grants {
		if f.whisp.alive(g.RefreshToken) != (i == 3) {
			t.Errorf("refresh token %d: alive=%v", i, f.whisp.alive(g.RefreshToken))
		}
	}
	calls := f.whisp.count("logout")
	if err := f.WorkOutbox(t.Context()); err != nil || f.whisp.count("logout") != calls {
		t.Errorf("what Whisp calls malformed is tried for ever: %v", err)
	}
}

func TestProfileSync(t *testing.T) {
	before, after := person("1", "alice"), person("1", "alice.new")
	setup := func(t *testing.T, durable bool) (*fixture, broker.Grant) {
		f := newFixture(t, durable)
		f.account.ProfileSync = true
		f.restart(durable)
		return f, f.signIn("s", before)
	}
	t.Run("follows the provider, once for many sessions", func(t *testing.T) {
		f, first := setup(t, true)
		grants := parallel(t, 50, func(i int) (broker.Grant, error) {
			return f.SignIn(t.Context(), f.caller(fmt.Sprint("n", i), after), false)
		})
		for _, g := range grants {
			if g.UserID != first.UserID || g.Username != "alice.new" {
				t.Errorf("%s is %s", g.UserID, g.Username)
			}
		}
		if f.whisp.count("rename") != 1 {
			t.Errorf("%d renames", f.whisp.count("rename"))
		}
	})
	t.Run("takes the suffix if the name is taken", func(t *testing.T) {
		f, first := setup(t, true)
		f.whisp.add("alice.new", "other", "o@example.com")
		got := f.signIn("t", after)
		if got.UserID != first.UserID || !strings.HasPrefix(got.Username, "alice.new-") {
			t.Errorf("got %+v", got)
		}
		f.signIn("u", after)
		if f.whisp.count("rename") != 2 {
			t.Errorf("%d renames: it tries again at every sign-in", f.whisp.count("rename"))
		}
	})
	t.Run("survives a lost answer and a crash", func(t *testing.T) {
		for _, committed := range []bool{true, false} {
			f, first := setup(t, true)
			f.whisp.set("rename", problem.WhispTimeout())
			f.whisp.committed["rename"] = committed
			if got := f.signIn("t", after); got.UserID != first.UserID {
				t.Errorf("got %+v", got)
			}
			f.whisp.set("rename", nil)
			f.restart(true)
			got := f.signIn("u", after)
			if got.UserID != first.UserID || got.Username != "alice.new" || f.whisp.count("register") != 1 {
				t.Errorf("committed=%v: %+v", committed, got)
			}
		}
	})
	t.Run("leaves a name that its owner chose", func(t *testing.T) {
		f, first := setup(t, true)
		jwt, _, err := f.whisp.ChangeUsername(t.Context(), first.JWT, "queen")
		must(t, err)
		must(t, f.Renamed(t.Context(), before.Key(), jwt))
		if got := f.signIn("t", before); got.Username != "queen" {
			t.Errorf("renamed back to %s", got.Username)
		}
	})
	t.Run("is off by default, and without a durable store", func(t *testing.T) {
		f, _ := setup(t, false)
		f.signIn("t", after)
		off := newFixture(t, true)
		off.signIn("s", before)
		off.signIn("t", after)
		if f.whisp.count("rename")+off.whisp.count("rename") != 0 {
			t.Error("renamed")
		}
	})
}

func TestEnsure(t *testing.T) {
	for _, durable := range []bool{true, false} {
		f := newFixture(t, durable)
		alice := person("1", "alice")
		var created int
		results := make(chan broker.Account, 50)
		parallel(t, 50, func(int) (broker.Grant, error) {
			account, err := f.Ensure(t.Context(), alice)
			results <- account
			return broker.Grant{}, err
		})
		close(results)
		for account := range results {
			if account.Created {
				created++
			}
			if account.Username != "alice" || account.UserID == "" {
				t.Errorf("got %+v", account)
			}
		}
		if created == 0 || f.whisp.count("register") != 1 {
			t.Errorf("durable=%v: created %d times, %d registrations", durable, created, f.whisp.count("register"))
		}
		if len(f.whisp.tokens) != 0 {
			t.Errorf("%d refresh tokens that nobody holds", len(f.whisp.tokens))
		}
		again, err := f.Ensure(t.Context(), alice)
		if err != nil || again.Created {
			t.Errorf("again: %+v, %v", again, err)
		}
		if got := f.signIn("s", alice); got.UserID != again.UserID {
			t.Errorf("signed in to %s", got.UserID)
		}
		if _, found, err := f.Find(t.Context(), person("2", "nobody")); found || err != nil {
			t.Errorf("found somebody: %v", err)
		}
	}
}

// crashingStore fails to save links, as if the process ended just before.
type crashingStore struct {
	broker.Store
	crash func(value []byte) bool
}

func (c *crashingStore) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if strings.HasPrefix(key, "link:") && c.crash(value) {
		return errors.New("crash")
	}
	return c.Store.Set(ctx, key, value, ttl)
}

// security.md 43, with the worst luck: the name that was taken at the first try
// is free at the second.
func TestCrashBetweenRegisterAndLink(t *testing.T) {
	f := newFixture(t, true)
	alice := person("1", "alice")
	f.whisp.add("alice", "another's", "a@elsewhere.example")
	sound := f.store
	f.store = &crashingStore{sound, func(value []byte) bool { return strings.Contains(string(value), `"state":"linked"`) }}
	f.restart(true)
	if _, err := f.SignIn(t.Context(), f.caller("s", alice), false); f.code(err) != "store_unavailable" {
		t.Fatalf("got %v", err)
	}
	f.whisp.remove("alice")
	f.store = sound
	f.restart(true)
	got := f.signIn("s", alice)
	if !strings.HasPrefix(got.Username, "alice-") || f.whisp.count("register") != 2 {
		t.Errorf("a second account: %s, %d registrations", got.Username, f.whisp.count("register"))
	}
}

// brokenStore refuses links, as a sealed store does when somebody altered them.
type brokenStore struct{ broker.Store }

func (b brokenStore) Get(ctx context.Context, key string) ([]byte, error) {
	if strings.HasPrefix(key, "link:") {
		return nil, store.ErrSealed
	}
	return b.Store.Get(ctx, key)
}

func TestAlteredLinkLosesNoAccount(t *testing.T) {
	f := newFixture(t, true)
	alice := person("1", "alice")
	f.whisp.add("alice", "another's", "a@elsewhere.example")
	first := f.signIn("s", alice)
	f.whisp.remove("alice") // a better name is free now
	f.store = brokenStore{f.store}
	f.restart(true)
	if got := f.signIn("new", alice); got.UserID != first.UserID || f.whisp.count("register") != 2 {
		t.Errorf("got %+v after %d registrations", got, f.whisp.count("register"))
	}
}

func TestGrantsNeverCross(t *testing.T) {
	f := newFixture(t, true)
	people := []identity.Identity{person("1", "alice"), person("2", "bob"), person("3", "carol")}
	owners := map[string]string{}
	for round := range 3 {
		for i, id := range people {
			g := f.signIn(fmt.Sprint("s", i), id)
			if owner, seen := owners[g.RefreshToken.Reveal()]; seen && owner != id.Subject {
				t.Errorf("round %d: %s got the token of %s", round, id.Subject, owner)
			}
			owners[g.RefreshToken.Reveal()] = id.Subject
		}
		f.step(10 * time.Minute)
	}
}
