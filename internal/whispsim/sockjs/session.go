package sockjs

import (
	"sync"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/whispsim/wsconn"
)

// Close codes of the protocol.
const (
	codeGoAway      = 3000
	codeInterrupted = 1002
	codeAnother     = 2010
)

// Session is one client. Send, Close and Cut may be called from anywhere and
// never block.
type Session struct {
	server *Server
	id     string
	ready  chan struct{} // closed once receiver is set, or will never be

	receiver  Receiver
	receiving sync.Mutex // one Receive at a time
	ending    sync.Once

	mu       sync.Mutex
	ws       *wsconn.Conn // the websocket transport; nil for the others
	queue    [][]byte     // quoted messages
	size     int
	opened   bool // the open frame is sent
	attached bool
	wake     chan struct{} // tells the attached request that something changed
	cut      bool
	code     int // 0: open
	reason   string
	timer    *time.Timer // HTTP: until it is gone; websocket: heart-beat
}

func newSession(server *Server, id string) *Session {
	return &Session{server: server, id: id, ready: make(chan struct{}), wake: make(chan struct{}, 1)}
}

// Send queues a message for the client.
func (c *Session) Send(message []byte) {
	quoted := quote(make([]byte, 0, len(message)+len(message)/8+16), message)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.code != 0 || c.cut {
		return
	}
	if c.ws != nil {
		c.ws.Send(messageFrame([][]byte{quoted}))
		return
	}
	c.queue = append(c.queue, quoted)
	c.size += len(quoted)
	if c.size > wsconn.MaxQueue { // nobody reads
		c.shut(codeGoAway, "Go away!")
	}
	c.notify()
}

// Close tells the client to go, after what is queued.
func (c *Session) Close(code int, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.code != 0 || c.cut {
		return
	}
	c.shut(code, reason)
	if c.ws != nil {
		c.ws.Send(closeFrame(code, reason))
		c.ws.Close(code, reason)
	}
}

// Cut ends the session without a word.
func (c *Session) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = true
	if c.ws != nil {
		c.ws.Cut()
	}
	c.notify()
	c.server.forget(c)
	c.server.spawn(c.end)
}

// shut marks the session closed. c.mu is held.
func (c *Session) shut(code int, reason string) {
	c.code, c.reason = code, reason
	c.notify()
	if c.ws == nil {
		c.server.spawn(c.end)
		if !c.attached {
			c.linger()
		}
	}
}

func (c *Session) notify() {
	select {
	case c.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// end tells the receiver, once. No lock is held.
func (c *Session) end() {
	c.ending.Do(func() {
		<-c.ready
		if c.receiver != nil {
			c.receiving.Lock() // after the last Receive
			defer c.receiving.Unlock()
			c.receiver.Closed()
		}
	})
}

// linger lets the session be forgotten unless somebody comes for it in time.
// c.mu is held.
func (c *Session) linger() {
	if c.timer != nil {
		c.timer.Stop()
	}
	var own *time.Timer
	own = time.AfterFunc(c.server.cfg.DisconnectDelay, func() {
		c.mu.Lock()
		expired := c.timer == own && !c.attached
		if expired {
			c.cut = true
		}
		c.mu.Unlock()
		if expired {
			c.server.forget(c)
			c.end()
		}
	})
	c.timer = own
}

// attach makes the calling request the one that receives; false: another does.
func (c *Session) attach() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.attached {
		return false
	}
	c.attached = true
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	return true
}

// detach ends the receiving request. A client that went away in the middle of
// it has lost what was on its way: the session is closed.
func (c *Session) detach(interrupted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attached = false
	if interrupted && c.code == 0 && !c.cut {
		c.shut(codeInterrupted, "Connection interrupted")
		return
	}
	if !c.cut {
		c.linger()
	}
}

func (c *Session) wasCut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cut
}

// next returns the frame to send now: nil if there is none yet. last reports
// that nothing will follow, cut that not even this may be sent.
func (c *Session) next(limit int) (frame []byte, last, cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.cut:
		return nil, true, true
	case !c.opened:
		c.opened = true
		return []byte("o"), false, false
	case len(c.queue) > 0:
		return c.take(limit), false, false
	case c.code != 0:
		return closeFrame(c.code, c.reason), true, false
	}
	return nil, false, false
}

// take cuts a batch off the queue: at least one message, else up to limit
// bytes.
func (c *Session) take(limit int) []byte {
	n, bytes := 0, 0
	for n < len(c.queue) && (n == 0 || bytes+len(c.queue[n]) <= limit) {
		bytes += len(c.queue[n])
		n++
	}
	frame := messageFrame(c.queue[:n])
	c.queue, c.size = c.queue[n:], c.size-bytes
	if len(c.queue) == 0 {
		c.queue = nil
	}
	return frame
}

// deliver hands the client's messages on; false: the session is over.
func (c *Session) deliver(messages []string) bool {
	c.receiving.Lock()
	defer c.receiving.Unlock()
	for _, message := range messages {
		c.mu.Lock()
		over := c.code != 0 || c.cut
		c.mu.Unlock()
		if over {
			return false
		}
		c.receiver.Receive([]byte(message))
	}
	return true
}
