//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime/debug"
	"slices"
	"time"
)

const roleLoad = "load"

// order is what the bench process tells the clients' process to do. One JSON
// line each, answered by one [outcome].
type order struct {
	Do      string // a key of the switch in (*clients).follow
	Address netip.AddrPort
	// Requests are sent in turn, serialised and whole.
	Requests [][]byte `json:",omitempty"`
	// Total is how many are sent together, over Conns connections, each of
	// which waits for its answer before it sends the next.
	Total, Conns int
	// Want is how every answer must begin, or the order fails.
	Want []byte
	// Visits of "churn", of which Conns are there at a time.
	Visits []visit `json:",omitempty"`
}

// outcome is how it went.
type outcome struct {
	Error    string        `json:",omitempty"`
	Took     time.Duration // first request sent to last answer received
	P50, P99 time.Duration
	Answers  [][]byte `json:",omitempty"` // of "collect", in the order of the requests
	// Of "churn": visits that ended though nobody ended them, and what one saw.
	Lost    int    `json:",omitempty"`
	Example string `json:",omitempty"`
}

// clients are the state of that process: between orders, open sockets.
type clients struct {
	loop    *loop
	sockets map[netip.AddrPort][]*conn // by the server they were opened at
}

// serveLoad follows orders until in ends.
func serveLoad(in io.Reader, out io.Writer) error {
	debug.SetGCPercent(800)
	orders, outcomes := json.NewDecoder(in), json.NewEncoder(out)
	l, err := newLoop()
	if err != nil {
		return err
	}
	c := &clients{loop: l, sockets: map[netip.AddrPort][]*conn{}}
	for {
		var o order
		if err := orders.Decode(&o); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		result, err := c.follow(o)
		if err != nil {
			result.Error = err.Error()
		}
		if err := outcomes.Encode(result); err != nil {
			return err
		}
	}
}

func (c *clients) follow(o order) (outcome, error) {
	switch o.Do {
	case "request": // over connections of their own
		return c.request(o, false)
	case "collect": // the same, and keep what was answered
		return c.request(o, true)
	case "open": // a WebSocket with each request, and hold it
		return c.open(o)
	case "echo": // over the sockets held
		held := c.sockets[o.Address]
		return (&exchange{loop: c.loop, conns: held[:min(o.Conns, len(held))], order: o, length: frameLength}).run()
	case "churn": // sockets and SockJS sessions that come and go
		return c.churn(o)
	case "close": // the sockets held
		return c.close(o)
	}
	return outcome{}, fmt.Errorf("no order called %q", o.Do)
}

func (c *clients) request(o order, keep bool) (outcome, error) {
	conns := make([]*conn, 0, o.Conns)
	defer func() {
		for _, conn := range conns {
			c.loop.close(conn)
		}
	}()
	for range o.Conns {
		conn, err := c.loop.connect(o.Address)
		if err != nil {
			return outcome{}, err
		}
		conns = append(conns, conn)
	}
	return (&exchange{loop: c.loop, conns: conns, order: o, length: answerLength, keep: keep}).run()
}

// stuck is how long nothing at all may happen, in milliseconds.
const stuck = 10_000

// exchange sends requests in a closed loop.
type exchange struct {
	loop   *loop
	conns  []*conn
	order  order
	length func([]byte) (int, error) // of the answer at the start, 0 if incomplete
	keep   bool

	started   time.Time
	sent      int
	sentAt    []time.Duration // by connection
	latencies []time.Duration // by answer
	result    outcome
}

func (x *exchange) run() (outcome, error) {
	total := x.order.Total
	if len(x.conns) == 0 || len(x.order.Requests) == 0 || total == 0 {
		return outcome{}, errors.New("nobody to send, or nothing")
	}
	if x.keep {
		x.result.Answers = make([][]byte, total)
	}
	x.latencies = make([]time.Duration, 0, total)
	x.sentAt = make([]time.Duration, len(x.loop.conns))
	x.started = time.Now()
	for _, c := range x.conns {
		if err := x.send(c); err != nil {
			return x.result, err
		}
	}
	for len(x.latencies) < total {
		ready, err := x.loop.wait(stuck)
		if err == nil && len(ready) == 0 {
			err = fmt.Errorf("nothing for %d s", stuck/1000)
		}
		for i := 0; err == nil && i < len(ready); i++ {
			err = x.receive(x.loop.conns[ready[i].Fd])
		}
		if err != nil {
			return x.result, fmt.Errorf("after %d of %d answers: %w", len(x.latencies), total, err)
		}
	}
	x.result.Took = time.Since(x.started)
	x.result.P50, x.result.P99 = percentiles(x.latencies)
	return x.result, nil
}

// send sends the next request, if there is one.
func (x *exchange) send(c *conn) error {
	if x.sent == x.order.Total {
		return nil
	}
	c.use = x.sent
	x.sent++
	x.sentAt[c.index] = time.Since(x.started)
	return c.write(x.order.Requests[c.use%len(x.order.Requests)])
}

// receive takes what has arrived; a complete answer lets the next request go.
func (x *exchange) receive(c *conn) error {
	if err := c.read(); err != nil {
		return err
	}
	n, err := x.length(c.in)
	if err != nil || n == 0 {
		return err
	}
	if !bytes.HasPrefix(c.in, x.order.Want) {
		return fmt.Errorf("answered %q", c.in[:min(n, 600)])
	}
	x.latencies = append(x.latencies, time.Since(x.started)-x.sentAt[c.index])
	if x.keep {
		x.result.Answers[c.use] = bytes.Clone(c.in[:n])
	}
	c.used(n)
	return x.send(c)
}

func percentiles(of []time.Duration) (p50, p99 time.Duration) {
	slices.Sort(of)
	return of[len(of)/2], of[len(of)*99/100]
}
