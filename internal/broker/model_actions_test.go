package broker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"pgregory.net/rapid"

	"github.com/whisp-bff/whisp-bff/internal/broker"
)

// request is one sign-in, or one Ensure, and what it came to.
type request struct {
	person  int
	session string
	replica int
	fresh   bool
	ensure  bool

	grant   broker.Grant
	account broker.Account
	err     error
}

func (w *world) drawRequest(t *rapid.T) *request {
	q := &request{
		person:  rapid.IntRange(0, len(w.people)-1).Draw(t, "person"),
		replica: rapid.IntRange(0, len(w.replicas)-1).Draw(t, "replica"),
		fresh:   rapid.IntRange(0, 4).Draw(t, "fresh") == 0,
	}
	// Sometimes another person sits down at somebody's browser.
	of := q.person
	if rapid.IntRange(0, 9).Draw(t, "other's session") == 0 {
		of = rapid.IntRange(0, len(w.people)-1).Draw(t, "of")
	}
	q.session = rapid.SampledFrom(w.people[of].sessions).Draw(t, "session")
	return q
}

func (w *world) caller(q *request) broker.Caller {
	return broker.Caller{Session: q.session, Identity: w.people[q.person].identity(), Until: w.clock().Add(12 * time.Hour)}
}

func (w *world) send(ctx context.Context, q *request) {
	if q.ensure {
		q.account, q.err = w.replicas[q.replica].Ensure(ctx, w.people[q.person].identity())
		return
	}
	q.grant, q.err = w.replicas[q.replica].SignIn(ctx, w.caller(q), q.fresh)
}

// settle judges requests that are all answered.
func (w *world) settle(why trouble, requests ...*request) {
	w.t.Helper()
	w.census()
	callers := map[int]int{}
	for _, q := range requests {
		callers[q.person]++
		if q.ensure {
			w.judgeEnsured(q, why)
		} else {
			w.judge(q.person, q.fresh, q.grant, q.err, why)
		}
	}
	w.judgeAttempts(callers, why)
}

func (w *world) judgeEnsured(q *request, why trouble) {
	w.t.Helper()
	if q.err != nil {
		w.judgeError(q.person, q.err, why)
		return
	}
	if owner, known := w.owner[q.account.UserID]; !known || owner != q.person {
		w.t.Fatalf("person %d was told to be %s, which is person %d's", q.person, q.account.UserID, owner)
	}
	link := w.before[q.person].link
	linked := link != nil && link.State == "linked"
	if linked && !w.before[q.person].lost && (q.account.Created || q.account.UserID != link.UserID) {
		w.t.Fatalf("person %d is %+v, but was linked to %+v", q.person, q.account, *link)
	}
	if _, dead := w.died[q.account.UserID]; !dead {
		w.reached(q.person, q.account.UserID)
	} else if !linked {
		w.t.Fatalf("person %d was told to be %s, which is gone", q.person, q.account.UserID)
	}
}

func (w *world) signIn(t *rapid.T) {
	w.t = t
	q, why := w.drawRequest(t), w.troubles()
	if rapid.IntRange(0, 9).Draw(t, "late commit") == 0 {
		w.gate.hold, why.whisp = 100, true
	}
	w.send(t.Context(), q)
	w.gate.end()
	w.settle(why, q)
	if q.err == nil && q.fresh && !w.sim.RefreshTokenAlive(q.grant.RefreshToken) {
		t.Fatalf("a fresh grant's refresh token is dead")
	}
}

func (w *world) ensure(t *rapid.T) {
	w.t = t
	q, why := w.drawRequest(t), w.troubles()
	q.ensure = true
	w.send(t.Context(), q)
	w.settle(why, q)
}

// crowd is several requests at once, mostly of one person.
func (w *world) crowd(t *rapid.T) {
	w.t = t
	why := w.troubles()
	person := rapid.IntRange(0, len(w.people)-1).Draw(t, "crowd of")
	var requests []*request
	for range rapid.IntRange(2, 8).Draw(t, "size") {
		q := w.drawRequest(t)
		if rapid.IntRange(0, 3).Draw(t, "same person") > 0 {
			q.person = person
			q.session = rapid.SampledFrom(w.people[person].sessions).Draw(t, "session")
		}
		q.ensure = rapid.IntRange(0, 7).Draw(t, "ensure") == 0
		requests = append(requests, q)
	}
	if rapid.IntRange(0, 4).Draw(t, "late commit") == 0 {
		w.gate.hold, why.whisp = rapid.IntRange(1, 6).Draw(t, "for requests"), true
	}
	w.atOnce(t.Context(), requests)
	w.gate.end()
	w.settle(why, requests...)
}

func (w *world) atOnce(ctx context.Context, requests []*request) {
	var group sync.WaitGroup
	for _, q := range requests {
		group.Go(func() { w.send(ctx, q) })
	}
	group.Wait()
	for _, r := range w.replicas {
		r.Wait()
	}
}

// holding returns the grant that a session has in the store, nil if there is none.
func (w *world) holding(session string) *storedGrant {
	raw, err := w.memory.Get(w.t.Context(), "grant:"+session)
	if err != nil {
		return nil
	}
	found := &storedGrant{}
	w.must(json.Unmarshal(raw, found))
	return found
}

// storedGrant is what the model needs of a grant as stored.
type storedGrant struct {
	Identity     string `json:"identity"`
	UserID       string `json:"uid"`
	RefreshToken string `json:"rt"`
}

func (w *world) signOut(t *rapid.T) {
	w.t = t
	q, why := w.drawRequest(t), w.troubles()
	err := w.replicas[q.replica].SignOut(t.Context(), q.session)
	if err != nil {
		w.judgeError(q.person, err, why)
	}
	if w.holding(q.session) != nil {
		t.Fatalf("%s still holds a grant", q.session)
	}
}

// endDuringSignIn ends the session while Whisp is being asked.
func (w *world) endDuringSignIn(t *rapid.T) {
	w.t = t
	q, why := w.drawRequest(t), w.troubles()
	why.ended = true
	ended := make(chan struct{})
	w.gate.mu.Lock()
	w.gate.countdown = rapid.IntRange(1, 4).Draw(t, "at request")
	w.gate.hook = func() {
		defer close(ended)
		w.sessions.end(q.session)
		_ = w.replicas[q.replica].SignOut(t.Context(), q.session) // Whisp may be down
	}
	w.gate.mu.Unlock()
	w.send(t.Context(), q)
	w.settle(why, q)
	w.gate.mu.Lock()
	unused := w.gate.hook != nil
	w.gate.hook = nil
	w.gate.mu.Unlock()
	if unused {
		return
	}
	<-ended
	if w.holding(q.session) != nil {
		t.Fatalf("%s has ended and holds a grant", q.session)
	}
	w.renewSession(q.session)
}

// renewSession gives the person a new session in the place of one that ended.
func (w *world) renewSession(old string) {
	w.serial++
	for _, p := range w.people {
		for n, session := range p.sessions {
			if session == old {
				p.sessions[n] = fmt.Sprintf("%.11s-%d", old, w.serial)
			}
		}
	}
}

func (w *world) timePasses(t *rapid.T) {
	w.t = t
	step := rapid.SampledFrom([]time.Duration{
		time.Minute, 4*time.Minute + 30*time.Second, 5 * time.Minute, time.Hour, 13 * time.Hour, 8 * 24 * time.Hour,
	}).Draw(t, "step")
	w.mu.Lock()
	w.now = w.now.Add(step)
	w.mu.Unlock()
}

// release is an administrator's: only for accounts that are gone.
func (w *world) release(t *rapid.T) {
	w.t = t
	q := w.drawRequest(t)
	if len(w.before[q.person].living) > 0 || w.before[q.person].link == nil {
		t.Skip("nothing to release")
	}
	w.must(w.replicas[q.replica].Release(t.Context(), w.people[q.person].identity()))
	if w.link(q.person) != nil {
		t.Fatal("released, and still linked")
	}
}

func (w *world) loseGrants(t *rapid.T) {
	w.t = t
	for _, session := range w.people[rapid.IntRange(0, len(w.people)-1).Draw(t, "person")].sessions {
		w.must(w.memory.Delete(t.Context(), "grant:"+session))
	}
}

// loseLink is a store that lost data, be it one link.
func (w *world) loseLink(t *rapid.T) {
	w.t = t
	all := rapid.IntRange(0, 3).Draw(t, "all") == 0
	one := rapid.IntRange(0, len(w.people)-1).Draw(t, "person")
	for i, p := range w.people {
		if all || i == one {
			w.must(w.memory.Delete(t.Context(), "link:"+p.identity().Key()))
			p.linkLost = true
		}
	}
}

func (w *world) restartOne(t *rapid.T) {
	w.t = t
	w.start(rapid.IntRange(0, len(w.replicas)-1).Draw(t, "replica"))
}

// crash ends a replica in the middle of a request: after some operations the
// store hears nothing of it any more.
func (w *world) crash(t *rapid.T) {
	w.t = t
	q, why := w.drawRequest(t), w.troubles()
	q.ensure = rapid.IntRange(0, 3).Draw(t, "ensure") == 0
	why.store = true
	w.replicas[q.replica].store.trouble(rapid.IntRange(0, 8).Draw(t, "operations"), 1_000_000, false)
	w.send(t.Context(), q)
	w.replicas[q.replica].Wait()
	w.settle(why, q)
	w.start(q.replica)
}

// storeHiccup lets some operations of a request fail.
func (w *world) storeHiccup(t *rapid.T) {
	w.t = t
	q, why := w.drawRequest(t), w.troubles()
	why.store = true
	s := w.replicas[q.replica].store
	s.trouble(rapid.IntRange(0, 8).Draw(t, "operations"), rapid.IntRange(1, 3).Draw(t, "failing"), rapid.Bool().Draw(t, "applied"))
	w.send(t.Context(), q)
	w.replicas[q.replica].Wait()
	s.trouble(0, 0, false)
	w.settle(why, q)
}
