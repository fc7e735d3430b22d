package sockproxy

import "time"

// sweepInterval is the grain of all limits in time but the graces.
const sweepInterval = time.Second

// sweepMarks is what the sweep remembers of a tunnel since it last looked.
type sweepMarks struct {
	up, down int64 // bytes reported to the metrics
	frames   int64
	frameAt  int64 // when frames was taken
}

// One sweep per second looks at every tunnel instead of timers and deadlines
// per tunnel, which would cost memory while idle and a system call or a timer
// change for every message. It runs only while something is open.

// wake starts the sweep unless it runs. Callers have just registered something.
func (p *Proxy) wake() {
	p.sweepMu.Lock()
	defer p.sweepMu.Unlock()
	if p.sweeping {
		return
	}
	p.sweeping = true
	go p.sweepLoop()
}

func (p *Proxy) sweepLoop() {
	ticker := time.NewTicker(p.interval)
	defer ticker.Stop()
	for {
		empty := p.live.whenEmpty()
		if empty == nil && p.sleep() {
			return
		}
		select {
		case <-empty:
		case <-ticker.C:
			p.sweep()
		}
	}
}

// sleep ends the sweep if there is still nothing open.
func (p *Proxy) sleep() bool {
	p.sweepMu.Lock()
	defer p.sweepMu.Unlock()
	if p.live.whenEmpty() != nil {
		return false
	}
	p.sweeping = false
	return true
}

// tick updates and returns the coarse time, in nanoseconds.
func (p *Proxy) tick() int64 {
	now := p.clock().UnixNano()
	p.now.Store(now)
	return now
}

// sweep applies every limit in time once.
func (p *Proxy) sweep() {
	now := time.Unix(0, p.tick())
	cfg := p.cfg.Load()
	p.live.mu.Lock()
	asks := inquiry{left: budget(len(p.live.sessions), cfg, p.interval)}
	var tunnels []*tunnel
	var socks []*sockSession
	for _, s := range p.live.sessions {
		tunnels = append(tunnels, s.tunnels...)
		socks = append(socks, s.socks...)
		asks.take(s, now, cfg)
	}
	p.live.mu.Unlock()
	for _, t := range tunnels {
		t.check(now.UnixNano())
	}
	for _, k := range socks {
		p.live.releaseSock(k, now)
		k.check(now.UnixNano(), cfg)
		if p.admissions != nil && asks.left > 0 && k.renewDue(now) {
			asks.renew = append(asks.renew, k)
			asks.left--
		}
	}
	p.inquire(&asks)
}

// check applies the limits to an open tunnel and reports its bytes.
func (t *tunnel) check(now int64) {
	t.mu.Lock()
	open := t.open
	t.mu.Unlock()
	if !open {
		return
	}
	t.report()
	cfg := t.proxy.cfg.Load()
	for _, f := range []*flow{&t.up, &t.down} {
		if since := f.stalled.Load(); since != 0 && now-since > int64(cfg.WriteTimeout) {
			t.note(f.pick(slowClient, slowUpstream))
			t.cut()
			return
		}
	}
	if last := max(t.up.seen.Load(), t.down.seen.Load()); cfg.IdleTimeout > 0 && now-last > int64(cfg.IdleTimeout) {
		t.end(endIdle)
	}
	t.checkRate(now)
}

// checkRate bounds frames per second, averaged since the last look. Until the next
// look the flow itself stops a burst: a second of a fast line is millions of frames.
func (t *tunnel) checkRate(now int64) {
	frames, limit := t.up.frames.Load(), int64(t.proxy.cfg.Load().MaxFrameRate)
	elapsed := now - t.sweep.frameAt
	if elapsed < int64(time.Second) {
		return
	}
	if limit > 0 && float64(frames-t.sweep.frames)/time.Duration(elapsed).Seconds() > float64(limit) {
		t.end(endTooFast)
	}
	t.sweep.frames, t.sweep.frameAt = frames, now
	t.up.most.Store(burst(frames, limit))
}

// burst is how many frames there may be until the sweep looks again, which it may
// do late.
func burst(frames, limit int64) int64 {
	if limit == 0 {
		return 0
	}
	return frames + 2*limit
}

// report adds what was carried since the last time to the metrics. The sweep and
// finish may come together.
func (t *tunnel) report() {
	t.mu.Lock()
	defer t.mu.Unlock()
	up, down := t.up.bytes.Load(), t.down.bytes.Load()
	t.proxy.metrics.bytes(up-t.sweep.up, down-t.sweep.down)
	t.sweep.up, t.sweep.down = up, down
}
