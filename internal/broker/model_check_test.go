package broker_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"pgregory.net/rapid"

	"github.com/whisp-bff/whisp-bff/internal/broker"
	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

// storedLink is what the model needs of a link as stored.
type storedLink struct {
	State    string `json:"state"`
	UserID   string `json:"user_id"`
	Username string `json:"username"`
	Renaming string `json:"renaming"`
}

// outlook is one person's state before a step, and what it allows.
type outlook struct {
	names []string // as the claims give them now
	link  *storedLink
	// living are the accounts that must be reached again; all also has those
	// that were abandoned.
	living, all []whispsim.User
	// lost: the link's account does not live under the names that it says.
	lost bool
	// mayRegister: an account may be made in this step.
	mayRegister bool
	// taken: strangers or others hold every name, or the fallback address.
	taken bool
}

func (w *world) link(i int) *storedLink {
	raw, err := w.memory.Get(w.t.Context(), "link:"+w.people[i].identity().Key())
	if err != nil {
		return nil
	}
	found := &storedLink{}
	w.must(json.Unmarshal(raw, found))
	return found
}

// look finds out how things stand for a person.
func (w *world) look(i int, users []whispsim.User) outlook {
	profile := w.mapping.Profile(w.people[i].identity())
	o := outlook{names: profile.Usernames, link: w.link(i)}
	taken := 0
	for _, u := range users {
		switch {
		case w.owner[u.ID] == i:
			o.all = append(o.all, u)
			if !w.abandoned[u.ID] {
				o.living = append(o.living, u)
			}
		case slices.Contains(o.names, u.Username):
			taken++
		}
		if w.unique && u.Email == profile.FallbackEmail {
			o.taken = true
		}
	}
	o.taken = o.taken || taken == len(o.names)
	linked := o.link != nil && o.link.State == "linked"
	o.lost = linked && !slices.ContainsFunc(o.all, func(u whispsim.User) bool {
		return u.ID == o.link.UserID && (u.Username == o.link.Username || u.Username == o.link.Renaming)
	})
	o.mayRegister = w.mayRegister(i, o, linked)
	return o
}

// mayRegister says whether an account may be made for a person. With one that
// lives, only where nothing is left that could lead to it:
//
//  1. There is no durable store, and the account does not bear a name that the
//     claims give now.
//  2. A durable store lost the link all the same, and the account does not bear
//     the first name that the claims give now. (Without a link a durable store
//     says that there is no account, so a name that is free is registered.)
//  3. on_lost is "register", and the account was renamed where nobody saw it.
//
// (A fourth case, that an administrator releases an account that lives, is left
// out: the model's administrators look first.)
func (w *world) mayRegister(i int, o outlook, linked bool) bool {
	tried := o.names
	if w.shape.durable && o.link == nil {
		tried = o.names[:1] // register first: nobody can have an account
	}
	named := slices.ContainsFunc(o.living, func(u whispsim.User) bool { return slices.Contains(tried, u.Username) })
	switch {
	case len(o.living) == 0:
		return true
	case !linked:
		return (!w.shape.durable || w.people[i].linkLost) && !named
	}
	return o.lost && w.shape.onLost == broker.LostRegisters
}

// check is what is true after every step.
func (w *world) check(t *rapid.T) {
	w.t = t
	users := w.census()
	now := make([]outlook, len(w.people))
	for i := range w.people {
		now[i] = w.look(i, users)
		if w.giveUp(i, now[i]) || w.checkLink(i, now[i]) {
			now[i] = w.look(i, users)
		}
		if len(now[i].living) > 1 {
			t.Fatalf("person %d has %d accounts: %+v", i, len(now[i].living), now[i].living)
		}
		if w.before != nil && !reflect.DeepEqual(w.before[i].link, now[i].link) {
			t.Logf("person %d is linked to %+v; accounts: %+v", i, now[i].link, now[i].all)
		}
	}
	w.before = now
}

// giveUp notes that on_lost dropped the link to an account that was renamed where
// nobody saw it, although making another failed for now.
func (w *world) giveUp(i int, o outlook) bool {
	if w.shape.onLost != broker.LostRegisters || w.before == nil || !w.before[i].lost || (o.link != nil && o.link.State == "linked") {
		return false
	}
	for _, u := range w.before[i].living {
		w.abandoned[u.ID] = true
	}
	return true
}

// checkLink: a link is its person's, and tells the truth. It reports whether an
// account that was abandoned was found again.
func (w *world) checkLink(i int, o outlook) (found bool) {
	p := w.people[i]
	if o.link == nil || o.link.State != "linked" {
		return false
	}
	p.linkLost = false
	if w.owner[o.link.UserID] != i {
		w.t.Fatalf("person %d is linked to %s, which is not theirs", i, o.link.UserID)
	}
	found = w.abandoned[o.link.UserID]
	for _, u := range o.all {
		if found {
			w.abandoned[u.ID] = u.ID != o.link.UserID
		}
		switch {
		case u.ID != o.link.UserID:
		case u.Username == o.link.Username || u.Username == o.link.Renaming:
			p.unseen = false
		case !p.unseen:
			w.t.Fatalf("person %d's account is %s, but the link says %+v", i, u.Username, *o.link)
		}
	}
	return found
}

// census finds new accounts, whose they are, and which are gone.
func (w *world) census() []whispsim.User {
	users := w.sim.Users()
	alive := map[string]bool{}
	made := map[int]int{}
	for _, u := range users {
		alive[u.ID] = true
		if _, known := w.owner[u.ID]; known {
			continue
		}
		w.owner[u.ID] = w.ownerOf(u.Username)
		if i := w.owner[u.ID]; i >= 0 && w.before != nil {
			made[i]++
			if !w.before[i].mayRegister || made[i] > 1 {
				w.t.Fatalf("a second account for person %d: %s, besides %+v; link before: %+v, now: %+v", i, u.Username, w.before[i].living, w.before[i].link, w.link(i))
			}
			for _, old := range w.before[i].living {
				w.abandoned[old.ID] = true
			}
		}
	}
	for id := range w.owner {
		if _, dead := w.died[id]; !dead && !alive[id] {
			w.died[id] = w.clock()
		}
	}
	return users
}

// ownerOf tells whose credential opens an account, -1 if nobody's of ours.
func (w *world) ownerOf(username string) int {
	owner := -1
	for i := range w.people {
		if w.openAs(i, username) == "" {
			continue
		}
		if owner >= 0 {
			w.t.Fatalf("%s is opened by persons %d and %d", username, owner, i)
		}
		owner = i
	}
	return owner
}

// openAs signs in with each of a person's credentials, and returns the JWT.
func (w *world) openAs(i int, username string) string {
	for _, password := range w.passwords(i) {
		answer := w.call("POST", "/api/user/signin", "", map[string]string{"username": username, "password": password})
		if answer.Code == http.StatusOK {
			return strings.TrimPrefix(answer.Header().Get("Authorization"), "Bearer ")
		}
	}
	return ""
}

func (w *world) passwords(i int) []string {
	var list []string
	for _, m := range w.account.MasterSecrets {
		password, err := broker.PasswordForTest(m.Text().Reveal(), w.people[i].identity())
		w.must(err)
		list = append(list, password)
	}
	return list
}

// call asks the simulator directly, past all faults.
func (w *world) call(method, path, bearer string, body any) *httptest.ResponseRecorder {
	faults := w.sim.Faults()
	w.sim.Heal("*")
	defer func() {
		for _, f := range faults {
			w.sim.Fail(f)
		}
	}()
	raw, err := json.Marshal(body)
	w.must(err)
	r := httptest.NewRequestWithContext(w.t.Context(), method, path, bytes.NewReader(raw))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Api-Key", strangersKey)
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	answer := httptest.NewRecorder()
	w.sim.ServeHTTP(answer, r)
	return answer
}

// trouble says what besides the state may explain an error.
type trouble struct{ whisp, store, ended bool }

// troubles are those that lie in wait now.
func (w *world) troubles() trouble { return trouble{whisp: len(w.sim.Faults()) > 0} }

// judge checks what a sign-in came to. The census has to be up to date.
func (w *world) judge(i int, fresh bool, g broker.Grant, err error, why trouble) {
	w.t.Helper()
	if err != nil {
		w.judgeError(i, err, why)
		return
	}
	w.judgeToken(i, g)
	_, dead := w.died[g.UserID]
	if dead && fresh {
		w.t.Fatalf("person %d got a fresh grant of an account that is gone", i)
	}
	w.handed[g.UserID] = true
	if !dead {
		w.reached(i, g.UserID)
	}
}

// judgeToken: a grant is one person's, and good.
func (w *world) judgeToken(i int, g broker.Grant) {
	w.t.Helper()
	if owner, known := w.owner[g.UserID]; !known || owner != i {
		w.t.Fatalf("person %d got a grant of %s, which is person %d's", i, g.UserID, owner)
	}
	var claims jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(g.JWT.Reveal(), &claims); err != nil {
		w.t.Fatal(err)
	}
	if claims.Subject != g.UserID {
		w.t.Fatalf("person %d got a JWT of %s with the account %s", i, claims.Subject, g.UserID)
	}
	if left := claims.ExpiresAt.Sub(w.clock()); left <= 10*time.Second || !claims.ExpiresAt.Equal(g.Expires) {
		w.t.Fatalf("person %d got a JWT with %s left, said to expire %s", i, left, g.Expires)
	}
	for _, token := range []string{g.JWT.Reveal(), g.RefreshToken.Reveal()} {
		if other, seen := w.tokens[token]; seen && other != i {
			w.t.Fatalf("a token of person %d was returned to person %d", other, i)
		}
		w.tokens[token] = i
	}
}

// reached notes which living account a person came to.
func (w *world) reached(i int, id string) {
	w.t.Helper()
	p := w.people[i]
	if w.abandoned[id] {
		return // by a session that had a grant of it, or by its name
	}
	_, gone := w.died[p.at]
	if p.at != "" && p.at != id && !gone && !w.abandoned[p.at] {
		w.t.Fatalf("person %d reached %s, but has %s", i, id, p.at)
	}
	p.at = id
}

// judgeError: an error is a problem that the state explains.
func (w *world) judgeError(i int, err error, why trouble) {
	w.t.Helper()
	known, ok := errors.AsType[*problem.Problem](err)
	if !ok {
		w.t.Fatalf("person %d: not a problem: %v", i, err)
	}
	after := w.look(i, w.sim.Users())
	before := w.before[i]
	allowed := map[string]bool{
		"store_unavailable": why.store,
		"session_required":  why.ended,
		"whisp_key_refused": w.doubted == [2]bool{true, true}, // one that is set aside comes back when it was probed
		"account_lost":      before.lost && w.shape.onLost == broker.LostFails,
		"account_conflict":  w.account.OnConflict == broker.Fail && (before.taken || after.taken),
		"account_invalid":   w.account.OnConflict == broker.Suffix && (before.taken || after.taken),
	}
	for _, code := range []string{"whisp_unreachable", "whisp_timeout", "whisp_failed", "whisp_rate_limited", "whisp_bad_answer"} {
		allowed[code] = why.whisp
	}
	if !allowed[known.Code] {
		w.t.Fatalf("person %d: %s (%v) with %+v; before: %+v, link %+v", i, known.Code, err, why, before, before.link)
	}
}

// judgeAttempts: registerUser is asked for nobody who has an account, and not
// for ever. callers is how many asked for this person.
func (w *world) judgeAttempts(callers map[int]int, why trouble) {
	w.t.Helper()
	w.gate.mu.Lock()
	defer w.gate.mu.Unlock()
	const candidates = 4 // two names, two addresses
	for i := range w.people {
		attempts := 0
		for _, password := range w.passwords(i) {
			attempts += w.gate.attempts[password]
		}
		limit := candidates * callers[i]
		if why.whisp || why.store || w.revoked != [2]bool{} {
			limit *= 3 * (1 + w.retries) // restarts and repetitions
		}
		if before := w.before[i]; before.link != nil && before.link.State == "linked" && !before.lost {
			limit = 0
		}
		if attempts > limit {
			w.t.Fatalf("%d registrations tried for person %d, want at most %d; link before: %+v; calls: %q", attempts, i, limit, w.before[i].link, w.gate.calls)
		}
	}
}
