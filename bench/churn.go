//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"
)

// guest is a visit in progress.
type guest struct {
	visit
	conn    *conn
	sender  *conn // of SockJS: sends messages
	waiting bool  // sender is waiting for an answer
	state   guestState
}

type guestState int

const (
	opening guestState = iota
	talking
	ending // everything was done that makes the other side end it
	parting
)

// churn is many visits, o.Conns at a time.
type churn struct {
	loop   *loop
	order  order
	guests map[*conn]*guest // by both connections
	inside map[*guest]bool
	next   int
	result outcome
}

func (c *clients) churn(o order) (outcome, error) {
	x := &churn{loop: c.loop, order: o, guests: map[*conn]*guest{}, inside: map[*guest]bool{}}
	started := time.Now()
	err := x.run()
	for g := range x.inside {
		x.finish(g)
	}
	x.result.Took = time.Since(started)
	return x.result, err
}

func (x *churn) run() error {
	for x.next < len(x.order.Visits) || len(x.inside) > 0 {
		for x.next < len(x.order.Visits) && len(x.inside) < x.order.Conns {
			if err := x.begin(x.order.Visits[x.next]); err != nil {
				return err
			}
			x.next++
		}
		if x.next == len(x.order.Visits) {
			x.closeUp()
		}
		if len(x.inside) == 0 {
			continue
		}
		ready, err := x.loop.wait(stuck)
		if err != nil {
			return err
		}
		if len(ready) == 0 {
			return x.describeStuck()
		}
		for _, event := range ready {
			// Nobody any more, or somebody else by now, who then has nothing to read.
			if c := x.loop.conns[event.Fd]; c != nil && x.guests[c] != nil {
				x.handle(x.guests[c], c)
			}
		}
	}
	return nil
}

// describeStuck names the visits that wait for something, but for those who would
// leave by themselves once alone.
func (x *churn) describeStuck() error {
	text := fmt.Sprintf("nothing for %d s, %d visits left", stuck/1000, len(x.inside))
	for g := range x.inside {
		if g.Way != stays || g.Doomed || g.state == opening {
			text += "; " + g.describe()
		}
	}
	return errors.New(text)
}

func (g *guest) describe() string {
	text := fmt.Sprintf("way %d in state %d, doomed: %t", g.Way, g.state, g.Doomed)
	if g.conn != nil {
		text += fmt.Sprintf(", received %.300q", g.conn.in)
	}
	return text
}

func (x *churn) begin(v visit) error {
	c, err := x.loop.connect(x.order.Address)
	if err != nil {
		return err
	}
	g := &guest{visit: v, conn: c}
	x.inside[g], x.guests[c] = true, g
	request := v.Request
	switch v.Way {
	case silent:
		request = nil
	case halfHandshake:
		request = request[:len(request)/2]
	default:
	}
	if len(request) > 0 {
		if err := c.write(request); err != nil {
			return err
		}
	}
	switch v.Way {
	case silent, halfHandshake:
		x.finish(g)
	case noAnswer:
		crash(c)
		x.finish(g)
	default:
	}
	return nil
}

// closeUp lets those leave who stay until the others are gone.
func (x *churn) closeUp() {
	for g := range x.inside {
		if g.Way != stays || g.Doomed || g.state == opening {
			return
		}
	}
	for g := range x.inside {
		x.finish(g)
	}
}

func (x *churn) handle(g *guest, c *conn) {
	err := c.read()
	switch {
	case g.Way.sockJS() && c == g.sender:
		x.sent(g, err)
	case g.Way.sockJS():
		x.stream(g, err)
	case g.state == opening:
		x.opened(g, err)
	default:
		x.frames(g, err)
	}
}

// opened looks for the answer to a handshake.
func (x *churn) opened(g *guest, err error) {
	n, malformed := answerLength(g.conn.in)
	switch {
	case malformed != nil || n == 0 && err != nil || n > 0 && !bytes.HasPrefix(g.conn.in, []byte("HTTP/1.1 101 ")):
		x.lost(g, errors.Join(err, malformed))
	case n > 0:
		g.conn.used(n)
		g.state = talking
		x.tell(g, clientFrame(echoSize))
	}
}

// frames takes what Whisp, or whisp-bff, sends.
func (x *churn) frames(g *guest, err error) {
	for {
		f, complete := parseFrame(g.conn.in)
		if !complete {
			break
		}
		first, wanted := f.first, g.state == ending || g.Doomed || g.Way == upstreamClose
		talked := first == 0x81 && g.state == talking
		g.conn.used(f.length)
		if first == 0x88 && wanted {
			if g.Way%2 == 1 || g.Way == unmasked { // leaves, where others answer as they should
				x.finish(g)
				return
			}
			if g.state = ending; g.Way != closeFrame {
				x.tell(g, clientClose)
			}
		}
		if talked && !x.act(g) {
			return
		}
	}
	switch {
	case err == nil:
	case g.state == ending:
		x.finish(g)
	default:
		x.lost(g, err)
	}
}

// tell sends; who can not is gone already, which reading will show.
func (x *churn) tell(g *guest, p []byte) { _, _ = syscall.Write(g.conn.fd, p) }

// act does what the visit is for; true: it goes on.
func (x *churn) act(g *guest) bool {
	command := ""
	switch g.Way {
	case closeFrame:
		x.tell(g, clientClose)
	case unmasked:
		x.tell(g, append([]byte{0x81, 5}, "plain"...))
	case partFIN, partReset:
		x.tell(g, clientFrame(echoSize)[:echoSize/2])
	case unreadReset:
		for range 4 {
			x.tell(g, clientFrame(16_000))
		}
	case upstreamClose:
		x.tell(g, clientMessage([]byte(tellClose)))
		return true // the Close frame is still to come
	case upstreamFIN:
		command = tellFIN
	case upstreamReset:
		command = tellReset
	case upstreamPart:
		command = tellPart
	case stays:
		return true
	default:
	}
	if command != "" {
		x.tell(g, clientMessage([]byte(command)))
	}
	switch g.Way {
	case reset, partReset, unreadReset:
		crash(g.conn)
		fallthrough
	case fin, partFIN:
		x.finish(g)
		return false
	default:
		g.state = ending
		return true
	}
}

// stream takes what a SockJS stream brings.
func (x *churn) stream(g *guest, err error) {
	in := g.conn.in
	refused := len(in) >= 13 && !bytes.HasPrefix(in, []byte("HTTP/1.1 200 "))
	switch {
	case g.state == opening && bytes.Contains(in, []byte("\no\n")):
		sender, failed := x.loop.connect(x.order.Address)
		if failed != nil {
			x.lost(g, failed)
			return
		}
		g.sender, x.guests[sender], g.state = sender, g, talking
		x.post(g)
	case refused, g.state == opening && (err != nil || bytes.Contains(in, []byte("\nc["))):
		x.lost(g, err)
		return
	}
	if g.state != talking {
		return
	}
	heard, over := bytes.Contains(in, []byte("\na[")), bytes.Contains(in, []byte("\nc["))
	told := g.Way == sockUpstreamClose || g.Way == sockUpstreamReset
	switch {
	case (over || err != nil) && (told || g.Doomed):
		x.part(g)
	case over || err != nil:
		x.lost(g, err)
	case heard:
		if g.Way == sockReset {
			crash(g.conn)
		}
		x.part(g)
	}
}

// part ends the stream. The client comes back to be told that its session is
// gone, unless it is one that vanishes.
func (x *churn) part(g *guest) {
	delete(x.guests, g.conn)
	x.loop.close(g.conn)
	g.conn, g.state = nil, parting
	switch {
	case g.Vanish && !g.waiting:
		x.finish(g)
	case !g.waiting:
		x.post(g)
	}
}

func (x *churn) post(g *guest) {
	g.waiting = true
	_, _ = syscall.Write(g.sender.fd, g.Send)
}

// sent takes the answer to a message.
func (x *churn) sent(g *guest, err error) {
	n, malformed := answerLength(g.sender.in)
	if malformed != nil || n == 0 && err != nil {
		x.lost(g, errors.Join(err, malformed))
		return
	}
	if n == 0 {
		return
	}
	taken := bytes.HasPrefix(g.sender.in, []byte("HTTP/1.1 204 "))
	g.sender.used(n)
	g.waiting = false
	switch {
	case g.state != parting:
		// The stream will tell. The upstream may have ended it before it answered.
	case !taken || g.Vanish:
		x.finish(g)
	default:
		x.post(g)
	}
}

// lost is the end of a visit that nobody wanted, unless its session is over.
func (x *churn) lost(g *guest, err error) {
	if !g.Doomed {
		x.result.Lost++
		if x.result.Example == "" {
			x.result.Example = fmt.Sprintf("%s: %v", g.describe(), err)
		}
	}
	x.finish(g)
}

func (x *churn) finish(g *guest) {
	for _, c := range []*conn{g.conn, g.sender} {
		if c != nil {
			delete(x.guests, c)
			x.loop.close(c)
		}
	}
	delete(x.inside, g)
}

// crash makes closing c send RST.
func crash(c *conn) {
	_ = syscall.SetsockoptLinger(c.fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
}

// errOver ends an upstream's connection.
var errOver = fmt.Errorf("told to: %w", io.EOF)
