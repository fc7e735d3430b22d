package store

import (
	"container/heap"
	"container/list"
	"context"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"time"
)

const shardCount = 32

// Memory is a bounded, expiring map. All methods may be called concurrently.
// Its context arguments and errors exist for the sake of stores that can fail;
// Memory itself never blocks on more than a mutex (except in [Memory.Lock]) and
// fails only with [ErrNotFound] and [ErrLocked], and with ctx's error in
// [Memory.Keys].
type Memory struct {
	clock    func() time.Time
	seed     maphash.Seed
	shards   [shardCount]shard
	sets     memorySets
	locks    memoryLocks
	channels memoryChannels
	leases   leases
}

// NewMemory returns an empty store of at most cfg.MaxEntries values.
func NewMemory(cfg Config, clock func() time.Time) *Memory {
	m := &Memory{clock: clock, seed: maphash.MakeSeed()}
	m.sets.init(max(1, 2*cfg.MaxEntries)) // a session is one value and in two sets
	m.locks.held = make(map[string]memoryLock)
	m.channels.open = make(map[string]map[*memorySubscription]struct{})
	m.leases.init()
	for i := range m.shards {
		m.shards[i] = shard{
			limit:   max(1, cfg.MaxEntries/shardCount),
			entries: make(map[string]*entry),
			recent:  list.New(),
		}
	}
	return m
}

// Durable is false: a restart forgets everything.
func (m *Memory) Durable() bool { return false }

// Ready is always nil.
func (m *Memory) Ready(context.Context) error { return nil }

// Close ends subscriptions and stops renewing leases. Values stay readable: a
// request that is still running may finish.
func (m *Memory) Close() error {
	m.channels.close()
	m.leases.close()
	return nil
}

// Get returns the value, which the caller must not modify.
func (m *Memory) Get(_ context.Context, key string) ([]byte, error) {
	s := m.lock(key)
	defer s.mu.Unlock()
	e := s.live(key, m.clock())
	if e == nil {
		return nil, ErrNotFound
	}
	s.recent.MoveToFront(e.place)
	return e.value, nil
}

// Recent is Get.
func (m *Memory) Recent(ctx context.Context, key string) ([]byte, error) { return m.Get(ctx, key) }

// Set stores value, which the store owns from then on, for ttl; a ttl of zero
// means until it is evicted or deleted.
func (m *Memory) Set(_ context.Context, key string, value []byte, ttl time.Duration) error {
	s := m.lock(key)
	defer s.mu.Unlock()
	s.put(key, value, m.clock(), ttl)
	return nil
}

// SetIfAbsent stores value only where there is none, and reports whether it did.
func (m *Memory) SetIfAbsent(_ context.Context, key string, value []byte, ttl time.Duration) (bool, error) {
	s := m.lock(key)
	defer s.mu.Unlock()
	now := m.clock()
	if s.live(key, now) != nil {
		return false, nil
	}
	s.put(key, value, now, ttl)
	return true, nil
}

// Replace stores value only where there is one already, and reports whether it
// did: a slow writer must not bring a deleted session back to life.
func (m *Memory) Replace(_ context.Context, key string, value []byte, ttl time.Duration) (bool, error) {
	s := m.lock(key)
	defer s.mu.Unlock()
	now := m.clock()
	if s.live(key, now) == nil {
		return false, nil
	}
	s.put(key, value, now, ttl)
	return true, nil
}

// Touch gives a live value a new ttl, and reports whether there was one.
func (m *Memory) Touch(_ context.Context, key string, ttl time.Duration) (bool, error) {
	s := m.lock(key)
	defer s.mu.Unlock()
	now := m.clock()
	e := s.live(key, now)
	if e == nil {
		return false, nil
	}
	s.expireAt(e, now, ttl)
	s.recent.MoveToFront(e.place)
	return true, nil
}

// Take returns a value and deletes it, so that of several callers one gets it.
func (m *Memory) Take(_ context.Context, key string) ([]byte, error) {
	s := m.lock(key)
	defer s.mu.Unlock()
	e := s.live(key, m.clock())
	if e == nil {
		return nil, ErrNotFound
	}
	s.remove(e)
	return e.value, nil
}

// Delete removes the value if there is one.
func (m *Memory) Delete(_ context.Context, key string) error {
	s := m.lock(key)
	defer s.mu.Unlock()
	if e := s.entries[key]; e != nil {
		s.remove(e)
	}
	return nil
}

// Keys calls each without holding a lock: each may use the store.
func (m *Memory) Keys(ctx context.Context, prefix string, each func(key string) error) error {
	for i := range m.shards {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("store: list keys: %w", err)
		}
		for _, key := range m.shards[i].keys(prefix, m.clock()) {
			if err := each(key); err != nil {
				return err
			}
		}
	}
	return nil
}

// Len counts the entries held, including expired ones not yet swept.
func (m *Memory) Len() int {
	total := 0
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		total += len(s.entries)
		s.mu.Unlock()
	}
	return total
}

func (m *Memory) lock(key string) *shard {
	s := &m.shards[maphash.String(m.seed, key)%shardCount]
	s.mu.Lock()
	return s
}

// shard is one independently locked part. Invariants: every entry is in
// entries and recent; it is in expiring exactly if it has an expiry;
// len(entries) <= limit.
type shard struct {
	mu       sync.Mutex
	limit    int
	entries  map[string]*entry
	recent   *list.List // front: most recently used
	expiring expiryHeap // top: first to expire
}

type entry struct {
	key     string
	value   []byte
	expires time.Time // zero: never
	place   *list.Element
	index   int // in shard.expiring, -1 if not there
}

// live returns the entry unless it is missing or expired.
func (s *shard) live(key string, now time.Time) *entry {
	e := s.entries[key]
	if e == nil {
		return nil
	}
	if !e.expires.IsZero() && !now.Before(e.expires) {
		s.remove(e)
		return nil
	}
	return e
}

// keys lists the live keys with a prefix. Being listed is not being used.
func (s *shard) keys(prefix string, now time.Time) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for key, e := range s.entries {
		if strings.HasPrefix(key, prefix) && (e.expires.IsZero() || now.Before(e.expires)) {
			keys = append(keys, key)
		}
	}
	return keys
}

func (s *shard) put(key string, value []byte, now time.Time, ttl time.Duration) {
	e := s.entries[key]
	if e == nil {
		s.makeRoom(now)
		e = &entry{key: key, index: -1}
		e.place = s.recent.PushFront(e)
		s.entries[key] = e
	} else {
		s.recent.MoveToFront(e.place)
	}
	e.value = value
	s.expireAt(e, now, ttl)
}

// makeRoom drops what has expired, and if that is not enough what was used
// longest ago. Expired entries leave here, so writing keeps the store clean
// and no sweeper has to run.
func (s *shard) makeRoom(now time.Time) {
	for len(s.expiring) > 0 && !now.Before(s.expiring[0].expires) {
		s.remove(s.expiring[0])
	}
	for len(s.entries) >= s.limit {
		s.remove(s.recent.Back().Value.(*entry)) //nolint:errcheck // the list holds nothing else
	}
}

func (s *shard) expireAt(e *entry, now time.Time, ttl time.Duration) {
	switch {
	case ttl <= 0 && e.index >= 0:
		heap.Remove(&s.expiring, e.index)
		e.expires = time.Time{}
	case ttl <= 0:
		e.expires = time.Time{}
	case e.index >= 0:
		e.expires = now.Add(ttl)
		heap.Fix(&s.expiring, e.index)
	default:
		e.expires = now.Add(ttl)
		heap.Push(&s.expiring, e)
	}
}

func (s *shard) remove(e *entry) {
	delete(s.entries, e.key)
	s.recent.Remove(e.place)
	if e.index >= 0 {
		heap.Remove(&s.expiring, e.index)
	}
}

// expiryHeap implements [heap.Interface], earliest expiry on top.
type expiryHeap []*entry

func (h expiryHeap) Len() int           { return len(h) }
func (h expiryHeap) Less(i, j int) bool { return h[i].expires.Before(h[j].expires) }
func (h expiryHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *expiryHeap) Push(x any) {
	e := x.(*entry) //nolint:errcheck // the heap holds nothing else
	e.index = len(*h)
	*h = append(*h, e)
}

func (h *expiryHeap) Pop() any {
	old := *h
	last := len(old) - 1
	e := old[last]
	old[last] = nil
	*h = old[:last]
	e.index = -1
	return e
}
