package broker_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/whisp-bff/whisp-bff/internal/broker"
	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/upstream"
)

// What TestModel found, each as the shortest story that shows it.

// The registration's answer and the sign-in after it are lost, and before the
// next try the person is called something else at the provider.
func TestPendingRemembersTheNamesThatWereTried(t *testing.T) {
	f := newFixture(t, true)
	f.whisp.after = func(operation string) {
		if operation == "register" {
			f.whisp.set("signin", problem.WhispTimeout())
		}
	}
	if _, err := f.SignIn(t.Context(), f.caller("s", person("1", "alice")), false); f.code(err) != "whisp_timeout" {
		t.Fatalf("got %v", err)
	}
	f.whisp.after = nil
	f.whisp.set("signin", nil)
	got := f.signIn("s", person("1", "alicia"))
	if got.Username != "alice" || f.whisp.count("register") != 1 {
		t.Errorf("a second account: %s, %d registrations", got.Username, f.whisp.count("register"))
	}
}

// A registration that was given up arrives at Whisp after all, while the next try
// is between looking for the account and registering it.
func TestRegistrationThatArrivesLate(t *testing.T) {
	f := newFixture(t, true)
	alice := person("1", "alice")
	f.whisp.set("register", problem.WhispTimeout())
	if _, err := f.SignIn(t.Context(), f.caller("s", alice), false); f.code(err) != "whisp_timeout" {
		t.Fatalf("got %v", err)
	}
	f.whisp.set("register", nil)
	password, err := broker.PasswordForTest(masterA, alice)
	must(t, err)
	var once sync.Once
	f.whisp.after = func(operation string) {
		if operation == "register" {
			once.Do(func() { f.whisp.add("alice", password, "alice@example.com") })
		}
	}
	if got := f.signIn("s", alice); got.Username != "alice" || len(f.whisp.accounts) != 1 {
		t.Errorf("a second account: %s", got.Username)
	}
}

// One session key, two people: neither gets what the other asked for.
func TestTwoPeopleOnOneSessionAtOnce(t *testing.T) {
	f := newFixture(t, true)
	alice, bob := person("1", "alice"), person("2", "bob")
	asked := make(chan struct{})
	release := make(chan struct{})
	var once sync.Once
	f.whisp.after = func(operation string) {
		if operation == "register" {
			once.Do(func() { close(asked); <-release })
		}
	}
	var group sync.WaitGroup
	group.Go(func() {
		if got, err := f.SignIn(t.Context(), f.caller("s", alice), false); err != nil || got.Username != "alice" {
			t.Errorf("alice is %s, %v", got.Username, err)
		}
	})
	<-asked
	ctx, leave := context.WithCancel(t.Context())
	group.Go(func() {
		if got, err := f.SignIn(ctx, f.caller("s", bob), false); err != nil || got.Username != "bob" {
			t.Errorf("bob is %s, %v", got.Username, err)
		}
	})
	close(release)
	group.Wait()
	leave()
}

// A page that still holds somebody else's JWT deletes that account. The session's
// own, under a name that only the link knows, must stay linked.
func TestForeignDeletionWithoutAGrant(t *testing.T) {
	f := newFixture(t, true)
	alice := person("1", "alice")
	first := f.signIn("s", alice)
	jwt, _, err := f.whisp.ChangeUsername(t.Context(), first.JWT, "queen")
	must(t, err)
	must(t, f.Renamed(t.Context(), "s", alice.Key(), jwt)) // drops the grant
	must(t, f.Deleted(t.Context(), "s", alice.Key()))
	if got := f.signIn("s", alice); got.UserID != first.UserID {
		t.Errorf("a second account: %+v", got)
	}
}

// gatedWhisp holds back the answer to the sign-in that is marked.
type gatedWhisp struct {
	*fakeWhisp
	arrived, release chan struct{}
	mu               sync.Mutex
	armed            bool
}

func (g *gatedWhisp) SignIn(ctx context.Context, username string, password secret.Text) (upstream.SignedIn, error) {
	g.mu.Lock()
	mine := g.armed
	g.armed = false
	g.mu.Unlock()
	in, err := g.fakeWhisp.SignIn(ctx, username, password)
	if mine {
		close(g.arrived)
		<-g.release
	}
	return in, err
}

// The answer of a rename is lost; another session that signed in before it tries
// the same rename and is told that the name is taken: by its own account.
func TestRenameThatIsTakenByTheAccountItself(t *testing.T) {
	for _, onConflict := range []broker.OnConflict{broker.Suffix, broker.Fail} {
		f := newFixture(t, true)
		f.account.ProfileSync, f.account.OnConflict = true, onConflict
		f.restart(true)
		before, after := person("1", "alice"), person("1", "alice.new")
		first := f.signIn("s", before)
		gated := &gatedWhisp{fakeWhisp: f.whisp, arrived: make(chan struct{}), release: make(chan struct{}), armed: true}
		credentials, err := broker.NewCredentials([]secret.Text{secret.New(masterA)})
		must(t, err)
		mapping, err := broker.NewMapping(f.account)
		must(t, err)
		b := broker.New(f.account, broker.Deps{
			Accounts: gated, Tokens: f.whisp, Store: f.store, Sessions: f.sessions, Credentials: credentials, Mapping: mapping,
			Clock: f.clock, Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
		})
		var group sync.WaitGroup
		group.Go(func() {
			if _, err := b.SignIn(t.Context(), f.caller("slow", after), false); err != nil {
				t.Errorf("slow: %v", err)
			}
		})
		<-gated.arrived
		f.whisp.set("rename", problem.WhispTimeout())
		f.whisp.committed["rename"] = true
		if _, err := b.SignIn(t.Context(), f.caller("quick", after), false); err != nil {
			t.Fatalf("quick: %v", err)
		}
		f.whisp.set("rename", nil)
		close(gated.release)
		group.Wait()
		got, err := b.SignIn(t.Context(), f.caller("later", after), false)
		if err != nil || got.UserID != first.UserID || strings.Contains(got.Username, "-") {
			t.Errorf("%s: %s %s, %v", onConflict, got.UserID, got.Username, err)
		}
	}
}
