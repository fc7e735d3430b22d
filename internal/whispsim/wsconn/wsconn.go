// Package wsconn is a server's end of one WebSocket whose sender never waits:
// [Conn.Send] appends to a queue, and a goroutine that lives only while the
// queue is not empty writes it out. An idle connection therefore costs the
// goroutine that reads it and nothing more, and a slow reader costs its queue
// up to [MaxQueue], after which it is cut off.
//
// It does not check Origin (the simulator allows all) and never compresses.
package wsconn

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	// MaxMessage bounds one message of the client, in bytes.
	MaxMessage = 1 << 20
	// MaxQueue bounds what waits for a slow reader, in bytes.
	MaxQueue = 32 << 20

	writeTimeout = 30 * time.Second
)

// Conn is a WebSocket. Send, Close and Cut may be called from anywhere, at any
// time, and never block.
type Conn struct {
	ws  *websocket.Conn
	raw net.Conn

	writer sync.WaitGroup
	mu     sync.Mutex
	queue  [][]byte
	size   int
	busy   bool // the writer goroutine lives
	ended  bool // nothing may be queued any more
	code   int  // close with it once the queue is empty
	reason string
}

// Accept performs the handshake. On failure it has answered the request.
// Subprotocols are the server's, in order of preference; none is echoed unless
// the client offers it.
func Accept(w http.ResponseWriter, r *http.Request, subprotocols ...string) (*Conn, error) {
	h := &hijackWriter{ResponseWriter: w}
	ws, err := websocket.Accept(h, r, &websocket.AcceptOptions{
		Subprotocols: subprotocols, InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, fmt.Errorf("accept WebSocket: %w", err)
	}
	ws.SetReadLimit(MaxMessage)
	return &Conn{ws: ws, raw: h.conn}, nil
}

// Subprotocol is the one agreed on, or "".
func (c *Conn) Subprotocol() string { return c.ws.Subprotocol() }

// Serve hands each message to receive until the connection ends, then waits
// for the writer. It is called once.
func (c *Conn) Serve(receive func([]byte)) {
	for {
		_, message, err := c.ws.Read(context.Background())
		if err != nil {
			break
		}
		receive(message)
	}
	c.mu.Lock()
	c.ended, c.queue = true, nil
	c.mu.Unlock()
	_ = c.raw.Close()   // usually closed already
	_ = c.ws.CloseNow() // same
	c.writer.Wait()
}

// Send queues a text message; the bytes must not change afterwards. After the
// connection has ended, or is being closed, it does nothing.
func (c *Conn) Send(message []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.queue = append(c.queue, message)
	c.size += len(message)
	if c.size > MaxQueue {
		c.ended, c.queue = true, nil
		_ = c.raw.Close()
		return
	}
	c.wake()
}

// Close sends what is queued and then a close frame. A code that may not be
// sent (RFC 6455, section 7.4) becomes 1000, a reason is cut to what fits.
func (c *Conn) Close(code int, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	if code < 1000 || code > 4999 || code > 1014 && code < 3000 || code == 1004 || code == 1005 || code == 1006 {
		code = 1000
	}
	c.ended, c.code, c.reason = true, code, reason[:min(len(reason), 120)]
	c.wake()
}

// Cut ends the connection without a word.
func (c *Conn) Cut() { _ = c.raw.Close() }

// wake starts the writer. c.mu is held.
func (c *Conn) wake() {
	if !c.busy {
		c.busy = true
		c.writer.Go(c.write)
	}
}

// write sends batches until the queue is empty.
func (c *Conn) write() {
	for {
		c.mu.Lock()
		batch, code, reason := c.queue, c.code, c.reason
		c.queue, c.size = nil, 0
		if len(batch) == 0 {
			c.busy, c.code = false, 0
			c.mu.Unlock()
			if code != 0 {
				_ = c.ws.Close(websocket.StatusCode(code), reason) // at most 5 s; then it is closed anyway
			}
			return
		}
		c.mu.Unlock()
		if c.writeAll(batch) != nil {
			_ = c.raw.Close()
		}
	}
}

func (c *Conn) writeAll(batch [][]byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	for _, message := range batch {
		if err := c.ws.Write(ctx, websocket.MessageText, message); err != nil {
			return fmt.Errorf("write message: %w", err)
		}
	}
	return nil
}

// hijackWriter keeps the connection that the handshake takes over: cutting it
// must not wait for anything the library is waiting for.
type hijackWriter struct {
	http.ResponseWriter
	conn net.Conn
}

// Hijack implements [http.Hijacker].
func (h *hijackWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(h.ResponseWriter).Hijack()
	h.conn = conn
	if errors.Is(err, http.ErrNotSupported) {
		return nil, nil, fmt.Errorf("WebSocket needs HTTP/1.1: %w", err)
	}
	return conn, buffered, err
}
