package broker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/whisp-bff/whisp-bff/internal/broker"
	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/setting"
	"github.com/whisp-bff/whisp-bff/internal/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestHundredFirstSignInsOfOneSession(t *testing.T) {
	for _, durable := range []bool{true, false} {
		t.Run(fmt.Sprintf("durable=%v", durable), func(t *testing.T) {
			f := newFixture(t, durable)
			grants := parallel(t, 100, func(int) (broker.Grant, error) {
				return f.SignIn(t.Context(), f.caller("s", person("1", "alice")), false)
			})
			for _, g := range grants {
				if !g.JWT.Equal(grants[0].JWT) || !g.RefreshToken.Equal(grants[0].RefreshToken) {
					t.Fatal("two grants for one session")
				}
			}
			succeeded := f.whisp.count("signin") - f.whisp.count("signin refused")
			if f.whisp.count("register") != 1 || succeeded != 1 {
				t.Errorf("%d registerUser, %d signin that succeeded", f.whisp.count("register"), succeeded)
			}
			// With links to rely on, nothing is tried in vain.
			if durable && f.whisp.count("signin") != 1 {
				t.Errorf("%d signin calls", f.whisp.count("signin"))
			}
		})
	}
}

func TestHundredSessionsOfOneNewPersonRegisterOnce(t *testing.T) {
	for _, durable := range []bool{true, false} {
		f := newFixture(t, durable)
		grants := parallel(t, 100, func(i int) (broker.Grant, error) {
			return f.SignIn(t.Context(), f.caller(fmt.Sprint("s", i), person("1", "alice")), false)
		})
		tokens := map[string]bool{}
		for _, g := range grants {
			tokens[g.RefreshToken.Reveal()] = true
			if g.UserID != grants[0].UserID {
				t.Errorf("two accounts: %s and %s", g.UserID, grants[0].UserID)
			}
		}
		if f.whisp.count("register") != 1 || len(tokens) != 100 {
			t.Errorf("durable=%v: %d registrations, %d refresh tokens for 100 sessions", durable, f.whisp.count("register"), len(tokens))
		}
	}
}

func TestGrantLife(t *testing.T) {
	f := newFixture(t, true)
	alice := person("1", "alice")
	first := f.signIn("s", alice)

	f.step(3*time.Minute + 59*time.Second)
	if again := f.signIn("s", alice); !again.JWT.Equal(first.JWT) || f.whisp.count("refresh") != 0 {
		t.Error("a JWT with more than a minute left was not answered from the grant")
	}
	f.step(time.Second)
	renewed := f.signIn("s", alice)
	if renewed.JWT.Equal(first.JWT) || !renewed.RefreshToken.Equal(first.RefreshToken) || f.whisp.count("refresh") != 1 {
		t.Error("a JWT with a minute left was not refreshed")
	}
	f.step(2 * time.Hour)
	f.whisp.mu.Lock()
	delete(f.whisp.tokens, first.RefreshToken.Reveal())
	f.whisp.mu.Unlock()
	anew := f.signIn("s", alice)
	if anew.RefreshToken.Equal(first.RefreshToken) || f.whisp.count("register") != 1 {
		t.Error("a dead refresh token did not lead to a new sign-in")
	}
}

func TestRefreshTroubleHandsOutTheOldJWTWhileItLives(t *testing.T) {
	f := newFixture(t, true)
	alice := person("1", "alice")
	first := f.signIn("s", alice)
	f.whisp.set("refresh", problem.WhispUnreachable())
	f.whisp.set("signin", problem.WhispUnreachable())
	f.step(4*time.Minute + 30*time.Second)
	if got := f.signIn("s", alice); !got.JWT.Equal(first.JWT) {
		t.Error("the JWT that still lives was not handed out")
	}
	f.step(25 * time.Second)
	if _, err := f.SignIn(t.Context(), f.caller("s", alice), false); f.code(err) != "whisp_unreachable" {
		t.Errorf("got %v", err)
	}
	f.whisp.set("refresh", nil)
	f.signIn("s", alice)
}

func TestFreshRevokesTheOldToken(t *testing.T) {
	f := newFixture(t, true)
	alice := person("1", "alice")
	old := f.signIn("s", alice)
	fresh, err := f.SignIn(t.Context(), f.caller("s", alice), true)
	must(t, err)
	if fresh.RefreshToken.Equal(old.RefreshToken) || f.whisp.alive(old.RefreshToken) || !f.whisp.alive(fresh.RefreshToken) {
		t.Error("fresh did not replace the grant")
	}
	if now := f.signIn("s", alice); !now.RefreshToken.Equal(fresh.RefreshToken) {
		t.Error("the fresh grant was not kept")
	}
}

func TestSignOut(t *testing.T) {
	for name, age := range map[string]time.Duration{"live JWT": 0, "expired JWT": 10 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, true)
			g := f.signIn("s", person("1", "alice"))
			f.step(age)
			must(t, f.SignOut(t.Context(), "s"))
			if f.whisp.alive(g.RefreshToken) {
				t.Error("the refresh token lives on")
			}
			must(t, f.SignOut(t.Context(), "s"))
			must(t, f.SignOut(t.Context(), "never seen"))
		})
	}
	t.Run("Whisp down", func(t *testing.T) {
		f := newFixture(t, true)
		f.signIn("s", person("1", "alice"))
		f.whisp.set("logout", problem.WhispUnreachable())
		if err := f.SignOut(t.Context(), "s"); f.code(err) != "whisp_unreachable" {
			t.Errorf("the answer does not say so: %v", err)
		}
	})
}

func TestSessionThatEndsDuringSignInLeavesNoToken(t *testing.T) {
	f := newFixture(t, true)
	f.whisp.after = func(operation string) {
		if operation == "signin" {
			f.sessions.end("s")
		}
	}
	_, err := f.SignIn(t.Context(), f.caller("s", person("1", "alice")), false)
	if f.code(err) != "session_required" {
		t.Errorf("got %v", err)
	}
	if len(f.whisp.tokens) != 0 {
		t.Error("a refresh token nobody will revoke lives on")
	}
}

func TestGrantOfAnotherIdentityIsNeverReturned(t *testing.T) {
	f := newFixture(t, true)
	alice := f.signIn("device", person("1", "alice"))
	bob := f.signIn("device", person("2", "bob"))
	if bob.UserID == alice.UserID || bob.Username != "bob" {
		t.Errorf("bob got %s", bob.Username)
	}
}

func TestAccounts(t *testing.T) {
	alice := person("1", "alice")
	tests := map[string]struct {
		prepare  func(f *fixture)
		username string
		code     string
	}{
		"new":        {func(*fixture) {}, "alice", ""},
		"name taken": {func(f *fixture) { f.whisp.add("alice", "hers", "a@elsewhere.example") }, "alice-*", ""},
		"name taken, no suffixes": {func(f *fixture) {
			f.whisp.add("alice", "hers", "a@elsewhere.example")
			f.account.OnConflict = broker.Fail
		}, "", "account_conflict"},
		"e-mail taken": {func(f *fixture) { f.whisp.add("mallory", "x", "alice@example.com") }, "alice", ""},
		"both taken by an attacker who was first": {func(f *fixture) { f.whisp.add("alice", "guess", "alice@example.com") }, "alice-*", ""},
		"a field Whisp does not like": {func(f *fixture) {
			f.whisp.reject = func(upstream.Registration) bool { return true }
		}, "", "account_invalid"},
		"key refused": {func(f *fixture) {
			f.whisp.set("register", problem.WhispKeyRefused())
			f.whisp.set("signin", upstream.ErrUnauthorized)
		}, "", "whisp_key_refused"},
		"registered, answer lost": {func(f *fixture) {
			f.whisp.after = func(operation string) {
				if operation == "register" {
					f.whisp.mu.Lock()
					defer f.whisp.mu.Unlock()
					f.whisp.fail["register"] = problem.WhispTimeout()
					password, err := broker.PasswordForTest(masterA, alice)
					must(f.t, err)
					f.whisp.add("alice", password, "alice@example.com")
				}
			}
			f.whisp.set("register", problem.WhispTimeout())
		}, "alice", ""},
		"not registered, answer lost": {func(f *fixture) { f.whisp.set("register", problem.WhispTimeout()) }, "", "whisp_timeout"},
	}
	for name, tt := range tests {
		for _, durable := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, durable=%v", name, durable), func(t *testing.T) {
				f := newFixture(t, durable)
				tt.prepare(f)
				f.restart(durable)
				g, err := f.SignIn(t.Context(), f.caller("s", alice), false)
				if f.code(err) != tt.code {
					t.Fatalf("got %v, want code %q", err, tt.code)
				}
				if want, prefix := strings.CutSuffix(tt.username, "*"); g.Username != tt.username && (!prefix || !strings.HasPrefix(g.Username, want)) {
					t.Errorf("user name %q, want %q", g.Username, tt.username)
				}
				if err != nil {
					return
				}
				// Everything forgotten: the same account is found again, and
				// nothing is registered.
				f.store = nil
				f.whisp.after, f.whisp.fail = nil, map[string]error{}
				f.restart(false)
				before := len(f.whisp.accounts)
				if again := f.signIn("s2", alice); again.UserID != g.UserID || len(f.whisp.accounts) != before {
					t.Errorf("after the loss of the store: %q instead of %q", again.UserID, g.UserID)
				}
			})
		}
	}
}

func TestPeopleAreKeptApart(t *testing.T) {
	other := func(change func(*identity.Identity)) identity.Identity {
		id := person("1", "alice")
		change(&id)
		return id
	}
	people := map[string]identity.Identity{
		"alice":                        person("1", "alice"),
		"same name, same issuer":       other(func(id *identity.Identity) { id.Subject = "2" }),
		"same subject, other issuer":   other(func(id *identity.Identity) { id.Issuer = "https://other.example.com" }),
		"issuer with trailing slash":   other(func(id *identity.Identity) { id.Issuer += "/" }),
		"fields shifted by one letter": other(func(id *identity.Identity) { id.Issuer += "1"; id.Subject = "" }),
	}
	f := newFixture(t, true)
	seen := map[string]string{}
	for name, id := range people {
		g := f.signIn(name, id)
		if first, taken := seen[g.UserID]; taken {
			t.Errorf("%q and %q share an account", name, first)
		}
		seen[g.UserID] = name
	}
}

func TestMasterSecretRotation(t *testing.T) {
	f := newFixture(t, true)
	alice, bob := person("1", "alice"), person("2", "bob")
	old := f.signIn("s", alice)
	f.account.MasterSecrets = []setting.Secret{setting.SecretValue(masterB), setting.SecretValue(masterA)}
	f.restart(true)
	if got, err := f.SignIn(t.Context(), f.caller("s", alice), true); err != nil || got.UserID != old.UserID {
		t.Errorf("linked account after rotation: %v, %v", got, err)
	}
	newer := f.signIn("s2", bob)
	f.store = nil
	f.restart(false)
	if got := f.signIn("s3", alice); got.UserID != old.UserID {
		t.Errorf("after the loss of the store: %s, want %s", got.UserID, old.UserID)
	}
	if got := f.signIn("s4", bob); got.UserID != newer.UserID {
		t.Errorf("account of the new secret: %s, want %s", got.UserID, newer.UserID)
	}
	f.account.MasterSecrets = f.account.MasterSecrets[:1] // the old one forgotten too early
	f.restart(true)
	if _, err := f.SignIn(t.Context(), f.caller("s5", bob), false); err != nil {
		t.Errorf("bob needs only the new one: %v", err)
	}
}

func TestRevokedKeyDoesNotDropLinks(t *testing.T) {
	f := newFixture(t, true)
	alice := person("1", "alice")
	first := f.signIn("s", alice)
	f.whisp.set("signin", upstream.ErrUnauthorized) // what a revoked key looks like at sign-in
	f.whisp.set("probe", problem.WhispKeyRefused())
	if _, err := f.SignIn(t.Context(), f.caller("s2", alice), false); f.code(err) != "whisp_key_refused" {
		t.Fatalf("got %v", err)
	}
	f.whisp.set("signin", nil)
	f.whisp.set("probe", nil)
	if got := f.signIn("s2", alice); got.UserID != first.UserID || f.whisp.count("register") != 1 {
		t.Errorf("got %v", got)
	}
}

// A revoked key makes every sign-in look like a wrong password. Nobody may get a
// second account for that, even where links are lost and another name is free.
func TestKeyThatChangesOnTheWayGivesNobodyASecondAccount(t *testing.T) {
	f := newFixture(t, false)
	f.whisp.add("alice", "another's", "a@elsewhere.example")
	first := f.signIn("s", person("1", "alice")) // alice-xxxxxxxx
	f.whisp.mu.Lock()
	delete(f.whisp.accounts, "alice") // the name is free now
	f.whisp.mu.Unlock()
	f.restart(false)

	f.whisp.set("signin", upstream.ErrUnauthorized)
	f.whisp.set("register", fmt.Errorf("%w: %w", problem.WhispKeyRefused(), upstream.ErrKeyChanged))
	f.whisp.after = func(operation string) {
		if operation == "register" { // from here on the other key is in use
			f.whisp.set("signin", nil)
			f.whisp.set("register", nil)
		}
	}
	if got := f.signIn("s2", person("1", "alice")); got.UserID != first.UserID {
		t.Errorf("a second account: %s beside %s", got.UserID, first.UserID)
	}

	// And where the link is known.
	f.whisp.set("signin", upstream.ErrUnauthorized)
	f.whisp.set("probe", fmt.Errorf("%w: %w", upstream.ErrKeyChanged, problem.WhispKeyRefused()))
	f.whisp.after = func(operation string) {
		if operation == "probe" {
			f.whisp.set("signin", nil)
			f.whisp.set("probe", nil)
		}
	}
	if got := f.signIn("s3", person("1", "alice")); got.UserID != first.UserID {
		t.Errorf("linked: %s instead of %s", got.UserID, first.UserID)
	}
}

func TestCallerWhoLeavesIsNoFailure(t *testing.T) {
	f := newFixture(t, true)
	ctx, cancel := context.WithCancel(t.Context())
	f.whisp.after = func(operation string) {
		if operation == "register" {
			cancel()
		}
	}
	if _, err := f.SignIn(ctx, f.caller("s", person("1", "alice")), false); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	f.Wait()
	if f.whisp.count("register") != 1 || len(f.whisp.accounts) != 1 {
		t.Error("the half-finished registration was not finished")
	}
	f.signIn("s", person("1", "alice"))
	if f.whisp.count("register") != 1 {
		t.Error("registered twice")
	}
}

func parallel(t *testing.T, n int, call func(int) (broker.Grant, error)) []broker.Grant {
	t.Helper()
	grants := make([]broker.Grant, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			var err error
			if grants[i], err = call(i); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	return grants
}
