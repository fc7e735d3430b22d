package sockproxy

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/problem"
)

// closingMemory is how long a SockJS session that was told to end waits for a
// poll to say so.
const closingMemory = 2 * time.Second

// sockSession is an admitted SockJS session: one client's attempt with one
// transport. It belongs to the browser session whose ticket admitted it.
//
//	admitted ──request── busy ──done── admitted … ──quiet──▶ released
//	   any ──end──▶ closing: requests in flight are ended, the next is told
type sockSession struct {
	// id is the session segment alone, since Spring knows sessions by that:
	// with the server segment, a stranger could reach one under another name.
	id, server string
	owner      *liveSession
	ticket     ticketHash
	clock      func() time.Time

	mu       sync.Mutex
	closing  *ending
	requests []*sockRequest // in flight
	tunnels  int
	seen     time.Time
}

// sockRequest is a request of a SockJS session in flight.
type sockRequest struct {
	cancel     context.CancelCauseFunc
	controller *http.ResponseController
	stalled    atomic.Int64 // coarse time when the write in progress began; 0: none
	seen       atomic.Int64 // coarse time of the last bytes from Whisp
}

// admit finds the SockJS session of a request (nil: a tunnel), or admits it if
// its ticket may, and counts the request in: the caller owes it a leave.
func (p *Proxy) admit(ctx context.Context, x *call, request *sockRequest) (*sockSession, error) {
	rt, c := x.route, x.caller
	hash := hashTicket(x.query.ticket)
	found, err := p.live.joinSock(rt, hash, c, request)
	if err != nil || found != nil {
		return found, err
	}
	if rt.transport.sends() { // a session begins with a receiving request
		return nil, problem.TicketRefused()
	}
	if ok, err := p.tickets.Admit(ctx, hash, c.Session, rt.server); err != nil || !ok {
		return nil, ticketVerdict(ok, err)
	}
	admitted, err := p.live.addSock(rt, hash, c, request)
	if err == nil {
		p.wake() //nolint:contextcheck // the sweep serves all, and outlives this request
	}
	return admitted, err
}

// join counts a request (nil: a tunnel) in, unless the session is closing. The
// caller holds live.mu, so that the session is not released meanwhile.
func (k *sockSession) join(request *sockRequest) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closing != nil {
		return k.closing
	}
	if request == nil {
		k.tunnels++
	} else {
		k.requests = append(k.requests, request)
	}
	return nil
}

// leave is the end of a request that joined (nil: a tunnel).
func (k *sockSession) leave(request *sockRequest) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if request == nil {
		k.tunnels--
	} else {
		k.requests = without(k.requests, request)
	}
	k.seen = k.clock()
}

// end implements closer.
func (k *sockSession) end(why *ending) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closing == nil {
		k.closing = why
		k.seen = k.clock()
	}
	for _, request := range k.requests {
		request.cancel(why)
	}
}

// over reports whether the session may be released.
func (k *sockSession) over(now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	patience := sockJSIdle
	if k.closing != nil {
		patience = closingMemory
	}
	return len(k.requests) == 0 && k.tunnels == 0 && now.Sub(k.seen) >= patience
}

// check cuts requests whose client takes nothing or whose upstream says nothing.
func (k *sockSession) check(now int64, cfg *Config) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, request := range k.requests {
		if since := request.stalled.Load(); since != 0 && now-since > int64(cfg.WriteTimeout) {
			request.cancel(errSlowClient)
			_ = request.controller.SetWriteDeadline(interrupted)
		}
		if seen := request.seen.Load(); cfg.IdleTimeout > 0 && now-seen > int64(cfg.IdleTimeout) {
			request.cancel(context.DeadlineExceeded)
		}
	}
}

// errSlowClient is the cause of a request cut because its client takes nothing.
var errSlowClient = &ending{reason: slowClient}

// problem is what a request gets that comes too late.
func (e *ending) problem() *problem.Problem {
	if e == endDrain {
		return problem.ShuttingDown()
	}
	return problem.SessionRequired()
}

// joinSock joins an admitted SockJS session; nil, nil: there is none, and one
// might be admitted.
func (l *live) joinSock(rt route, hash ticketHash, c Caller, request *sockRequest) (*sockSession, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.socks[rt.session] == nil {
		return nil, l.admissible(c)
	}
	return l.joinFound(rt, hash, c, request)
}

// joinFound joins a session that exists. One of another browser session, or
// brought with another ticket, is refused.
func (l *live) joinFound(rt route, hash ticketHash, c Caller, request *sockRequest) (*sockSession, error) {
	found := l.socks[rt.session]
	if found.owner.key != c.Session || found.ticket != hash || found.server != rt.server {
		return nil, problem.TicketRefused()
	}
	if err := found.join(request); err != nil {
		return nil, err
	}
	return found, nil
}

// addSock registers a SockJS session, or says why it may not be.
func (l *live) addSock(rt route, hash ticketHash, c Caller, request *sockRequest) (*sockSession, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.admissible(c); err != nil {
		return nil, err
	}
	if l.socks[rt.session] != nil { // two first requests at once
		return l.joinFound(rt, hash, c, request)
	}
	user, cfg := l.users[c.User], l.cfg.Load()
	if over(l.total.socks, cfg.MaxTunnels) || user != nil && over(user.socks, cfg.MaxTunnelsPerUser) {
		return nil, problem.TunnelLimit()
	}
	k := &sockSession{id: rt.session, server: rt.server, owner: l.session(c), ticket: hash, clock: l.clock, seen: l.clock()}
	k.owner.socks = append(k.owner.socks, k)
	l.socks[rt.session] = k
	l.users[k.owner.user].socks++
	l.total.socks++
	return k, k.join(request)
}

// releaseSock releases a SockJS session if it is over.
func (l *live) releaseSock(k *sockSession, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k.over(now) && l.socks[k.id] == k {
		l.dropSock(k)
	}
}

// removeSock releases a SockJS session that Whisp does not know; its requests in
// flight go on.
func (l *live) removeSock(k *sockSession) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.socks[k.id] == k {
		l.dropSock(k)
	}
}

func (l *live) dropSock(k *sockSession) {
	delete(l.socks, k.id)
	k.owner.socks = without(k.owner.socks, k)
	l.users[k.owner.user].socks--
	l.total.socks--
	l.release(k.owner)
}
