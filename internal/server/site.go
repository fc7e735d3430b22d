package server

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/whisp-bff/whisp-bff/internal/access"
	"github.com/whisp-bff/whisp-bff/internal/broker"
	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/login"
	"github.com/whisp-bff/whisp-bff/internal/session"
	"github.com/whisp-bff/whisp-bff/internal/sockproxy"
	"github.com/whisp-bff/whisp-bff/internal/upstream"
)

// Parts are what requests are handed to, and what other sections of the
// configuration want of the server.
type Parts struct {
	// Login is nil if "session" is not among the identity sources.
	Login    *login.RelyingParty
	Sessions *session.Sessions
	Devices  *session.Devices
	Identity *identity.Chain
	Policy   *access.Policy
	// Assertions is nil if they are not enabled.
	Assertions *access.Assertions
	Broker     *broker.Broker
	WhispREST  *upstream.WhispProxy
	Realtime   *sockproxy.Proxy
	App        *upstream.App

	// PostLogoutPath is where a logout leads if the provider has no page for it.
	PostLogoutPath string
	// Denied are operations of Whisp (upstream.Operation…) that browsers may not use.
	Denied []string
	// DrainTime is how long sockets may take to close at shutdown.
	DrainTime time.Duration
	AccessLog bool
}

// Site is everything that one configuration decides about answering requests. It
// is never changed, only replaced as a whole: a request that began with one
// allow-list ends with the same.
type Site struct {
	*Server
	cfg     Config
	parts   Parts
	engine  *gin.Engine
	own     map[string]string // path -> route name
	app     appHandler        // parts.App
	origins origins
	denied  map[string]bool // operations of Whisp that may not pass
	// loginHelps has the sources after whose refusal a login of ours would be
	// asked first, and "" for nobody's.
	loginHelps map[string]bool
	tells      bool // the app is told who asks
	public     http.Handler
	admin      http.Handler

	// users are the requests being answered, and one more while the site is
	// current. From zero it never rises again.
	users  atomic.Int64
	unused chan struct{} // closed when users is zero
}

// Prepare builds a site for [Server.Use]; nothing that is in use is touched. Of
// cfg, what belongs to the listeners does not count: listen, admin_listen,
// max_header, read_header_timeout, keep_alive.
func (s *Server) Prepare(cfg Config, parts Parts) (*Site, error) {
	trusted, err := newClients(cfg.TrustedProxies)
	if err != nil {
		return nil, fmt.Errorf("server.trusted_proxies: %w", err)
	}
	site := &Site{
		Server: s, cfg: cfg, parts: parts,
		own:     make(map[string]string),
		app:     parts.App,
		origins: newOrigins(s.deps.PublicURL, cfg.AllowedOrigins),
		denied:  make(map[string]bool, len(parts.Denied)),
		unused:  make(chan struct{}),
	}
	site.users.Store(1)
	site.tells = parts.Policy.Tells() || parts.Assertions != nil
	if parts.Login != nil {
		site.loginHelps = map[string]bool{"": true, identity.SourceSession: true}
		for _, name := range parts.Identity.Names() {
			site.loginHelps[name] = name == identity.SourceSession || parts.Identity.Outranks(identity.SourceSession, name)
		}
	}
	for _, operation := range parts.Denied {
		site.denied[operation] = true
	}
	site.engine = site.routes()
	site.public = &edge{server: site, clients: trusted, hosts: knownHosts(s.deps.PublicURL, cfg.ExtraHosts)}
	site.admin = site.adminRoutes()
	return site, nil
}

// Use makes a prepared site answer every request that arrives from now on. The
// one before finishes what it has begun, streams and the app's own sockets
// included; unused is closed when that is done. One at a time may call it.
func (s *Server) Use(next *Site) (unused <-chan struct{}) {
	s.mu.Lock()
	s.inUse[next] = struct{}{}
	s.mu.Unlock()
	before := s.current.Swap(next)
	before.leave()
	if s.draining.Load() { // and so it may have missed it
		next.parts.App.Close()
	}
	return before.unused
}

func (s *Server) servePublic(w http.ResponseWriter, r *http.Request) {
	s.unheard.heard(r)
	site := s.enter()
	defer site.leave()
	site.public.ServeHTTP(w, r)
}

func (s *Server) serveAdmin(w http.ResponseWriter, r *http.Request) {
	site := s.enter()
	defer site.leave()
	site.admin.ServeHTTP(w, r)
}

// enter returns the current site, which stays in use until it is left.
func (s *Server) enter() *Site {
	for {
		site := s.current.Load()
		for users := site.users.Load(); users > 0; users = site.users.Load() {
			if site.users.CompareAndSwap(users, users+1) {
				return site
			}
		}
	}
}

func (s *Site) leave() {
	if s.users.Add(-1) > 0 {
		return
	}
	s.mu.Lock()
	delete(s.inUse, s)
	s.mu.Unlock()
	close(s.unused)
}

// closeApps ends the app's own sockets, those of earlier sites included.
func (s *Server) closeApps() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for site := range s.inUse {
		site.parts.App.Close()
	}
}
