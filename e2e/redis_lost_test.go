//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Redis is killed, paused and slow while people work: pages that need no session
// and open sockets go on, what needs a session says so in time, nobody is signed
// out, and it heals by itself.
func TestRedisIsLostUnderLoad(t *testing.T) {
	t.Parallel()
	var way *slowWay
	r := startReplicas(t, replicaSetup{
		redis: []string{"--appendonly", "yes", "--appendfsync", "always"},
		via:   func(address string) string { way = startSlowWay(t, address); return way.address },
	})
	alice := r.login(t, "alice")
	before := alice.signIn(t)
	sockets := []*chatSocket{alice.mustConnect(t, r.direct[0]), alice.mustConnect(t, r.direct[1])}

	for _, c := range []struct {
		name      string
		ail, heal func()
	}{
		{"killed, and started again with its AOF", r.redis.kill, func() { r.redis.start(t) }},
		{"paused", func() { r.redis.signal(t, syscall.SIGSTOP) }, func() { r.redis.signal(t, syscall.SIGCONT) }},
		{"slow", func() { way.delay.Store(int64(1500 * time.Millisecond)) }, func() { way.delay.Store(0) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := startSessionLoad(t, alice)
			l.sees(t, "answers before", &l.fine, 20)
			c.ail()
			began := time.Now()
			l.sees(t, "answers store_unavailable", &l.unavailable, 1)
			noticed := time.Since(began)
			for _, socket := range sockets {
				socket.goesOn(t)
			}
			l.sees(t, "pages without a session", &l.pages, 20)
			if c.name == "paused" { // for longer than any of our times
				eventually(t, "ten seconds", func() bool { return time.Since(began) > 10*time.Second })
			}
			l.sees(t, "answers store_unavailable", &l.unavailable, 20)
			c.heal()
			healing := time.Now()
			l.sees(t, "answers after", &l.fine, 20)
			l.stop()
			healed := time.Since(healing)
			if after := alice.signIn(t); after.RefreshToken != before.RefreshToken {
				t.Error("another grant than before")
			}
			for _, socket := range sockets {
				socket.goesOn(t)
			}
			t.Logf("first 503 after %s; 503s took %s (median) to %s; twenty good answers %s after Redis was back",
				noticed.Round(time.Millisecond), l.took(0.5), l.took(1), healed.Round(time.Millisecond))
			if median := l.took(0.5); median > 5*time.Second {
				t.Errorf("half of the answers store_unavailable took more than %s, and the limit is one second", median)
			}
		})
	}
}

// sessionLoad asks for what needs a session and what does not, until stop.
type sessionLoad struct {
	fine, unavailable, pages atomic.Int64

	mu    sync.Mutex
	times []time.Duration // of answers store_unavailable
	wg    sync.WaitGroup
	over  chan struct{}
}

func startSessionLoad(t *testing.T, p *person) *sessionLoad {
	l := &sessionLoad{over: make(chan struct{})}
	t.Cleanup(l.stop)
	for range 4 {
		l.wg.Go(func() { l.repeat(func() { l.signIn(t, p) }) })
	}
	l.wg.Go(func() {
		l.repeat(func() {
			response, body, err := p.try(http.MethodGet, "/", "")
			if err != nil || response.StatusCode != http.StatusOK {
				t.Errorf("a page that needs no session: %v %s", err, body)
			}
			l.pages.Add(1)
		})
	})
	return l
}

func (l *sessionLoad) repeat(do func()) {
	for {
		do()
		select {
		case <-l.over:
			return
		case <-time.After(5 * time.Millisecond): // the pace of the load
		}
	}
}

// signIn takes the session and the grant from Redis.
func (l *sessionLoad) signIn(t *testing.T, p *person) {
	began := time.Now()
	response, body, err := p.try(http.MethodPost, "/auth/whisp/sign-in", "")
	took := time.Since(began)
	switch {
	case err != nil:
		t.Errorf("sign-in: %v", err)
	case response.StatusCode == http.StatusOK:
		l.fine.Add(1)
	case response.StatusCode == http.StatusServiceUnavailable && decode[problemBody](t, body).Code == "store_unavailable":
		if wait, err := strconv.Atoi(response.Header.Get("Retry-After")); err != nil || wait < 1 {
			t.Errorf("Retry-After is %q", response.Header.Get("Retry-After"))
		}
		l.unavailable.Add(1)
		l.mu.Lock()
		l.times = append(l.times, took)
		l.mu.Unlock()
	default:
		t.Errorf("sign-in: %s %s", response.Status, body)
	}
}

// sees waits until the counter has grown by n.
func (l *sessionLoad) sees(t *testing.T, what string, counter *atomic.Int64, n int64) {
	t.Helper()
	goal := counter.Load() + n
	eventually(t, fmt.Sprintf("%d %s", n, what), func() bool { return counter.Load() >= goal })
}

func (l *sessionLoad) stop() {
	l.mu.Lock()
	select {
	case <-l.over:
	default:
		close(l.over)
	}
	l.mu.Unlock()
	l.wg.Wait()
}

// took is a quantile of the time that answers store_unavailable took.
func (l *sessionLoad) took(quantile float64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.times)
	return l.times[int(quantile*float64(len(l.times)-1))].Round(time.Millisecond)
}
