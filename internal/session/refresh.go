package session

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// refreshAhead: a token this close to its end is refreshed now.
	refreshAhead = 10 * time.Second
	// refreshPatience bounds one refresh, waiting requests included.
	refreshPatience = 10 * time.Second
	// refreshPause is the wait after a refresh that failed for a reason that
	// says nothing about the session.
	refreshPause = 30 * time.Second
)

func (s *Sessions) refreshDue(of *Session) bool {
	if s.deps.Provider == nil || of.Tokens.RefreshToken.Empty() || of.Tokens.AccessExpires.IsZero() {
		return false
	}
	now := s.deps.Clock()
	return now.Add(refreshAhead).After(of.Tokens.AccessExpires) && !s.failures.recent(of.Key, now)
}

// refreshed renews the provider's tokens: one call however many requests wait.
func (s *Sessions) refreshed(ctx context.Context, of *Session) (*Session, error) {
	return s.refreshes.Do(ctx, of.Key, refreshPatience, func(ctx context.Context) (*Session, error) {
		// Other replicas have the same session, and a rotated refresh token
		// works once.
		lease, err := s.deps.Store.Lock(ctx, "refresh:"+of.Key, refreshPatience)
		if err != nil {
			return nil, unavailable(err)
		}
		defer func() { _ = lease.Release(context.WithoutCancel(ctx)) }() // it ends by itself otherwise
		return s.refreshOnce(ctx, of.Key)
	})
}

// refreshOnce reads the session again, because somebody may just have renewed
// or ended it, and saves with Replace, because somebody may end it meanwhile.
func (s *Sessions) refreshOnce(ctx context.Context, key string) (*Session, error) {
	current, err := s.byKey(ctx, key, true)
	if err != nil {
		return nil, err
	}
	if !s.refreshDue(current) {
		return current, nil
	}
	tokens, err := s.deps.Provider.Refresh(ctx, current.Tokens, current.Identity.Subject)
	switch {
	case errors.Is(err, ErrNone):
		s.deps.Logger.InfoContext(ctx, "session ended by the provider", "identity", current.Identity.Key()[:12])
		if err := s.End(ctx, key); err != nil {
			return nil, err
		}
		if s.deps.Ended != nil {
			s.deps.Ended(ctx, key)
		}
		return nil, ErrNone
	case err != nil:
		s.failures.note(key, s.deps.Clock())
		s.deps.Logger.WarnContext(ctx, "provider tokens not refreshed; session goes on", "error", err)
		return current, nil
	}
	renewed := *current
	renewed.Tokens = tokens
	encoded, err := encode(&renewed)
	if err != nil {
		return nil, err
	}
	replaced, err := s.deps.Store.Replace(ctx, storeKey(key), encoded, s.ttl(&renewed))
	switch {
	case err != nil:
		return nil, unavailable(err)
	case !replaced:
		return nil, ErrNone
	}
	return &renewed, nil
}

// backoff remembers which sessions' refresh failed lately. The zero value is
// ready.
type backoff struct {
	mu    sync.Mutex
	until map[string]time.Time
}

// backoffLimit bounds the memory of failures; forgetting one costs a call.
const backoffLimit = 10_000

func (b *backoff) recent(key string, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	until, noted := b.until[key]
	if noted && !now.Before(until) {
		delete(b.until, key)
		return false
	}
	return noted
}

func (b *backoff) note(key string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.until) >= backoffLimit || b.until == nil {
		b.until = make(map[string]time.Time)
	}
	b.until[key] = now.Add(refreshPause)
}
