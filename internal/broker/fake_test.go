package broker_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/whisp-bff/whisp-bff/internal/broker"
	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/setting"
	"github.com/whisp-bff/whisp-bff/internal/store"
	"github.com/whisp-bff/whisp-bff/internal/upstream"
)

// fakeWhisp has accounts and refresh tokens, counts calls, and fails on demand.
type fakeWhisp struct {
	clock func() time.Time
	life  time.Duration

	mu       sync.Mutex
	accounts map[string]*account // by user name
	emails   map[string]bool
	tokens   map[string]string // refresh token -> user id
	jwts     map[string]string // JWT -> user id
	calls    map[string]int
	// committed operations are done although they fail: the answer is lost.
	committed map[string]bool
	// poison is what logout answers for the refresh token poisoned.
	poison   error
	poisoned secret.Text
	fail     map[string]error                 // by operation
	after    func(operation string)           // called before the answer, without the lock
	reject   func(upstream.Registration) bool // extra validation
	serial   int
}

type account struct{ id, password, email string }

func (w *fakeWhisp) begin(operation string) (err error) {
	w.mu.Lock()
	w.calls[operation]++
	err = w.fail[operation]
	hook := w.after
	w.mu.Unlock()
	if hook != nil {
		hook(operation)
	}
	return err
}

func (w *fakeWhisp) Register(_ context.Context, r upstream.Registration) error {
	if err := w.begin("register"); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.accounts[r.Username] != nil || w.emails[r.Email] || (w.reject != nil && w.reject(r)) {
		return &upstream.InvalidError{Message: "exists"}
	}
	w.add(r.Username, r.Password.Reveal(), r.Email)
	return nil
}

func (w *fakeWhisp) add(username, password, email string) {
	w.serial++
	w.accounts[username] = &account{id: fmt.Sprintf("user-%d", w.serial), password: password, email: email}
	w.emails[email] = true
}

func (w *fakeWhisp) SignIn(_ context.Context, username string, password secret.Text) (upstream.SignedIn, error) {
	if err := w.begin("signin"); err != nil {
		return upstream.SignedIn{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.accounts[username]
	if a == nil || a.password != password.Reveal() {
		w.calls["signin refused"]++
		return upstream.SignedIn{}, upstream.ErrUnauthorized
	}
	w.serial++
	refresh := fmt.Sprintf("refresh-%d", w.serial)
	w.tokens[refresh] = a.id
	return upstream.SignedIn{
		UserID: a.id, Username: username, Email: a.email,
		JWT: w.jwtFor(a.id), RefreshToken: secret.New(refresh), Expires: w.clock().Add(w.life),
	}, nil
}

func (w *fakeWhisp) ProbeKey(context.Context) error { return w.begin("probe") }

func (w *fakeWhisp) User(_ context.Context, jwt secret.Text) (upstream.User, error) {
	if err := w.begin("user"); err != nil {
		return upstream.User{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, a := range w.accounts {
		if a.id == w.jwts[jwt.Reveal()] {
			return upstream.User{ID: a.id, Username: name, Email: a.email}, nil
		}
	}
	return upstream.User{}, upstream.ErrUnauthorized
}

func (w *fakeWhisp) ChangeUsername(_ context.Context, jwt secret.Text, name string) (secret.Text, time.Time, error) {
	err := w.begin("rename")
	if err != nil && !w.committed["rename"] {
		return secret.Text{}, time.Time{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.accounts[name] != nil {
		return secret.Text{}, time.Time{}, &upstream.InvalidError{Message: "taken"}
	}
	for old, a := range w.accounts {
		if a.id == w.jwts[jwt.Reveal()] {
			delete(w.accounts, old)
			w.accounts[name] = a
			return w.jwtFor(a.id), w.clock().Add(w.life), err
		}
	}
	return secret.Text{}, time.Time{}, upstream.ErrUnauthorized
}

// remove deletes an account with its tokens, as its owner would.
func (w *fakeWhisp) remove(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for token, id := range w.tokens {
		if id == w.accounts[name].id {
			delete(w.tokens, token)
		}
	}
	delete(w.emails, w.accounts[name].email)
	delete(w.accounts, name)
}

// move renames an account behind the broker's back.
func (w *fakeWhisp) move(from, to string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.accounts[to] = w.accounts[from]
	delete(w.accounts, from)
}

func (w *fakeWhisp) jwtFor(id string) secret.Text {
	w.serial++
	jwt := fmt.Sprintf("jwt-%d", w.serial)
	w.jwts[jwt] = id
	return secret.New(jwt)
}

func (w *fakeWhisp) Refresh(_ context.Context, refresh, _ secret.Text) (secret.Text, time.Time, error) {
	if err := w.begin("refresh"); err != nil {
		return secret.Text{}, time.Time{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.tokens[refresh.Reveal()] == "" {
		return secret.Text{}, time.Time{}, upstream.ErrUnauthorized
	}
	return w.jwtFor(w.tokens[refresh.Reveal()]), w.clock().Add(w.life), nil
}

func (w *fakeWhisp) Logout(_ context.Context, _, refresh secret.Text) error {
	if err := w.begin("logout"); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.poison != nil && w.poisoned.Equal(refresh) {
		return w.poison
	}
	delete(w.tokens, refresh.Reveal())
	return nil
}

func (w *fakeWhisp) set(operation string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail[operation] = err
}

func (w *fakeWhisp) count(operation string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls[operation]
}

func (w *fakeWhisp) alive(refresh secret.Text) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tokens[refresh.Reveal()] != ""
}

// durableStore is a memory store that claims to survive restarts.
type durableStore struct{ *store.Memory }

func (durableStore) Durable() bool { return true }

// sessions of the test; every session lives until it is ended.
type sessions struct {
	mu    sync.Mutex
	ended map[string]bool
}

func (s *sessions) Alive(_ context.Context, key string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.ended[key], nil
}

func (s *sessions) end(key string) { s.mu.Lock(); s.ended[key] = true; s.mu.Unlock() }

type fixture struct {
	t *testing.T
	*broker.Broker
	whisp    *fakeWhisp
	sessions *sessions
	store    broker.Store
	now      time.Time
	mu       sync.Mutex
	account  broker.AccountConfig
}

const masterA, masterB = "master-secret-A-0123456789-0123456789", "master-secret-B-0123456789-0123456789"

func newFixture(t *testing.T, durable bool) *fixture {
	t.Helper()
	f := &fixture{t: t, now: time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC), account: broker.DefaultAccountConfig()}
	f.account.MasterSecrets = []setting.Secret{setting.SecretValue(masterA)}
	f.whisp = &fakeWhisp{
		clock: f.clock, life: 5 * time.Minute,
		accounts: map[string]*account{}, emails: map[string]bool{}, tokens: map[string]string{}, jwts: map[string]string{}, committed: map[string]bool{},
		calls: map[string]int{}, fail: map[string]error{},
	}
	f.sessions = &sessions{ended: map[string]bool{}}
	f.restart(durable)
	return f
}

// restart builds the broker anew. With a durable store the values stay.
func (f *fixture) restart(durable bool) {
	f.t.Helper()
	memory := store.NewMemory(store.DefaultConfig(), f.clock)
	switch {
	case durable && f.store == nil:
		f.store = durableStore{memory}
	case !durable:
		f.store = memory
	}
	var masters []secret.Text
	for _, s := range f.account.MasterSecrets {
		masters = append(masters, s.Text())
	}
	credentials, err := broker.NewCredentials(masters)
	must(f.t, err)
	mapping, err := broker.NewMapping(f.account)
	must(f.t, err)
	f.Broker = broker.New(f.account, broker.Deps{
		Accounts: f.whisp, Tokens: f.whisp, Store: f.store, Sessions: f.sessions,
		Credentials: credentials, Mapping: mapping, Clock: f.clock,
		Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
}

func (f *fixture) clock() time.Time     { f.mu.Lock(); defer f.mu.Unlock(); return f.now }
func (f *fixture) step(d time.Duration) { f.mu.Lock(); f.now = f.now.Add(d); f.mu.Unlock() }

func (f *fixture) caller(session string, id identity.Identity) broker.Caller {
	return broker.Caller{Session: session, Identity: id, Until: f.clock().Add(12 * time.Hour)}
}

func (f *fixture) signIn(session string, id identity.Identity) broker.Grant {
	f.t.Helper()
	g, err := f.SignIn(f.t.Context(), f.caller(session, id), false)
	if err != nil {
		f.t.Fatalf("sign in %s: %v", session, err)
	}
	return g
}

func (f *fixture) code(err error) string {
	if err == nil {
		return ""
	}
	return problem.From(err).Code
}

func person(subject, name string) identity.Identity {
	return identity.Identity{Issuer: "https://idp.example.com", Subject: subject, Claims: map[string]any{
		"preferred_username": name, "email": name + "@example.com", "email_verified": true, "given_name": "Given", "family_name": "Family",
	}}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
