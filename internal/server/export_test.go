package server

import (
	"net/http"
	"time"
)

// SetBodyPatience shortens how long a slow body is waited for. Call it before
// the server serves.
func (s *Server) SetBodyPatience(d time.Duration) { s.bodyPatience = d }

// SetApp puts a handler where the app is. Call it before the server serves.
func (s *Server) SetApp(h http.HandlerFunc) { s.current.Load().app = appFunc(h) }

type appFunc http.HandlerFunc

func (f appFunc) ServeAs(w http.ResponseWriter, r *http.Request, _ http.Header) { f(w, r) }
