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
	must(t, f.Renamed(t.Context(), alice.Key(), jwt)) // drops the grant
	must(t, f.Deleted(t.Context(), "s", alice.Key()))
	if got := f.signIn("s", alice); got.UserID != first.UserID {
		t.Errorf("a second account: %+v", got)
	}
}

// gatedWhisp holds back the answer to one call of an operation.
type gatedWhisp struct {
	*fakeWhisp
	arrived, release chan struct{}
	mu               sync.Mutex
	armed            string
}

// hold waits if the operation is the one whose answer is held back.
func (g *gatedWhisp) hold(operation string) {
	g.mu.Lock()
	mine := g.armed == operation
	if mine {
		g.armed = ""
	}
	g.mu.Unlock()
	if mine {
		close(g.arrived)
		<-g.release
	}
}

func (g *gatedWhisp) User(ctx context.Context, jwt secret.Text) (upstream.User, error) {
	user, err := g.fakeWhisp.User(ctx, jwt)
	g.hold("user")
	return user, err
}

func (g *gatedWhisp) SignIn(ctx context.Context, username string, password secret.Text) (upstream.SignedIn, error) {
	in, err := g.fakeWhisp.SignIn(ctx, username, password)
	g.hold("signin")
	return in, err
}

// gated returns a broker over the fixture's store whose Whisp holds back one
// answer.
func (f *fixture) gated(operation string) (*broker.Broker, *gatedWhisp) {
	f.t.Helper()
	whisp := &gatedWhisp{fakeWhisp: f.whisp, arrived: make(chan struct{}), release: make(chan struct{}), armed: operation}
	credentials, err := broker.NewCredentials([]secret.Text{secret.New(masterA)})
	must(f.t, err)
	mapping, err := broker.NewMapping(f.account)
	must(f.t, err)
	return broker.New(f.account, broker.Deps{
		Accounts: whisp, Tokens: f.whisp, Store: f.store, Sessions: f.sessions, Credentials: credentials, Mapping: mapping,
		Clock: f.clock, Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	}), whisp
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
		b, gated := f.gated("signin")
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

// A session asks what its account is called now; before it hears the answer,
// another session finds that out too and renames the account. The late answer
// must not overwrite the link.
func TestLateAnswerDoesNotOverwriteTheLink(t *testing.T) {
	f := newFixture(t, true)
	f.account.ProfileSync = true
	f.restart(true)
	before, after := person("1", "alice"), person("1", "alice.new")
	first := f.signIn("slow", before)
	f.signIn("quick", before)
	f.whisp.move("alice", "queen") // behind our back
	b, gated := f.gated("user")
	var group sync.WaitGroup
	group.Go(func() {
		if got, err := b.SignIn(t.Context(), f.caller("slow", after), true); err != nil || got.UserID != first.UserID {
			t.Errorf("slow: %s, %v", got.UserID, err)
		}
	})
	<-gated.arrived
	if got, err := b.SignIn(t.Context(), f.caller("quick", after), true); err != nil || got.Username != "alice.new" {
		t.Errorf("quick: %s, %v", got.Username, err)
	}
	close(gated.release)
	group.Wait()
	if got, err := b.SignIn(t.Context(), f.caller("later", after), false); err != nil || got.UserID != first.UserID {
		t.Errorf("later: %s, %v", got.UserID, err)
	}
}
