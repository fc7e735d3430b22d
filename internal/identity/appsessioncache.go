package identity

import (
	"container/list"
	"sync"
	"time"
)

const (
	maxCached       = 10_000
	maxCachedWeight = 16 << 20 // bytes of JSON
	entryWeight     = 256      // what an entry takes besides its JSON, about
)

// appCache keeps the most recently used answers of the app. What is over is
// never returned. It is bounded by number and by the bytes of JSON the answers
// came from, whatever cookies are sent.
type appCache struct {
	mu     sync.Mutex
	byKey  map[string]*list.Element
	recent *list.List // of *cached, the most recently used in front
	weight int
}

type cached struct {
	key    string
	answer appAnswer
	until  time.Time
}

func newAppCache() *appCache {
	return &appCache{byKey: map[string]*list.Element{}, recent: list.New()}
}

func (c *appCache) get(key string, now time.Time) (appAnswer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.byKey[key]
	if !ok {
		return appAnswer{}, false
	}
	entry := element.Value.(*cached) //nolint:errcheck,forcetypeassert // the list has nothing else
	if !now.Before(entry.until) {
		c.remove(element)
		return appAnswer{}, false
	}
	c.recent.MoveToFront(element)
	return entry.answer, true
}

func (c *appCache) put(key string, answer appAnswer, until, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.byKey[key]; ok {
		c.remove(old)
	}
	c.byKey[key] = c.recent.PushFront(&cached{key, answer, until})
	c.weight += answer.weight + entryWeight
	for last := c.recent.Back(); last != nil; last = c.recent.Back() {
		entry := last.Value.(*cached) //nolint:errcheck,forcetypeassert // the list has nothing else
		if c.recent.Len() <= maxCached && c.weight <= maxCachedWeight && now.Before(entry.until) {
			return
		}
		c.remove(last)
	}
}

func (c *appCache) remove(element *list.Element) {
	entry := c.recent.Remove(element).(*cached) //nolint:errcheck,forcetypeassert // the list has nothing else
	delete(c.byKey, entry.key)
	c.weight -= entry.answer.weight + entryWeight
}
