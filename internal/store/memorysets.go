package store

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// memorySets hold memberships, newest first in recent. Invariants: every
// membership is in sets and in recent; recent.Len() <= limit; no set is empty.
type memorySets struct {
	mu     sync.Mutex
	limit  int
	sets   map[string]map[string]*list.Element
	recent *list.List
}

type membership struct {
	set, member string
	expires     time.Time // zero: never
}

func membershipAt(place *list.Element) *membership {
	return place.Value.(*membership) //nolint:errcheck // the list holds nothing else
}

func (m *membership) live(now time.Time) bool { return m.expires.IsZero() || now.Before(m.expires) }

func (s *memorySets) init(limit int) {
	s.limit, s.recent = limit, list.New()
	s.sets = make(map[string]map[string]*list.Element)
}

// Add implements [Sets]. All sets together have at most twice Config.MaxEntries
// members; the one added longest ago makes room, and adding one again counts: whoever
// needs a membership for long adds it now and then.
func (m *Memory) Add(_ context.Context, set, member string, ttl time.Duration) error {
	now := m.clock()
	one := &membership{set: set, member: member}
	if ttl > 0 {
		one.expires = now.Add(ttl)
	}
	s := &m.sets
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.sets[set][member]; known != nil {
		s.remove(known)
	}
	for last := s.recent.Back(); last != nil; last = s.recent.Back() {
		if s.recent.Len() < s.limit && membershipAt(last).live(now) {
			break
		}
		s.remove(last)
	}
	if s.sets[set] == nil {
		s.sets[set] = make(map[string]*list.Element)
	}
	s.sets[set][member] = s.recent.PushFront(one)
	return nil
}

// Remove implements [Sets].
func (m *Memory) Remove(_ context.Context, set, member string) error {
	s := &m.sets
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.sets[set][member]; known != nil {
		s.remove(known)
	}
	return nil
}

// Members implements [Sets].
func (m *Memory) Members(_ context.Context, set string) ([]string, error) {
	now := m.clock()
	s := &m.sets
	s.mu.Lock()
	defer s.mu.Unlock()
	var members []string
	for member, place := range s.sets[set] {
		if !membershipAt(place).live(now) {
			s.remove(place)
			continue
		}
		members = append(members, member)
	}
	return members, nil
}

func (s *memorySets) remove(place *list.Element) {
	one := membershipAt(place)
	s.recent.Remove(place)
	delete(s.sets[one.set], one.member)
	if len(s.sets[one.set]) == 0 {
		delete(s.sets, one.set)
	}
}
