package sockproxy

import (
	"sync"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/problem"
)

const (
	// sockJSIdle is how long a SockJS session stays admitted without a request.
	// Spring drops one after 5 s without a receiving request.
	sockJSIdle = 30 * time.Second
	// endedMemory is how long an ended session is remembered, so that a request
	// which was checked just before the end opens nothing just after it.
	endedMemory = time.Minute
	// maxEnded bounds that memory.
	maxEnded = 10_000
)

// live is everything open in this process, by session and by person.
//
// Invariant: a liveSession is in sessions exactly while it has a tunnel or a
// SockJS session; counts are those of the lists.
type live struct {
	cfg   *limits
	clock func() time.Time

	mu       sync.Mutex
	sessions map[string]*liveSession
	users    map[string]*usage
	total    usage
	socks    map[string]*sockSession
	draining bool
	// empty is closed and replaced when the last tunnel and SockJS session is gone.
	empty chan struct{}

	ended      map[string]time.Time
	endedOrder []string
}

// usage counts what one person, or everybody, has open.
type usage struct{ tunnels, socks int }

// liveSession is a browser session with something open.
type liveSession struct {
	key, user string
	tunnels   []*tunnel
	socks     []*sockSession

	expires time.Time // zero: unknown
	touched time.Time // when its idle time slid last
	tried   time.Time // when that was to be done last
	asked   time.Time // when the store last said, or could not say, that it lives
	asking  bool      // a question is on its way
	phase   uint32    // see period and heard
}

func newLive(cfg *limits, clock func() time.Time) *live {
	return &live{
		cfg: cfg, clock: clock,
		sessions: map[string]*liveSession{}, users: map[string]*usage{},
		socks: map[string]*sockSession{}, ended: map[string]time.Time{}, empty: make(chan struct{}),
	}
}

// addTunnel registers t, or says why it may not be.
func (l *live) addTunnel(t *tunnel, c Caller) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.admissible(c); err != nil {
		return err
	}
	user, cfg := l.users[c.User], l.cfg.Load()
	if over(l.total.tunnels, cfg.MaxTunnels) || user != nil && over(user.tunnels, cfg.MaxTunnelsPerUser) {
		return problem.TunnelLimit()
	}
	t.owner = l.session(c)
	t.owner.tunnels = append(t.owner.tunnels, t)
	l.users[t.owner.user].tunnels++
	l.total.tunnels++
	return nil
}

func (l *live) removeTunnel(t *tunnel) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t.owner.tunnels = without(t.owner.tunnels, t)
	l.users[t.owner.user].tunnels--
	l.total.tunnels--
	l.release(t.owner)
}

// admissible refuses new things of ended sessions and while draining.
func (l *live) admissible(c Caller) error {
	if l.draining {
		return shuttingDown()
	}
	if at, ok := l.ended[c.Session]; ok && l.clock().Sub(at) < endedMemory {
		return problem.SessionRequired()
	}
	return nil
}

// session finds or makes the session of c; its expiry is the newest known.
func (l *live) session(c Caller) *liveSession {
	s := l.sessions[c.Session]
	if s == nil {
		now := l.clock()
		s = &liveSession{key: c.Session, user: c.User, touched: now, asked: now, phase: phaseOf(c.Session)}
		l.sessions[c.Session] = s
	}
	if c.Expires.After(s.expires) {
		s.expires = c.Expires
	}
	if l.users[s.user] == nil {
		l.users[s.user] = &usage{}
	}
	return s
}

// slid notes that the touch which was to be done has been, and when the session
// ends if it is not used again. What its clients did since then is for the next.
func (l *live) slid(s *liveSession, expires time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.touched, s.expires = s.tried, expires
}

// asked notes that the store was asked about sessions at a time; zero: it was not,
// after all.
func (l *live) asked(at time.Time, sessions ...*liveSession) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range sessions {
		s.asking = false
		if !at.IsZero() {
			s.heard(at)
		}
	}
}

// release drops what is no longer used.
func (l *live) release(s *liveSession) {
	if len(s.tunnels) == 0 && len(s.socks) == 0 {
		delete(l.sessions, s.key)
	}
	if u := l.users[s.user]; u != nil && *u == (usage{}) {
		delete(l.users, s.user)
	}
	if l.total == (usage{}) {
		close(l.empty)
		l.empty = make(chan struct{})
	}
}

// end ends everything of a session and remembers that it ended.
func (l *live) end(key string, why *ending) {
	l.mu.Lock()
	now := l.clock()
	for len(l.endedOrder) > 0 && (len(l.endedOrder) >= maxEnded || now.Sub(l.ended[l.endedOrder[0]]) >= endedMemory) {
		delete(l.ended, l.endedOrder[0])
		l.endedOrder = l.endedOrder[1:]
	}
	if _, again := l.ended[key]; !again {
		l.endedOrder = append(l.endedOrder, key)
		l.ended[key] = now
	}
	var closers []closer
	if s := l.sessions[key]; s != nil {
		closers = s.closers()
	}
	l.mu.Unlock()
	for _, c := range closers {
		c.end(why)
	}
}

// closer is what can be ended: a tunnel or a SockJS session.
type closer interface{ end(*ending) }

func (s *liveSession) closers() []closer {
	all := make([]closer, 0, len(s.tunnels)+len(s.socks))
	for _, t := range s.tunnels {
		all = append(all, t)
	}
	for _, k := range s.socks {
		all = append(all, k)
	}
	return all
}

// shut refuses what is new from now on and returns all there is.
func (l *live) shut() []closer {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.draining = true
	var all []closer
	for _, s := range l.sessions {
		all = append(all, s.closers()...)
	}
	return all
}

// beginShut refuses what is new from now on, and reports whether that was not so.
func (l *live) beginShut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	began := !l.draining
	l.draining = true
	return began
}

// isDraining reports whether shut was called.
func (l *live) isDraining() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.draining
}

// whenEmpty returns a channel that closes once nothing is open; nil if that is so now.
func (l *live) whenEmpty() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total == (usage{}) {
		return nil
	}
	return l.empty
}

// counts returns how many tunnels and SockJS sessions are open.
// census is what everybody has open, and how much that may be.
type census struct {
	usage
	limit int // of sockets, and of SockJS sessions; 0 is none
}

func (l *live) counts() census {
	l.mu.Lock()
	defer l.mu.Unlock()
	return census{l.total, l.cfg.Load().MaxTunnels}
}

func over(count, limit int) bool { return limit > 0 && count >= limit }

func without[T comparable](list []T, gone T) []T {
	for i, one := range list {
		if one == gone {
			last := len(list) - 1
			list[i] = list[last]
			var zero T
			list[last] = zero
			return list[:last]
		}
	}
	return list
}
