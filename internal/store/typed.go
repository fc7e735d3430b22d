package store

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Backend is what [Typed] needs of a store.
type Backend interface {
	Get(ctx context.Context, key string) ([]byte, error)
	Touch(ctx context.Context, key string, ttl time.Duration) (bool, error)
}

// Typed reads values of one type. It asks the backend every time, so it never
// shows a value that is gone or changed, but it decodes each version of a value
// only once: decoding is what would make a session look-up slow.
//
// Decoded values are shared: nobody may modify what Get returns.
type Typed[T any] struct {
	backend Backend
	decode  func(key string, raw []byte) (*T, error)

	mu      sync.RWMutex
	decoded map[string]*version[T]
	limit   int
}

// version is one decoded value and when this process last gave it a new ttl.
type version[T any] struct {
	raw     []byte
	value   *T
	touched atomic.Int64 // Unix nanoseconds
}

// NewTyped returns a view that remembers at most limit decoded values.
func NewTyped[T any](backend Backend, limit int, decode func(key string, raw []byte) (*T, error)) *Typed[T] {
	return &Typed[T]{backend: backend, decode: decode, limit: limit, decoded: make(map[string]*version[T])}
}

// Get returns the value under key, or an error that wraps [ErrNotFound].
func (t *Typed[T]) Get(ctx context.Context, key string) (*T, error) {
	v, err := t.get(ctx, key)
	if err != nil {
		return nil, err
	}
	return v.value, nil
}

// GetSliding is Get that also keeps the value alive for ttl from now. To spare
// the backend it does so at most once per step and key in this process, so a
// value may expire up to one step early.
func (t *Typed[T]) GetSliding(ctx context.Context, key string, now time.Time, step time.Duration, ttl func(*T) time.Duration) (*T, error) {
	v, err := t.get(ctx, key)
	if err != nil {
		return nil, err
	}
	last := v.touched.Load()
	// A clock stepped back would stop the sliding for that long: touch then too.
	if since := now.UnixNano() - last; since >= 0 && since < int64(step) {
		return v.value, nil
	}
	if !v.touched.CompareAndSwap(last, now.UnixNano()) {
		return v.value, nil // somebody else is at it
	}
	alive, err := t.backend.Touch(ctx, key, ttl(v.value))
	if err != nil {
		return nil, err
	}
	if !alive {
		return nil, ErrNotFound
	}
	return v.value, nil
}

func (t *Typed[T]) get(ctx context.Context, key string) (*version[T], error) {
	raw, err := t.backend.Get(ctx, key)
	if err != nil {
		t.Forget(key)
		return nil, err
	}
	t.mu.RLock()
	known := t.decoded[key]
	t.mu.RUnlock()
	if known != nil && bytes.Equal(known.raw, raw) {
		return known, nil
	}
	value, err := t.decode(key, raw)
	if err != nil {
		return nil, fmt.Errorf("decode stored value: %w", err)
	}
	fresh := &version[T]{raw: raw, value: value}
	if known != nil {
		fresh.touched.Store(known.touched.Load())
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.decoded) >= t.limit {
		for victim := range t.decoded { // any will do: losing one costs a decode
			delete(t.decoded, victim)
			break
		}
	}
	t.decoded[key] = fresh
	return fresh, nil
}

// Forget drops the decoded value, not the stored one.
func (t *Typed[T]) Forget(key string) {
	t.mu.RLock()
	_, known := t.decoded[key]
	t.mu.RUnlock()
	if !known {
		return
	}
	t.mu.Lock()
	delete(t.decoded, key)
	t.mu.Unlock()
}
