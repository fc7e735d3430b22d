// Package sockjs is being written.
package sockjs

import (
	"net/http"
	"time"
)

// Config of the transports.
type Config struct {
	HeartBeat, DisconnectDelay time.Duration
	StreamLimit                int
	ClientURL                  string
	Admit                      func()
	Open                       func()
}

// Server serves them.
type Server struct{}

// New returns a Server.
func New(Config) *Server { return &Server{} }

// Close ends it.
func (*Server) Close() {}

// AllowPreflight sets the CORS headers of a preflight.
func AllowPreflight(h http.Header, r *http.Request) {
	h.Set("Access-Control-Allow-Methods", r.Header.Get("Access-Control-Request-Method"))
	if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
		h.Set("Access-Control-Allow-Headers", asked)
	}
	h.Set("Access-Control-Max-Age", "31536000")
}
