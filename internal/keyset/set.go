package keyset

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

var (
	// ErrUnavailable: the keys could not be fetched, so nothing is known about
	// the signature.
	ErrUnavailable = errors.New("keys unavailable")
	// ErrNoKey: the keys are known, and none of them verifies the signature.
	ErrNoKey = errors.New("no key verifies the signature")
)

// maxTries bounds the signature checks that one token can cause.
const maxTries = 16

// Policy is when a [Set] fetches.
type Policy struct {
	// Pause is the shortest time from a fetch that worked to one that an
	// unknown key asks for.
	Pause time.Duration
	// RetryPause is the shortest time from a failed fetch to the next one. It
	// doubles with every failure, up to Pause.
	RetryPause time.Duration
	// Refresh is the age at which keys are fetched again: in the background
	// from half of it, and with everybody waiting once it is reached. Zero leaves
	// that to [Set.Refresh].
	Refresh time.Duration
	// Stale is the age up to which keys are used while they cannot be
	// fetched again. Zero has no limit.
	Stale time.Duration
	// Timeout bounds one fetch.
	Timeout time.Duration
}

// Set is a list of keys that somebody publishes. All methods may be called at
// the same time.
//
// Invariants: keys are those of the last fetch that worked; at most one fetch is
// under way; a fetch belongs to no caller, so a client that leaves fails nobody else.
type Set struct {
	fetch  func(context.Context) ([]Key, error)
	clock  func() time.Time
	policy Policy

	work sync.WaitGroup

	mu       sync.Mutex
	keys     []Key
	known    bool      // a fetch has worked
	fetched  time.Time // when the last one that worked began
	next     time.Time // none before, unless forced
	failures int       // since the last one that worked
	running  *attempt
	closed   bool
}

// attempt is one fetch; err is set before done is closed.
type attempt struct {
	done   chan struct{}
	cancel context.CancelFunc
	err    error
}

// New returns a set that has fetched nothing yet. fetch returns the whole list;
// an empty one is an answer: there are no keys (any more).
func New(policy Policy, clock func() time.Time, fetch func(context.Context) ([]Key, error)) *Set {
	return &Set{policy: policy, clock: clock, fetch: fetch}
}

// Verify calls check with the keys that may have made a signature, until one
// did: those named kid, or all if kid is empty, whose algorithm is alg or open.
// It fetches if there are no keys, if they are old, and, within the policy, if
// none of them fits. The error is [ErrNoKey] or [ErrUnavailable].
func (s *Set) Verify(ctx context.Context, kid, alg string, check func(key any) bool) error {
	keys, err := s.current(ctx)
	if err != nil {
		return err
	}
	verified, tried := try(keys, kid, alg, check)
	if verified {
		return nil
	}
	pending, failing := s.start(ctx)
	switch {
	case pending != nil:
		if err := pending.wait(ctx); err != nil && !tried {
			return err
		}
		s.mu.Lock()
		keys = s.keys
		s.mu.Unlock()
		if verified, _ := try(keys, kid, alg, check); verified {
			return nil
		}
	case failing && !tried:
		return fmt.Errorf("%w: they could not be fetched a moment ago", ErrUnavailable)
	}
	return ErrNoKey
}

// try reports whether a key verified, and whether one of that very name was tried.
func try(keys []Key, kid, alg string, check func(key any) bool) (verified, tried bool) {
	tries := 0
	for _, key := range keys {
		if kid != "" && key.ID != kid || key.Algorithm != "" && key.Algorithm != alg {
			continue
		}
		if tries++; tries > maxTries {
			break
		}
		if check(key.Public) {
			return true, true
		}
	}
	return false, tries > 0 && kid != ""
}

// current returns keys that may be used now.
func (s *Set) current(ctx context.Context) ([]Key, error) {
	s.mu.Lock()
	age, failing := s.clock().Sub(s.fetched), s.failures > 0
	usable := s.known && (s.policy.Stale == 0 || age < s.policy.Stale)
	due := s.policy.Refresh > 0 && (age >= s.policy.Refresh/2 || age < 0)
	wait := !usable || age >= s.policy.Refresh && due && !failing
	keys := s.keys
	s.mu.Unlock()
	if usable && !due {
		return keys, nil
	}
	pending, _ := s.start(ctx)
	if !wait {
		return keys, nil
	}
	if pending == nil {
		if usable {
			return keys, nil
		}
		return nil, fmt.Errorf("%w: they could not be fetched a moment ago", ErrUnavailable)
	}
	if err := pending.wait(ctx); err != nil {
		if usable {
			return keys, nil
		}
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys, nil
}

// Refresh fetches now, or waits for the fetch that is under way. Its error wraps
// [ErrUnavailable]; keys already known stay.
func (s *Set) Refresh(ctx context.Context) error {
	s.mu.Lock()
	pending := s.begin(ctx)
	s.mu.Unlock()
	if pending == nil {
		return fmt.Errorf("%w: closed", ErrUnavailable)
	}
	return pending.wait(ctx)
}

// Close ends the fetch that is under way and allows no other. Verify goes on
// with the keys that are known.
func (s *Set) Close() {
	s.mu.Lock()
	s.closed = true
	if s.running != nil {
		s.running.cancel()
	}
	s.mu.Unlock()
	s.work.Wait()
}

// start returns the fetch under way, or begins one unless it is too early; then
// pending is nil, and failing tells how the last one ended.
func (s *Set) start(ctx context.Context) (pending *attempt, failing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := s.next.Sub(s.clock())
	if s.running == nil && wait > 0 && wait <= s.policy.Pause { // more: the clock was set back
		return nil, s.failures > 0
	}
	return s.begin(ctx), s.failures > 0
}

// begin begins a fetch unless one is under way; the caller holds mu.
func (s *Set) begin(ctx context.Context) *attempt {
	if s.running != nil {
		return s.running
	}
	if s.closed {
		return nil
	}
	detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.policy.Timeout)
	a := &attempt{done: make(chan struct{}), cancel: cancel}
	s.running = a
	begun := s.clock()
	s.work.Go(func() {
		defer cancel()
		keys, err := s.fetch(detached)
		s.finish(a, begun, keys, err)
	})
	return a
}

func (s *Set) finish(a *attempt, begun time.Time, keys []Key, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = nil
	if err != nil {
		a.err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		s.next = s.clock().Add(min(s.policy.RetryPause<<min(s.failures, 20), s.policy.Pause))
		s.failures++
	} else {
		s.keys, s.known, s.fetched, s.failures = keys, true, begun, 0
		s.next = begun.Add(s.policy.Pause)
	}
	close(a.done)
}

// wait waits for the end of the fetch, or of ctx.
func (a *attempt) wait(ctx context.Context) error {
	select {
	case <-a.done:
		return a.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
}
