package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// settle is the longest time that whoever signs in is expected to take from a
// 401 to the call that acts on it, [Whisp.Register] or [Whisp.ProbeKey].
const settle = 5 * time.Second

// keys are the API keys in order of preference. The one in use is the first that
// is not set aside. A key is set aside when Whisp refuses it, and comes back
// only when a probe shows it good: at most one probe per key and retry, made by
// whoever comes first, while the others go on without that key.
//
//	usable ── refused ──► aside ── retry later ──► being tried ── good ──► usable
//	                        ▲                           │
//	                        └── refused, or no answer ──┘
//
// What an exchange tells of a key is ordered by when it began: news that is
// older than what is known changes nothing.
type keys struct {
	clock   func() time.Time
	logger  *slog.Logger
	metrics *Metrics

	mu     sync.Mutex
	retry  time.Duration
	list   []*key
	events moment
	doubts []doubt
}

// moment orders what happens to keys; the first is 1.
type moment int64

type key struct {
	text secret.Text
	turn chan struct{} // holds one: whose turn it is to verify

	// Guarded by keys.mu.
	proven  moment // when the latest exchange that showed the key good began
	refused moment // when the latest that showed it refused began
	aside   bool
	until   time.Time // when one that is aside may be tried again
	trying  bool
}

// doubt is a sign-in that was refused with a key that nothing has proven good
// since. There is at most one for each key.
type doubt struct {
	key *key
	at  time.Time
	// after is the moment of it.
	after moment
}

// now returns a new moment, later than all before.
func (k *keys) now() moment {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.next()
}

func (k *keys) next() moment {
	k.events++
	return k.events
}

// setRetry changes for how long keys are set aside from now on.
func (k *keys) setRetry(retry time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.retry = retry
}

// set replaces the list. A key that was listed before keeps its state.
func (k *keys) set(texts []secret.Text) {
	k.mu.Lock()
	old := k.list
	k.list = make([]*key, len(texts))
	for i, text := range texts {
		k.list[i] = find(text, old, k.list[:i])
	}
	news := old != nil && !slices.Equal(old, k.list)
	position := k.position()
	k.mu.Unlock()
	if news {
		k.logger.Info("API keys of whisp.api_keys replaced", slog.Int("keys", len(texts)), slog.Int("position_in_use", position))
	}
}

// find returns the key with that text, or a new one.
func find(text secret.Text, lists ...[]*key) *key {
	for _, list := range lists {
		for _, one := range list {
			if one.text.Equal(text) {
				return one
			}
		}
	}
	return &key{text: text, turn: make(chan struct{}, 1)}
}

// position returns the 1-based position of the key in use, 0 if none is
// usable, and puts it into the metric. k.mu is held.
func (k *keys) position() int {
	position := 0
	if one := k.first(); one != nil {
		position = k.positionOf(one)
	}
	k.metrics.position.Set(float64(position))
	return position
}

// positionOf returns 0 for a key that is not listed any more. k.mu is held.
func (k *keys) positionOf(one *key) int {
	for i := range k.list {
		if k.list[i] == one {
			return i + 1
		}
	}
	return 0
}

// first returns the key in use, nil if none is usable. k.mu is held.
func (k *keys) first() *key {
	for _, one := range k.list {
		if !one.aside {
			return one
		}
	}
	return nil
}

// inUse returns the key in use, nil if none is usable.
func (k *keys) inUse() *key {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.first()
}

// only reports whether no key but this one is listed.
func (k *keys) only(one *key) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, listed := range k.list {
		if listed != one {
			return false
		}
	}
	return true
}

// choose returns the key to use. If it is due the caller must probe it first
// and then call tried and choose again: it is set aside, preferred to every
// usable one, and its time has come. Without any key to use or to try, wait
// says when there will be one to try.
func (k *keys) choose() (one *key, due bool, wait time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.clock()
	wait = k.retry
	for _, one := range k.list {
		switch {
		case !one.aside:
			return one, false, 0
		case one.trying:
			wait = min(wait, time.Second)
		case !now.Before(one.until):
			one.trying, one.until = true, now.Add(k.retry)
			return one, true, 0
		default:
			wait = min(wait, one.until.Sub(now))
		}
	}
	return nil, false, wait
}

// tried ends what choose began.
func (k *keys) tried(one *key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	one.trying = false
}

// good notes that an exchange that began then showed the key good.
func (k *keys) good(one *key, began moment) {
	k.mu.Lock()
	one.proven = max(one.proven, began)
	back := one.aside && began > one.refused
	if back {
		one.aside = false
	}
	at, inUse := k.positionOf(one), k.position()
	k.mu.Unlock()
	if back && at > 0 {
		k.logger.Info("whisp accepts an API key of whisp.api_keys again", slog.Int("position", at), slog.Int("position_in_use", inUse))
	}
}

// refuse notes that an exchange that began then showed the key refused.
func (k *keys) refuse(ctx context.Context, one *key, began moment) {
	k.mu.Lock()
	if one.proven > began {
		k.mu.Unlock()
		return
	}
	one.refused = max(one.refused, began)
	news := !one.aside || one.trying
	if news {
		one.aside, one.until = true, k.clock().Add(k.retry)
	}
	at, inUse, retry := k.positionOf(one), k.position(), k.retry
	k.mu.Unlock()
	if !news || at == 0 {
		return
	}
	k.metrics.refusals.Inc()
	about := []any{slog.Int("position", at), slog.Int("position_in_use", inUse), slog.Duration("set_aside_for", retry)}
	if inUse == 0 {
		k.logger.ErrorContext(ctx, "whisp refuses every API key of whisp.api_keys: nobody can sign in to the chat", about...)
		return
	}
	k.logger.ErrorContext(ctx, "whisp refuses an API key of whisp.api_keys: the next takes its place", about...)
}

// known tells whether the key was good after a moment, if that is known.
func (k *keys) known(one *key, after moment) (good, known bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return one.proven > after, one.proven > after || one.aside
}

// suspect notes that a sign-in was refused, perhaps because of the key.
func (k *keys) suspect(one *key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.clock()
	kept := k.doubts[:0]
	for _, d := range k.doubts {
		if d.key != one && now.Sub(d.at) < settle {
			kept = append(kept, d)
		}
	}
	clear(k.doubts[len(kept):])
	k.doubts = append(kept, doubt{key: one, at: now, after: k.next()})
}

// unsettled returns how long somebody may still act on a 401 that another key
// than this one was the reason of.
func (k *keys) unsettled(one *key) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	now, wait := k.clock(), time.Duration(0)
	for _, d := range k.doubts {
		if d.key != one && d.key.proven <= d.after {
			wait = max(wait, settle-now.Sub(d.at))
		}
	}
	return min(wait, settle)
}

// checkKeys reports the first key that cannot be used.
func checkKeys(texts []secret.Text) error {
	if len(texts) == 0 {
		return errors.New("whisp.api_keys is empty")
	}
	for i, text := range texts {
		if text.Empty() || !validKey(text.Reveal()) {
			return fmt.Errorf("whisp.api_keys[%d] holds no usable key", i)
		}
	}
	return nil
}
