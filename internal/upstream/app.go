package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// AppDeps are what [NewApp] needs besides configuration.
type AppDeps struct {
	Logger    *slog.Logger
	PublicURL setting.URL
	// ClientAddress returns the browser's IP address as the listener determined
	// it, for X-Forwarded-For; empty: none is sent.
	ClientAddress func(*http.Request) string
	// StripHeaders are request headers, besides the well-known ones, that only
	// whisp-bff or a trusted proxy may set; a browser's are removed.
	StripHeaders []string
	// OwnCookies are names, besides the well-known ones, of cookies that belong
	// to whisp-bff: the app neither sees nor sets them.
	OwnCookies []string
	// Fail answers with the problem in err (problem.From).
	Fail func(w http.ResponseWriter, r *http.Request, err error)
}

// App carries requests to the customer's app: an [http.Handler] to be given the
// server's own ResponseWriter, or one with Unwrap. It is safe for concurrent use.
//
// The app sees the request as it came, body streamed, except that:
//
//   - headers that could be forged (X-Forwarded-*, Forwarded, X-Real-Ip,
//     X-Auth-Request-* and others, any spelling) are removed, then
//     X-Forwarded-For, -Host, -Proto and -Port are set from what we know;
//   - our cookies are removed; request trailers are dropped;
//   - the only protocol it can be upgraded to is WebSocket. An h2c upgrade
//     would open a channel that nobody filters.
//
// The browser sees the answer as it came, except that a Set-Cookie for one of
// our names is dropped, and that of 1xx answers only 103 with its Link headers
// passes. CONNECT and TRACE are refused.
//
// The query is passed as it is, odd encodings included, as is the path: nothing
// here decides by them. Whoever protects paths decides before.
type App struct {
	proxy     *httputil.ReverseProxy
	transport *http.Transport
	target    url.URL
	host      string // "" keeps the browser's
	strip     *stripper
	own       ownCookies
	deps      AppDeps
	headers   sync.Pool // of empty http.Header, for appReply

	forwardedHost, forwardedProto, forwardedPort []string

	warned   atomic.Bool // about a Set-Cookie of ours
	upgraded upgraded
}

// NewApp reads cfg.CAFile, if one is named, and connects to nothing yet. cfg
// must have passed Validate.
func NewApp(cfg AppConfig, deps AppDeps) (*App, error) {
	tlsConfig, err := trust(cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("app.ca_file: %w", err)
	}
	a := &App{
		target:         cfg.URL.URL,
		strip:          newStripper(forged, cfg.StripHeaders, deps.StripHeaders),
		own:            newOwnCookies(deps.OwnCookies),
		deps:           deps,
		forwardedHost:  []string{deps.PublicURL.Host},
		forwardedProto: []string{deps.PublicURL.Scheme},
		forwardedPort:  []string{portOf(&deps.PublicURL.URL)},
	}
	if !cfg.PreserveHost {
		a.host = cfg.URL.Host
	}
	a.transport = appTransport(cfg)
	a.transport.TLSClientConfig = tlsConfig
	a.proxy = &httputil.ReverseProxy{
		Rewrite:        a.rewrite,
		Transport:      a.transport,
		ModifyResponse: a.modify,
		ErrorHandler:   a.failed,
		ErrorLog:       slog.NewLogLogger(deps.Logger.Handler(), slog.LevelDebug),
		BufferPool:     &bufferPool{},
		FlushInterval:  cfg.Flush.D(),
	}
	return a, nil
}

func appTransport(cfg AppConfig) *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: cfg.Timeouts.Dial.D(), KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout: cfg.Timeouts.TLSHandshake.D(),
		Protocols:           &protocols,
		// One host; each idle connection saved is a handshake saved.
		MaxIdleConnsPerHost: 512,
		MaxConnsPerHost:     cfg.MaxConnections,
		// Node closes idle connections after 5 s. Closing first avoids the
		// race in which a POST meets a connection that is just going away.
		IdleConnTimeout:        4 * time.Second,
		ResponseHeaderTimeout:  cfg.Timeouts.ResponseHeader.D(),
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 256 << 10,
		DisableCompression:     true,
	}
}

// identityHeaders is the context key under which [App.ServeAs] hands headers to
// rewrite, which sees nothing but the request.
type identityHeaders struct{}

// ServeAs is ServeHTTP for a request whose sender is known: identity's headers
// are set after everything a browser could have sent under their names was
// removed, and out of reach of its Connection header (golang/go#50580).
func (a *App) ServeAs(w http.ResponseWriter, r *http.Request, identity http.Header) {
	if len(identity) > 0 {
		r = r.WithContext(context.WithValue(r.Context(), identityHeaders{}, identity))
	}
	a.ServeHTTP(w, r)
}

// ServeHTTP implements [http.Handler].
func (a *App) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodConnect, r.Method == http.MethodTrace:
		a.deps.Fail(w, r, problem.MethodNotAllowed())
		return
	case r.URL.Opaque != "", !strings.HasPrefix(r.URL.Path, "/"): // "GET http:x", "GET *"
		a.deps.Fail(w, r, problem.PathNotCanonical())
		return
	}
	reply := &appReply{ResponseWriter: w, app: a, request: r}
	if r.ContentLength != 0 {
		reply.body.ReadCloser = r.Body
		in := *r
		in.Body = &reply.body
		r = &in
	}
	a.proxy.ServeHTTP(reply, r)
}

// Close ends all upgraded connections, which Server.Shutdown leaves alone, and
// idle ones. Later upgrades are refused; other requests still pass.
func (a *App) Close() {
	a.upgraded.close()
	a.transport.CloseIdleConnections()
}

// rewrite prepares the request for the app. net/http/httputil has removed the
// hop-by-hop headers before; what is set here is out of Connection's reach.
func (a *App) rewrite(pr *httputil.ProxyRequest) {
	out := pr.Out
	out.URL.Scheme, out.URL.Host = a.target.Scheme, a.target.Host
	out.URL.RawQuery = pr.In.URL.RawQuery
	if a.host != "" {
		out.Host = a.host
	}
	out.Trailer = nil
	header := out.Header
	if header["Upgrade"] != nil && !asksForWebSocket(pr.In) {
		delete(header, "Upgrade")
		delete(header, "Connection")
		delete(header, "Http2-Settings")
	}
	a.strip.strip(header)
	a.own.strip(header)
	header["X-Forwarded-Host"] = a.forwardedHost
	header["X-Forwarded-Proto"] = a.forwardedProto
	header["X-Forwarded-Port"] = a.forwardedPort
	if address := a.deps.ClientAddress(pr.In); address != "" {
		header["X-Forwarded-For"] = []string{address}
	}
	if identity, ok := pr.In.Context().Value(identityHeaders{}).(http.Header); ok {
		maps.Copy(header, identity)
	}
}

// asksForWebSocket reports whether a request asks for an upgrade to WebSocket
// and to nothing else (RFC 6455 section 4.1).
func asksForWebSocket(r *http.Request) bool {
	upgrade := r.Header["Upgrade"]
	return r.Method == http.MethodGet && r.ProtoMajor == 1 && r.ContentLength == 0 &&
		len(upgrade) == 1 && strings.EqualFold(upgrade[0], "websocket")
}

// modify drops Set-Cookie lines that would overwrite a cookie of ours.
func (a *App) modify(response *http.Response) error {
	lines := response.Header["Set-Cookie"]
	if len(lines) == 0 {
		return nil
	}
	kept := lines[:0]
	for _, line := range lines {
		if !a.own.setsOwn(line) {
			kept = append(kept, line)
			continue
		}
		if a.warned.CompareAndSwap(false, true) {
			a.deps.Logger.WarnContext(response.Request.Context(), "the app set a cookie whose name belongs to whisp-bff; it was dropped, and so will others without a word")
		}
	}
	if len(kept) == 0 {
		delete(response.Header, "Set-Cookie")
	} else {
		response.Header["Set-Cookie"] = kept
	}
	return nil
}

// failed is ReverseProxy's ErrorHandler.
func (a *App) failed(w http.ResponseWriter, _ *http.Request, err error) {
	reply, ours := w.(*appReply)
	if !ours {
		return // ServeHTTP hands out nothing else
	}
	r := reply.request
	switch {
	case reply.hijacked: // the connection is gone, there is nothing to write to
	case reply.closing:
		a.deps.Fail(reply.ResponseWriter, r, problem.ShuttingDown())
	default:
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			a.deps.Fail(reply.ResponseWriter, r, problem.BodyTooLarge())
			return
		}
		if reply.body.failed.Load() || r.Context().Err() != nil {
			reply.ResponseWriter.WriteHeader(StatusClientGone)
			return
		}
		a.deps.Fail(reply.ResponseWriter, r, appProblem(err))
	}
}

func appProblem(err error) error {
	if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Op == "dial" {
		return problem.AppUnreachable().Because(err)
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return problem.AppTimeout().Because(err)
	}
	return problem.AppUnreachable().Because(err)
}

func portOf(u *url.URL) string {
	_, port, _ := net.SplitHostPort(address(u))
	return port
}

// bufferPool lends the buffers that bodies are copied through. It keeps arrays,
// not slices, so that giving one back allocates nothing.
type bufferPool struct{ pool sync.Pool }

const bufferSize = 32 << 10

func (b *bufferPool) Get() []byte {
	if array, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return array[:]
	}
	return make([]byte, bufferSize)
}

func (b *bufferPool) Put(buffer []byte) {
	if len(buffer) == bufferSize {
		b.pool.Put((*[bufferSize]byte)(buffer))
	}
}
