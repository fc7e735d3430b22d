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
}

// outcome is how it went.
type outcome struct {
	Error    string        `json:",omitempty"`
	Took     time.Duration // first request sent to last answer received
	P50, P99 time.Duration
	Largest  int      // bytes of the largest answer
	Answers  [][]byte `json:",omitempty"` // of "collect", in the order of the requests
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
		return exchange{loop: c.loop, conns: held[:min(o.Conns, len(held))], order: o, length: frameLength}.run()
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
	return exchange{loop: c.loop, conns: conns, order: o, length: answerLength, keep: keep}.run()
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
}

func (x exchange) run() (outcome, error) {
	var result outcome
	total := x.order.Total
	if len(x.conns) == 0 || len(x.order.Requests) == 0 {
		return result, errors.New("nobody to send, or nothing")
	}
	if x.keep {
		result.Answers = make([][]byte, total)
	}
	latencies := make([]time.Duration, 0, total)
	sentAt := make([]time.Duration, len(x.loop.conns))
	sent := 0
	started := time.Now()
	send := func(c *conn) error {
		if sent == total {
			return nil
		}
		c.use = sent
		sent++
		sentAt[c.index] = time.Since(started)
		return c.write(x.order.Requests[c.use%len(x.order.Requests)])
	}
	for _, c := range x.conns {
		if err := send(c); err != nil {
			return result, err
		}
	}
	for len(latencies) < total {
		ready, err := x.loop.wait(stuck)
		if err != nil {
			return result, err
		}
		if len(ready) == 0 {
			return result, fmt.Errorf("no answer for %d s after %d of %d", stuck/1000, len(latencies), total)
		}
		for _, event := range ready {
			c := x.loop.conns[event.Fd]
			if err := c.read(); err != nil {
				return result, fmt.Errorf("after %d of %d answers: %w", len(latencies), total, err)
			}
			n, err := x.length(c.in)
			if err != nil {
				return result, err
			}
			if n == 0 {
				continue
			}
			if !bytes.HasPrefix(c.in, x.order.Want) {
				return result, fmt.Errorf("answered %q", c.in[:min(n, 600)])
			}
			latencies = append(latencies, time.Since(started)-sentAt[c.index])
			result.Largest = max(result.Largest, n)
			if x.keep {
				result.Answers[c.use] = bytes.Clone(c.in[:n])
			}
			c.used(n)
			if err := send(c); err != nil {
				return result, err
			}
		}
	}
	result.Took = time.Since(started)
	result.P50, result.P99 = percentiles(latencies)
	return result, nil
}

func percentiles(of []time.Duration) (p50, p99 time.Duration) {
	slices.Sort(of)
	return of[len(of)/2], of[len(of)*99/100]
}
