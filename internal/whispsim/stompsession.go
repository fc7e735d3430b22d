package whispsim

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/whispsim/stomp"
)

// Close codes of RFC 6455, section 7.4.1, that a session ends with.
const (
	closeNormal   = 1000
	closeProtocol = 1002
	closePolicy   = 1008
)

// transport carries a session: a plain WebSocket or a SockJS session. None of
// its methods blocks.
type transport interface {
	Send(message []byte)
	Close(code int, reason string)
	Cut()
}

// stompSession is one STOMP connection:
//
//	opened ──CONNECT with a good JWT──▶ connected ──DISCONNECT──▶ ended
//	   └────────── anything else: ERROR, close 1002 ─────────────▶ ended
//
// Receive is called by one goroutine at a time and alone touches decoder,
// version is written before connected is set. What deliver needs is guarded by
// Server.mu.
type stompSession struct {
	server *Server
	user   *user // of the ticket; CONNECT must show the same one's JWT
	out    transport

	decoder   stomp.Decoder
	connected bool
	failed    bool // an ERROR was sent: whatever else comes is ignored

	// Guarded by Server.mu.
	subscriptions []subscription
	sequence      int
	over          bool
	beat          *time.Timer // sends a heart-beat
	dead          *time.Timer // fires when the client's heart-beats stay away
	deadAfter     time.Duration
}

// subscription is one SUBSCRIBE, its MESSAGE header lines written in advance.
type subscription struct {
	id   string
	head []byte
}

// openSession starts a session for the holder of a ticket.
func (s *Server) openSession(u *user, out transport) *stompSession {
	session := &stompSession{server: s, user: u, out: out}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sockets[session] = struct{}{}
	u.sockets[session] = struct{}{}
	if s.closed {
		out.Cut()
	}
	return session
}

// Closed is called once, when the transport has ended.
func (c *stompSession) Closed() {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.over = true
	delete(c.server.sockets, c)
	delete(c.user.sockets, c)
	for _, timer := range []*time.Timer{c.beat, c.dead} {
		if timer != nil {
			timer.Stop()
		}
	}
}

func (c *stompSession) close(code int, reason string) { c.out.Close(code, reason) }
func (c *stompSession) cut()                          { c.out.Cut() }

// deliver queues an event for every subscription. Server.mu is held.
func (c *stompSession) deliver(body []byte) {
	for _, sub := range c.subscriptions {
		c.sequence++
		frame := make([]byte, 0, len(sub.head)+len(body)+80)
		frame = append(frame, sub.head...)
		frame = append(frame, "message-id:"...)
		frame = strconv.AppendInt(frame, int64(c.sequence), 10)
		frame = append(frame, "\nack:"...) // for those who subscribed with ack; nobody waits for it
		frame = strconv.AppendInt(frame, int64(c.sequence), 10)
		frame = append(frame, "\ncontent-length:"...)
		frame = strconv.AppendInt(frame, int64(len(body)), 10)
		frame = append(frame, "\n\n"...)
		frame = append(frame, body...)
		c.out.Send(append(frame, 0))
	}
}

// Receive takes one message of the transport.
func (c *stompSession) Receive(message []byte) {
	c.alive()
	for !c.failed {
		frame, err := c.decoder.Feed(message)
		if err != nil {
			c.fail(nil, err.Error())
			return
		}
		if frame == nil {
			return
		}
		message = nil
		c.handle(frame)
	}
}

// handle does what a frame asks for.
func (c *stompSession) handle(f *stomp.Frame) {
	if f.Command == "CONNECT" || f.Command == "STOMP" {
		c.connect(f)
		return
	}
	if !c.connected {
		c.fail(f, "CONNECT must come first")
		return
	}
	var fault string
	switch f.Command {
	case "SUBSCRIBE":
		fault = c.subscribe(f)
	case "UNSUBSCRIBE":
		fault = c.unsubscribe(f)
	case "SEND":
		fault = c.sendAction(f)
	case "ACK", "NACK":
	case "DISCONNECT":
		c.receipt(f)
		c.failed = true // nothing may follow
		c.out.Close(closeNormal, "")
		return
	default:
		fault = "unsupported command " + f.Command
	}
	if fault != "" {
		c.fail(f, fault)
		return
	}
	c.receipt(f)
}

// connect checks version and JWT. The JWT stands in the frame's Authorization
// header, whose name Spring compares as it is written.
func (c *stompSession) connect(f *stomp.Frame) {
	accept, _ := f.Get("accept-version")
	version, agreed := stomp.Negotiate(accept)
	switch {
	case c.connected:
		c.fail(f, "already connected")
		return
	case !agreed:
		c.fail(f, "supported protocol versions are 1.0, 1.1, 1.2")
		return
	}
	value, _ := f.Get("Authorization")
	token, found := bearer(value)
	subject, err := "", fmt.Errorf("no bearer token")
	if found {
		subject, err = c.server.verifyJWT(token, false)
	}
	c.server.mu.Lock()
	known := err == nil && subject == c.user.id && c.server.people.byID[subject] == c.user
	c.server.mu.Unlock()
	if !known {
		c.fail(f, "AUTH_INVALID_TOKEN")
		return
	}
	c.connected, c.decoder.Version = true, version
	asked, _ := f.Get("heart-beat")
	send, expect := c.heartBeat(asked)
	reply := stomp.Frame{Command: "CONNECTED", Headers: []stomp.Header{
		{Name: "version", Value: version.String()},
		{Name: "heart-beat", Value: fmt.Sprintf("%d,%d", c.server.cfg.HeartBeatSend.Milliseconds(), c.server.cfg.HeartBeatReceive.Milliseconds())},
		{Name: "user-name", Value: c.user.id},
	}}
	c.out.Send(reply.Append(nil, version))
	c.startTimers(send, expect)
}

// heartBeat agrees on intervals (STOMP 1.2, "Heart-beating"); 0 is none.
func (c *stompSession) heartBeat(asked string) (send, expect time.Duration) {
	first, second, _ := strings.Cut(asked, ",")
	can, errCan := strconv.Atoi(strings.TrimSpace(first))
	want, errWant := strconv.Atoi(strings.TrimSpace(second))
	if errCan != nil || errWant != nil {
		return 0, 0
	}
	cfg := c.server.cfg
	if want > 0 && cfg.HeartBeatSend > 0 {
		send = max(time.Duration(want)*time.Millisecond, cfg.HeartBeatSend)
	}
	if can > 0 && cfg.HeartBeatReceive > 0 {
		expect = max(time.Duration(can)*time.Millisecond, cfg.HeartBeatReceive)
	}
	return send, expect
}

// startTimers begins beating, and cuts a client that is silent for three of
// its intervals, as Spring's broker does.
func (c *stompSession) startTimers(send, expect time.Duration) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	if c.over {
		return
	}
	if send > 0 {
		c.beat = time.AfterFunc(send, func() {
			c.server.mu.Lock()
			defer c.server.mu.Unlock()
			if !c.over {
				c.out.Send([]byte("\n"))
				c.beat.Reset(send)
			}
		})
	}
	if expect > 0 {
		c.deadAfter = 3 * expect
		c.dead = time.AfterFunc(c.deadAfter, c.out.Cut)
	}
}

// alive notes a sign of life. It needs no lock: only the goroutine that
// receives sets dead. Setting it off once more after the end cuts what is cut.
func (c *stompSession) alive() {
	if c.dead != nil {
		c.dead.Reset(c.deadAfter)
	}
}

// subscribe takes one's own queue and nothing else.
func (c *stompSession) subscribe(f *stomp.Frame) string {
	destination, _ := f.Get("destination")
	id, given := f.Get("id")
	if !given {
		if c.decoder.Version != stomp.V10 {
			return "SUBSCRIBE needs an id"
		}
		id = destination
	}
	if destination != "/user/"+c.user.id+"/queue/messages" {
		return "access to this destination is denied"
	}
	head := []byte("MESSAGE\n")
	head = stomp.AppendHeader(head, "subscription", id, c.decoder.Version)
	head = stomp.AppendHeader(head, "destination", destination, c.decoder.Version)
	head = stomp.AppendHeader(head, "content-type", "application/json", c.decoder.Version)
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	for _, sub := range c.subscriptions {
		if sub.id == id {
			return "subscription id is in use"
		}
	}
	c.subscriptions = append(c.subscriptions, subscription{id, head})
	return ""
}

func (c *stompSession) unsubscribe(f *stomp.Frame) string {
	id, given := f.Get("id")
	if !given {
		id, given = f.Get("destination") // 1.0
	}
	if !given {
		return "UNSUBSCRIBE needs an id"
	}
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	for i, sub := range c.subscriptions {
		if sub.id == id {
			c.subscriptions = append(c.subscriptions[:i:i], c.subscriptions[i+1:]...)
			break
		}
	}
	return ""
}

// receipt confirms a frame that asked for it.
func (c *stompSession) receipt(f *stomp.Frame) {
	if id, asked := f.Get("receipt"); asked {
		reply := stomp.Frame{Command: "RECEIPT", Headers: []stomp.Header{{Name: "receipt-id", Value: id}}}
		c.out.Send(reply.Append(nil, c.decoder.Version))
	}
}

// fail says ERROR and closes, which is all STOMP knows for a fault. f is the
// frame at fault, if it could be read.
func (c *stompSession) fail(f *stomp.Frame, text string) {
	reply := stomp.Frame{Command: "ERROR", Headers: []stomp.Header{
		{Name: "message", Value: text}, {Name: "content-type", Value: "text/plain"},
	}}
	if f != nil {
		reply.Body = []byte(f.Command + " was refused")
		if id, asked := f.Get("receipt"); asked {
			reply.Headers = append(reply.Headers, stomp.Header{Name: "receipt-id", Value: id})
		}
	}
	if !c.connected {
		reply.Headers = append(reply.Headers, stomp.Header{Name: "version", Value: "1.0,1.1,1.2"})
	}
	c.server.log.Info("STOMP error", "error", text)
	c.failed = true
	c.out.Send(reply.Append(nil, c.decoder.Version))
	c.out.Close(closeProtocol, text)
}
