package sockproxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	ws "github.com/coder/websocket"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// The message that a session ended was lost, and its socket's client says nothing:
// the socket ends all the same, and the session was not touched for it.
func TestSilentSocketNoticesTheEnd(t *testing.T) {
	upstream, conns := rawUpstream(t)
	s := newSite(t, upstream, func(cfg *Config, _ *Deps) { cfg.IdleTimeout = 0 })
	alice, bob := s.dialRaw("alice"), s.dialRaw("bob")
	<-conns
	toBob := <-conns
	s.sessions.lose("alice", nil)
	s.clock.advance(s.cfg.Load().CheckInterval.D())
	wantClose(t, alice, closeNormal)
	s.closedBecause(sessionExpired)
	if got := s.sessions.count(); got != 0 {
		t.Errorf("touched %d times", got)
	}
	_, _ = toBob.Write(frame(0x81, false, "hi"))
	if _, err := bob.Read(make([]byte, 4)); err != nil {
		t.Error("bob's socket ended too:", err)
	}
}

// A store that is down closes nothing, not even what would have expired meanwhile.
func TestStoreFailureClosesNoSocket(t *testing.T) {
	s := newSite(t, echoUpstream(t), func(cfg *Config, _ *Deps) { cfg.IdleTimeout = 0 })
	s.sessions.set(s.clock.now().Add(10*time.Minute), nil)
	c := s.dialWS("alice")
	echo := func() {
		t.Helper()
		if err := c.Write(t.Context(), ws.MessageText, []byte("\n")); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s.clock.advance(s.cfg.Load().TouchInterval.D())
	s.tick()
	echo()
	s.eventually("touched, so that the expiry is known", func() bool { return s.sessions.count() > 0 })
	s.sessions.set(time.Time{}, errors.New("store is down"))
	s.sessions.lose("", errors.New("store is down"))
	for range 3 {
		before := s.sessions.peeks() + s.sessions.count()
		s.clock.advance(20 * time.Minute)
		s.eventually("asked", func() bool { return s.sessions.peeks()+s.sessions.count() > before })
		echo()
	}
	s.sessions.set(time.Time{}, ErrSessionEnded)
	s.sessions.lose("alice", nil)
	s.clock.advance(s.cfg.Load().CheckInterval.D())
	if _, _, err := c.Read(t.Context()); ws.CloseStatus(err) != ws.StatusNormalClosure {
		t.Errorf("once the store is back: %v", err)
	}
}

// Sockets opened together do not ask together, and none asks later than its interval.
func TestSessionsAreAskedAboutEvenly(t *testing.T) {
	const sessions, interval = 10_000, 60 * time.Second
	cfg := DefaultConfig()
	cfg.CheckInterval = setting.Duration(interval)
	begun := time.Unix(1_000_000, 0)
	var all []*liveSession
	for i := range sessions {
		all = append(all, &liveSession{asked: begun, touched: begun, phase: phaseOf(fmt.Sprint("session-", i))})
	}
	last := make(map[*liveSession]time.Time)
	for second := range 300 {
		now := begun.Add(time.Duration(second) * time.Second)
		asks := inquiry{left: budget(sessions, &cfg, time.Second)}
		for _, s := range all {
			asks.take(s, now, &cfg)
		}
		if got := len(asks.peek); got > sessions/20 {
			t.Fatalf("second %d: %d questions at once", second, got)
		}
		for _, s := range asks.peek {
			if since := now.Sub(s.asked); since < interval/2 || since > interval+time.Second {
				t.Fatalf("asked after %s", since)
			}
			s.asking, last[s] = false, now
			s.heard(now)
		}
	}
	if len(last) != sessions {
		t.Errorf("%d sessions were asked about", len(last))
	}
}

// stuckSessions is a store that does not answer.
type stuckSessions struct {
	asked atomic.Int32
	free  chan struct{}
}

func (s *stuckSessions) Touch(context.Context, string) (time.Time, error) {
	s.asked.Add(1)
	<-s.free
	return time.Time{}, nil
}

func (s *stuckSessions) Ended(context.Context, []string) ([]string, error) {
	s.asked.Add(1)
	<-s.free
	return nil, nil
}

// A store that hangs has a bounded number of questions under way.
func TestQuestionsAreBounded(t *testing.T) {
	stuck := &stuckSessions{free: make(chan struct{})}
	s := newSite(t, echoUpstream(t), func(cfg *Config, deps *Deps) { deps.Sessions, cfg.IdleTimeout = stuck, 0 })
	s.interval = time.Hour // this test alone sweeps
	live := s.dialWS("alice")
	for i := range 50 {
		s.live.mu.Lock()
		s.live.session(Caller{Session: fmt.Sprint("crowd-", i), User: "crowd"})
		s.live.mu.Unlock()
	}
	t.Cleanup(func() {
		close(stuck.free)
		s.eventually("all answered", func() bool { return len(s.askers) == 0 })
	})
	for range 30 {
		s.clock.advance(s.cfg.Load().CheckInterval.D())
		s.sweep()
	}
	if got := stuck.asked.Load(); got > askersAtOnce {
		t.Errorf("%d questions at once", got)
	}
	if err := live.Write(t.Context(), ws.MessageText, []byte("hi")); err != nil {
		t.Error(err)
	}
	if _, _, err := live.Read(t.Context()); err != nil {
		t.Error("the socket meanwhile:", err)
	}
}

// What a person did last is told to the store, however often that fails at first, and
// a store in trouble is not asked again at every sweep.
func TestLastActivityIsTold(t *testing.T) {
	for _, tt := range []struct {
		name string
		hold bool  // all askers are busy
		err  error // of the store
	}{
		{name: "askers busy", hold: true},
		{name: "store down", err: errors.New("store is down")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// The clients are not real, so nothing sweeps but this test.
			now := time.Unix(1_000_000, 0)
			cfg := DefaultConfig()
			cfg.CheckInterval = setting.Duration(time.Hour)
			sessions := &fakeSessions{}
			sessions.set(time.Time{}, tt.err)
			p := &Proxy{
				cfg: &limits{}, sessions: sessions, log: slog.New(slog.DiscardHandler),
				clock: func() time.Time { return now }, askers: make(chan struct{}, askersAtOnce),
			}
			p.cfg.Store(&cfg)
			p.live = newLive(p.cfg, p.clock)
			s := p.live.session(Caller{Session: "alice", User: "alice"})
			s.tunnels = append(s.tunnels, &tunnel{})
			sweep := func() (due bool) {
				q := inquiry{left: 10}
				q.take(s, now, &cfg)
				p.inquire(&q)
				if !tt.hold { // all have answered once each place has been free
					for range askersAtOnce {
						p.askers <- struct{}{}
					}
					for range askersAtOnce {
						<-p.askers
					}
				}
				return len(q.touch) > 0
			}
			now = now.Add(2 * time.Minute)
			s.tunnels[0].up.bytes.Store(1)
			s.tunnels[0].up.seen.Store(now.UnixNano()) // the last message
			for tt.hold && len(p.askers) < cap(p.askers) {
				p.askers <- struct{}{}
			}
			tries := 0
			for range 120 {
				now = now.Add(time.Second)
				if sweep() {
					tries++
				}
			}
			if tries < 4 || tries > 9 { // every 15 to 30 s
				t.Errorf("%d tries in 2 min", tries)
			}
			for tt.hold && len(p.askers) > 0 {
				<-p.askers
			}
			tt.hold = false
			sessions.set(now.Add(time.Hour), nil)
			told := sessions.count()
			for range 600 {
				now = now.Add(time.Second)
				sweep()
			}
			if got := sessions.count() - told; got != 1 {
				t.Errorf("told %d times once the store was well", got)
			}
		})
	}
}

func TestSetLimitsWhileOpen(t *testing.T) {
	s := newSite(t, echoUpstream(t), nil)
	c := s.dialWS("alice")
	echo := func(size int) error {
		if err := c.Write(t.Context(), ws.MessageBinary, make([]byte, size)); err != nil {
			return err
		}
		_, _, err := c.Read(t.Context())
		return err
	}
	if err := echo(100); err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.MaxTunnels, cfg.MaxMessage, cfg.TicketLife = 1, 1000, setting.Duration(time.Second)
	s.SetLimits(cfg)
	if err := echo(2000); err != nil {
		t.Errorf("the limit of messages is for new sockets: %v", err)
	}
	s.ticket("bob", "t")
	if r := s.request("GET", "/api/wsConnect?ticket=t", func(h http.Header) { h.Set("X-Session", "bob") }); r.StatusCode != 503 {
		t.Errorf("one socket too many: %s", r.Status)
	}
	if got := s.cfg.Load().TicketLife.D(); got != 20*time.Second {
		t.Errorf("tickets live for %s", got)
	}
	cfg.IdleTimeout = setting.Duration(time.Second)
	s.SetLimits(cfg)
	s.clock.advance(2 * time.Second)
	if _, _, err := c.Read(t.Context()); ws.CloseStatus(err) != ws.StatusGoingAway {
		t.Errorf("the idle limit is for all sockets: %v", err)
	}
}

// A drain does not wait for SockJS clients that have long gone, and in a process that goes
// on it ends by itself.
func TestBeginDrain(t *testing.T) {
	s, _ := sockJSSite(t, func(cfg *Config, deps *Deps) { cfg.Drain = 0 })
	s.ticket("alice", "t")
	if got := s.post("alice", "/000/abc/xhr?ticket=t", ""); got != 200 {
		t.Fatal(got)
	}
	s.clock.advance(closingMemory)
	s.BeginDrain()
	s.BeginDrain()
	s.eventually("nothing left", func() bool {
		draining, tunnels, sockJS := s.Draining()
		return draining && tunnels+sockJS == 0
	})
	r := s.sock("alice", "POST", "/000/def/xhr?ticket=t", "", nil)
	if r.StatusCode != 503 || r.Header.Get("Retry-After") != "1" {
		t.Errorf("afterwards: %s, Retry-After %q", r.Status, r.Header.Get("Retry-After"))
	}
	if got := s.metric("sockjs_ended_total", "reason", "drained"); got != 1 {
		t.Errorf("%v sessions drained", got)
	}
}
