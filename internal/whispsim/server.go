package whispsim

import (
	"bytes"
	"crypto/sha256"
	"io"
	"log/slog"
	"net/http"
	"sync"

	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/whispsim/sockjs"
)

// Server is a simulated Whisp. Create it with [New], serve it with any
// [http.Server], end it with [Server.Close].
type Server struct {
	cfg    Config
	log    *slog.Logger
	jwtKey []byte
	sockjs *sockjs.Server
	faults faults
	record record

	done    chan struct{}  // closed by Close: whatever waits, stops
	running sync.WaitGroup // handlers and socket writers

	mu        sync.Mutex // everything below, and cfg.Rand
	closed    bool
	keys      map[[sha256.Size]byte]bool // API key hash -> good
	people    people
	tickets   tickets
	chats     map[string]*chat
	reactions map[string]reactionPlace
	sockets   map[*stompSession]struct{}
}

// New returns a Whisp without users.
func New(cfg Config) *Server {
	cfg = cfg.withDefaults()
	s := &Server{
		cfg: cfg, log: cfg.Logger,
		done:      make(chan struct{}),
		keys:      map[[sha256.Size]byte]bool{},
		people:    newPeople(),
		tickets:   newTickets(),
		chats:     map[string]*chat{},
		reactions: map[string]reactionPlace{},
		sockets:   map[*stompSession]struct{}{},
		record:    newRecord(cfg.RecordLimit),
	}
	s.jwtKey = make([]byte, 32)
	s.random(s.jwtKey)
	for _, key := range cfg.APIKeys {
		s.keys[keyHash(key)] = true
	}
	s.sockjs = sockjs.New(sockjs.Config{
		HeartBeat:       cfg.SockJSHeartBeat,
		DisconnectDelay: cfg.SockJSDisconnectDelay,
		StreamLimit:     cfg.SockJSStreamLimit,
		ClientURL:       cfg.SockJSClientURL,
		Admit:           s.admitSockJS,
		Open:            s.openSockJS,
	})
	return s
}

// Close ends every socket and every request in progress and waits for them.
// From then on requests are answered 503. It may be called twice. It does not
// close the listener, which is not ours.
func (s *Server) Close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.done)
	}
	for socket := range s.sockets {
		socket.cut()
	}
	s.mu.Unlock()
	s.sockjs.Close()
	s.running.Wait()
}

// begin notes that something runs that Close has to wait for; it reports false
// once Close was called. The caller pairs it with s.running.Done.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.running.Add(1)
	return true
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.begin() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	defer s.running.Done()
	if s.cfg.Bench && r.URL.Path == "/bench/1k" {
		serveBench(w)
		return
	}
	target := s.route(r)
	body := takeBody(r, target.wantsBody)
	s.record.arrived(target.id, r, body, s.cfg.Clock())
	counted := &statusWriter{ResponseWriter: w}
	defer func() { s.record.answered(target.id, counted.status) }()

	s.mark(counted.Header(), r)
	if fault, struck := s.faults.strike(target.id); struck {
		s.serveFault(counted, r, target, fault)
		return
	}
	target.serve(counted, r)
}

// takeBody reads the body of a REST request ahead, so that it can be recorded
// and so that net/http notices a client that goes away meanwhile.
func takeBody(r *http.Request, wanted bool) []byte {
	if !wanted {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), brokenReader{err}))
		return body
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return body
}

// brokenReader repeats the error that ended a body.
type brokenReader struct{ err error }

func (b brokenReader) Read([]byte) (int, error) { return 0, b.err }

// mark sets what every answer carries: the node, the balancer's cookies, and
// CORS headers for requests with an Origin, all origins being allowed.
func (s *Server) mark(h http.Header, r *http.Request) {
	if s.cfg.Node != "" {
		h.Set("X-Sim-Node", s.cfg.Node)
	}
	if name := s.cfg.BalancerCookie; name != "" {
		s.mu.Lock()
		value := s.newToken()
		s.mu.Unlock()
		h.Add("Set-Cookie", name+"="+value+"; Path=/; Max-Age=604800")
		h.Add("Set-Cookie", name+"CORS="+value+"; Path=/; Max-Age=604800; SameSite=None; Secure")
	}
	h.Add("Vary", "Origin")
	h.Add("Vary", "Access-Control-Request-Method")
	h.Add("Vary", "Access-Control-Request-Headers")
	if origin := r.Header.Get("Origin"); origin != "" {
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Credentials", "true")
		h.Set("Access-Control-Expose-Headers", "Authorization")
	}
}

// statusWriter remembers the status for the counters. It unwraps, so that
// flushing and hijacking reach the real writer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap is for [http.ResponseController].
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// serveBench answers 1 KiB of JSON.
func serveBench(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(benchBody)
}

var benchBody = []byte(`{"filler":"` + string(bytes.Repeat([]byte("x"), 1024-len(`{"filler":""}`))) + `"}`)

func keyHash(key secret.Text) [sha256.Size]byte { return sha256.Sum256([]byte(key.Reveal())) }
