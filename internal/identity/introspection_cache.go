package identity

import (
	"container/list"
	"sync"
	"time"
)

// answerCache keeps a bounded number of answers, of bounded size in all, for a
// bounded time; the one not used for longest makes room. Keys are hashes: no token
// is kept.
type answerCache[T any] struct {
	size, heaviest int

	mu     sync.Mutex
	byKey  map[string]*list.Element
	order  *list.List // of *cacheEntry[T], most recently used first
	weight int
}

type cacheEntry[T any] struct {
	key         string
	value       T
	weight      int
	since, till time.Time
}

// newAnswerCache bounds by number and by the sum of the weights.
func newAnswerCache[T any](size, heaviest int) *answerCache[T] {
	return &answerCache[T]{size: size, heaviest: heaviest, byKey: map[string]*list.Element{}, order: list.New()}
}

// get returns what is kept under key and still good at now. A clock that was set
// back makes everything kept before count as old.
func (c *answerCache[T]) get(key string, now time.Time) (value T, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, ok := c.byKey[key]
	if !ok {
		return value, false
	}
	kept, _ := found.Value.(*cacheEntry[T])
	if now.Before(kept.since) || !now.Before(kept.till) {
		c.remove(found)
		return value, false
	}
	c.order.MoveToFront(found)
	return kept.value, true
}

// put keeps value from now until till; nothing if that is over, or too heavy.
func (c *answerCache[T]) put(key string, value T, weight int, now, till time.Time) {
	if !now.Before(till) || weight > c.heaviest {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.byKey[key]; ok {
		c.remove(old)
	}
	for c.order.Len() > 0 && (c.order.Len() >= c.size || c.weight+weight > c.heaviest) {
		c.remove(c.order.Back())
	}
	c.byKey[key] = c.order.PushFront(&cacheEntry[T]{key, value, weight, now, till})
	c.weight += weight
}

// remove takes an element out; the caller holds mu.
func (c *answerCache[T]) remove(old *list.Element) {
	kept, _ := c.order.Remove(old).(*cacheEntry[T])
	delete(c.byKey, kept.key)
	c.weight -= kept.weight
}
