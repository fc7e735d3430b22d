//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// Targets, as ratios to nginx.
const (
	idleSocketTarget = 0.7
	echoTarget       = 1.0
	echoP99Target    = 1.0
	openTarget       = 0.6
)

const (
	sessions       = 64 // signed-in browsers
	ticketsEach    = 16 // as many as one session may hold at once
	echoSize       = 200
	openingAtOnce  = 16
	socketsPerTurn = sessions * ticketsEach
)

// measureSockets compares what realtime costs. The upstream is the same and
// takes any ticket; nginx checks nothing, whisp-bff checks origin, session and
// ticket.
func measureSockets(ctx context.Context, l *lab, p plan, out *report) error {
	for _, measure := range []func(context.Context, *lab, plan, *report) error{measureIdleSockets, measureEchoes, measureOpening} {
		if err := measure(ctx, l, p, out); err != nil {
			return err
		}
	}
	return nil
}

// carrier is a server that sockets are opened through.
type carrier struct {
	process *process
	path    string
	// cookies of the sessions that open sockets; none at nginx.
	cookies []string
}

// newCarriers starts nginx and whisp-bff for sockets.
func (l *lab) newCarriers(ctx context.Context) (carriers []*carrier, stop func(), err error) {
	pair, err := l.newPair(ctx, siteOptions{sockets: true})
	if err != nil {
		return nil, nil, err
	}
	bff := &carrier{process: pair.bff, path: "/whisp/api/wsConnect"}
	for range sessions {
		cookie, err := pair.site.login(ctx)
		if err != nil {
			return nil, nil, err
		}
		bff.cookies = append(bff.cookies, cookie)
	}
	nginx := &carrier{process: pair.nginx, path: "/api/wsConnect", cookies: []string{pair.cookie}}
	return []*carrier{nginx, bff}, pair.stop, nil
}

// open opens n sockets, with tickets that whisp-bff was asked for before: what is
// measured is the opening alone. The clients hold the sockets.
func (c *carrier) open(ctx context.Context, l *lab, n int) (sample, error) {
	var s sample
	var took, cpu time.Duration
	for done := 0; done < n; {
		if err := ctx.Err(); err != nil {
			return s, err
		}
		batch := min(n-done, socketsPerTurn)
		handshakes, err := c.handshakes(l, batch)
		if err != nil {
			return s, err
		}
		before := c.process.cpu()
		opened, err := l.do(order{Do: "open", Address: c.process.address, Requests: handshakes, Conns: openingAtOnce})
		if err != nil {
			return s, fmt.Errorf("%s: %w; it said\n%s", c.process.name, err, c.process.tail())
		}
		cpu += c.process.cpu() - before
		took += opened.Took
		s.p50, s.p99 = opened.P50, opened.P99
		done += batch
	}
	s.rate, s.cpu = float64(n)/took.Seconds(), cpu/time.Duration(n)
	return s, nil
}

func (c *carrier) close(l *lab) error {
	_, err := l.do(order{Do: "close", Address: c.process.address})
	return err
}

// handshakes are opening requests, a ticket in each.
func (c *carrier) handshakes(l *lab, n int) ([][]byte, error) {
	tickets := make([]string, n)
	if len(c.cookies) > 1 {
		var err error
		if tickets, err = c.tickets(l, n); err != nil {
			return nil, err
		}
	}
	requests := make([][]byte, n)
	for i := range requests {
		if tickets[i] == "" {
			tickets[i] = fmt.Sprintf("bench-ticket-%d", i)
		}
		requests[i] = rawRequest("GET", c.process, c.path+"?ticket="+tickets[i],
			"Origin: http://"+c.process.address.String(), "Connection: Upgrade", "Upgrade: websocket",
			"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
			"Cookie: "+c.cookies[i%len(c.cookies)])
	}
	return requests, nil
}

// tickets fetches n tickets, for each session in turn.
func (c *carrier) tickets(l *lab, n int) ([]string, error) {
	requests := make([][]byte, len(c.cookies))
	for i, cookie := range c.cookies {
		requests[i] = rawRequest("GET", c.process, "/whisp/api/auth/getTicket", "Authorization: Bearer bench", "Cookie: "+cookie)
	}
	o := again(nil)
	o.Do, o.Address, o.Requests, o.Total = "collect", c.process.address, requests, n
	fetched, err := l.do(o)
	if err != nil {
		return nil, fmt.Errorf("tickets: %w", err)
	}
	tickets := make([]string, n)
	for i, answer := range fetched.Answers {
		var body struct {
			Ticket string `json:"ticket"`
		}
		length, _ := contentLength(answer)
		if err := json.Unmarshal(answer[len(answer)-length:], &body); err != nil {
			return nil, fmt.Errorf("ticket: %w", err)
		}
		tickets[i] = body.Ticket
	}
	return tickets, nil
}

// measureIdleSockets opens many and lets them be.
func measureIdleSockets(ctx context.Context, l *lab, p plan, out *report) error {
	carriers, stop, err := l.newCarriers(ctx)
	if err != nil {
		return err
	}
	defer stop()
	out.line("")
	out.line("%-34s %11s %8s %9s", fmt.Sprintf("%d idle sockets", p.idleSockets), "RSS before", "with", "each")
	var each []float64
	for _, c := range carriers {
		if err := sleep(ctx, settle/2); err != nil {
			return err
		}
		before := c.process.rss()
		if _, err := c.open(ctx, l, p.idleSockets); err != nil {
			return err
		}
		if err := sleep(ctx, settle); err != nil {
			return err
		}
		with := c.process.rss()
		each = append(each, float64(with-before)/float64(p.idleSockets))
		mark := ""
		if len(each) > 1 {
			share := each[1] / each[0]
			mark = fmt.Sprintf("ratio %.2f  %s", share, out.target("memory per idle socket", share <= idleSocketTarget, fmt.Sprintf("≤ %.1f", idleSocketTarget)))
		}
		out.line("  %-32s %11s %8s %5.1f KiB  %s", c.process.name, mib(before), mib(with), each[len(each)-1]/1024, mark)
		if err := c.close(l); err != nil {
			return err
		}
	}
	return nil
}

// measureEchoes keeps some sockets busy, each with one message under way.
func measureEchoes(ctx context.Context, l *lab, p plan, out *report) error {
	carriers, stop, err := l.newCarriers(ctx)
	if err != nil {
		return err
	}
	defer stop()
	var contenders []contender
	for i, c := range carriers {
		if _, err := c.open(ctx, l, p.echoSockets); err != nil {
			return err
		}
		contenders = append(contenders, contender{
			name: c.process.name, process: c.process, target: float64(i) * echoTarget,
			order: order{Do: "echo", Requests: [][]byte{clientFrame(echoSize)}, Conns: p.echoSockets, Want: []byte{0x81}},
		})
	}
	title := fmt.Sprintf("%d sockets echo %d bytes", p.echoSockets, echoSize)
	samples, err := out.compare(ctx, l, p, title, contenders)
	if err != nil {
		return err
	}
	slower := ratio(samples[1], samples[0], mostWithin)
	out.line("  %-32s %7s %6.2f  %s", "whisp-bff's p99 to nginx's", "", slower, out.target("echo p99", slower <= echoP99Target, "≤ 1"))
	for _, c := range carriers {
		if err := c.close(l); err != nil {
			return err
		}
	}
	return nil
}

// measureOpening opens sockets as fast as it goes.
func measureOpening(ctx context.Context, l *lab, p plan, out *report) error {
	carriers, stop, err := l.newCarriers(ctx)
	if err != nil {
		return err
	}
	defer stop()
	samples := make([][]sample, len(carriers))
	for round := range p.rounds + 1 {
		for i, c := range carriers {
			s, err := c.open(ctx, l, socketsPerTurn)
			if err != nil {
				return err
			}
			if round > 0 { // the first warms up
				samples[i] = append(samples[i], s)
			}
			if err := c.close(l); err != nil {
				return err
			}
			// Let it tidy up; closing is not what is measured.
			if err := sleep(ctx, 300*time.Millisecond); err != nil {
				return err
			}
		}
	}
	out.table("Sockets opened", []contender{
		{name: "nginx, nothing checked", process: carriers[0].process},
		{name: "whisp-bff, session and ticket", process: carriers[1].process, target: openTarget},
	}, samples)
	return nil
}
