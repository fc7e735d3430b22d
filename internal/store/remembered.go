package store

import (
	"hash/maphash"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// rememberedLimit bounds the values of a read cache: about 20 MB of sessions,
	// and with two seconds 5,000 different sessions a second.
	rememberedLimit = 10_000
	// rememberedParts is in how many parts it is locked.
	rememberedParts = 64
)

// remembered are values as the store had them not longer ago than interval, and
// not before anything that is known to have changed them.
//
// Invariant: a value is kept only if, since somebody began to read it from the
// store, nobody forgot its part and the subscription stood all the while. So
// a slow read that overlaps with a write never puts the old value back.
type remembered struct {
	interval time.Duration
	// era is odd while the subscription stands. It grows with every change of that.
	era   atomic.Uint64
	seed  maphash.Seed
	parts [rememberedParts]rememberedPart
}

// rememberedPart keeps what was read lately in young; what it was when young was
// full or an interval old, in old. What is older still is dropped with the map.
type rememberedPart struct {
	mu         sync.RWMutex
	young, old map[string]moment
	begun      time.Time // of young
	// changes counts what was forgotten.
	changes uint64
}

// moment is a value and when somebody began to read it.
type moment struct {
	value []byte
	at    time.Time
}

// reading is what must not have changed between the beginning and the end of a
// read for its result to be remembered.
type reading struct {
	at           time.Time
	era, changes uint64
}

func newRemembered(interval time.Duration) *remembered {
	return &remembered{interval: interval, seed: maphash.MakeSeed()}
}

// look returns the value if it is remembered; else what to begin a read with, and
// whether its result can be remembered at all.
func (r *remembered) look(key string, now time.Time) (value []byte, hit bool, begun reading, standing bool) {
	begun = reading{at: now, era: r.era.Load()}
	if begun.era%2 == 0 {
		return nil, false, begun, false
	}
	part := r.part(key)
	part.mu.RLock()
	defer part.mu.RUnlock()
	begun.changes = part.changes
	found, known := part.young[key]
	if !known {
		found, known = part.old[key]
	}
	if known && within(now.Sub(found.at), r.interval) && within(now.Round(0).Sub(found.at.Round(0)), r.interval) {
		return found.value, true, begun, true
	}
	return nil, false, begun, true
}

// within is asked of both clocks, monotonic and wall: the first stands still while
// a machine sleeps, the second may be set.
func within(age, interval time.Duration) bool { return age >= 0 && age < interval }

// keep remembers what a read that began with begun found.
func (r *remembered) keep(key string, value []byte, begun reading) {
	part := r.part(key)
	part.mu.Lock()
	defer part.mu.Unlock()
	if begun.changes != part.changes || begun.era != r.era.Load() || begun.era%2 == 0 {
		return
	}
	if part.young == nil || len(part.young) >= rememberedLimit/rememberedParts/2 || !within(begun.at.Sub(part.begun), r.interval) {
		part.young, part.old, part.begun = make(map[string]moment), part.young, begun.at
	}
	part.young[key] = moment{value, begun.at}
}

// drop drops a value that a read did not find any more.
func (r *remembered) drop(key string) {
	part := r.part(key)
	part.mu.Lock()
	defer part.mu.Unlock()
	delete(part.young, key)
	delete(part.old, key)
}

// forget drops a value that was changed, and what reads bring that began before.
func (r *remembered) forget(key string) {
	part := r.part(key)
	part.mu.Lock()
	defer part.mu.Unlock()
	part.changes++
	delete(part.young, key)
	delete(part.old, key)
}

// standing notes whether messages arrive. Either way everything is forgotten:
// something may have been missed until now.
func (r *remembered) standing(stands bool) {
	if era := r.era.Load(); (era%2 == 1) != stands {
		r.era.Store(era + 1)
	}
	for i := range r.parts {
		part := &r.parts[i]
		part.mu.Lock()
		part.changes++
		part.young, part.old = nil, nil
		part.mu.Unlock()
	}
}

func (r *remembered) part(key string) *rememberedPart {
	return &r.parts[maphash.String(r.seed, key)%rememberedParts]
}

// name of the reads that may share one answer.
func (b reading) name(key string) string {
	return strconv.FormatUint(b.era, 36) + " " + strconv.FormatUint(b.changes, 36) + " " + key
}
