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
	Recent(ctx context.Context, key string) ([]byte, error)
	Touch(ctx context.Context, key string, ttl time.Duration) (bool, error)
}

// Typed reads values of one type. It asks the backend every time, so it never
// shows a value that the backend would not, but it decodes each version of a value
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
	v, err := t.decoding(ctx, key, t.backend.Get)
	if err != nil {
		return nil, err
	}
	return v.value, nil
}

// Recent is Get by the backend's Recent.
func (t *Typed[T]) Recent(ctx context.Context, key string) (*T, error) {
	v, err := t.decoding(ctx, key, t.backend.Recent)
	if err != nil {
		return nil, err
	}
	return v.value, nil
}

// Sliding says how a value is kept alive: for TTL from each use. To spare the
// backend it is told at most once per Step and key in this process, so a value may
// expire up to one step early.
type Sliding[T any] struct {
	Now  time.Time
	Step time.Duration
	TTL  func(*T) time.Duration
	// Kept, if not nil, is called each time the backend was told: for what should
	// be kept as long as the value.
	Kept func(context.Context, *T)
}

// GetSliding is Get that also keeps the value alive.
func (t *Typed[T]) GetSliding(ctx context.Context, key string, by Sliding[T]) (*T, error) {
	v, err := t.decoding(ctx, key, t.backend.Get)
	if err != nil {
		return nil, err
	}
	return t.slide(ctx, key, v, by)
}

// RecentSliding is Recent that also keeps the value alive.
func (t *Typed[T]) RecentSliding(ctx context.Context, key string, by Sliding[T]) (*T, error) {
	v, err := t.decoding(ctx, key, t.backend.Recent)
	if err != nil {
		return nil, err
	}
	return t.slide(ctx, key, v, by)
}

func (t *Typed[T]) slide(ctx context.Context, key string, v *version[T], by Sliding[T]) (*T, error) {
	last, now := v.touched.Load(), by.Now.UnixNano()
	// A clock stepped back would stop the sliding for that long: touch then too.
	if since := now - last; since >= 0 && since < int64(by.Step) {
		return v.value, nil
	}
	if !v.touched.CompareAndSwap(last, now) {
		return v.value, nil // somebody else is at it
	}
	alive, err := t.backend.Touch(ctx, key, by.TTL(v.value))
	if err != nil {
		v.touched.CompareAndSwap(now, last) // the next use tries again
		return nil, err
	}
	if !alive {
		return nil, ErrNotFound
	}
	if by.Kept != nil {
		by.Kept(ctx, v.value)
	}
	return v.value, nil
}

// decoding reads a value and decodes it, unless it is the one of before.
func (t *Typed[T]) decoding(ctx context.Context, key string, read func(context.Context, string) ([]byte, error)) (*version[T], error) {
	raw, err := read(ctx, key)
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
