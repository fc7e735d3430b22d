package sockproxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// closeGrace is how long a side has to end after the other ended, or to answer
	// our Close frame.
	closeGrace = 5 * time.Second
	// endGrace is the same when a session ended: all must be over within a second.
	endGrace = 700 * time.Millisecond
	// keepAlive is the interval of TCP keep-alive probes.
	keepAlive = 15 * time.Second
)

// interrupted is a deadline in the past: it ends all reads and writes in progress.
var interrupted = time.Unix(1, 0)

// reason says why a tunnel ended: a metric label, so a closed set.
type reason string

const (
	clientClosed     reason = "client_closed"   // Close frame or FIN of the browser
	upstreamClosed   reason = "upstream_closed" // the same of Whisp
	clientLost       reason = "client_lost"     // reset
	upstreamLost     reason = "upstream_lost"
	clientVanished   reason = "client_vanished" // acknowledges nothing any more
	upstreamVanished reason = "upstream_vanished"
	slowClient       reason = "slow_client"
	slowUpstream     reason = "slow_upstream"
	idleTimeout      reason = "idle"
	sessionEnded     reason = "session_ended"
	sessionExpired   reason = "session_expired"
	drained          reason = "drained"
	tooBig           reason = "message_too_big"
	protocolError    reason = "protocol_error"
	tooFast          reason = "frame_rate"
	upstreamProtocol reason = "upstream_protocol_error"
)

var reasons = []reason{
	clientClosed, upstreamClosed, clientLost, upstreamLost, clientVanished, upstreamVanished, slowClient, slowUpstream, idleTimeout, sessionEnded,
	sessionExpired, drained, tooBig, protocolError, tooFast, upstreamProtocol,
}

// ending is a close of our own.
type ending struct {
	reason     reason
	toClient   closeCode
	toUpstream closeCode
	text       string // to the client, at most 123 bytes
	grace      time.Duration
}

// The endings there are.
var (
	endSession = &ending{sessionEnded, closeNormal, closeNormal, "Session ended", endGrace}
	endExpired = &ending{sessionExpired, closeNormal, closeNormal, "Session expired", endGrace}
	endDrain   = &ending{drained, closeRestart, closeGoingAway, "Service restart", endGrace}
	endIdle    = &ending{idleTimeout, closeGoingAway, closeGoingAway, "Idle", closeGrace}
	endTooBig  = &ending{tooBig, closeTooBig, closeGoingAway, "Message too big", closeGrace}
	endBroken  = &ending{protocolError, closeProtocol, closeGoingAway, "Protocol error", closeGrace}
	endTooFast = &ending{tooFast, closePolicy, closeGoingAway, "Too many frames", closeGrace}
	// The same two, when it was Whisp who did it.
	endUpstreamTooBig = &ending{tooBig, closeTooBig, closeTooBig, "Message too big", closeGrace}
	endUpstreamBroken = &ending{upstreamProtocol, closeInternal, closeProtocol, "Upstream protocol error", closeGrace}
)

// tunnel is one proxied socket. It is registered before Whisp is dialled, so
// that limits count and EndSession reaches sockets that are still opening.
type tunnel struct {
	proxy *Proxy
	owner *liveSession
	sock  *sockSession // of a SockJS WebSocket; nil: a plain one

	// closing is set once, when we want the tunnel to end.
	closing atomic.Pointer[ending]
	// why is the first thing that ended the tunnel.
	why atomic.Pointer[reason]

	mu     sync.Mutex
	cancel context.CancelCauseFunc // of the handshake; nil once open
	open   bool
	timers []*time.Timer

	// Set before open, constant afterwards.
	client, upstream net.Conn
	up, down         flow
	started          int64
	cutting          atomic.Bool
	flows            atomic.Int32 // running
	closesPassed     atomic.Int32 // Close frames passed on, one per direction

	sweep sweepMarks
}

// start begins to carry bytes; the tunnel closes both connections in the end.
// early is what each side had sent behind its handshake.
func (t *tunnel) start(client, upstream net.Conn, fromClient, fromUpstream []byte) {
	cfg := t.proxy.cfg.Load()
	limit := uint64(cfg.MaxMessage.Bytes()) //nolint:gosec // Validate refuses negative ones
	t.client, t.upstream = client, upstream
	t.up.tunnel, t.up.src, t.up.dst = t, client, upstream
	t.up.follow = follower{masked: true, limit: limit}
	t.down.tunnel, t.down.src, t.down.dst, t.down.toClient = t, upstream, client, true
	t.down.follow = follower{limit: limit}
	now := t.proxy.tick()
	t.started = now
	t.up.seen.Store(now)
	t.down.seen.Store(now)
	t.sweep.frameAt = now
	t.up.most.Store(burst(0, int64(cfg.MaxFrameRate)))
	for _, conn := range []net.Conn{client, upstream} {
		tune(conn, cfg.WriteTimeout.D())
	}
	t.flows.Store(2)
	where := t.proxy.loops.pick()
	where.prepare(&t.up)
	where.prepare(&t.down)
	t.mu.Lock()
	t.open, t.cancel = true, nil
	t.mu.Unlock()
	t.up.begin(fromClient)
	t.down.begin(fromUpstream)
	if why := t.closing.Load(); why != nil {
		t.announce(why)
	}
}

// tune sets what idle and vanished peers need. net's defaults already have
// TCP_NODELAY on.
func tune(conn net.Conn, userTimeout time.Duration) {
	if secured, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = secured.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: keepAlive, Count: 4})
		setUserTimeout(tcp, userTimeout)
	}
}

// flowEnded is the end of a flow, called once for each.
func (t *tunnel) flowEnded(f *flow, err error) {
	f.unwatch()
	_, writing := errors.AsType[*writeError](err)
	switch {
	case errors.Is(err, errStop):
	case ended(err) && t.closing.Load() == nil:
		t.note(f.pick(upstreamClosed, clientClosed))
		f.halfClose()
		t.cutAfter(closeGrace)
	case ended(err):
		if !f.toClient { // the browser left, nobody to wait for
			t.cut()
		}
	case writing:
		t.note(lostBecause(f.toClient, err))
		t.cut()
	default:
		t.note(lostBecause(!f.toClient, err))
		t.cut()
	}
	if t.flows.Add(-1) == 0 {
		t.finish()
	}
}

// lostBecause tells a peer that reset its connection from one that is no longer
// heard of.
func lostBecause(client bool, err error) reason {
	vanished := errors.Is(err, syscall.ETIMEDOUT) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH)
	switch {
	case client && vanished:
		return clientVanished
	case client:
		return clientLost
	case vanished:
		return upstreamVanished
	}
	return upstreamLost
}

// pick returns one of two for the direction of f.
func (f *flow) pick(down, up reason) reason {
	if f.toClient {
		return down
	}
	return up
}

// note records why the tunnel ends; the first reason stays.
func (t *tunnel) note(why reason) { t.why.CompareAndSwap(nil, &why) }

// end closes the tunnel our way: a Close frame to each side at its next frame
// boundary, then, after the browser's answer or why.grace, the connections. It
// returns at once and may be called at any time and again.
func (t *tunnel) end(why *ending) {
	if !t.closing.CompareAndSwap(nil, why) {
		return
	}
	t.note(why.reason)
	t.mu.Lock()
	open, cancel := t.open, t.cancel
	t.mu.Unlock()
	if cancel != nil {
		cancel(why)
	}
	if open {
		t.announce(why)
	}
}

// Error makes an ending the cause of a cancelled handshake or SockJS request.
func (e *ending) Error() string { return string(e.reason) }

func (t *tunnel) announce(why *ending) {
	t.cutAfter(why.grace)
	// A goroutine, because a full socket could hold up the caller, who has more
	// tunnels to end. It ends at the latest with the cut.
	go func() {
		t.down.tryClose()
		t.up.tryClose()
	}()
}

// violated is called by a flow, holding its sending, whose source broke a rule.
func (t *tunnel) violated(f *flow, code closeCode) {
	switch {
	case f.toClient && code == closeTooBig:
		t.end(endUpstreamTooBig)
	case f.toClient:
		t.end(endUpstreamBroken)
	case code == closeTooBig:
		t.end(endTooBig)
	default:
		t.end(endBroken)
	}
}

// passedClose is called by a flow, holding its sending, that passed on a Close
// frame. The flow goes on to see its source end.
func (t *tunnel) passedClose(f *flow) error {
	t.note(f.pick(upstreamClosed, clientClosed))
	t.cutAfter(closeGrace)
	if t.closesPassed.Add(1) == 2 {
		t.cut()
		return errStop
	}
	return nil
}

// answeredClose is called by a flow that dropped a Close frame. The
// browser's ends the closing handshake we began.
func (t *tunnel) answeredClose(f *flow) error {
	if !f.toClient {
		t.cut()
	}
	return errStop
}

// cutAfter makes sure an open tunnel ends: after d, or earlier if an earlier
// call said so. There are few calls, so the timers simply add up.
func (t *tunnel) cutAfter(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open {
		t.timers = append(t.timers, time.AfterFunc(d, t.cut))
	}
}

// cut ends both flows wherever they are; the last one closes the connections.
func (t *tunnel) cut() {
	t.cutting.Store(true)
	_ = t.client.SetDeadline(interrupted)
	_ = t.upstream.SetDeadline(interrupted)
	t.up.abandon()
	t.down.abandon()
}

// finish is the end, called once.
func (t *tunnel) finish() {
	closeNow(t.client)
	closeNow(t.upstream)
	t.mu.Lock()
	t.open = false
	for _, timer := range t.timers {
		timer.Stop()
	}
	t.mu.Unlock()
	why := clientClosed
	if noted := t.why.Load(); noted != nil {
		why = *noted
	}
	t.proxy.metrics.closed(why)
	t.report()
	t.proxy.log.Debug("tunnel ended", slog.String("reason", string(why)),
		slog.Duration("after", time.Duration(t.proxy.tick()-t.started)),
		slog.Int64("up_bytes", t.up.bytes.Load()), slog.Int64("down_bytes", t.down.bytes.Load()))
	if t.sock != nil {
		t.sock.leave(nil)
	}
	t.proxy.live.removeTunnel(t)
}

// closeNow closes without TLS's farewell, which could wait 5 s for a peer that
// does not read. A WebSocket has its own.
func closeNow(conn net.Conn) {
	if secured, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = secured.NetConn()
	}
	_ = conn.Close()
}
