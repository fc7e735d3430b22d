package broker_test

import (
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/whisp-bff/whisp-bff/internal/broker"
)

// modelSteps is what one normal run of TestModel makes at least.
const modelSteps = 10_000

// TestModel lets a few people live for a while: sign in from several browsers
// and through several replicas at once, rename and delete their accounts, change
// their names at the provider, while strangers take the names they would want,
// Whisp fails, stores lose things, processes crash and keys are rotated. The
// broker under test has the real Whisp client and talks to the simulator over a
// real connection. After every step the model compares what it was told with
// what the simulator knows:
//
//   - Nobody's credential opens a second living account, see [world.mayRegister]
//     for the cases in which no design could avoid it, and no account is
//     opened by the credentials of two people.
//   - A sign-in that succeeds reaches the account that it reached before, unless
//     that one is gone. Its JWT is of that account and has life left in it.
//   - No grant is ever returned to two people.
//   - A link tells the truth about the account's name unless it was changed
//     where nobody could see it.
//   - Errors are problems, with codes that the state explains.
//   - registerUser is not called for people who have an account, and a bounded
//     number of times for others.
//
// It makes at least 10,000 steps. For more:
//
//	go test -run TestModel ./internal/broker -rapid.checks=2000 -rapid.steps=100
//
// # What it leaves out
//
// A call that Whisp carries out after we gave it up arrives within the step. A
// rate limiter that answers 429 after doing the work, a Whisp that answers 401
// or 400 without a reason, and names taken by others at the very moment of a
// sign-in do not happen. Only who has or had a JWT acts on an account.
// Administrators release only accounts that are gone. A master secret that is
// new comes to all replicas at once. A session whose own refresh token is dead
// does not delete somebody else's account (see [broker.Broker.Deleted]).
//
// After a failure, -rapid.failfile or -rapid.seed repeats it, as far as the
// order of what runs at once allows.
func TestModel(t *testing.T) {
	var steps atomic.Int64
	var worlds atomic.Int64
	t.Run("shapes", func(t *testing.T) { runShapes(t, &worlds, &steps) })
	t.Logf("%d steps in %d worlds", steps.Load(), worlds.Load())
	whole := worlds.Load() >= 400 // four shapes, a hundred checks each
	if whole && !testing.Short() && !t.Failed() && steps.Load() < modelSteps {
		t.Errorf("only %d steps, want %d: see -rapid.checks and -rapid.steps", steps.Load(), modelSteps)
	}
}

// runShapes runs every shape at once: they mostly wait.
func runShapes(t *testing.T, worlds, steps *atomic.Int64) {
	for _, shape := range []shape{
		{name: "durable", durable: true, replicas: 1, lives: 2, onLost: broker.LostFails},
		{name: "three replicas", durable: true, replicas: 3, lives: 1, onLost: broker.LostFails},
		{name: "not durable", replicas: 1, lives: 2, onLost: broker.LostFails},
		{name: "lost accounts are made anew", durable: true, replicas: 1, lives: 1, onLost: broker.LostRegisters},
	} {
		t.Run(shape.name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(rt *rapid.T) {
				worlds.Add(1)
				w := newWorld(rt, shape)
				actions := w.actions(steps)
				for range shape.lives {
					rt.Repeat(actions)
				}
			})
		})
	}
}

// shape is what one run keeps from beginning to end.
type shape struct {
	name     string
	durable  bool
	replicas int
	lives    int // of some thirty steps each, one after the other
	onLost   broker.OnLost
}

// actions are the steps. Those that matter most have several names, so that
// they are drawn more often.
func (w *world) actions(steps *atomic.Int64) map[string]func(*rapid.T) {
	list := map[string]func(*rapid.T){
		"sign in":                w.signIn,
		"sign in again":          w.signIn,
		"sign in once more":      w.signIn,
		"crowd":                  w.crowd,
		"larger crowd":           w.crowd,
		"sign out":               w.signOut,
		"end during sign-in":     w.endDuringSignIn,
		"time passes":            w.timePasses,
		"ensure":                 w.ensure,
		"release":                w.release,
		"rename":                 w.rename,
		"rename behind our back": w.renameBehind,
		"delete":                 w.deleteAccount,
		"log out":                w.logOut,
		"foreign call":           w.foreignCall,
		"claims change":          w.claimsChange,
		"lose grants":            w.loseGrants,
		"lose link":              w.loseLink,
		"restart":                w.restartOne,
		"crash":                  w.crash,
		"store hiccup":           w.storeHiccup,
		"whisp fails":            w.whispFails,
		"whisp recovers":         w.whispRecovers,
		"revoke key":             w.revokeKey,
		"restore key":            w.restoreKey,
		"rotate master":          w.rotateMaster,
		"stranger comes":         w.strangerComes,
		"stranger goes":          w.strangerGoes,
	}
	for name, action := range list {
		list[name] = func(t *rapid.T) {
			w.gate.begin()
			action(t) // skips by a panic, and is not counted then
			w.gate.end()
			steps.Add(1)
		}
	}
	list[""] = w.check
	return list
}
