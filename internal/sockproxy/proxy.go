package sockproxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// ErrSessionEnded is what [Sessions.Touch] returns for a session that is over.
var ErrSessionEnded = errors.New("sockproxy: session ended")

// Sessions is where browser sessions live.
type Sessions interface {
	// Touch counts the session as used now and returns when it ends if it is not
	// used again. An error that Is ErrSessionEnded ends its sockets, another does not.
	Touch(ctx context.Context, key string) (expires time.Time, err error)
	// Ended returns those of keys whose session is over, and counts as a use of
	// none. With an error nothing is known of those it did not return.
	Ended(ctx context.Context, keys []string) (ended []string, err error)
}

// Dialer opens connections to Whisp.
type Dialer interface {
	// Nodes returns the addresses Whisp has now, host:port, those to prefer first.
	Nodes(ctx context.Context) ([]string, error)
	// DialHTTP1 connects to one of them for a WebSocket handshake: TCP, or TLS with
	// ALPN http/1.1, ready to write.
	DialHTTP1(ctx context.Context, node string) (net.Conn, error)
}

// BalancerCookies carries the cookies of Whisp's load balancer, see upstream.BalancerCookies.
type BalancerCookies interface {
	ToBrowser(upstream http.Header) []string
	ToWhisp(browser http.Header) string
}

// Caller is whose request it is; its session was checked just now.
type Caller struct {
	Session string    // session key
	User    string    // identity key, for limits per person
	Expires time.Time // when the session ends if it is not used again
	Address string    // where the request came from, for the rate per address
}

// Deps is what a Proxy works with. All are required but Tickets
// and Admissions.
type Deps struct {
	Logger    *slog.Logger
	Clock     func() time.Time
	Rand      io.Reader
	Metrics   prometheus.Registerer
	PublicURL setting.URL
	// AllowedOrigins may open sockets besides PublicURL's own.
	AllowedOrigins []setting.URL

	// Whisp is the base URL of the cluster, as configured.
	Whisp setting.URL
	// Dialer is for sockets, Transport for SockJS over HTTP. Transport must have no
	// timeout for response headers: a poll is answered when there is something to say.
	// Its requests have a node in their URL and Whisp's name in Host; it must check
	// certificates for the name.
	Dialer    Dialer
	Transport http.RoundTripper
	// Header copies the request headers that may go to Whisp.
	Header  func(http.Header) http.Header
	Cookies BalancerCookies

	Sessions Sessions
	// Tickets is nil for a table in this process.
	Tickets Tickets
	// Admissions is nil if there is no other replica.
	Admissions Admissions
	// Fail answers a request with a problem.
	Fail func(w http.ResponseWriter, r *http.Request, err error)
}

// Proxy carries realtime between browsers and Whisp. Make one with [New]; it
// has goroutines only while something is open.
type Proxy struct {
	cfg       *limits
	log       *slog.Logger
	clock     func() time.Time
	rand      io.Reader
	base      url.URL
	basePath  string
	nodes     *nodes
	transport http.RoundTripper
	header    func(http.Header) http.Header
	cookies   BalancerCookies
	sessions  Sessions
	tickets   Tickets
	// admissions is nil: there is no other replica.
	admissions Admissions
	fail       func(w http.ResponseWriter, r *http.Request, err error)

	public  setting.URL
	origins atomic.Pointer[origins]
	metrics *metrics
	live    *live
	rates   *rates
	buffers *bufferPool
	loops   *loops
	readers sync.Pool // *bufio.Reader, for handshakes

	now      atomic.Int64 // coarse time, see tick
	interval time.Duration
	askers   chan struct{}

	sweepMu  sync.Mutex
	sweeping bool
}

// New returns a proxy. cfg must be valid.
func New(cfg Config, deps Deps) (*Proxy, error) {
	p := &Proxy{
		cfg: &limits{}, log: deps.Logger, clock: deps.Clock, rand: deps.Rand,
		base: deps.Whisp.URL, basePath: strings.TrimSuffix(deps.Whisp.EscapedPath(), "/"),
		nodes:     &nodes{dialer: deps.Dialer, clock: deps.Clock, rand: deps.Rand, resting: map[string]time.Time{}},
		transport: deps.Transport, header: deps.Header, cookies: deps.Cookies,
		sessions: deps.Sessions, tickets: deps.Tickets, admissions: deps.Admissions, fail: deps.Fail,
		public:   deps.PublicURL,
		buffers:  newBufferPool(),
		interval: sweepInterval,
		askers:   make(chan struct{}, askersAtOnce),
	}
	p.cfg.Store(&cfg)
	p.SetAllowedOrigins(deps.AllowedOrigins)
	p.readers.New = func() any { return bufio.NewReaderSize(nil, 4<<10) }
	if p.tickets == nil {
		p.tickets = newMemoryTickets(p.clock, cfg.TicketLife.D())
	}
	p.loops = newLoops(p.buffers)
	p.live = newLive(p.cfg, p.clock)
	p.rates = newRates(p.cfg, p.clock)
	var err error
	if p.metrics, err = newMetrics(deps.Metrics, p.live.counts, p.rates.count); err != nil {
		return nil, err
	}
	p.tick()
	return p, nil
}

// TicketIssued notes that session fetched a ticket through us just now.
func (p *Proxy) TicketIssued(session string, ticket secret.Text) {
	if ticket.Empty() {
		return
	}
	if err := p.tickets.Issue(context.Background(), hashTicket(ticket), session); err != nil {
		p.log.Warn("realtime: ticket not noted, its socket will be refused", "error", err)
	}
}

// EndSession closes everything a session has open, with 1000: the closes begin
// before it returns and are over within a second.
func (p *Proxy) EndSession(session string) { p.live.end(session, endSession) }

// Serve answers one request below /api/wsConnect. path is the canonical
// escaped path without the public prefix; r's own path is not looked at. A
// socket lives on after Serve returned.
func (p *Proxy) Serve(w http.ResponseWriter, r *http.Request, path string, c Caller) {
	if err := p.serve(w, r, path, c); err != nil { //nolint:contextcheck // the sweep serves all, and outlives this request
		if r.Context().Err() != nil {
			return // the client left: nobody to answer, and nobody to blame
		}
		p.metrics.refused(err)
		p.fail(w, r, err)
	}
}

// call is one request, its answer, and what was read of it so far.
type call struct {
	w      http.ResponseWriter
	r      *http.Request
	route  route
	query  query
	caller Caller
}

// serve checks, cheap before costly, and then hands on.
func (p *Proxy) serve(w http.ResponseWriter, r *http.Request, path string, c Caller) error {
	rt, ok := match(path)
	if !ok {
		return problem.RouteForbidden()
	}
	if r.Method != methods[rt.transport] && r.Method != http.MethodOptions {
		w.Header().Set("Allow", methods[rt.transport])
		return problem.MethodNotAllowed()
	}
	if !hasToken(w.Header()["Vary"], "Origin") {
		w.Header().Add("Vary", "Origin")
	}
	if !p.origins.Load().check(r, rt.transport, p.cfg.Load().AllowMissingOrigin) {
		return problem.OriginForbidden()
	}
	p.allowOrigin(w, r)
	if r.Method == http.MethodOptions {
		return preflight(w, r, rt.transport)
	}
	if !rt.transport.upgrades() && len(r.Header["Upgrade"]) > 0 {
		return problem.UpgradeInvalid()
	}
	q, ok := parseQuery(r.URL.RawQuery)
	if !ok || q.ticket.Empty() {
		return problem.TicketRefused()
	}
	x := &call{w, r, rt, q, c}
	if rt.transport.upgrades() {
		return p.serveSocket(x)
	}
	return p.serveSockJS(x)
}

// allowOrigin sets the CORS headers for an allowed foreign origin.
func (p *Proxy) allowOrigin(w http.ResponseWriter, r *http.Request) {
	if origin := r.Header.Get("Origin"); origin != "" && origin != p.origins.Load().list[0] {
		w.Header().Set("Access-Control-Allow-Origin", origin)
		w.Header().Set("Access-Control-Allow-Credentials", "true")
	}
}

// preflight answers a CORS preflight. The SockJS protocol has OPTIONS on what
// scripts fetch.
func preflight(w http.ResponseWriter, r *http.Request, t transport) error {
	if r.Header.Get("Origin") == "" || t.upgrades() {
		return problem.MethodNotAllowed()
	}
	w.Header().Set("Access-Control-Allow-Methods", methods[t])
	w.Header().Set("Access-Control-Allow-Headers", "Content-Type")
	w.Header().Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// serveSocket opens a tunnel.
func (p *Proxy) serveSocket(x *call) error {
	hello, err := checkOpening(x.r)
	if err != nil {
		if problem.From(err).Status == http.StatusUpgradeRequired {
			x.w.Header().Set("Sec-WebSocket-Version", "13")
		}
		return err
	}
	if err := p.rates.allow(x.caller.Address); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(x.r.Context())
	defer cancel(nil)
	t := &tunnel{proxy: p, cancel: cancel}
	if err := p.live.addTunnel(t, x.caller); err != nil {
		return err
	}
	p.wake()
	if err := p.open(ctx, x, hello, t); err != nil {
		if t.sock != nil {
			t.sock.leave(nil)
		}
		p.live.removeTunnel(t)
		return err
	}
	return nil
}

// open spends the ticket, dials Whisp and starts the tunnel. When it returns an
// error the browser's connection is still an ordinary HTTP connection.
func (p *Proxy) open(ctx context.Context, x *call, hello opening, t *tunnel) error {
	if err := p.useTicket(ctx, x, t); err != nil {
		return err
	}
	ctx, done := context.WithTimeout(ctx, p.cfg.Load().HandshakeTimeout.D())
	defer done()
	ans, err := p.dial(ctx, x, hello.protocols)
	if err != nil {
		if t.sock != nil && problem.From(err).Code == problem.TicketRefused().Code {
			p.forget(ctx, t.sock)
		}
		return err
	}
	client, early, err := takeOver(x.w, hello, ans)
	if err != nil {
		closeNow(ans.conn)
		return err
	}
	p.metrics.opened.Inc()
	t.start(client, ans.conn, early, ans.early)
	return nil
}

// useTicket spends the ticket, or admits the SockJS session that brings it.
func (p *Proxy) useTicket(ctx context.Context, x *call, t *tunnel) error {
	if x.route.transport == sockWS {
		sock, err := p.admit(ctx, x, nil)
		if why, ok := errors.AsType[*ending](err); ok {
			return why.problem()
		}
		t.sock = sock
		return err
	}
	ok, err := p.tickets.Spend(ctx, hashTicket(x.query.ticket), x.caller.Session)
	return ticketVerdict(ok, err)
}

// ticketVerdict tells a refused ticket from a store that cannot say.
func ticketVerdict(ok bool, err error) error {
	switch {
	case err != nil:
		return problem.StoreUnavailable().Because(err)
	case !ok:
		return problem.TicketRefused()
	}
	return nil
}

// takeOver answers the browser's handshake with 101 and takes its connection
// out of net/http's hands. early is what the browser had sent ahead.
func takeOver(w http.ResponseWriter, hello opening, ans answer) (conn net.Conn, early []byte, err error) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, problem.UpgradeInvalid().Because(fmt.Errorf("take over connection: %w", err))
	}
	early, _ = rw.Peek(rw.Reader.Buffered())
	early = slices.Clone(early)

	header := w.Header()
	for _, name := range []string{"Connection", "Upgrade", "Content-Type", "Content-Length", "Transfer-Encoding", "Date"} {
		header.Del(name)
	}
	for _, line := range ans.cookies {
		header.Add("Set-Cookie", line)
	}
	var b strings.Builder
	b.WriteString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		acceptKey(hello.key) + "\r\n")
	if ans.protocol != "" {
		b.WriteString("Sec-WebSocket-Protocol: " + ans.protocol + "\r\n")
	}
	_ = header.Write(&b)
	b.WriteString("\r\n")
	// An error shows again, and is handled, as soon as the tunnel uses conn.
	_, _ = io.WriteString(conn, b.String())
	return conn, early, nil
}
