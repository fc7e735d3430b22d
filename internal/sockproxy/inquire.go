package sockproxy

import (
	"context"
	"errors"
	"hash/fnv"
	"sync/atomic"
	"time"
)

const (
	// askTimeout bounds one question to the store, askersAtOnce how many are on
	// their way.
	askTimeout   = 5 * time.Second
	askersAtOnce = 16
	// peekBatch is how many sessions one question is about.
	peekBatch = 32
	// leastQuestions is how many sessions one sweep may ask about however few there are.
	leastQuestions = 64
)

// inquiry is what one sweep asks the store. Three things must not depend on a
// message that may be lost:
//
//   - a session that somebody uses is touched, which slides its idle time and
//     tells when it ends;
//   - a session whose clients are silent is looked up without touching it, or an open
//     page that nobody looks at would keep it from ever being idle;
//   - an admitted SockJS session is renewed for the other replicas.
//
// Each session has its own period, half the configured interval to all of it and
// another one each time ([liveSession.period]), and one sweep asks about a limited number, so that ten
// thousand sockets opened in one second are not ten thousand questions a minute
// later. What a sweep leaves over, the next one finds due again.
type inquiry struct {
	touch, peek []*liveSession
	renew       []*sockSession
	left        int // how many more may be asked about
}

// budget is how many sessions one sweep may ask about: twice as many as all need
// that are there.
func budget(sessions int, cfg *Config, sweep time.Duration) int {
	shortest := min(cfg.TouchInterval.D(), cfg.CheckInterval.D(), shareRenew)
	return leastQuestions + int(float64(4*sessions)*sweep.Seconds()/shortest.Seconds())
}

// take notes what is due of a session. The caller holds live.mu.
func (q *inquiry) take(s *liveSession, now time.Time, cfg *Config) {
	if q.left <= 0 || s.asking {
		return
	}
	switch {
	case s.touchDue(now, cfg):
		s.asking, s.tried = true, now
		q.touch = append(q.touch, s)
		q.left--
	case s.peekDue(now, cfg):
		s.asking = true
		q.peek = append(q.peek, s)
		q.left--
	}
}

// touchDue reports whether a client of s was active and the store has not heard of
// it for a while. SockJS requests are seen by the server, which slides the session
// itself. One that failed, or that nobody was free for, is due again after half an
// interval at most: what a person did last must be told, by a store in trouble
// too, or the session is idle too soon.
func (s *liveSession) touchDue(now time.Time, cfg *Config) bool {
	interval := cfg.TouchInterval.D()
	if now.Sub(s.touched) < s.period(interval) || now.Sub(s.tried) < s.period(interval/2) {
		return false
	}
	for _, t := range s.tunnels {
		if t.up.bytes.Load() > 0 && t.up.seen.Load() > s.touched.UnixNano() {
			return true
		}
	}
	return false
}

// peekDue reports whether nobody asked for s in a while, or whether as far as we
// know it has just ended.
func (s *liveSession) peekDue(now time.Time, cfg *Config) bool {
	if !s.expires.IsZero() && !now.Before(s.expires) && s.asked.Before(s.expires) {
		return true
	}
	return now.Sub(s.asked) >= s.period(cfg.CheckInterval.D())
}

// period is the session's own share of an interval, from half of it to all.
func (s *liveSession) period(interval time.Duration) time.Duration {
	return interval/2 + time.Duration(float64(interval/2)*float64(s.phase)/(1<<32))
}

// heard notes that the store was asked at a time. The next period is another one
// (the generator is of Numerical Recipes), or the periods of many sessions would meet at
// common multiples.
func (s *liveSession) heard(at time.Time) {
	s.asked = at
	s.phase = s.phase*1664525 + 1013904223
}

// phaseOf is where a session's periods begin.
func phaseOf(key string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key))
	return h.Sum32()
}

// inquire asks the store, without waiting for it. If all askers are busy with
// earlier sweeps, the store is slow, and nothing is added to that.
func (p *Proxy) inquire(q *inquiry) {
	questions := p.questions(q)
	next := &atomic.Int64{}
	for i := range min(len(questions), askersAtOnce) {
		select {
		case p.askers <- struct{}{}:
			go p.asker(questions, next)
			continue
		default:
		}
		if i == 0 {
			p.live.asked(time.Time{}, append(q.touch, q.peek...)...)
		}
		return
	}
}

func (p *Proxy) questions(q *inquiry) (questions []func(context.Context)) {
	for _, s := range q.touch {
		questions = append(questions, func(ctx context.Context) { p.touch(ctx, s) })
	}
	for rest := q.peek; len(rest) > 0; {
		batch := rest[:min(peekBatch, len(rest))]
		rest = rest[len(batch):]
		questions = append(questions, func(ctx context.Context) { p.peek(ctx, batch) })
	}
	for _, k := range q.renew {
		questions = append(questions, func(ctx context.Context) { p.renew(ctx, k) })
	}
	return questions
}

// asker asks questions until there are none left.
func (p *Proxy) asker(questions []func(context.Context), next *atomic.Int64) {
	defer func() { <-p.askers }()
	for i := int(next.Add(1)) - 1; i < len(questions); i = int(next.Add(1)) - 1 {
		ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
		questions[i](ctx)
		cancel()
	}
}

// touch slides the session's idle time and ends it if it is over. An error that
// does not say so changes nothing: a store that is down closes no socket.
func (p *Proxy) touch(ctx context.Context, s *liveSession) {
	expires, err := p.sessions.Touch(ctx, s.key)
	if err == nil {
		p.live.slid(s, expires)
	}
	p.live.asked(p.clock(), s)
	switch {
	case errors.Is(err, ErrSessionEnded):
		p.live.end(s.key, endExpired)
	case err != nil:
		p.log.WarnContext(ctx, "realtime: session not touched", "error", err)
	}
}

// peek ends those of the sessions that are over.
func (p *Proxy) peek(ctx context.Context, batch []*liveSession) {
	keys := make([]string, len(batch))
	for i, s := range batch {
		keys[i] = s.key
	}
	ended, err := p.sessions.Ended(ctx, keys)
	if err != nil {
		p.log.WarnContext(ctx, "realtime: sessions not looked up", "error", err)
	}
	p.live.asked(p.clock(), batch...)
	for _, key := range ended {
		p.live.end(key, endExpired)
	}
}
