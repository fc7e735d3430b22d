//go:build linux

package main

import (
	"bytes"
	"fmt"
	"time"
)

// open opens one WebSocket with each request, o.Conns handshakes at a time, and
// holds them. Took counts from the first connect to the last 101.
func (c *clients) open(o order) (outcome, error) {
	var result outcome
	latencies := make([]time.Duration, 0, len(o.Requests))
	begun := make(map[int]time.Duration, o.Conns)
	started, next := time.Now(), 0
	begin := func() error {
		if next == len(o.Requests) {
			return nil
		}
		begins := time.Since(started)
		socket, err := c.loop.connect(o.Address)
		if err != nil {
			return err
		}
		c.sockets[o.Address] = append(c.sockets[o.Address], socket)
		begun[socket.index] = begins
		next++
		return socket.write(o.Requests[next-1])
	}
	for range o.Conns {
		if err := begin(); err != nil {
			return result, err
		}
	}
	for len(latencies) < len(o.Requests) {
		ready, err := c.loop.wait(stuck)
		if err != nil {
			return result, err
		}
		if len(ready) == 0 {
			return result, fmt.Errorf("no answer for %d s after %d of %d sockets", stuck/1000, len(latencies), len(o.Requests))
		}
		for _, event := range ready {
			socket := c.loop.conns[event.Fd]
			if err := socket.read(); err != nil {
				return result, fmt.Errorf("socket %d: %w", len(latencies), err)
			}
			n, err := answerLength(socket.in)
			if err != nil {
				return result, err
			}
			if n > 0 && !bytes.HasPrefix(socket.in, []byte("HTTP/1.1 101 ")) {
				return result, fmt.Errorf("handshake answered %q", socket.in)
			}
			if n == 0 {
				continue
			}
			latencies = append(latencies, time.Since(started)-begun[socket.index])
			socket.used(n)
			if err := begin(); err != nil {
				return result, err
			}
		}
	}
	result.Took = time.Since(started)
	result.P50, result.P99 = percentiles(latencies)
	return result, nil
}

// close closes every socket held at a server, as a closed tab does: without a
// Close frame.
func (c *clients) close(o order) (outcome, error) {
	for _, socket := range c.sockets[o.Address] {
		c.loop.close(socket)
	}
	delete(c.sockets, o.Address)
	return outcome{}, nil
}
