package sockjs

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Receiver gets what the client of a session sends.
type Receiver interface {
	// Receive gets one message at a time.
	Receive(message []byte)
	// Closed is called once, after the last Receive.
	Closed()
}

// Config says how to serve. Zero values are Spring's defaults.
type Config struct {
	HeartBeat       time.Duration // default 25 s
	DisconnectDelay time.Duration // default 5 s
	StreamLimit     int           // bytes of one streaming answer; default 128 KiB
	ClientURL       string        // script of the iframe page; default Spring's

	// Admit decides on requests outside a session; it answers those it
	// refuses.
	Admit func(w http.ResponseWriter, r *http.Request) bool
	// Open decides on a new session. server is the path segment before the
	// session id. It answers those it refuses. The session may be used from
	// then on.
	Open func(w http.ResponseWriter, r *http.Request, server string, session *Session) (Receiver, bool)
}

const springClientURL = "https://cdn.jsdelivr.net/sockjs/1.0.0/sockjs.min.js"

// Server serves one SockJS endpoint.
type Server struct {
	cfg  Config
	done chan struct{}

	running sync.WaitGroup // goroutines that end sessions
	mu      sync.Mutex     // nothing else is locked while it is held
	closed  bool
	// sessions by id. As in Spring, the server segment does not count.
	sessions map[string]*Session
}

// New returns a Server without sessions.
func New(cfg Config) *Server {
	if cfg.HeartBeat <= 0 {
		cfg.HeartBeat = 25 * time.Second
	}
	if cfg.DisconnectDelay <= 0 {
		cfg.DisconnectDelay = 5 * time.Second
	}
	if cfg.StreamLimit <= 0 {
		cfg.StreamLimit = 128 << 10
	}
	if cfg.ClientURL == "" {
		cfg.ClientURL = springClientURL
	}
	return &Server{cfg: cfg, done: make(chan struct{}), sessions: map[string]*Session{}}
}

// Close ends all sessions and the requests that wait in them. The requests'
// handlers are the HTTP server's to wait for.
func (s *Server) Close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.done)
	}
	all := slices.Collect(maps.Values(s.sessions))
	s.mu.Unlock()
	for _, session := range all {
		session.Cut()
		session.end()
	}
	s.running.Wait()
}

// spawn runs f in a goroutine that Close waits for, unless Close was called:
// then all sessions are being ended anyway.
func (s *Server) spawn(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.running.Go(f)
	}
}

// Route finds the handler for a path below the endpoint, and its name: one of
// greeting, info, iframe, and the transports. The path is not escaped.
func (s *Server) Route(method, path string) (name string, serve http.HandlerFunc, found bool) {
	switch {
	case path == "" || path == "/":
		return "greeting", s.onlyGet(method, s.serveGreeting), true
	case path == "/info":
		return "info", s.onlyGet(method, s.serveInfo), true
	case isIframe(path):
		return "iframe", s.onlyGet(method, s.serveIframe), true
	}
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	if len(segments) != 3 || !goodSegment(segments[0]) || !goodSegment(segments[1]) {
		return "", nil, false
	}
	server, id, transport := segments[0], segments[1], segments[2]
	switch transport {
	case "websocket":
		return transport, s.onlyGet(method, func(w http.ResponseWriter, r *http.Request) { s.serveWebSocket(w, r, server, id) }), true
	case "xhr_send", "jsonp_send":
		return transport, only(method, http.MethodPost, func(w http.ResponseWriter, r *http.Request) { s.serveSend(w, r, id, transport) }), true
	}
	framing, known := framings[transport]
	if !known {
		return "", nil, false
	}
	return transport, only(method, framing.method, func(w http.ResponseWriter, r *http.Request) {
		s.serveReceiver(w, r, server, id, framing)
	}), true
}

// goodSegment is the protocol's rule for server and session ids.
func goodSegment(text string) bool { return text != "" && !strings.Contains(text, ".") }

func (s *Server) onlyGet(method string, h http.HandlerFunc) http.HandlerFunc {
	return only(method, http.MethodGet, h)
}

func only(method, allowed string, h http.HandlerFunc) http.HandlerFunc {
	if method == allowed {
		return h
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Allow", allowed+", OPTIONS")
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}

// find returns the open session with that id.
func (s *Server) find(id string) *Session {
	s.mu.Lock()
	session := s.sessions[id]
	s.mu.Unlock()
	if session == nil {
		return nil
	}
	<-session.ready
	if session.receiver == nil {
		return nil
	}
	return session
}

// findOrOpen returns the session with that id, opened if there was none. nil:
// it was refused, and the request is answered.
func (s *Server) findOrOpen(w http.ResponseWriter, r *http.Request, server, id string) *Session {
	s.mu.Lock()
	session := s.sessions[id]
	if session == nil && !s.closed {
		session = newSession(s, id)
		s.sessions[id] = session
		s.mu.Unlock()
		return s.open(w, r, server, session)
	}
	s.mu.Unlock()
	if session != nil {
		<-session.ready
	}
	if session == nil || session.receiver == nil {
		w.WriteHeader(http.StatusNotFound)
		return nil
	}
	return session
}

// open asks whether the session may exist. Whoever finds it meanwhile waits.
func (s *Server) open(w http.ResponseWriter, r *http.Request, server string, session *Session) *Session {
	defer close(session.ready)
	receiver, admitted := s.cfg.Open(w, r, server, session)
	if !admitted {
		s.forget(session)
		return nil
	}
	session.receiver = receiver
	return session
}

func (s *Server) forget(session *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[session.id] == session {
		delete(s.sessions, session.id)
	}
}
