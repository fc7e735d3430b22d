package server

import "time"

// SetBodyPatience shortens how long a slow body is waited for. Call it before
// the server serves.
func (s *Server) SetBodyPatience(d time.Duration) { s.bodyPatience = d }
