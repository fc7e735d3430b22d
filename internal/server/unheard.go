package server

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// unheard counts connections that ended before their first request was whole: a
// client that sends a byte a second until read_header_timeout, or something that
// is no HTTP. net/http ends both without a word to us. A connection on which
// nothing came at all, a balancer's probe, does not count.
//
// A connection is remembered up to its first request, so that those that stay, and
// sockets above all, cost nothing.
type unheard struct {
	ended prometheus.Counter

	mu sync.Mutex
	// began says of connections without a request so far whether anything came.
	began map[net.Conn]bool
}

func newUnheard(registry prometheus.Registerer) *unheard {
	u := &unheard{
		began: make(map[net.Conn]bool),
		ended: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "whisp_bff_http_unheard_connections_total",
			Help: "Connections to the public listener that began a request and ended before its headers were whole and valid.",
		}),
	}
	registry.MustRegister(u.ended)
	return u
}

type unheardKey struct{}

// newcomer is a connection until its first request.
type newcomer struct {
	conn  net.Conn
	heard atomic.Bool
}

// connContext is http.Server.ConnContext.
func (u *unheard) connContext(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, unheardKey{}, &newcomer{conn: conn})
}

// connState is http.Server.ConnState.
func (u *unheard) connState(conn net.Conn, state http.ConnState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch state {
	case http.StateNew:
		u.began[conn] = false
	case http.StateActive:
		if _, waiting := u.began[conn]; waiting {
			u.began[conn] = true
		}
	case http.StateClosed, http.StateHijacked:
		if u.began[conn] {
			u.ended.Inc()
		}
		delete(u.began, conn)
	case http.StateIdle:
	}
}

// heard notes a request.
func (u *unheard) heard(r *http.Request) {
	from, ok := r.Context().Value(unheardKey{}).(*newcomer)
	if !ok || from.heard.Load() || !from.heard.CompareAndSwap(false, true) {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.began, from.conn)
}
