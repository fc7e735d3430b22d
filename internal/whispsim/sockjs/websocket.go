package sockjs

import (
	"net/http"
	"strings"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/whispsim/wsconn"
)

// serveWebSocket carries the same frames over a WebSocket. Its session ends
// with the connection; a second one under the same id is not found.
func (s *Server) serveWebSocket(w http.ResponseWriter, r *http.Request, server, id string) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		fail(w, http.StatusBadRequest, `Can "Upgrade" only to "WebSocket".`)
		return
	}
	session := s.findOrOpen(w, r, server, id)
	if session == nil {
		return
	}
	if !session.attach() {
		fail(w, http.StatusNotFound, "")
		return
	}
	defer func() {
		s.forget(session)
		session.end()
	}()
	conn, err := wsconn.Accept(w, r, "v12.stomp", "v11.stomp", "v10.stomp")
	if err != nil {
		session.Cut()
		return
	}
	session.carry(conn)
	conn.Serve(func(message []byte) {
		if len(message) == 0 {
			return
		}
		messages, err := parseMessages(message, true)
		if err != nil {
			conn.Cut()
			return
		}
		session.deliver(messages)
	})
	session.uncarry()
}

// carry starts sending over conn.
func (c *Session) carry(conn *wsconn.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ws, c.opened = conn, true
	conn.Send([]byte("o"))
	if len(c.queue) > 0 {
		conn.Send(c.take(c.size))
	}
	switch interval := c.server.cfg.HeartBeat; {
	case c.cut:
		conn.Cut()
	case c.code != 0:
		conn.Send(closeFrame(c.code, c.reason))
		conn.Close(c.code, c.reason)
	default:
		c.timer = time.AfterFunc(interval, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.code == 0 && !c.cut {
				conn.Send([]byte("h"))
				c.timer.Reset(interval)
			}
		})
	}
}

// uncarry notes that the connection is gone.
func (c *Session) uncarry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = true
	if c.timer != nil {
		c.timer.Stop()
	}
}
