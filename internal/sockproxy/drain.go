package sockproxy

import (
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"time"
)

// cutPatience is how long cut connections get to be gone.
const cutPatience = time.Second

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
