package broker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/whisp-bff/whisp-bff/internal/broker"
	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/setting"
	"github.com/whisp-bff/whisp-bff/internal/store"
	"github.com/whisp-bff/whisp-bff/internal/upstream"
	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

// apiKeys are ours; strangersKey is another customer's system's, and never revoked.
var (
	apiKeys      = []string{"key-one-0123456789", "key-two-0123456789"}
	strangersKey = "key-of-strangers-0123456789"
)

// world is everything: Whisp, the replicas and their store, and the model of
// them.
type world struct {
	t     *rapid.T
	shape shape

	sim      *whispsim.Server
	gate     *gate
	base     string
	account  broker.AccountConfig
	mapping  *broker.Mapping
	retries  int
	unique   bool // e-mail addresses are
	sessions *sessions
	memory   *store.Memory
	replicas []*replica

	mu     sync.Mutex
	now    time.Time
	jumped atomic.Int64

	people    []*somebody
	owner     map[string]int       // user id -> index in people; -1 for strangers
	died      map[string]time.Time // user id -> when
	abandoned map[string]bool      // user ids that could not be found again, so that their people have another
	handed    map[string]bool      // user ids of which a grant was returned: its owner can act
	tokens    map[string]int       // JWT or refresh token -> whom it was returned to
	revoked   [2]bool              // API keys
	doubted   [2]bool              // keys that were revoked since the replicas started
	serial    int
	before    []outlook // the state before the step, by person
}

// somebody is one person of ours.
type somebody struct {
	issuer, subject, name, email string
	sessions                     []string
	at                           string // user id last reached
	linkLost                     bool   // we lost the link, and it was not saved again
	unseen                       bool   // renamed where nobody saw it
}

func (p *somebody) identity() identity.Identity {
	return identity.Identity{Issuer: p.issuer, Subject: p.subject, Claims: map[string]any{
		"preferred_username": p.name, "email": p.email, "email_verified": true,
	}}
}

// replica is one process: a broker, its Whisp client, and its way to the store.
type replica struct {
	*broker.Broker
	store    *unsteadyStore
	endpoint *upstream.Endpoint
}

func newWorld(t *rapid.T, s shape) *world {
	w := &world{
		t: t, shape: s,
		sessions: &sessions{ended: map[string]bool{}},
		now:      time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC),
		owner:    map[string]int{}, died: map[string]time.Time{}, handed: map[string]bool{}, abandoned: map[string]bool{}, tokens: map[string]int{},
		retries: rapid.IntRange(0, 2).Draw(t, "retries"),
		unique:  rapid.Bool().Draw(t, "unique e-mail"),
		people: []*somebody{
			{issuer: "https://a.example", subject: "1", name: "alice", email: "alice@example.com"},
			{issuer: "https://b.example", subject: "1", name: "alice", email: "alice@example.com"},
			{issuer: "https://a.example", subject: "2", name: "bob", email: "bob@example.com"},
			{issuer: "https://a.example", subject: "3", name: "carol"},
		},
	}
	for i, p := range w.people {
		for n := range 3 {
			p.sessions = append(p.sessions, fmt.Sprintf("session-%d-%d", i, n))
		}
	}
	w.account = broker.DefaultAccountConfig()
	w.account.MasterSecrets = []setting.Secret{setting.SecretValue(masterA)}
	w.account.OnLost = s.onLost
	w.account.ProfileSync = rapid.Bool().Draw(t, "profile_sync")
	w.account.OnConflict = rapid.SampledFrom([]broker.OnConflict{broker.Suffix, broker.Suffix, broker.Fail}).Draw(t, "on_conflict")
	w.openWhisp(rapid.SampledFrom([]int{401, 403}).Draw(t, "key refused status"), rapid.Bool().Draw(t, "bare JWT"))
	w.memory = store.NewMemory(store.DefaultConfig(), w.clock)
	w.replicas = make([]*replica, s.replicas)
	for r := range w.replicas {
		w.start(r)
	}
	t.Cleanup(w.close)
	return w
}

func (w *world) openWhisp(keyRefused int, bare bool) {
	keys := []secret.Text{secret.New(strangersKey)}
	for _, key := range apiKeys {
		keys = append(keys, secret.New(key))
	}
	w.sim = whispsim.New(whispsim.Config{
		APIKeys: keys, UniqueEmail: w.unique, KeyRefusedStatus: keyRefused, BareJWT: bare,
		Clock: w.clock, RecordLimit: -1,
	})
	w.gate = &gate{sim: w.sim}
	server := httptest.NewServer(w.gate)
	w.base = server.URL
	w.t.Cleanup(func() {
		server.Close()
		w.sim.Close()
	})
}

func (w *world) close() {
	for _, r := range w.replicas {
		r.stop()
	}
	_ = w.memory.Close() // it cannot fail
}

func (r *replica) stop() {
	r.Wait()
	r.endpoint.Close()
}

// start starts a replica, ending the one that was there. Without a durable
// store everything stored is gone.
func (w *world) start(index int) {
	if old := w.replicas[index]; old != nil {
		old.stop()
		if len(w.replicas) == 1 {
			w.doubted = w.revoked
		}
		if !w.shape.durable {
			w.memory = store.NewMemory(store.DefaultConfig(), w.clock)
			for _, p := range w.people {
				p.linkLost = true
			}
		}
	}
	cfg := upstream.DefaultWhispConfig()
	cfg.URL, cfg.Retries, cfg.MaxRetryWait = setting.MustURL(w.base), w.retries, setting.Duration(time.Millisecond)
	cfg.Breaker.Failures, cfg.KeyRetry = 1_000_000, setting.Duration(keyRetry)
	for _, key := range apiKeys {
		cfg.APIKeys = append(cfg.APIKeys, setting.SecretValue(key))
	}
	endpoint, err := upstream.NewEndpoint(cfg)
	w.must(err)
	whisp, err := upstream.NewWhisp(cfg, upstream.WhispDeps{
		Endpoint: endpoint, Logger: slog.New(slog.DiscardHandler), Clock: w.whispClock, Rand: noJitter{}, Metrics: upstream.NewMetrics(nil, endpoint),
	})
	w.must(err)
	var masters []secret.Text
	for _, m := range w.account.MasterSecrets {
		masters = append(masters, m.Text())
	}
	credentials, err := broker.NewCredentials(masters)
	w.must(err)
	w.mapping, err = broker.NewMapping(w.account)
	w.must(err)
	unsteady := &unsteadyStore{Memory: w.memory, durable: w.shape.durable}
	w.replicas[index] = &replica{store: unsteady, endpoint: endpoint, Broker: broker.New(w.account, broker.Deps{
		Accounts: whisp, Tokens: whisp, Store: unsteady, Sessions: w.sessions, Credentials: credentials, Mapping: w.mapping,
		Clock: w.clock, Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})}
}

func (w *world) clock() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return w.now }

// whispClock is the clients': the wall clock, which their time limits need, but
// for the jumps that end the setting aside of a key.
func (w *world) whispClock() time.Time { return time.Now().Add(time.Duration(w.jumped.Load())) }

// keyRetry is how long a refused key is set aside.
const keyRetry = time.Second

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// noJitter makes every wait before a repetition zero.
type noJitter struct{}

func (noJitter) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// unsteadyStore is one replica's way to the store.
type unsteadyStore struct {
	*store.Memory
	durable bool

	mu sync.Mutex
	// left operations succeed, then failing ones fail.
	left, failing int
	// applied: what fails is done all the same, as when the answer is lost.
	applied bool
}

var errStore = errors.New("the store is away")

func (s *unsteadyStore) Durable() bool { return s.durable }

// trouble arranges for failing operations after left more.
func (s *unsteadyStore) trouble(left, failing int, applied bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left, s.failing, s.applied = left, failing, applied
}

func (s *unsteadyStore) strike() (fails, applied bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.failing == 0:
		return false, false
	case s.left > 0:
		s.left--
		return false, false
	}
	s.failing--
	return true, s.applied
}

func (s *unsteadyStore) write(write func() error) error {
	fails, applied := s.strike()
	if !fails || applied {
		if err := write(); err != nil {
			return err
		}
	}
	if fails {
		return errStore
	}
	return nil
}

func (s *unsteadyStore) Get(ctx context.Context, key string) (value []byte, err error) {
	if fails, _ := s.strike(); fails {
		return nil, errStore
	}
	return s.Memory.Get(ctx, key)
}

func (s *unsteadyStore) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	return s.write(func() error { return s.Memory.Set(ctx, key, value, ttl) })
}

func (s *unsteadyStore) Delete(ctx context.Context, key string) error {
	return s.write(func() error { return s.Memory.Delete(ctx, key) })
}

func (s *unsteadyStore) Take(ctx context.Context, key string) (value []byte, err error) {
	err = s.write(func() error { value, err = s.Memory.Take(ctx, key); return err })
	return value, err
}

// gate stands before the simulator: it counts registrations, does something in
// the middle of a step, and can keep a registration back until after its caller
// gave up.
type gate struct {
	sim *whispsim.Server

	mu        sync.Mutex
	attempts  map[string]int // registerUser calls of this step, by password
	calls     []string       // this step's requests, for messages
	countdown int            // requests until hook
	hook      func()
	hold      int           // keep back the next registration for so many requests
	held      *http.Request // the one that is kept back
}

func (g *gate) begin() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.attempts, g.calls, g.countdown, g.hook, g.hold = map[string]int{}, nil, 0, nil, 0
}

// end lets go of what is still kept back.
func (g *gate) end() {
	g.mu.Lock()
	held := g.held
	g.held, g.hook, g.hold = nil, nil, 0
	g.mu.Unlock()
	g.commit(held)
}

func (g *gate) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	hook, commit, hold := g.arrive(r, body)
	if hook != nil {
		hook()
	}
	g.commit(commit)
	if hold {
		panic(http.ErrAbortHandler)
	}
	g.sim.ServeHTTP(rw, r)
}

// arrive notes a request and says what to do besides serving it.
func (g *gate) arrive(r *http.Request, body []byte) (hook func(), commit *http.Request, hold bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.countdown--; g.countdown == 0 {
		hook, g.hook = g.hook, nil
	}
	if g.held != nil {
		if g.hold--; g.hold <= 0 {
			commit, g.held = g.held, nil
		}
	}
	var registration struct{ Username, NewUsername, Password string }
	defer func() {
		g.calls = append(g.calls, path.Base(r.URL.Path)+" "+registration.Username+registration.NewUsername)
	}()
	if json.Unmarshal(body, &registration) != nil || registration.Password == "" || !strings.HasSuffix(r.URL.Path, "/registerUser") {
		return hook, commit, false
	}
	g.attempts[registration.Password]++
	if g.hold > 0 && g.held == nil && commit == nil {
		g.held = r.Clone(context.Background())
		g.held.Body = io.NopCloser(bytes.NewReader(body))
		return hook, commit, true
	}
	return hook, commit, false
}

func (g *gate) commit(r *http.Request) {
	if r == nil {
		return
	}
	defer func() { _ = recover() }() // a fault that cuts the connection, which is nobody's
	g.sim.ServeHTTP(httptest.NewRecorder(), r)
}
