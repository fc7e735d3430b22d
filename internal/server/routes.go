package server

import (
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/session"
)

// Names of routes, for logs and metrics.
const (
	routeUnknown     = "none"
	routeLogin       = "login"
	routeCallback    = "callback"
	routeLogout      = "logout"
	routeSession     = "session"
	routeSignIn      = "sign_in"
	routeSignOut     = "sign_out"
	routeWhisp       = "whisp"
	routeRealtime    = "realtime"
	routeApp         = "app"
	routePreflight   = "preflight"
	prefixWhisp      = "/whisp"
	prefixRealtime   = "/api/wsConnect"
	signInBodyLimit  = 4 << 10
	ownMaxQueryBytes = 16 << 10
)

// routes are the endpoints of our own, all of them. gin serves these few, small
// JSON answers; what is proxied never goes through gin's ResponseWriter, which
// swallows early hints and turns an app's empty 404 into one of gin's.
func (s *Server) routes() *gin.Engine {
	engine := gin.New()
	engine.HandleMethodNotAllowed = true
	engine.RedirectTrailingSlash = false
	engine.ContextWithFallback = true
	engine.NoRoute(adapt(func(*exchange) error { return problem.NotFound() }))
	engine.NoMethod(adapt(func(*exchange) error { return problem.MethodNotAllowed() }))

	for _, endpoint := range []struct {
		method, path, name string
		handle             func(*exchange) error
	}{
		{http.MethodGet, "/auth/login", routeLogin, s.login},
		{http.MethodGet, "/auth/callback", routeCallback, s.callback},
		{http.MethodPost, "/auth/logout", routeLogout, s.write(s.logout)},
		{http.MethodGet, "/auth/session", routeSession, s.read(s.showSession)},
		{http.MethodPost, "/auth/whisp/sign-in", routeSignIn, s.write(s.withSession(s.signIn))},
		{http.MethodPost, "/auth/whisp/sign-out", routeSignOut, s.write(s.withSession(s.signOut))},
	} {
		s.own[endpoint.path] = endpoint.name
		engine.Handle(endpoint.method, endpoint.path, adapt(endpoint.handle))
	}
	return engine
}

// adapt is where gin ends: below it there is net/http only. gin is told that
// the answer was written, or it would add a body of its own to a 405.
func adapt(handle func(*exchange) error) gin.HandlerFunc {
	return func(c *gin.Context) {
		x := exchangeOf(c.Writer)
		if err := handle(x); err != nil {
			x.fail(err)
		}
		c.Writer.WriteHeaderNow()
	}
}

// route sends a request to one of three places: our own endpoints, Whisp, the
// app.
func (s *Server) route(x *exchange) {
	path := x.r.URL.Path
	name, own := s.own[path]
	whisp := path == prefixWhisp || strings.HasPrefix(path, prefixWhisp+"/")
	if !own && !whisp {
		s.serveApp(x)
		return
	}
	// "/%61uth/login" would be ours to us and something else to a proxy in front.
	if x.r.URL.EscapedPath() != path || len(x.r.URL.RawQuery) > ownMaxQueryBytes {
		x.fail(problem.PathNotCanonical())
		return
	}
	if s.origins.answerCORS(x, x.r) {
		x.route = routePreflight
		return
	}
	if whisp {
		s.serveWhisp(x, strings.TrimPrefix(path, prefixWhisp))
		return
	}
	x.route = name
	s.engine.ServeHTTP(x, x.r)
}

// serveApp hands on to the customer's app. Using the app is using the session.
func (s *Server) serveApp(x *exchange) {
	x.route = routeApp
	if value := s.parts.Sessions.FromRequest(x.r); !value.Empty() {
		// No session, or a store that does not answer: the app works without.
		x.session, _ = s.parts.Sessions.Find(x.r.Context(), value, false)
	}
	s.app.ServeHTTP(x, x.r)
}

// serveWhisp carries REST and realtime. The path has lost its /whisp.
func (s *Server) serveWhisp(x *exchange, path string) {
	realtime := path == prefixRealtime || strings.HasPrefix(path, prefixRealtime+"/")
	x.route = routeWhisp
	if realtime {
		x.route = routeRealtime
	}
	err := s.origins.checkRead(x.r)
	if err == nil && realtime {
		err = s.serveRealtime(x, path)
	} else if err == nil {
		err = s.serveREST(x, path)
	}
	if err != nil {
		x.fail(err)
	}
}

// write wraps endpoints that change something.
func (s *Server) write(next func(*exchange) error) func(*exchange) error {
	return func(x *exchange) error {
		if err := s.origins.checkWrite(x.r); err != nil {
			return err
		}
		return next(x)
	}
}

// read wraps endpoints that tell something private.
func (s *Server) read(next func(*exchange) error) func(*exchange) error {
	return func(x *exchange) error {
		if err := s.origins.checkRead(x.r); err != nil {
			return err
		}
		return next(x)
	}
}

// withSession wraps endpoints that need to know who asks.
func (s *Server) withSession(next func(*exchange, *session.Session) error) func(*exchange) error {
	return func(x *exchange) error {
		found, err := s.findSession(x, false)
		if err != nil {
			return err
		}
		return next(x, found)
	}
}
