package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// Sealed encrypts and authenticates values and messages on their way into
// another store, with the name of their key (or channel) bound into them:
// whoever can write to Redis cannot read a value, change a bit of it, or put
// one session's value under another's key, and a reply that reached the wrong
// request is refused. All of that is [ErrSealed].
//
// What it does not do: keys, sets and lock owners are not sealed; an older value
// of the same key, put back by hand, opens; the length of a value shows; and
// whoever can write to Redis can delete.
type Sealed struct {
	inner  Store
	ring   *ring
	logger *slog.Logger
}

// NewSealed wraps inner, which it owns from then on. keys are the ring, newest
// first, at least 32 bytes each. scope goes into the binding as well: stores
// with different scopes cannot open each other's values, even with one ring.
func NewSealed(inner Store, keys []secret.Text, scope string, deps Deps) (*Sealed, error) {
	ring, err := newRing(keys, scope, deps.Rand)
	if err != nil {
		return nil, err
	}
	return &Sealed{inner: inner, ring: ring, logger: deps.Logger}, nil
}

// open opens a stored value, and tells the operator of one that was put there by
// somebody else: whoever asked only knows that there is none.
func (s *Sealed) open(ctx context.Context, key string, sealed []byte) ([]byte, error) {
	value, err := s.ring.open(sealedValue, key, sealed)
	if err != nil {
		kind, name, _ := strings.Cut(key, ":")
		s.logger.WarnContext(ctx, "a stored value was altered, moved or sealed with an unknown key; it is refused",
			"kind", kind, "name", name[:min(8, len(name))], "error", err.Error())
	}
	return value, err
}

// Get implements [Values]; it may fail with [ErrSealed].
func (s *Sealed) Get(ctx context.Context, key string) ([]byte, error) {
	sealed, err := s.inner.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	return s.open(ctx, key, sealed)
}

// Recent implements [Values]; it may fail with [ErrSealed].
func (s *Sealed) Recent(ctx context.Context, key string) ([]byte, error) {
	sealed, err := s.inner.Recent(ctx, key)
	if err != nil {
		return nil, err
	}
	return s.open(ctx, key, sealed)
}

// Set implements [Values].
func (s *Sealed) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	sealed, err := s.ring.seal(sealedValue, key, value)
	if err != nil {
		return err
	}
	return s.inner.Set(ctx, key, sealed, ttl)
}

// SetIfAbsent implements [Values].
func (s *Sealed) SetIfAbsent(ctx context.Context, key string, value []byte, ttl time.Duration) (bool, error) {
	sealed, err := s.ring.seal(sealedValue, key, value)
	if err != nil {
		return false, err
	}
	return s.inner.SetIfAbsent(ctx, key, sealed, ttl)
}

// Replace implements [Values].
func (s *Sealed) Replace(ctx context.Context, key string, value []byte, ttl time.Duration) (bool, error) {
	sealed, err := s.ring.seal(sealedValue, key, value)
	if err != nil {
		return false, err
	}
	return s.inner.Replace(ctx, key, sealed, ttl)
}

// Touch implements [Values]. It does not look at the value.
func (s *Sealed) Touch(ctx context.Context, key string, ttl time.Duration) (bool, error) {
	return s.inner.Touch(ctx, key, ttl)
}

// Take implements [Values]. A value refused with [ErrSealed] is gone.
func (s *Sealed) Take(ctx context.Context, key string) ([]byte, error) {
	sealed, err := s.inner.Take(ctx, key)
	if err != nil {
		return nil, err
	}
	return s.open(ctx, key, sealed)
}

// Delete implements [Values].
func (s *Sealed) Delete(ctx context.Context, key string) error { return s.inner.Delete(ctx, key) }

// Keys implements [Values]. It does not look at the values.
func (s *Sealed) Keys(ctx context.Context, prefix string, each func(key string) error) error {
	return s.inner.Keys(ctx, prefix, each)
}

// Add implements [Sets].
func (s *Sealed) Add(ctx context.Context, set, member string, ttl time.Duration) error {
	return s.inner.Add(ctx, set, member, ttl)
}

// Remove implements [Sets].
func (s *Sealed) Remove(ctx context.Context, set, member string) error {
	return s.inner.Remove(ctx, set, member)
}

// Members implements [Sets].
func (s *Sealed) Members(ctx context.Context, set string) ([]string, error) {
	return s.inner.Members(ctx, set)
}

// Publish implements [Messages].
func (s *Sealed) Publish(ctx context.Context, channel string, payload []byte) error {
	sealed, err := s.ring.seal(sealedMessage, channel, payload)
	if err != nil {
		return err
	}
	return s.inner.Publish(ctx, channel, sealed)
}

// Subscribe implements [Messages]. Messages that are refused are logged and
// left out; one that is played again is not noticed.
func (s *Sealed) Subscribe(ctx context.Context, channel string) (<-chan []byte, error) {
	return s.Watch(ctx, channel, func(bool) {})
}

// Watch implements [Messages]. A message that is refused is a lost one.
func (s *Sealed) Watch(ctx context.Context, channel string, standing func(bool)) (<-chan []byte, error) {
	told := teller{standing: standing} // the store inside and the goroutine below both tell
	sealed, err := s.inner.Watch(ctx, channel, told.tell)
	if err != nil {
		return nil, err
	}
	opened := make(chan []byte, backlog)
	go func() { // ends with sealed
		defer close(opened)
		for message := range sealed {
			payload, err := s.ring.open(sealedMessage, channel, message)
			if err != nil {
				s.logger.WarnContext(ctx, "message refused", "channel", channel, "error", err.Error())
				told.lost()
				continue
			}
			select {
			case opened <- payload:
			default: // too slow: at most once, and nobody waits for it
				told.lost()
			}
		}
	}()
	return opened, nil
}

// Lock implements [Store].
func (s *Sealed) Lock(ctx context.Context, key string, ttl time.Duration) (*Lease, error) {
	return s.inner.Lock(ctx, key, ttl)
}

// Durable implements [Store].
func (s *Sealed) Durable() bool { return s.inner.Durable() }

// Ready implements [Store].
func (s *Sealed) Ready(ctx context.Context) error { return s.inner.Ready(ctx) }

// Close implements [Store]; it closes the store inside.
func (s *Sealed) Close() error { return s.inner.Close() }

var errNoKeys = errors.New("store: no seal keys")

func newRing(keys []secret.Text, scope string, random io.Reader) (*ring, error) {
	if len(keys) == 0 {
		return nil, errNoKeys
	}
	r := &ring{scope: scope, rand: random, keys: make(map[keyID]sealKey, len(keys))}
	for i, key := range keys {
		one, err := deriveKey(key)
		if err != nil {
			return nil, fmt.Errorf("seal_keys[%d]: %w", i, err)
		}
		if _, known := r.keys[one.id]; known {
			return nil, fmt.Errorf("seal_keys[%d]: %w", i, errSameKey)
		}
		if i == 0 {
			r.newest = one
		}
		r.keys[one.id] = one
	}
	return r, nil
}
