// Package server is where the parts meet: listeners, routes, what happens to
// every request, and the life of the process.
//
// Read routes.go to know every path and who serves it. A request goes
//
//	edge (name it, recover, log) → route → origin → session → one handler → broker or proxy
//
// and everything a handler needs is an argument. Errors are returned and turned
// into RFC 9457 answers in one place.
//
// # Framing
//
// Requests are written anew by net/http on their way to the app and to Whisp:
// nothing behind us parses the bytes that a client sent. net/http refuses two
// lengths, two Hosts, any transfer coding but a single "chunked", white space
// before a colon, bare CR, and chunks that are not framed exactly.
//
// It does not refuse Content-Length beside Transfer-Encoding, or the latter in
// HTTP/1.0, and does not tell us that they came. What could be hidden that way
// is a second request behind the body, for which a server in front of us would
// have a reader of its own. So the connection is closed after every body whose
// end may be disputed (see unframed), and nothing behind it is ever read. A
// folded header line (RFC 9112 section 5.2) is joined to the one before, as the
// RFC allows; it frames nothing.
//
// # Reconfiguration
//
// What one configuration decides is a [Site]. The next is prepared beside it and
// takes its place in one step; a request is answered to its end by the site that
// was current when it arrived. Listeners and sockets notice nothing.
//
// # Slow clients
//
// Slow clients are cut: read_header_timeout for headers, bodyPatience for each
// piece of a body.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// Deps are what the server itself works with, for as long as it lives.
type Deps struct {
	PublicURL setting.URL
	// Ended tells other replicas that the holder with this key ended; nil if there
	// are none.
	Ended   func(ctx context.Context, key string)
	Clock   func() time.Time
	Logger  *slog.Logger
	Metrics *prometheus.Registry
}

// Server answers on the public and the admin listener, each request as the
// [Site] says that is current when it arrives.
type Server struct {
	cfg     Config // of the listeners: what [Server.Use] cannot change
	deps    Deps
	metrics *metrics
	unheard *unheard
	// backChannel outlives sites, as metrics does.
	backChannel *backChannel
	public      *http.Server
	admin       *http.Server
	draining    atomic.Bool

	bodyPatience time.Duration

	current atomic.Pointer[Site]
	mu      sync.Mutex
	inUse   map[*Site]struct{} // the current one, and those before that still answer
}

// New builds the server; it listens when [Server.Run] is called.
func New(cfg Config, deps Deps, parts Parts) (*Server, error) {
	gin.SetMode(gin.ReleaseMode)
	s := &Server{
		cfg: cfg, deps: deps,
		metrics:     newMetrics(deps.Metrics),
		unheard:     newUnheard(deps.Metrics),
		backChannel: newBackChannel(deps.Metrics),
		inUse:       make(map[*Site]struct{}),

		bodyPatience: bodyPatience,
	}
	first, err := s.Prepare(cfg, parts)
	if err != nil {
		return nil, err
	}
	s.inUse[first] = struct{}{}
	s.current.Store(first)
	// net/http reports broken handshakes and the like as lines of text.
	serverLog := slog.NewLogLogger(deps.Logger.Handler(), slog.LevelDebug)
	s.public = &http.Server{
		Handler:           http.HandlerFunc(s.servePublic),
		ReadHeaderTimeout: cfg.ReadHeaderTimeout.D(),
		IdleTimeout:       cfg.KeepAlive.D(),
		MaxHeaderBytes:    int(cfg.MaxHeader.Bytes()),
		ErrorLog:          serverLog,
		ConnContext:       s.unheard.connContext,
		ConnState:         s.unheard.connState,
		// "OPTIONS *" is refused like any other path that is none.
		DisableGeneralOptionsHandler: true,
	}
	s.admin = &http.Server{
		Handler:           http.HandlerFunc(s.serveAdmin),
		ReadHeaderTimeout: cfg.ReadHeaderTimeout.D(),
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       cfg.KeepAlive.D(),
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          serverLog,
	}
	return s, nil
}

// ClientAddress returns a function that tells where a request came from,
// trusted proxies left out: for the app's X-Forwarded-For. cfg must be valid.
func ClientAddress(cfg Config) (func(*http.Request) string, error) {
	known, err := newClients(cfg.TrustedProxies)
	if err != nil {
		return nil, err
	}
	return func(r *http.Request) string {
		client, _ := known.of(r)
		return client
	}, nil
}

// Fail answers with the problem in err; the proxies are handed it.
func Fail(w http.ResponseWriter, _ *http.Request, err error) { exchangeOf(w).fail(err) }

// Handler is the public listener's, for tests.
func (s *Server) Handler() http.Handler { return s.public.Handler }

// Listen opens both listeners, so that a taken port is an error at start and
// not a log line later.
func (s *Server) Listen(ctx context.Context) (public, admin net.Listener, err error) {
	var config net.ListenConfig
	if public, err = config.Listen(ctx, "tcp", s.cfg.Listen); err != nil {
		return nil, nil, fmt.Errorf("server.listen: %w", err)
	}
	if admin, err = config.Listen(ctx, "tcp", s.cfg.AdminListen); err != nil {
		_ = public.Close()
		return nil, nil, fmt.Errorf("server.admin_listen: %w", err)
	}
	return public, admin, nil
}

// Run serves until ctx ends, then shuts down: not ready, shutdown_delay, sockets
// drained, requests finished. It returns nil after a complete shutdown.
func (s *Server) Run(ctx context.Context, public, admin net.Listener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	failed := make(chan error, 2)
	for _, listener := range []struct {
		server *http.Server
		on     net.Listener
	}{{s.public, public}, {s.admin, admin}} {
		wg.Go(func() {
			if err := listener.server.Serve(listener.on); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		})
	}
	s.deps.Logger.InfoContext(ctx, "listening", "public", public.Addr().String(), "admin", admin.Addr().String(), "public_url", s.deps.PublicURL.String())

	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	return errors.Join(err, s.shutdown(context.WithoutCancel(ctx)))
}

// shutdown ends everything in the order in which clients notice it least.
func (s *Server) shutdown(ctx context.Context) error {
	started := s.deps.Clock()
	s.deps.Logger.InfoContext(ctx, "shutting down")
	s.draining.Store(true)
	site := s.current.Load()
	if delay := site.cfg.ShutdownDelay.D(); delay > 0 {
		<-time.After(delay)
	}
	patience, cancel := context.WithTimeout(ctx, site.parts.DrainTime+site.cfg.ShutdownTimeout.D())
	defer cancel()
	// While sockets drain, requests are still answered, each on its last
	// connection. The app's own sockets have nobody who could tell them.
	s.public.SetKeepAlivesEnabled(false)
	drainErr := site.parts.Realtime.Drain(patience)
	s.closeApps()
	err := s.public.Shutdown(patience)
	if err != nil {
		_ = s.public.Close()
	}
	// Whoever asked has been answered or is gone; what is still under way at Whisp
	// only saves itself a registration.
	within(patience, site.parts.Broker.Wait)
	err = errors.Join(drainErr, err, s.admin.Close())
	s.deps.Logger.InfoContext(ctx, "shut down", "took", s.deps.Clock().Sub(started).Round(time.Millisecond), "error", err)
	return err
}

// within waits for wait, but not longer than ctx.
func within(ctx context.Context, wait func()) {
	over := make(chan struct{})
	go func() {
		defer close(over)
		wait()
	}()
	select {
	case <-over:
	case <-ctx.Done():
	}
}
