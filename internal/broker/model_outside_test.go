package broker_test

import (
	"errors"
	"net/http"
	"strings"

	"pgregory.net/rapid"

	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/setting"
	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

// names are those that people of ours and strangers want.
var names = []string{"alice", "bob", "carol", "dave", "erin"}

// drawAccount chooses a person whose account lives and who holds, or held, a
// JWT of it: nobody else can do anything to an account.
func (w *world) drawAccount(t *rapid.T) (*request, whispsim.User) {
	q := w.drawRequest(t)
	q.session = rapid.SampledFrom(w.people[q.person].sessions).Draw(t, "own session")
	for _, u := range w.before[q.person].all {
		if w.handed[u.ID] {
			return q, u
		}
	}
	t.Skip("no account to act on")
	return nil, whispsim.User{}
}

// newName renames an account at Whisp, and returns the JWT of the answer.
func (w *world) newName(t *rapid.T, i int, u whispsim.User) secret.Text {
	name := rapid.SampledFrom(append([]string{"queen", "king"}, names...)).Draw(t, "new name")
	answer := w.call("POST", "/api/user/changeUsername", w.openAs(i, u.Username), map[string]string{"newUsername": name})
	if answer.Code != http.StatusOK {
		t.Skip("the name is taken")
	}
	return secret.New(strings.TrimPrefix(answer.Header().Get("Authorization"), "Bearer "))
}

// event tells a replica what passed through the proxy, unless the replica dies
// at that moment. It reports whether the broker took note.
func (w *world) event(t *rapid.T, q *request, tell func() error) bool {
	why := w.troubles()
	why.store = rapid.IntRange(0, 5).Draw(t, "store fails") == 0
	if rapid.IntRange(0, 4).Draw(t, "lost") == 0 {
		return false
	}
	s := w.replicas[q.replica].store
	if why.store {
		s.trouble(rapid.IntRange(0, 3).Draw(t, "operations"), 1, rapid.Bool().Draw(t, "applied"))
	}
	err := tell()
	s.trouble(0, 0, false)
	if err != nil && !why.whisp && !why.store {
		t.Fatalf("event: %v", err)
	}
	if _, ok := errors.AsType[*problem.Problem](err); err != nil && !ok {
		t.Fatalf("event: not a problem: %v", err)
	}
	return err == nil
}

// rename is the owner's, through the proxy.
func (w *world) rename(t *rapid.T) {
	w.t = t
	if !w.shape.durable {
		t.Skip("refused by the proxy")
	}
	q, u := w.drawAccount(t)
	jwt := w.newName(t, q.person, u)
	w.people[q.person].unseen = true
	noted := w.event(t, q, func() error {
		return w.replicas[q.replica].Renamed(t.Context(), w.people[q.person].identity().Key(), jwt)
	})
	if link := w.link(q.person); noted && link != nil && link.State == "linked" && link.UserID == u.ID {
		w.people[q.person].unseen = false
	}
}

// renameBehind is the owner's with a JWT of theirs, past the proxy.
func (w *world) renameBehind(t *rapid.T) {
	w.t = t
	q, u := w.drawAccount(t)
	w.newName(t, q.person, u)
	w.people[q.person].unseen = true
}

// deleteAccount is the owner's, through the proxy or past it.
func (w *world) deleteAccount(t *rapid.T) {
	w.t = t
	q, u := w.drawAccount(t)
	w.remove(t, w.openAs(q.person, u.Username))
	w.census()
	if rapid.IntRange(0, 3).Draw(t, "behind our back") == 0 {
		return
	}
	held := w.holding(q.session)
	noted := w.event(t, q, func() error {
		return w.replicas[q.replica].Deleted(t.Context(), q.session, w.people[q.person].identity().Key())
	})
	if link := w.link(q.person); noted && link != nil && link.UserID == u.ID && held != nil && held.UserID == u.ID {
		t.Fatalf("the link of a deleted account is still there: %+v", *link)
	}
}

func (w *world) remove(t *rapid.T, jwt string) {
	if answer := w.call("DELETE", "/api/user/deleteUser", jwt, nil); answer.Code != http.StatusOK {
		t.Fatalf("deleteUser: %d", answer.Code)
	}
}

// logOut is a logoutAll that passed through the proxy.
func (w *world) logOut(t *rapid.T) {
	w.t = t
	q, u := w.drawAccount(t)
	w.call("POST", "/api/auth/logoutAll", w.openAs(q.person, u.Username), nil)
	w.event(t, q, func() error { return w.replicas[q.replica].LoggedOut(t.Context(), q.session) })
}

// foreignCall is a session that renames or deletes an account which is not its
// own: a page that still holds somebody else's JWT. Its person must not notice.
func (w *world) foreignCall(t *rapid.T) {
	w.t = t
	q, u := w.drawAccount(t)
	self := rapid.IntRange(0, len(w.people)-1).Draw(t, "self")
	if self == q.person {
		t.Skip("not foreign")
	}
	session := rapid.SampledFrom(w.people[self].sessions).Draw(t, "session")
	key, before := w.people[self].identity().Key(), w.link(self)
	if rapid.Bool().Draw(t, "delete") {
		// Deleted tells by the session's own refresh token whose account it was;
		// one that is dead already tells nothing.
		if held := w.holding(session); held != nil && !w.sim.RefreshTokenAlive(secret.New(held.RefreshToken)) {
			t.Skip("cannot be told")
		}
		w.remove(t, w.openAs(q.person, u.Username))
		w.event(t, q, func() error { return w.replicas[q.replica].Deleted(t.Context(), session, key) })
	} else {
		jwt := w.newName(t, q.person, u)
		w.people[q.person].unseen = true
		w.event(t, q, func() error { return w.replicas[q.replica].Renamed(t.Context(), key, jwt) })
	}
	after := w.link(self)
	if before != nil && !w.before[self].lost && (after == nil || after.UserID != before.UserID || after.Username != before.Username) {
		t.Fatalf("person %d's link was %+v and is %+v", self, *before, after)
	}
}

// claimsChange is the provider's.
func (w *world) claimsChange(t *rapid.T) {
	w.t = t
	p := w.people[rapid.IntRange(0, len(w.people)-1).Draw(t, "person")]
	if rapid.IntRange(0, 3).Draw(t, "e-mail") == 0 {
		p.email = rapid.SampledFrom([]string{"", "alice@example.com", "dave@example.com"}).Draw(t, "address")
		return
	}
	p.name = rapid.SampledFrom(names).Draw(t, "name")
}

func (w *world) strangerComes(t *rapid.T) {
	w.t = t
	w.serial++
	name := rapid.SampledFrom(names).Draw(t, "name")
	if rapid.IntRange(0, 2).Draw(t, "suffixed") == 0 {
		// Somebody saw what our accounts are called.
		wanted := w.before[rapid.IntRange(0, len(w.people)-1).Draw(t, "like")].names
		name = wanted[len(wanted)-1]
	}
	email := rapid.SampledFrom([]string{"alice@example.com", "bob@example.com", "dave@example.com", "stranger@example.net"}).Draw(t, "e-mail")
	if _, err := w.sim.TryAddUser(name, email, secret.New(strangersPassword)); err != nil {
		t.Skip("taken")
	}
}

const strangersPassword = "Str4nger-password!"

func (w *world) strangerGoes(t *rapid.T) {
	w.t = t
	var strangers []whispsim.User
	for _, u := range w.sim.Users() {
		if w.owner[u.ID] < 0 {
			strangers = append(strangers, u)
		}
	}
	if len(strangers) == 0 {
		t.Skip("no strangers")
	}
	name := rapid.SampledFrom(strangers).Draw(t, "stranger").Username
	answer := w.call("POST", "/api/user/signin", "", map[string]string{"username": name, "password": strangersPassword})
	w.remove(t, strings.TrimPrefix(answer.Header().Get("Authorization"), "Bearer "))
}

// whispFails arranges for a fault. A rate limiter or a planned 503 with
// Retry-After that has done the work all the same is left out: nobody could
// repeat anything if that existed (see upstream).
func (w *world) whispFails(t *rapid.T) {
	w.t = t
	fault := rapid.SampledFrom([]whispsim.Fault{
		{Status: 500}, {Status: 503, RetryAfter: "30"}, {Status: 429}, {Status: 429, RetryAfter: "30"},
		{Status: 500, Committed: true}, {Status: 503, Committed: true},
		{Drop: whispsim.DropBefore}, {Drop: whispsim.DropAfter}, {Drop: whispsim.DropMid},
		{Garbage: true}, {NoAuthorization: true},
	}).Draw(t, "fault")
	fault.Operation = rapid.SampledFrom([]string{
		"registerUser", "registerUser", "signIn", "signIn", "refreshToken", "logout", "getUser", "changeUsername", "*",
	}).Draw(t, "operation")
	fault.Times = rapid.IntRange(0, 4).Draw(t, "times")
	w.sim.Fail(fault)
}

func (w *world) whispRecovers(t *rapid.T) {
	w.t = t
	w.sim.Heal("*")
}

func (w *world) revokeKey(t *rapid.T) {
	w.t = t
	n := rapid.IntRange(0, 1).Draw(t, "key")
	w.revoked[n], w.doubted[n] = true, true
	w.sim.RevokeKey(secret.New(apiKeys[n]))
}

func (w *world) restoreKey(t *rapid.T) {
	w.t = t
	// More jumps would look to the clients as if their time were up.
	if w.jumped.Load() >= int64(8*keyRetry) || w.revoked == [2]bool{} {
		t.Skip("nothing to restore")
	}
	w.jumped.Add(int64(keyRetry))
	for n, key := range apiKeys {
		w.revoked[n] = false
		w.sim.RestoreKey(secret.New(key))
	}
}

// rotateMaster puts a new master secret in front, on all replicas at once.
func (w *world) rotateMaster(t *rapid.T) {
	w.t = t
	all := []string{masterA, masterB, strings.Repeat("master-secret-C-", 3)}
	if len(w.account.MasterSecrets) == len(all) {
		t.Skip("enough of them")
	}
	next := setting.SecretValue(all[len(w.account.MasterSecrets)])
	w.account.MasterSecrets = append([]setting.Secret{next}, w.account.MasterSecrets...)
	for r := range w.replicas {
		w.start(r)
	}
	w.doubted = w.revoked
}
