package sockproxy

import (
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/problem"
)

const (
	// cutPatience is how long cut connections get to be gone.
	cutPatience = time.Second
	// drainPatience is how long a drain in a process that goes on waits for the last
	// clients to answer, after cfg.Drain.
	drainPatience = 10 * time.Second
)

// BeginDrain is [Proxy.Drain] for a process that goes on: it returns at once, and what
// is still open some time after cfg.Drain is cut. Called again, or after a Drain, it does
// nothing. There is no way back: the process is to be replaced.
func (p *Proxy) BeginDrain() {
	if !p.live.beginShut() {
		return
	}
	patience := p.cfg.Load().Drain.D() + drainPatience
	go func() { // ends with the last socket, or with its own patience
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := p.Drain(ctx); err != nil {
			p.log.Warn("realtime: drained, but not all clients left by themselves", "error", err)
			return
		}
		p.log.Info("realtime: drained")
	}()
}

// Draining reports whether new sockets and SockJS sessions are refused for good, and how
// many of each there still are.
func (p *Proxy) Draining() (draining bool, tunnels, sockJS int) {
	now := p.live.counts()
	return p.live.isDraining(), now.tunnels, now.socks
}

// Drain refuses what is new from now on and ends everything open with 1012,
// spread evenly with jitter over cfg.Drain: clients of the SDK reconnect after a
// fixed time, so sockets closed together come back together. It returns nil once all is
// closed; when ctx ends first it cuts what is left and returns ctx's error.
func (p *Proxy) Drain(ctx context.Context) error {
	all := p.live.shut()
	seed := [16]byte{}
	_, _ = io.ReadFull(p.rand, seed[:])                                                                         // without it the order is merely predictable
	jitter := rand.New(rand.NewPCG(binary.LittleEndian.Uint64(seed[:8]), binary.LittleEndian.Uint64(seed[8:]))) //nolint:gosec // spreads load, keeps no secret
	jitter.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })

	spread := p.cfg.Load().Drain
	empty := p.live.whenEmpty()
	timer := time.NewTimer(0)
	defer timer.Stop()
	begun, elapsed := <-timer.C, time.Duration(0)
	for i, c := range all {
		// Each has a slot of its own and a random moment within it.
		moment := time.Duration((float64(i) + jitter.Float64()) / float64(len(all)) * float64(spread))
		timer.Reset(moment - elapsed)
		select {
		case <-ctx.Done():
			return p.cutAll(ctx)
		case <-empty: // for the rest there is nothing to wait
			return nil
		case now := <-timer.C:
			elapsed = now.Sub(begun)
		}
		c.end(endDrain)
		if k, ok := c.(*sockSession); ok {
			p.live.releaseSock(k, p.clock())
		}
	}
	return p.await(ctx)
}

// await waits until nothing is open.
func (p *Proxy) await(ctx context.Context) error {
	for {
		empty := p.live.whenEmpty()
		if empty == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return p.cutAll(ctx)
		case <-empty:
		}
	}
}

// cutAll closes without a word what is still open, and waits a moment for it.
func (p *Proxy) cutAll(ctx context.Context) error {
	for _, c := range p.live.shut() {
		c.end(endDrain)
		if t, ok := c.(*tunnel); ok {
			t.cutAfter(0)
		} else if k, ok := c.(*sockSession); ok {
			p.live.removeSock(k)
		}
	}
	timer := time.NewTimer(cutPatience)
	defer timer.Stop()
	for {
		empty := p.live.whenEmpty()
		if empty == nil {
			return ctx.Err()
		}
		select {
		case <-empty:
		case <-timer.C:
			return ctx.Err()
		}
	}
}

// shuttingDown refuses what another replica will take as soon as it is asked.
func shuttingDown() *problem.Problem { return problem.ShuttingDown().After(time.Second) }
