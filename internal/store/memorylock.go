package store

import (
	"context"
	"crypto/rand"
	"sync"
	"time"
)

// memoryLocks are the locks of one process. They are not bounded: each belongs
// to a lease somebody holds, and one that ran out goes when others are taken.
type memoryLocks struct {
	mu   sync.Mutex
	last uint64 // the highest token given
	held map[string]memoryLock
}

type memoryLock struct {
	owner   string
	token   uint64
	expires time.Time
}

// Lock implements [Store].
func (m *Memory) Lock(ctx context.Context, key string, ttl time.Duration) (*Lease, error) {
	return m.leases.acquire(ctx, memoryEngine{m}, key, rand.Text(), ttl)
}

type memoryEngine struct{ *Memory }

func (m memoryEngine) tryLock(_ context.Context, key, owner string, ttl time.Duration) (uint64, bool, error) {
	now := m.clock()
	s := &m.locks
	s.mu.Lock()
	defer s.mu.Unlock()
	if lock, ok := s.held[key]; ok && now.Before(lock.expires) {
		return 0, true, nil
	}
	for other, lock := range s.held { // a few per call keep the map clean
		if now.Before(lock.expires) {
			break
		}
		delete(s.held, other)
	}
	// The time makes tokens grow across restarts, as Redis's do.
	s.last = max(s.last+1, uint64(max(0, now.UnixMicro())))
	s.held[key] = memoryLock{owner: owner, token: s.last, expires: now.Add(ttl)}
	return s.last, false, nil
}

func (m memoryEngine) renewLock(_ context.Context, key, owner string, ttl time.Duration) (bool, error) {
	now := m.clock()
	s := &m.locks
	s.mu.Lock()
	defer s.mu.Unlock()
	lock, ok := s.held[key]
	if !ok || lock.owner != owner || !now.Before(lock.expires) {
		return false, nil
	}
	lock.expires = now.Add(ttl)
	s.held[key] = lock
	return true, nil
}

func (m memoryEngine) unlock(_ context.Context, key, owner string) error {
	s := &m.locks
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[key].owner == owner {
		delete(s.held, key)
	}
	return nil
}
