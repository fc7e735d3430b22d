//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// contender is one server doing one thing again and again.
type contender struct {
	name    string
	process *process
	order   order // without Address and Total
	// mallocs is how many heap objects the server has allocated so far; nil for
	// nginx, where nobody counts.
	mallocs func(context.Context) (float64, error)
	// target is the least wanted ratio to the first contender; 0 is none.
	target float64
}

// sample is one contender's turn in one round.
type sample struct {
	rate     float64       // requests per second
	cpu      time.Duration // of the server, per request
	p50, p99 time.Duration
	allocs   float64 // per request
}

const (
	parallel = 32    // connections, each with one request under way
	warmUp   = 2_000 // requests
)

// compare lets the contenders take turns, and returns their samples by
// contender and round. A turn is a fixed number of requests, chosen in a warm-up
// so that it lasts about plan.round.
func (l *lab) compare(ctx context.Context, p plan, contenders []contender) ([][]sample, error) {
	samples := make([][]sample, len(contenders))
	totals := make([]int, len(contenders))
	for i, c := range contenders {
		warm, err := l.turn(ctx, c, warmUp)
		if err == nil { // once more: the first ones opened connections and grew heaps
			warm, err = l.turn(ctx, c, max(warmUp, int(warm.rate*p.round.Seconds()/3)))
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		totals[i] = max(warmUp, int(warm.rate*p.round.Seconds()))
	}
	for range p.rounds {
		for i, c := range contenders {
			s, err := l.turn(ctx, c, totals[i])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			samples[i] = append(samples[i], s)
		}
	}
	return samples, nil
}

func (l *lab) turn(ctx context.Context, c contender, total int) (sample, error) {
	var s sample
	if err := ctx.Err(); err != nil {
		return s, err
	}
	allocs, err := c.allocations(ctx)
	if err != nil {
		return s, err
	}
	o := c.order
	o.Address, o.Total = c.process.address, total
	cpu := c.process.cpu()
	result, err := l.do(o)
	if err != nil {
		return s, err
	}
	s.rate = float64(total) / result.Took.Seconds()
	s.cpu = (c.process.cpu() - cpu) / time.Duration(total)
	s.p50, s.p99 = result.P50, result.P99
	after, err := c.allocations(ctx)
	s.allocs = (after - allocs) / float64(total)
	return s, err
}

// allocations asks c.mallocs. Asking allocates, too, some 2,000 objects: a tenth
// of one per request of a turn.
func (c contender) allocations(ctx context.Context) (float64, error) {
	if c.mallocs == nil {
		return 0, nil
	}
	return c.mallocs(ctx)
}

// again is the order to send one request over and over.
func again(request []byte) order {
	return order{Do: "request", Requests: [][]byte{request}, Conns: parallel, Want: []byte("HTTP/1.1 200 ")}
}

// rawRequest serialises a request as a browser's fetch would send it, in as many
// words. headers are whole lines.
func rawRequest(method string, c *process, path string, headers ...string) []byte {
	lines := append([]string{
		method + " " + path + " HTTP/1.1",
		"Host: " + c.address.String(),
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
		"Accept: */*",
		"Accept-Encoding: gzip, deflate",
	}, headers...)
	return []byte(strings.Join(lines, "\r\n") + "\r\n\r\n")
}

// median of a value of some samples.
func median[S any, V int | int64 | float64 | time.Duration](of []S, value func(S) V) V {
	values := make([]V, len(of))
	for i, s := range of {
		values[i] = value(s)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// ratio is the median over rounds of a value of one contender divided by that of
// another in the same round.
func ratio[V int | float64 | time.Duration](of, to []sample, value func(sample) V) float64 {
	return median(ratios(of, to, value), func(r float64) float64 { return r })
}

func ratios[V int | float64 | time.Duration](of, to []sample, value func(sample) V) []float64 {
	rounds := make([]float64, len(of))
	for i := range rounds {
		rounds[i] = float64(value(of[i])) / float64(value(to[i]))
	}
	return rounds
}

// middleHalf says between which ratios the middle half of the rounds lies.
func middleHalf(of, to []sample, value func(sample) float64) string {
	rounds := ratios(of, to, value)
	slices.Sort(rounds)
	quarter := len(rounds) / 4
	return fmt.Sprintf("%.2f to %.2f", rounds[quarter], rounds[len(rounds)-1-quarter])
}

// Values of a sample.
func rate(s sample) float64             { return s.rate }
func cpuEach(s sample) time.Duration    { return s.cpu }
func perCPUSecond(s sample) float64     { return 1 / s.cpu.Seconds() }
func halfWithin(s sample) time.Duration { return s.p50 }
func mostWithin(s sample) time.Duration { return s.p99 }
func allocsEach(s sample) float64       { return s.allocs }
