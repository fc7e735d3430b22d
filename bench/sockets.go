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
	return realtime{lab: l, plan: p, out: out, idle: idleSocketTarget, echo: echoTarget, p99: echoP99Target, opening: openTarget}.measure(ctx)
}

// realtime is the comparison of sockets, over TCP or TLS to the upstream.
type realtime struct {
	lab  *lab
	plan plan
	out  *report

	tls                      bool
	suffix                   string  // of the titles
	idle, echo, p99, opening float64 // targets; 0 is none
}

func (r realtime) measure(ctx context.Context) error {
	for _, measure := range []func(context.Context) error{r.measureIdle, r.measureEchoes, r.measureOpening} {
		if err := measure(ctx); err != nil {
			return err
		}
	}
	return nil
}

// mark is [report.target] for a share that must be at most so much; nothing if
// no target is set.
func (r realtime) mark(what string, share, most float64) string {
	if most == 0 {
		return ""
	}
	return r.out.target(what, share <= most, fmt.Sprintf("≤ %.2g", most))
}

// carrier is a server that sockets are opened through.
type carrier struct {
	process *process
	path    string
	// cookies of the sessions that open sockets; none at nginx.
	cookies []string
}

// newCarriers starts nginx and every whisp-bff for sockets.
func (r realtime) newCarriers(ctx context.Context) (carriers []*carrier, stop func(), err error) {
	lined, err := r.lab.newLineup(ctx, siteOptions{sockets: true, tls: r.tls})
	if err != nil {
		return nil, nil, err
	}
	carriers = append(carriers, &carrier{process: lined.nginx, path: "/api/wsConnect", cookies: []string{lined.bffs[0].cookie}})
	for _, b := range lined.bffs {
		c, err := b.carrier(ctx)
		if err != nil {
			return nil, nil, err
		}
		carriers = append(carriers, c)
	}
	return carriers, lined.stop, nil
}

// carrier signs everybody in who will open sockets.
func (b *bff) carrier(ctx context.Context) (*carrier, error) {
	c := &carrier{process: b.process, path: "/whisp/api/wsConnect"}
	for range sessions {
		cookie, err := b.site.login(ctx)
		if err != nil {
			return nil, err
		}
		c.cookies = append(c.cookies, cookie)
	}
	return c, nil
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
	for i := range tickets {
		tickets[i] = fmt.Sprintf("bench-ticket-%d", i)
	}
	if len(c.cookies) > 1 {
		var err error
		if tickets, err = c.tickets(l, n); err != nil {
			return nil, err
		}
	}
	requests := make([][]byte, n)
	for i := range requests {
		requests[i] = c.handshake(tickets[i], c.cookies[i%len(c.cookies)])
	}
	return requests, nil
}

func (c *carrier) handshake(ticket, cookie string) []byte {
	return rawRequest("GET", c.process, c.path+"?ticket="+ticket,
		"Origin: http://"+c.process.address.String(), "Connection: Upgrade", "Upgrade: websocket",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Cookie: "+cookie)
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

// measureIdle opens many and lets them be.
func (r realtime) measureIdle(ctx context.Context) error {
	carriers, stop, err := r.newCarriers(ctx)
	if err != nil {
		return err
	}
	defer stop()
	n := r.plan.idleSockets
	r.out.line("")
	r.out.line("%-34s %11s %8s %9s", fmt.Sprintf("%d idle sockets%s", n, r.suffix), "RSS before", "with", "each")
	var nginx float64
	for i, c := range carriers {
		before, with, err := r.fill(ctx, c, n)
		if err != nil {
			return err
		}
		each, note := float64(with-before)/float64(n), ""
		if i == 0 {
			nginx = each
		} else {
			note = fmt.Sprintf("ratio %.2f  %s", each/nginx, r.mark("memory per idle socket: "+c.process.name, each/nginx, r.idle))
		}
		r.out.line("  %-32s %11s %8s %5.1f KiB  %s", c.process.name, mib(before), mib(with), each/1024, note)
	}
	return nil
}

// fill opens n sockets and closes them again; it returns the RSS without and with
// them.
func (r realtime) fill(ctx context.Context, c *carrier, n int) (before, with int64, err error) {
	if err := sleep(ctx, settle/2); err != nil {
		return 0, 0, err
	}
	before = c.process.rss()
	if _, err := c.open(ctx, r.lab, n); err != nil {
		return 0, 0, err
	}
	if err := sleep(ctx, settle); err != nil {
		return 0, 0, err
	}
	return before, c.process.rss(), c.close(r.lab)
}

// measureEchoes keeps some sockets busy, each with one message under way.
func (r realtime) measureEchoes(ctx context.Context) error {
	carriers, stop, err := r.newCarriers(ctx)
	if err != nil {
		return err
	}
	defer stop()
	p, out := r.plan, r.out
	p.rounds = p.echoRounds
	var contenders []contender
	for i, c := range carriers {
		if _, err := c.open(ctx, r.lab, p.echoSockets); err != nil {
			return err
		}
		contenders = append(contenders, contender{
			name: c.process.name, process: c.process, target: float64(min(i, 1)) * r.echo,
			order: order{Do: "echo", Requests: [][]byte{clientFrame(echoSize)}, Conns: p.echoSockets, Want: []byte{0x81}},
		})
	}
	title := fmt.Sprintf("%d sockets echo %d bytes%s", p.echoSockets, echoSize, r.suffix)
	samples, err := out.compare(ctx, r.lab, p, title, contenders)
	if err != nil {
		return err
	}
	for i, c := range carriers[1:] {
		of := samples[1+i]
		slower := ratio(of, samples[0], mostWithin)
		out.line("  %-32s %7s %6.2f  %s", c.process.name+"'s p99 to nginx's", "", slower, r.mark("echo p99: "+c.process.name, slower, r.p99))
		out.spreads(of, samples[0])
	}
	for _, c := range carriers {
		if err := c.close(r.lab); err != nil {
			return err
		}
	}
	return nil
}

// measureOpening opens sockets as fast as it goes.
func (r realtime) measureOpening(ctx context.Context) error {
	carriers, stop, err := r.newCarriers(ctx)
	if err != nil {
		return err
	}
	defer stop()
	samples := make([][]sample, len(carriers))
	for round := range r.plan.rounds + 1 {
		for i, c := range carriers {
			s, err := c.open(ctx, r.lab, socketsPerTurn)
			if err != nil {
				return err
			}
			if round > 0 { // the first warms up
				samples[i] = append(samples[i], s)
			}
			if err := c.close(r.lab); err != nil {
				return err
			}
			// Let it tidy up; closing is not what is measured.
			if err := sleep(ctx, 300*time.Millisecond); err != nil {
				return err
			}
		}
	}
	contenders := []contender{{name: "nginx, nothing checked", process: carriers[0].process}}
	for _, c := range carriers[1:] {
		contenders = append(contenders, contender{name: c.process.name + ", session and ticket", process: c.process, target: r.opening})
	}
	r.out.table("Sockets opened"+r.suffix, contenders, samples)
	r.out.variants(r.lab, samples)
	return nil
}
