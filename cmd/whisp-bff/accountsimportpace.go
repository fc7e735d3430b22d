package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// perSecond is a rate as people write it: 20/s, 600/m, or 0 for no limit. It
// implements pflag.Value.
type perSecond float64

func (p *perSecond) String() string {
	if *p == 0 {
		return "0"
	}
	return strconv.FormatFloat(float64(*p), 'f', -1, 64) + "/s"
}

// Type is what help shows.
func (p *perSecond) Type() string { return "rate" }

// Set accepts a number, alone or with /s, /m or /h.
func (p *perSecond) Set(text string) error {
	number, unit, _ := strings.Cut(text, "/")
	value, err := strconv.ParseFloat(number, 64)
	seconds, known := map[string]float64{"": 1, "s": 1, "m": 60, "h": 3600}[unit]
	if err != nil || !known || !(value >= 0 && value <= 1e6) { // NaN is neither
		return fmt.Errorf("write it like 20/s or 600/m, or 0 for no limit")
	}
	*p = perSecond(value / seconds)
	return nil
}

// pacer spreads what is sent to Whisp, and stops everybody when Whisp asks for
// patience.
type pacer struct {
	limiter *rate.Limiter
	clock   func() time.Time

	mu    sync.Mutex
	until time.Time // nothing is sent before
}

func newPacer(limit perSecond, clock func() time.Time) *pacer {
	p := &pacer{limiter: rate.NewLimiter(rate.Inf, 1), clock: clock}
	if limit > 0 {
		p.limiter = rate.NewLimiter(rate.Limit(limit), 1)
	}
	return p
}

// wait returns when the next may be sent, or the error of ctx.
func (p *pacer) wait(ctx context.Context) error {
	if err := ctx.Err(); err != nil { // the limiter lets the next one pass all the same
		return err
	}
	if err := p.limiter.Wait(ctx); err != nil {
		return err
	}
	for {
		p.mu.Lock()
		held := p.until.Sub(p.clock())
		p.mu.Unlock()
		if held <= 0 {
			return nil
		}
		if err := sleep(ctx, held); err != nil {
			return err
		}
	}
}

// hold keeps everybody back for d.
func (p *pacer) hold(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if until := p.clock().Add(d); until.After(p.until) {
		p.until = until
	}
}

// backoff is a wait of full jitter, up to a bound that doubles with every attempt
// (0, 1, …) and is at most 30 s.
func backoff(first time.Duration, attempt int) time.Duration {
	bound := min(first<<min(attempt, 16), 30*time.Second)
	return rand.N(bound + 1) //nolint:gosec // G404: jitter is no secret
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
