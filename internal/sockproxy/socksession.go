package sockproxy

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/problem"
)

// closingMemory is how long a SockJS session that is to end waits for the next poll
// of its client, to say so. A client polls again at once, so one that was quiet
// for as long already is not waited for.
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
	count      func(reason) // of endings of our own
	// alone: it is one WebSocket, so there is nothing to share with other replicas.
	alone bool

	mu       sync.Mutex
	closing  *ending
	told     bool           // the client has read the close frame
	requests []*sockRequest // in flight
	tunnels  int
	seen     time.Time
	// nodes of Whisp to try, until the first answers; from then on that one alone.
	nodes   []string
	settled bool
	claimed bool      // this replica has told, or was told by, the others
	shared  time.Time // when last
}

// sockRequest is a request of a SockJS session in flight.
type sockRequest struct {
	sock       *sockSession // once joined
	cancel     context.CancelCauseFunc
	controller *http.ResponseController
	stalled    atomic.Int64 // coarse time when the write in progress began; 0: none
	seen       atomic.Int64 // coarse time of the last bytes from Whisp
	cut        bool         // guarded by the session's mu
}

// admit finds the SockJS session of a request (nil: a tunnel), or admits it if
// its ticket may, and counts the request in: the caller owes it a leave.
func (p *Proxy) admit(ctx context.Context, x *call, request *sockRequest) (*sockSession, error) {
	rt, c := x.route, x.caller
	wants := admission{Session: c.Session, Ticket: hashTicket(x.query.ticket), Server: rt.server}
	joined, err := p.live.joinSock(rt, wants, c, request)
	if err != nil || joined != nil {
		return joined, err // both, if it is ending
	}
	if request != nil && !rt.transport.sends() { // a tunnel was counted already
		if err := p.rates.allow(c.Address); err != nil {
			return nil, err
		}
	}
	found, elsewhere, err := p.findShared(ctx, rt, wants)
	if err != nil {
		return nil, err
	}
	k := &sockSession{id: rt.session, server: rt.server, ticket: wants.Ticket, clock: p.clock, count: p.metrics.sockCut, alone: rt.transport == sockWS}
	if elsewhere && k.alone { // sockjs-client draws an id for each transport
		return nil, problem.TicketRefused()
	}
	if elsewhere {
		k.nodes, k.settled, k.claimed, k.shared = []string{found.Node}, true, true, p.clock()
	} else if k.nodes, err = p.admitNew(ctx, rt, wants); err != nil {
		return nil, err
	}
	admitted, err := p.live.addSock(k, wants, c, request)
	if err == nil {
		p.wake() //nolint:contextcheck // the sweep serves all, and outlives this request
	}
	return admitted, err
}

// admitNew admits a session that no replica knows, and returns the nodes of Whisp it
// may be opened at.
func (p *Proxy) admitNew(ctx context.Context, rt route, wants admission) ([]string, error) {
	if rt.transport.sends() { // a session begins with a receiving request
		return nil, problem.TicketRefused()
	}
	if ok, err := p.tickets.Admit(ctx, wants.Ticket, wants.Session, wants.Server); err != nil || !ok {
		return nil, ticketVerdict(ok, err)
	}
	if rt.transport == sockWS {
		return nil, nil // its tunnel chooses one
	}
	nodes, err := p.nodes.order(ctx)
	if err != nil {
		return nil, upstreamFault(ctx, err)
	}
	return nodes, nil
}

// node is where the session's requests go.
func (k *sockSession) node() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.nodes[0]
}

// moveFrom gives up a node that could not be connected to, and reports whether
// there is another: never once Whisp has answered.
func (k *sockSession) moveFrom(node string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.settled || len(k.nodes) == 1 && k.nodes[0] == node {
		return false
	}
	if k.nodes[0] == node {
		k.nodes = k.nodes[1:]
	}
	return true
}

// settle keeps the session at the node that answered.
func (k *sockSession) settle(node string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.settled {
		k.settled, k.nodes = true, []string{node}
	}
}

// admission is the session as other replicas should know it.
func (k *sockSession) admission() admission {
	return admission{Session: k.owner.key, Ticket: k.ticket, Server: k.server, Node: k.node()}
}

// claimDue reports, once, that the other replicas have not been told yet.
func (k *sockSession) claimDue() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	due := !k.claimed
	k.claimed = true
	return due
}

// wasShared notes that the other replicas can know of the session.
func (k *sockSession) wasShared() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.shared = k.clock()
}

// renewDue reports whether the other replicas are to be told again.
func (k *sockSession) renewDue(now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.alone && k.claimed && k.closing == nil && now.Sub(k.shared) >= shareRenew
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
		request.sock = k
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
		k.count(why.reason)
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
	switch {
	case k.told:
		patience = 0
	case k.closing != nil:
		patience = closingMemory
	}
	return len(k.requests) == 0 && k.tunnels == 0 && now.Sub(k.seen) >= patience
}

// wasTold notes that the client has a close frame.
func (k *sockSession) wasTold() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.told = true
}

// check cuts requests whose client takes nothing or whose upstream says nothing.
func (k *sockSession) check(now int64, cfg *Config) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, request := range k.requests {
		if request.cut {
			continue
		}
		if since := request.stalled.Load(); since != 0 && now-since > int64(cfg.WriteTimeout) {
			request.cut = true
			k.count(slowClient)
			request.cancel(errSlowClient)
			_ = request.controller.SetWriteDeadline(interrupted)
		} else if seen := request.seen.Load(); cfg.IdleTimeout > 0 && now-seen > int64(cfg.IdleTimeout) {
			request.cut = true
			k.count(idleTimeout)
			request.cancel(context.DeadlineExceeded)
		}
	}
}

// errSlowClient is the cause of a request cut because its client takes nothing.
var errSlowClient = &ending{reason: slowClient}

// problem is what a request gets that comes too late.
func (e *ending) problem() *problem.Problem {
	if e == endDrain {
		return shuttingDown()
	}
	return problem.SessionRequired()
}

// joinSock joins an admitted SockJS session; nil, nil: there is none, and one
// might be admitted.
func (l *live) joinSock(rt route, wants admission, c Caller, request *sockRequest) (*sockSession, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := l.socks[rt.session]
	if found == nil {
		return nil, l.admissible(c)
	}
	return found.joinAs(wants, request)
}

// joinAs joins a session that exists. Who comes from another browser session, with
// another ticket, or with another kind of transport, is refused. With an *ending it is
// not joined, and returned all the same.
func (k *sockSession) joinAs(who admission, request *sockRequest) (*sockSession, error) {
	if k.owner.key != who.Session || k.ticket != who.Ticket || k.server != who.Server || k.alone != (request == nil) {
		return nil, problem.TicketRefused()
	}
	return k, k.join(request)
}

// addSock registers a SockJS session that was admitted, or says why it may not be.
func (l *live) addSock(k *sockSession, wants admission, c Caller, request *sockRequest) (*sockSession, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.admissible(c); err != nil {
		return nil, err
	}
	if found := l.socks[k.id]; found != nil { // two first requests at once
		return found.joinAs(wants, request)
	}
	user, cfg := l.users[c.User], l.cfg.Load()
	if over(l.total.socks, cfg.MaxTunnels) || user != nil && over(user.socks, cfg.MaxTunnelsPerUser) {
		return nil, problem.TunnelLimit()
	}
	k.owner, k.seen = l.session(c), l.clock()
	k.owner.socks = append(k.owner.socks, k)
	l.socks[k.id] = k
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
