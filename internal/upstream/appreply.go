package upstream

import (
	"bufio"
	"errors"
	"maps"
	"net"
	"net/http"
	"sync"
)

// appReply stands between ReverseProxy and the server's ResponseWriter. Header
// values that ReverseProxy sets stay in a map of its own until the final
// status: so a 1xx answer neither shows nor (as in net/http/httputil) wipes
// what the listener has set before, and of equal names the app's value wins
// instead of being doubled. Set-Cookie and Vary are joined.
type appReply struct {
	http.ResponseWriter
	app      *App
	request  *http.Request
	body     clientBody
	header   http.Header
	sent     bool
	hijacked bool
	closing  bool
}

// Unwrap lets http.ResponseController reach Flush.
func (r *appReply) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// Header returns the map of what is still to be sent: trailers, afterwards.
func (r *appReply) Header() http.Header {
	if r.sent {
		return r.ResponseWriter.Header()
	}
	if r.header == nil {
		r.header, _ = r.app.headers.Get().(http.Header)
		if r.header == nil {
			r.header = make(http.Header)
		}
	}
	return r.header
}

// WriteHeader sends the status and, once, the headers.
func (r *appReply) WriteHeader(status int) {
	if status >= 100 && status < 200 {
		r.informational(status)
		return
	}
	to := r.ResponseWriter.Header()
	for name, values := range r.header {
		if name == "Set-Cookie" || name == "Vary" {
			values = append(to[name], values...)
		}
		to[name] = values
	}
	clear(r.header)
	r.app.headers.Put(r.header)
	r.header, r.sent = nil, true
	r.ResponseWriter.WriteHeader(status)
}

// informational passes 100, and 103 with its Link headers (RFC 8297).
func (r *appReply) informational(status int) {
	links := r.header["Link"]
	switch {
	case status == http.StatusContinue:
		links = nil
	case status != http.StatusEarlyHints || len(links) == 0:
		return
	}
	to := r.ResponseWriter.Header()
	kept := maps.Clone(to)
	clear(to)
	if links != nil {
		to["Link"] = links
	}
	r.ResponseWriter.WriteHeader(status)
	clear(to)
	maps.Copy(to, kept)
}

// Hijack implements [http.Hijacker] for WebSockets: the connection is tracked,
// so that [App.Close] can end it, and bytes that the client sent ahead of the
// answer are not lost.
func (r *appReply) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn := r.app.upgraded.add()
	if conn == nil {
		r.closing = true
		return nil, nil, errors.New("shutting down")
	}
	raw, buffered, err := http.NewResponseController(r.ResponseWriter).Hijack()
	if err != nil {
		conn.forget()
		return nil, nil, err
	}
	r.hijacked = true
	conn.attach(raw, buffered.Reader)
	return conn, buffered, nil
}

// upgraded is the set of open upgraded connections. The zero value is ready.
type upgraded struct {
	mu     sync.Mutex
	closed bool
	conns  map[*trackedConn]struct{}
}

// add returns a place for a connection, or nil after close.
func (u *upgraded) add() *trackedConn {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return nil
	}
	if u.conns == nil {
		u.conns = make(map[*trackedConn]struct{})
	}
	conn := &trackedConn{set: u}
	u.conns[conn] = struct{}{}
	return conn
}

// close closes all connections and lets no new one in.
func (u *upgraded) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	for conn := range u.conns {
		if conn.Conn != nil {
			_ = conn.Conn.Close()
		}
	}
}

// trackedConn is an upgraded connection to a browser. It leaves its set when it
// is closed, which ReverseProxy does when either side ends.
type trackedConn struct {
	net.Conn
	set   *upgraded
	early *bufio.Reader // holds what came before the hijack; nil when drained
}

func (c *trackedConn) attach(conn net.Conn, reader *bufio.Reader) {
	c.set.mu.Lock()
	defer c.set.mu.Unlock()
	c.Conn = conn
	if reader.Buffered() > 0 {
		c.early = reader
	}
	if c.set.closed { // between add and attach
		_ = conn.Close()
	}
}

func (c *trackedConn) forget() {
	c.set.mu.Lock()
	defer c.set.mu.Unlock()
	delete(c.set.conns, c)
}

// Read drains the early bytes first. Only one goroutine reads.
func (c *trackedConn) Read(p []byte) (int, error) {
	if c.early == nil {
		return c.Conn.Read(p)
	}
	n, err := c.early.Read(p[:min(len(p), c.early.Buffered())])
	if c.early.Buffered() == 0 {
		c.early = nil
	}
	return n, err
}

// CloseWrite passes a half-close on, where the connection knows one.
func (c *trackedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Close implements [net.Conn].
func (c *trackedConn) Close() error {
	c.forget()
	return c.Conn.Close()
}
