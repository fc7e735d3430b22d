package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// lockPatience bounds the wait for a lock where ctx does not.
	lockPatience = 30 * time.Second
	// The wait between two tries grows from firstWait to longestWait, and a
	// random half of it is left out so that waiters do not march in step.
	firstWait   = 4 * time.Millisecond
	longestWait = 128 * time.Millisecond
	// shortestLease leaves room for a renewal before it ends.
	shortestLease = 30 * time.Millisecond
	// longestHold ends the renewals of a lease that nobody released: what is
	// done under a lock here takes seconds.
	longestHold = 5 * time.Minute
)

// lockEngine is what a store does for locks; owner tells acquisitions apart.
type lockEngine interface {
	// tryLock takes the lock or reports held. With an owner that has it already
	// it returns that lock's token, so that it may be repeated.
	tryLock(ctx context.Context, key, owner string, ttl time.Duration) (token uint64, held bool, err error)
	// renewLock gives the lock a new ttl; false means that it is lost.
	renewLock(ctx context.Context, key, owner string, ttl time.Duration) (bool, error)
	unlock(ctx context.Context, key, owner string) error
}

// Lease is a held lock. It renews itself every third of its ttl until
// [Lease.Release], until it is lost, until the store closes, or for 5 minutes.
type Lease struct {
	// Token grows with every acquisition of this key.
	Token uint64

	engine     lockEngine
	key, owner string
	ttl        time.Duration

	lost     chan struct{}
	loseOnce sync.Once
	cancel   context.CancelFunc // ends the renewals
	ended    chan struct{}      // closed when they have ended
	released sync.Once

	mu     sync.Mutex
	expiry *time.Timer // fires when the lease has certainly run out
}

// Lost is closed when the lock is not held any more although nobody released
// it: the store was away for the whole ttl, or somebody removed the lock. Work
// under the lock should stop then.
func (l *Lease) Lost() <-chan struct{} { return l.lost }

// Renew asks for another ttl now. False means that the lease is lost. Leases
// renew themselves; this is for a moment at which one must be sure.
func (l *Lease) Renew(ctx context.Context) (bool, error) {
	select {
	case <-l.lost:
		return false, nil
	default:
	}
	// Counted from before the question, since the store counts from before the answer.
	fresh := time.AfterFunc(l.ttl, l.lose)
	kept, err := l.engine.renewLock(ctx, l.key, l.owner, l.ttl)
	if err != nil {
		fresh.Stop()
		return false, err
	}
	if !kept {
		fresh.Stop()
		l.lose()
		return false, nil
	}
	l.mu.Lock()
	l.expiry.Stop()
	l.expiry = fresh
	l.mu.Unlock()
	return true, nil
}

// Release gives the lock back if it is still held. It may be called more than
// once; after an error the lock ends by its ttl.
func (l *Lease) Release(ctx context.Context) error {
	var err error
	l.released.Do(func() {
		l.stop()
		err = l.engine.unlock(ctx, l.key, l.owner)
	})
	return err
}

// stop ends the renewals and waits for it.
func (l *Lease) stop() {
	l.cancel()
	<-l.ended
	l.mu.Lock()
	l.expiry.Stop()
	l.mu.Unlock()
}

func (l *Lease) lose() { l.loseOnce.Do(func() { close(l.lost) }) }

// keep renews until ctx ends or the lease is lost. A renewal that fails is
// tried again sooner; the expiry timer decides when it is too late.
func (l *Lease) keep(ctx context.Context) {
	defer close(l.ended)
	hold := time.NewTimer(longestHold)
	defer hold.Stop()
	step := time.NewTimer(l.ttl / 3)
	defer step.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hold.C:
			return
		case <-l.lost:
			return
		case <-step.C:
		}
		if _, err := l.Renew(ctx); err != nil {
			step.Reset(l.ttl / 10)
			continue
		}
		step.Reset(l.ttl / 3)
	}
}

// leases are the ones a store has given out and must stop when it closes.
type leases struct {
	ctx    context.Context // the life of the store
	cancel context.CancelFunc

	mu     sync.Mutex // guards the start of a goroutine against close
	closed bool
	group  sync.WaitGroup
}

var errClosed = fmt.Errorf("%w: store is closed", ErrUnavailable)

func (s *leases) init() { s.ctx, s.cancel = context.WithCancel(context.Background()) }

func (s *leases) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.group.Wait()
}

// run runs work in a goroutine that close waits for; false means too late.
func (s *leases) run(work func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.group.Go(work)
	return true
}

// acquire waits for the lock; see [Store].Lock.
func (s *leases) acquire(ctx context.Context, engine lockEngine, key, owner string, ttl time.Duration) (*Lease, error) {
	ttl = max(ttl, shortestLease)
	patience, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		l := &Lease{engine: engine, key: key, owner: owner, ttl: ttl, lost: make(chan struct{}), ended: make(chan struct{})}
		l.expiry = time.AfterFunc(ttl, l.lose)
		token, held, err := engine.tryLock(patience, key, owner, ttl)
		if err == nil && !held {
			l.Token = token
			return s.start(l) //nolint:contextcheck // the lease outlives the wait for it
		}
		l.expiry.Stop()
		if err != nil {
			// The store may have taken the lock all the same: nobody should wait for that.
			s.run(func() { _ = engine.unlock(s.ctx, key, owner) })
			if wait > firstWait && patience.Err() != nil {
				return nil, gaveUp(ctx)
			}
			return nil, err
		}
		timer := time.NewTimer(wait/2 + rand.N(wait/2)) //nolint:gosec // spreads load, keeps no secret
		select {
		case <-timer.C:
		case <-s.ctx.Done():
			timer.Stop()
			return nil, errClosed
		case <-patience.Done():
			timer.Stop()
			return nil, gaveUp(ctx)
		}
	}
}

func gaveUp(ctx context.Context) error {
	switch err := ctx.Err(); {
	case err == nil:
		return ErrLocked
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("store: lock: %w", err)
	default:
		return fmt.Errorf("%w: %w", ErrLocked, err)
	}
}

func (s *leases) start(l *Lease) (*Lease, error) {
	renewals, cancel := context.WithCancel(s.ctx)
	l.cancel = cancel
	if !s.run(func() {
		l.keep(renewals)
		cancel()
	}) {
		cancel()
		l.expiry.Stop()
		return nil, errClosed // the lock ends by its ttl
	}
	return l, nil
}
