package whispsim

import (
	"net/http"
	"strings"

	"github.com/whisp-bff/whisp-bff/internal/whispsim/sockjs"
	"github.com/whisp-bff/whisp-bff/internal/whispsim/wsconn"
)

// routeRealtime finds the target below /api/wsConnect. The names are what
// counters and faults go by: wsConnect for plain WebSockets, else SockJS's own.
func (s *Server) routeRealtime(r *http.Request, rest string) target {
	plain := rest == "/websocket" || rest == "" && strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
	switch {
	case r.Method == http.MethodOptions:
		return target{id: "preflight", serve: sockjs.ServePreflight}
	case plain:
		return target{id: "wsConnect", serve: s.servePlain}
	}
	name, serve, found := s.sockjs.Route(r.Method, rest)
	if !found {
		return target{id: "unknown", serve: s.always(answer{status: http.StatusNotFound, body: message{"Not found"}})}
	}
	return target{id: name, serve: serve}
}

// servePlain is the WebSocket the SDK opens: it uses up the ticket, then
// speaks STOMP.
func (s *Server) servePlain(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		s.send(w, answer{status: http.StatusMethodNotAllowed, body: message{"Method not allowed"}})
		return
	}
	s.mu.Lock()
	u := s.tickets.spend(r.URL.Query().Get("ticket"), s.cfg.Clock())
	s.mu.Unlock()
	if u == nil {
		s.refuseTicket(w, r)
		return
	}
	conn, err := wsconn.Accept(w, r, "v12.stomp", "v11.stomp", "v10.stomp")
	if err != nil {
		s.log.InfoContext(r.Context(), "handshake failed", "error", err)
		return
	}
	session := s.openSession(u, conn)
	conn.Serve(session.Receive)
	session.Closed()
}

// admitSockJS is for SockJS requests outside a session (greeting, info,
// iframe): any ticket that could still admit somebody will do, and it stays as
// it is.
func (s *Server) admitSockJS(w http.ResponseWriter, r *http.Request) bool {
	s.mu.Lock()
	live := s.tickets.live(r.URL.Query().Get("ticket"), s.cfg.Clock())
	s.mu.Unlock()
	if live == nil {
		s.refuseTicket(w, r)
		return false
	}
	return true
}

// openSockJS admits a new SockJS session.
func (s *Server) openSockJS(w http.ResponseWriter, r *http.Request, server string, conn *sockjs.Session) (sockjs.Receiver, bool) {
	s.mu.Lock()
	u := s.tickets.bind(r.URL.Query().Get("ticket"), server, s.cfg.Clock())
	s.mu.Unlock()
	if u == nil {
		s.refuseTicket(w, r)
		return nil, false
	}
	return s.openSession(u, conn), true
}

func (s *Server) refuseTicket(w http.ResponseWriter, r *http.Request) {
	s.log.InfoContext(r.Context(), "ticket refused", "path", r.URL.Path)
	s.send(w, unauthorized(r, "Missing, unknown, used or expired ticket"))
}
