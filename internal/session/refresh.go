package session

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/store"
)

const (
	// refreshAhead: a token this close to its end is refreshed now.
	refreshAhead = 10 * time.Second
	// refreshPatience bounds one refresh, waiting requests included.
	refreshPatience = 10 * time.Second
	// settlePatience bounds what has to be written down after the provider
	// answered.
	settlePatience = 5 * time.Second
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

// refreshed renews the provider's tokens: one call however many requests wait, on
// whichever replica. A rotated refresh token works once.
func (s *Sessions) refreshed(ctx context.Context, of *Session) (*Session, error) {
	return s.refreshes.Do(ctx, of.Key, refreshPatience, func(ctx context.Context) (*Session, error) {
		var renewed *Session
		err := locked(ctx, s.deps.Store, refreshLock(of.Key), func() (err error) {
			renewed, err = s.refreshOnce(ctx, of.Key)
			return err
		})
		if errors.Is(err, store.ErrLocked) {
			// Another replica is at it, and the provider is slow: the session
			// goes on meanwhile.
			s.failures.note(of.Key, s.deps.Clock(), lockWait)
			return s.byKey(ctx, of.Key, true)
		}
		return renewed, err
	})
}

// refreshOnce reads the session again, because somebody may just have renewed
// or ended it.
func (s *Sessions) refreshOnce(ctx context.Context, key string) (*Session, error) {
	current, err := s.byKey(ctx, key, true)
	if err != nil {
		return nil, err
	}
	if !s.refreshDue(current) {
		return current, nil
	}
	tokens, err := s.deps.Provider.Refresh(ctx, current.Tokens, current.Identity.Subject)
	// Whatever the provider said counts, however late: a rotated refresh token
	// that is not saved is a session lost.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settlePatience)
	defer cancel()
	switch {
	case errors.Is(err, ErrNone):
		return nil, s.endedByProvider(ctx, current)
	case err != nil:
		s.failures.note(key, s.deps.Clock(), refreshPause)
		s.deps.Logger.WarnContext(ctx, "provider tokens not refreshed; session goes on", "error", err)
		return current, nil
	}
	return s.renew(ctx, current, tokens)
}

// renew saves new tokens with Replace, because the session may have ended
// meanwhile. That it was superseded meanwhile is excluded by the lock.
func (s *Sessions) renew(ctx context.Context, current *Session, tokens identity.ProviderTokens) (*Session, error) {
	renewed := *current
	renewed.Tokens = tokens
	late, err := s.rejoin(ctx, current, &renewed)
	if err != nil {
		// Better found by what it was than not saved. It stands there already.
		s.deps.Logger.WarnContext(ctx, "session not listed anew", "error", err)
		renewed.Tokens.SessionID = current.Tokens.SessionID
	}
	if late {
		s.delist(ctx, &renewed)
		return nil, s.endedByProvider(ctx, current)
	}
	encoded, err := encode(&renewed)
	if err != nil {
		return nil, err
	}
	replaced, err := s.deps.Store.Replace(ctx, storeKey(current.Key), encoded, s.ttl(&renewed))
	switch {
	case err != nil:
		return nil, unavailable(err)
	case !replaced:
		return nil, ErrNone
	}
	return &renewed, nil
}

// rejoin lists the session anew. late: it became part of another sign-in at the
// provider, and a logout of that one came before it could be found there.
func (s *Sessions) rejoin(ctx context.Context, current, renewed *Session) (late bool, err error) {
	if err := s.enlist(ctx, renewed); err != nil {
		return false, err
	}
	if renewed.Tokens.SessionID == current.Tokens.SessionID {
		return false, nil
	}
	return s.late(ctx, renewed)
}

// endedByProvider returns [ErrNone], or why the session could not be ended.
func (s *Sessions) endedByProvider(ctx context.Context, current *Session) error {
	s.deps.Logger.InfoContext(ctx, "session ended by the provider", "identity", current.Identity.Key()[:12])
	if err := s.End(ctx, current.Key); err != nil {
		return err
	}
	if s.deps.Ended != nil {
		s.deps.Ended(ctx, current.Key)
	}
	return ErrNone
}

func refreshLock(key string) string { return "refresh:" + key }

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

func (b *backoff) note(key string, now time.Time, pause time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.until) >= backoffLimit || b.until == nil {
		b.until = make(map[string]time.Time)
	}
	b.until[key] = now.Add(pause)
}
