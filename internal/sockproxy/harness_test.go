package sockproxy

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ws "github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a whisp-bff reduced to this package: the public listener, the proxy,
// and an upstream the test brings. The session of a request is its header X-Session.
type site struct {
	*Proxy
	t        testing.TB
	url      string // of the public listener, without a trailing slash
	origin   string
	metrics  *prometheus.Registry
	sessions *fakeSessions
	dials    *atomic.Int32
	clock    *fakeClock
	problems chan *problem.Problem
}

type fakeClock struct {
	read   func() time.Time // nil: time.Now
	offset atomic.Int64
}

func (c *fakeClock) now() time.Time {
	now := time.Now
	if c.read != nil {
		now = c.read
	}
	return now().Add(time.Duration(c.offset.Load()))
}

func (c *fakeClock) advance(d time.Duration) { c.offset.Add(int64(d)) }

type fakeSessions struct {
	mu      sync.Mutex
	touched []string
	expires time.Time
	err     error
	peeked  [][]string // each question
	gone    []string
	peekErr error
}

func (f *fakeSessions) Touch(_ context.Context, key string) (time.Time, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.touched = append(f.touched, key)
	return f.expires, f.err
}

func (f *fakeSessions) Ended(_ context.Context, keys []string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.peeked = append(f.peeked, keys)
	return slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return !slices.Contains(f.gone, key) }), f.peekErr
}

func (f *fakeSessions) set(expires time.Time, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.expires, f.err = expires, err
}

// lose ends a session without a word; err is what the next questions get besides.
func (f *fakeSessions) lose(key string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone, f.peekErr = []string{key}, err
}

func (f *fakeSessions) peeks() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.peeked)
}

func (f *fakeSessions) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.touched)
}

type noCookies struct{}

func (noCookies) ToBrowser(h http.Header) []string { return h["Set-Cookie"] }
func (noCookies) ToWhisp(http.Header) string       { return "" }

// tcpDialer dials the upstream in plain TCP.
type tcpDialer struct {
	address string
	dials   *atomic.Int32
}

func (d tcpDialer) Nodes(context.Context) ([]string, error) { return []string{d.address}, nil }

func (d tcpDialer) DialHTTP1(ctx context.Context, node string) (net.Conn, error) {
	d.dials.Add(1)
	return (&net.Dialer{}).DialContext(ctx, "tcp", node)
}

// newSite starts a site before the upstream at the given address.
func newSite(t testing.TB, upstream string, change func(*Config, *Deps)) *site {
	t.Helper()
	s := &site{
		t: t, metrics: prometheus.NewRegistry(), sessions: &fakeSessions{}, dials: &atomic.Int32{},
		clock: &fakeClock{}, problems: make(chan *problem.Problem, 1000),
	}
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.EscapedPath(), "/whisp")
		session := r.Header.Get("X-Session")
		s.Serve(w, r, path, Caller{Session: session, User: "user-of-" + session, Address: r.Header.Get("X-Address")})
	}))
	s.url = "http://" + front.Listener.Addr().String()
	s.origin = s.url
	cfg := DefaultConfig()
	transport := &http.Transport{DisableCompression: true}
	deps := Deps{
		Logger: slog.New(slog.DiscardHandler), Clock: s.clock.now, Rand: rand.Reader, Metrics: s.metrics,
		PublicURL: setting.MustURL(s.url), Whisp: setting.MustURL("http://" + upstream),
		Dialer: tcpDialer{upstream, s.dials}, Transport: transport,
		Header: func(in http.Header) http.Header {
			return http.Header{"User-Agent": in["User-Agent"], "Content-Type": in["Content-Type"]}
		},
		Cookies:  noCookies{},
		Sessions: s.sessions,
		Fail: func(w http.ResponseWriter, _ *http.Request, err error) {
			p := problem.From(err)
			select {
			case s.problems <- p:
			default:
			}
			problem.Write(w, "test", p)
		},
	}
	if change != nil {
		change(&cfg, &deps)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	p, err := New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	p.interval = 20 * time.Millisecond
	s.Proxy = p
	front.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = p.Drain(ctx)
		front.Close()
		transport.CloseIdleConnections()
		s.settled()
	})
	return s
}

// settled waits until nothing is open and the sweep sleeps.
func (s *site) settled() {
	s.t.Helper()
	s.eventually("tunnels closed", func() bool { return s.live.whenEmpty() == nil })
}

// eventually polls, for things that have no channel; it fails after 20 s.
func (s *site) eventually(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// metric returns the value of a counter or gauge; labels as name, value, …
func (s *site) metric(name string, labels ...string) float64 {
	s.t.Helper()
	families, err := s.metrics.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "whisp_bff_realtime_"+name {
			continue
		}
	next:
		for _, m := range family.GetMetric() {
			for i := 0; i < len(labels); i += 2 {
				found := false
				for _, label := range m.GetLabel() {
					found = found || label.GetName() == labels[i] && label.GetValue() == labels[i+1]
				}
				if !found {
					continue next
				}
			}
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return 0
}

// closedBecause waits for a tunnel to end for the given reason.
func (s *site) closedBecause(why reason) {
	s.t.Helper()
	s.eventually("a tunnel closed because "+string(why), func() bool {
		return s.metric("tunnels_closed_total", "reason", string(why)) > 0
	})
}

// ticket has session fetch a ticket.
func (s *site) ticket(session, text string) string {
	s.TicketIssued(session, secret.New(text))
	return text
}

// dialWS opens a plain WebSocket with a ticket of session.
func (s *site) dialWS(session string) *ws.Conn {
	s.t.Helper()
	c, _, err := ws.Dial(s.t.Context(), s.url+"/whisp/api/wsConnect?ticket="+s.ticket(session, rand.Text()), &ws.DialOptions{
		HTTPHeader: http.Header{"X-Session": {session}, "Origin": {s.origin}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	c.SetReadLimit(-1)
	s.t.Cleanup(func() { _ = c.CloseNow() })
	return c
}

// dialRaw opens a plain WebSocket whose bytes the test writes itself.
func (s *site) dialRaw(session string) *net.TCPConn {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	_, _ = io.WriteString(conn, "GET /whisp/api/wsConnect?ticket="+s.ticket(session, rand.Text())+" HTTP/1.1\r\nHost: x\r\n"+
		"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"+
		"Origin: "+s.origin+"\r\nX-Session: "+session+"\r\n\r\n")
	if head := readHead(s.t, conn); !strings.HasPrefix(head, "HTTP/1.1 101 ") {
		s.t.Fatalf("handshake answered %q", head)
	}
	return conn.(*net.TCPConn)
}

// readHead reads up to the empty line, byte by byte.
func readHead(t testing.TB, conn io.Reader) string {
	t.Helper()
	var head []byte
	for one := make([]byte, 1); !strings.HasSuffix(string(head), "\r\n\r\n"); {
		if _, err := conn.Read(one); err != nil {
			t.Errorf("after %q: %v", head, err)
			return string(head)
		}
		head = append(head, one[0])
	}
	return string(head)
}

// echoUpstream is a WebSocket server that echoes, closing as clients ask.
func echoUpstream(t testing.TB) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := ws.Accept(w, r, &ws.AcceptOptions{Subprotocols: []string{"v12.stomp"}, InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer func() { _ = c.CloseNow() }()
		c.SetReadLimit(-1)
		for {
			kind, message, err := c.Read(context.Background())
			if err != nil {
				return
			}
			if c.Write(context.Background(), kind, message) != nil {
				return
			}
		}
	}))
	t.Cleanup(server.Close)
	u, _ := url.Parse(server.URL)
	return u.Host
}

// rawUpstream accepts WebSocket handshakes and hands over the connections.
func rawUpstream(t testing.TB) (address string, conns chan *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conns = make(chan *net.TCPConn, 10)
	var all []net.Conn // also keeps them from being collected, which would close them
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all = append(all, conn)
			head := readHead(t, conn)
			_, after, _ := strings.Cut(head, "Sec-WebSocket-Key: ")
			key, _, _ := strings.Cut(after, "\r\n")
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
				"Sec-WebSocket-Accept: "+acceptKey(key)+"\r\n\r\n")
			conns <- conn.(*net.TCPConn)
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		accepting.Wait()
		close(conns)
		for _, conn := range all {
			_ = conn.Close()
		}
	})
	return listener.Addr().String(), conns
}
