package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// Endpoint is Whisp as a network peer. It is safe for concurrent use and lives
// as long as the process; [Endpoint.Close] ends idle connections, and
// [Endpoint.Prepare] changes how connections are made while calls are under way.
//
// There are three pools. Our own calls have one, so that browsers cannot crowd
// out sign-ins. So has realtime: a SockJS poll may wait 25 s for its first byte
// and a stream holds its connection for hours, so they must neither meet REST's
// response timeout nor use up its connections.
//
// No proxy is taken from the environment, cookies are not kept, answers are not
// decompressed, and redirects are not followed.
type Endpoint struct {
	base    url.URL // path without trailing slash
	lookup  lookup
	breaker *gobreaker.TwoStepCircuitBreaker[struct{}]
	pools   atomic.Pointer[pools]
}

// pools are the connections that one configuration makes. They are never
// changed, only replaced.
type pools struct {
	own, rest, realtime *http.Transport
	dialer              *net.Dialer
	tls                 *tls.Config
	timeouts            WhispTimeouts
}

// pool is one of an endpoint's pools, whichever is there at the moment.
type pool struct {
	endpoint *Endpoint
	pick     func(*pools) *http.Transport
}

// RoundTrip implements [http.RoundTripper].
func (p pool) RoundTrip(r *http.Request) (*http.Response, error) {
	return p.pick(p.endpoint.pools.Load()).RoundTrip(r)
}

// NewEndpoint reads cfg.CAFile, if one is named, and connects to nothing yet.
// cfg must have passed Validate.
func NewEndpoint(cfg WhispConfig) (*Endpoint, error) {
	e := &Endpoint{base: cfg.URL.URL, lookup: new(net.Resolver).LookupNetIP, breaker: newBreaker(cfg.Breaker)}
	e.base.Path = strings.TrimRight(e.base.Path, "/")
	e.base.RawPath = ""
	first, err := newPools(cfg)
	if err != nil {
		return nil, err
	}
	e.pools.Store(first)
	return e, nil
}

// Prepare reads cfg.CAFile and returns a function that takes it, the timeouts of
// connections and max_connections into use for whatever is asked or dialled from
// then on. Sockets and calls under way stay on the connections they have. url and
// breaker are not looked at.
func (e *Endpoint) Prepare(cfg WhispConfig) (use func(), err error) {
	next, err := newPools(cfg)
	if err != nil {
		return nil, err
	}
	return func() { e.pools.Swap(next).closeIdle() }, nil
}

func newPools(cfg WhispConfig) (*pools, error) {
	tlsConfig, err := trust(cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("whisp.ca_file: %w", err)
	}
	p := &pools{
		dialer:   &net.Dialer{Timeout: cfg.Timeouts.Dial.D(), KeepAlive: 15 * time.Second},
		tls:      tlsConfig,
		timeouts: cfg.Timeouts,
	}
	p.own, p.rest, p.realtime = p.transport(), p.transport(), p.transport()
	p.realtime.TLSClientConfig.ServerName = cfg.URL.Hostname() // its requests name nodes, see RealtimeTransport
	for _, bounded := range []*http.Transport{p.own, p.rest} {
		bounded.ResponseHeaderTimeout = cfg.Timeouts.ResponseHeader.D()
		bounded.MaxConnsPerHost = cfg.MaxConnections
	}
	return p, nil
}

func (p *pools) transport() *http.Transport {
	return &http.Transport{
		DialContext:         p.dialer.DialContext,
		TLSClientConfig:     p.tls.Clone(),
		TLSHandshakeTimeout: p.timeouts.TLSHandshake.D(),
		ForceAttemptHTTP2:   true, // a DialContext of our own would switch it off
		HTTP2:               &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
		// Everything goes to one host; the default of two idle connections
		// would mean a handshake for every third concurrent call.
		MaxIdleConnsPerHost: 128,
		// Below the 60 s after which common load balancers close silently.
		IdleConnTimeout:        50 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
	}
}

// URL returns the address of a path below the base URL; path is one that
// [CanonicalPath] accepts, rawQuery is taken as it is.
func (e *Endpoint) URL(path, rawQuery string) *url.URL {
	u := e.base
	u.Path += path
	u.RawPath = u.Path // canonical: nothing in it is, or will be, encoded
	u.RawQuery = rawQuery
	return &u
}

// Transport is the pool for browsers' REST calls: HTTP/2 where Whisp offers it, with all phase
// timeouts and max_connections.
func (e *Endpoint) Transport() http.RoundTripper {
	return pool{e, func(p *pools) *http.Transport { return p.rest }}
}

// RealtimeTransport is the pool for SockJS over HTTP: neither a limit on
// connections nor one on the wait for the answer. Its user bounds both. The
// host of a request's URL may be one of [Endpoint.Nodes], with Whisp's own name in
// Request.Host: certificates are checked for that name in any case.
func (e *Endpoint) RealtimeTransport() http.RoundTripper {
	return pool{e, func(p *pools) *http.Transport { return p.realtime }}
}

// ownTransport is the pool for our own calls.
func (e *Endpoint) ownTransport() http.RoundTripper {
	return pool{e, func(p *pools) *http.Transport { return p.own }}
}

// DialHTTP1 opens a connection of its own for an HTTP/1.1 exchange that is going
// to be upgraded: TCP or, for https, TLS with ALPN http/1.1. It goes to one of
// [Endpoint.Nodes], or to whichever answers if node is empty. The caller owns
// the connection. The dial and TLS timeouts apply; no deadline is left set.
//
// It does not ask the circuit breaker: a refused first handshake leaves the
// vendor's SDK hanging for ever, so a socket is never refused on suspicion.
func (e *Endpoint) DialHTTP1(ctx context.Context, node string) (net.Conn, error) {
	if node == "" {
		node = address(&e.base)
	}
	p := e.pools.Load()
	conn, err := p.dialer.DialContext(ctx, "tcp", node)
	if err != nil {
		return nil, fmt.Errorf("connect to whisp: %w", err)
	}
	if e.base.Scheme != "https" {
		return conn, nil
	}
	config := p.tls.Clone()
	config.ServerName = e.base.Hostname()
	config.NextProtos = []string{"http/1.1"}
	ctx, cancel := context.WithTimeout(ctx, p.timeouts.TLSHandshake.D())
	defer cancel()
	encrypted := tls.Client(conn, config)
	if err := encrypted.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("TLS with whisp: %w", err)
	}
	return encrypted, nil
}

// Close ends idle connections. Calls in flight finish; using the Endpoint
// afterwards opens new ones.
func (e *Endpoint) Close() { e.pools.Load().closeIdle() }

func (p *pools) closeIdle() {
	p.own.CloseIdleConnections()
	p.rest.CloseIdleConnections()
	p.realtime.CloseIdleConnections()
}

// address is host:port to dial.
func address(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "80"
		if u.Scheme == "https" {
			port = "443"
		}
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// trust returns a TLS client configuration that trusts the file's authorities,
// or the system's if no file is named.
func trust(caFile string) (*tls.Config, error) {
	config := &tls.Config{
		MinVersion: tls.VersionTLS12,
		// Each socket is a connection: resumption (RFC 8446 section 2.2) spares it most of
		// the handshake.
		ClientSessionCache: tls.NewLRUClientSessionCache(0),
	}
	if caFile == "" {
		return config, nil
	}
	pem, err := os.ReadFile(caFile) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate found in %s", caFile)
	}
	return config, nil
}
