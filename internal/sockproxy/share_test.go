package sockproxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/session"
	"github.com/whisp-bff/whisp-bff/internal/store"
)

// sharedStore is the store of two replicas, which counts and can fail.
type sharedStore struct {
	*store.Memory
	gets, sets atomic.Int32
	down       atomic.Bool
}

var errDown = errors.New("store is down")

func (s *sharedStore) Get(ctx context.Context, key string) ([]byte, error) {
	s.gets.Add(1)
	if s.down.Load() {
		return nil, errDown
	}
	return s.Memory.Get(ctx, key)
}

func (s *sharedStore) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	s.sets.Add(1)
	if s.down.Load() {
		return errDown
	}
	return s.Memory.Set(ctx, key, value, ttl)
}

func (s *sharedStore) SetIfAbsent(ctx context.Context, key string, value []byte, ttl time.Duration) (bool, error) {
	if s.down.Load() {
		return false, errDown
	}
	return s.Memory.SetIfAbsent(ctx, key, value, ttl)
}

// replicaPair is two sites before one cluster, with one store and one clock.
type replicaPair struct {
	one, two *site
	whisp    *cluster
	store    *sharedStore
	clock    *fakeClock
}

func newReplicaPair(t *testing.T) *replicaPair {
	p := &replicaPair{whisp: newCluster(t, 3), clock: still()}
	p.store = &sharedStore{Memory: store.NewMemory(store.DefaultConfig(), p.clock.now)}
	share := func(cfg *Config, deps *Deps) {
		deps.Clock, cfg.IdleTimeout = p.clock.now, 0
		deps.Tickets = session.NewTickets(p.store, p.clock.now, cfg.TicketLife.D())
		deps.Admissions = session.NewAdmissions(p.store)
	}
	p.one, p.two = p.whisp.before(t, share), p.whisp.before(t, share)
	return p
}

func (s *site) post(session, path, body string) int {
	s.t.Helper()
	return s.sock(session, "POST", path, body, nil).StatusCode
}

// Every request of a SockJS session reaches another replica than the one before,
// and the same node of Whisp.
func TestSockJSOverTwoReplicas(t *testing.T) {
	p := newReplicaPair(t)
	for i, transport := range sockTransports {
		t.Run(transport.name, func(t *testing.T) {
			ticket := p.one.ticket("alice", "ticket-"+transport.name)
			path := fmt.Sprintf("/00%d/%s/", i, transport.name)
			query := "?c=_jp.cb&ticket=" + ticket
			replica := []*site{p.one, p.two}
			receive := func(n int) *bufio.Reader {
				r := replica[n%2].sock("alice", transport.method, path+transport.name+query, "", nil)
				if r.StatusCode != 200 {
					t.Fatalf("receiving at replica %d: %s", n%2, r.Status)
				}
				return bufio.NewReader(r.Body)
			}
			lines := receive(0)
			if got := nextFrame(t, lines); got != "o" {
				t.Fatal(got)
			}
			p.clock.advance(25 * time.Second) // the ticket's life is over, the session's is not
			for n := 1; n < 6; n++ {
				message, kind := fmt.Sprintf(`["%d"]`, n), "text/plain"
				if transport.send == "jsonp_send" {
					message, kind = "d="+message, "application/x-www-form-urlencoded"
				}
				sent := replica[n%2].sock("alice", "POST", path+transport.send+query, message, func(h http.Header) { h.Set("Content-Type", kind) })
				if sent.StatusCode != 200 && sent.StatusCode != 204 {
					t.Fatalf("sending at replica %d: %s", n%2, sent.Status)
				}
				if !transport.streams {
					lines = receive(n + 1)
				}
				if got := nextFrame(t, lines); got != fmt.Sprintf(`a["%d"]`, n) {
					t.Fatalf("got %q", got)
				}
			}
			homes := 0
			for _, node := range p.whisp.nodes {
				if node.seen(transport.name) > 0 {
					homes++
				}
			}
			if homes != 1 {
				t.Errorf("the session was at %d nodes", homes)
			}
		})
	}
}

func TestSharedAdmissionBelongsToItsClient(t *testing.T) {
	p := newReplicaPair(t)
	p.one.ticket("alice", "t")
	p.one.ticket("alice", "other")
	p.one.ticket("mallory", "m")
	if got := p.one.post("alice", "/000/abc/xhr?ticket=t", ""); got != 200 {
		t.Fatal(got)
	}
	for _, step := range []struct {
		session, path string
		want          int
	}{
		{"mallory", "/000/abc/xhr_send?ticket=m", 401},
		{"mallory", "/000/abc/xhr_send?ticket=t", 401},
		{"mallory", "/000/abc/xhr?ticket=m", 401},
		{"mallory", "/222/abc/xhr?ticket=m", 401},
		{"alice", "/000/abc/xhr_send?ticket=other", 401},
		{"alice", "/111/abc/xhr_send?ticket=t", 401},
		{"alice", "/000/def/xhr_send?ticket=t", 401}, // nobody opened it
		{"alice", "/000/abc/xhr_send?ticket=t", 204},
	} {
		if got := p.two.post(step.session, step.path, `["x"]`); got != step.want {
			t.Errorf("%+v: %d", step, got)
		}
	}
	r := p.two.request("GET", "/api/wsConnect/000/abc/websocket?ticket=t", nil)
	if r.StatusCode != 401 {
		t.Errorf("a WebSocket with the id of another transport's session: %s", r.Status)
	}
}

// A replica asks the store once per session, not once per request.
func TestSharedAdmissionIsAskedForOnce(t *testing.T) {
	p := newReplicaPair(t)
	p.one.ticket("alice", "t")
	if got := p.one.post("alice", "/000/abc/xhr?ticket=t", ""); got != 200 {
		t.Fatal(got)
	}
	before := p.store.gets.Load()
	for range 10 {
		if got := p.two.post("alice", "/000/abc/xhr_send?ticket=t", `["x"]`); got != 204 {
			t.Fatal(got)
		}
	}
	if got := p.store.gets.Load() - before; got != 1 {
		t.Errorf("%d reads for ten requests", got)
	}
}

// The admission lives in the store for as long as the session does somewhere, and
// not much longer; a store that was away is told again.
func TestSharedAdmissionLifetime(t *testing.T) {
	p := newReplicaPair(t)
	p.one.ticket("alice", "t")
	stream := p.one.sock("alice", "POST", "/000/abc/xhr_streaming?ticket=t", "", nil)
	if got := nextFrame(t, bufio.NewReader(stream.Body)); got != "o" {
		t.Fatal(got)
	}
	for n := range 6 {
		p.store.down.Store(n == 2) // for one of the times
		before := p.store.sets.Load()
		p.clock.advance(shareRenew)
		p.one.eventually("renewed", func() bool { return p.store.sets.Load() > before })
	}
	p.one.eventually("the stream's session is known elsewhere", func() bool {
		return p.two.post("alice", "/000/abc/xhr_send?ticket=t", `["x"]`) == 204
	})
	_ = stream.Body.Close()
	p.one.eventually("both replicas have let go of it", func() bool {
		p.clock.advance(sockJSIdle)
		return p.one.metric("sockjs_sessions") == 0 && p.two.metric("sockjs_sessions") == 0
	})
	p.clock.advance(shareLife)
	if got := p.two.post("alice", "/000/abc/xhr_send?ticket=t", `["x"]`); got != 401 {
		t.Errorf("long after: %d", got)
	}
}

func TestSharedAdmissionIsWithdrawnWithItsNode(t *testing.T) {
	p := newReplicaPair(t)
	p.one.ticket("alice", "t")
	if got := p.one.post("alice", "/000/abc/xhr?ticket=t", ""); got != 200 {
		t.Fatal(got)
	}
	for _, node := range p.whisp.nodes {
		if node.seen("abc") > 0 {
			node.server.Close()
		}
	}
	if got := p.one.post("alice", "/000/abc/xhr_send?ticket=t", `["x"]`); got != 503 {
		t.Errorf("its node is gone: %d", got)
	}
	if got := p.two.post("alice", "/000/abc/xhr_send?ticket=t", `["x"]`); got != 401 {
		t.Errorf("and everybody knows: %d", got)
	}
	if got := p.two.post("alice", "/000/def/xhr?ticket=t", ""); got != 200 {
		t.Errorf("the next session: %d", got)
	}
}

// With the store away, what is known here goes on, and the rest is told to wait.
func TestSharedAdmissionStoreDown(t *testing.T) {
	p := newReplicaPair(t)
	p.one.ticket("alice", "t")
	if got := p.one.post("alice", "/000/abc/xhr?ticket=t", ""); got != 200 {
		t.Fatal(got)
	}
	p.store.down.Store(true)
	if got := p.one.post("alice", "/000/abc/xhr_send?ticket=t", `["x"]`); got != 204 {
		t.Errorf("where it is known: %d", got)
	}
	if got := p.two.post("alice", "/000/abc/xhr_send?ticket=t", `["x"]`); got != 503 {
		t.Errorf("where it is not: %d", got)
	}
	if p := <-p.two.problems; p.Code != "store_unavailable" {
		t.Error(p)
	}
}

// Two first requests of one session at once, at two replicas: one claims it.
func TestSharedAdmissionClaimedOnce(t *testing.T) {
	p := newReplicaPair(t)
	claim := func(s *site, who, node string) error {
		k := &sockSession{
			id: "abc", server: "000", owner: &liveSession{key: who}, clock: p.clock.now, nodes: []string{node}, settled: true,
		}
		return s.claim(t.Context(), k)
	}
	if err := claim(p.one, "alice", "a"); err != nil {
		t.Error(err)
	}
	if err := claim(p.two, "mallory", "a"); err == nil || !strings.Contains(err.Error(), "ticket") {
		t.Errorf("somebody else's claim: %v", err)
	}
	if err := claim(p.two, "alice", "b"); err == nil {
		t.Error("one session at two nodes")
	}
	if err := claim(p.two, "alice", "a"); err != nil {
		t.Error(err)
	}
}
