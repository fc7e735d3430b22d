package server

import (
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/whisp-bff/whisp-bff/internal/problem"
)

// Names of routes, for logs and metrics.
const (
	routeUnknown     = "none"
	routeLogin       = "login"
	routeCallback    = "callback"
	routeLogout      = "logout"
	routeBackChannel = "backchannel_logout"
	routeSession     = "session"
	routeSignIn      = "sign_in"
	routeSignOut     = "sign_out"
	routeWhisp       = "whisp"
	routeRealtime    = "realtime"
	routeApp         = "app"
	routePreflight   = "preflight"
	routeCheck       = "check"
	routeJWKS        = "jwks"
	pathCheck        = "/auth/check"
	prefixWhisp      = "/whisp"
	prefixRealtime   = "/api/wsConnect"
	signInBodyLimit  = 4 << 10
	ownMaxQueryBytes = 16 << 10
)

// routes are the endpoints of our own, all of them. gin serves these few, small
// JSON answers; what is proxied never goes through gin's ResponseWriter, which
// swallows early hints and turns an app's empty 404 into one of gin's.
func (s *Site) routes() *gin.Engine {
	engine := gin.New()
	engine.HandleMethodNotAllowed = true
	engine.RedirectTrailingSlash = false
	engine.ContextWithFallback = true
	engine.NoRoute(adapt(func(*exchange) error { return problem.NotFound() }))
	engine.NoMethod(adapt(func(*exchange) error { return problem.MethodNotAllowed() }))

	type endpoint struct {
		method, path, name string
		handle             func(*exchange) error
	}
	endpoints := []endpoint{
		{http.MethodPost, "/auth/logout", routeLogout, s.write(s.logout)},
		{http.MethodGet, "/auth/session", routeSession, s.read(s.showSession)},
		{http.MethodPost, "/auth/whisp/sign-in", routeSignIn, s.write(s.signIn)},
		{http.MethodPost, "/auth/whisp/sign-out", routeSignOut, s.write(s.signOut)},
	}
	if s.parts.Login != nil {
		endpoints = append(endpoints,
			endpoint{http.MethodGet, "/auth/login", routeLogin, s.login},
			endpoint{http.MethodGet, "/auth/callback", routeCallback, s.callback},
			endpoint{http.MethodPost, "/auth/backchannel-logout", routeBackChannel, s.backChannelLogout})
	}
	if s.parts.Assertions != nil {
		endpoints = append(endpoints, endpoint{http.MethodGet, "/auth/jwks", routeJWKS, s.jwks})
	}
	for _, e := range endpoints {
		s.own[e.path] = e.name
		engine.Handle(e.method, e.path, adapt(e.handle))
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
func (s *Site) route(x *exchange) {
	path := x.r.URL.Path
	if path == pathCheck || strings.HasPrefix(path, pathCheck+"/") {
		// Method, headers and, from Envoy, the rest of the path are another
		// request's. Neither gin, which knows nine methods, nor an answer to a
		// preflight, which would be a yes, may come in between.
		x.route = routeCheck
		if err := s.check(x); err != nil {
			x.fail(err)
		}
		return
	}
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

// serveWhisp carries REST and realtime. The path has lost its /whisp.
func (s *Site) serveWhisp(x *exchange, path string) {
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
func (s *Site) write(next func(*exchange) error) func(*exchange) error {
	return func(x *exchange) error {
		if err := s.origins.checkWrite(x.r); err != nil {
			return err
		}
		return next(x)
	}
}

// read wraps endpoints that tell something private.
func (s *Site) read(next func(*exchange) error) func(*exchange) error {
	return func(x *exchange) error {
		if err := s.origins.checkRead(x.r); err != nil {
			return err
		}
		return next(x)
	}
}
