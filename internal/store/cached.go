package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/whisp-bff/whisp-bff/internal/flight"
)

const (
	// changedChannel carries the keys of values that a replica may remember.
	changedChannel = "changed"
	// watchPause is the wait before another try to listen.
	watchPause = time.Second
	// readPatience bounds a shared read; the store inside has a shorter limit of
	// its own.
	readPatience = time.Minute
	// announcePatience bounds the telling of a change, as readPatience does.
	announcePatience = 30 * time.Second
)

// Cached remembers the values of some keys for a moment, for whoever asks by
// Recent: however many requests need a session, the store is asked once per
// interval, and once at a time.
//
// What Recent promises, with an interval of two seconds:
//
//   - what this process wrote or deleted is seen at once, always;
//   - what another replica wrote or deleted is seen as soon as its message
//     arrives, which is sent before the write returns;
//   - a message that is lost is made up for after two seconds, counted from when
//     the value was asked for; a step of the clock, or a machine that slept, makes
//     it less and never more;
//   - while no messages can be received, nothing is remembered.
//
// Everything else asks the store each time: Get, Take, and so every decision that
// is made before a write. That there is no value, or one that was refused
// ([ErrSealed]), is never remembered. An expiry is noticed up to an interval late.
//
// Writers announce their writes even with an interval of zero, because
// another replica may have one. A write that ended with [ErrUnavailable] is not
// announced: nobody knows whether it happened, and it would take as long again.
type Cached struct {
	Store
	prefixes []string
	clock    func() time.Time
	logger   *slog.Logger
	// self marks own messages, which this process need not follow.
	self   string
	recent *remembered // nil: the interval is zero, or there is nothing to remember
	reads  flight.Group[[]byte]

	hits, misses, off prometheus.Counter
	stop              context.CancelFunc
	listening         sync.WaitGroup
}

// NewCached wraps inner, which it owns from then on, and begins to listen.
// deps.Recent are the prefixes of the keys it remembers values of.
func NewCached(inner Store, interval time.Duration, clock func() time.Time, deps Deps) (*Cached, error) {
	var self [8]byte
	if _, err := io.ReadFull(deps.Rand, self[:]); err != nil {
		return nil, fmt.Errorf("store: name of a read cache: %w", err)
	}
	reads := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "whisp_bff_store_recent_reads_total",
		Help: "Sessions looked up: hit is from the read cache, miss from Redis, off from Redis while no messages arrive.",
	}, []string{"result"})
	c := &Cached{
		Store: inner, prefixes: deps.Recent, clock: clock, logger: deps.Logger, self: hex.EncodeToString(self[:]),
		hits: reads.WithLabelValues("hit"), misses: reads.WithLabelValues("miss"), off: reads.WithLabelValues("off"),
	}
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	if interval <= 0 || len(deps.Recent) == 0 {
		return c, nil
	}
	if deps.Metrics != nil {
		deps.Metrics.MustRegister(reads)
	}
	c.recent = newRemembered(interval)
	c.listening.Go(func() { c.listen(ctx) })
	return c, nil
}

// Recent implements [Values].
func (c *Cached) Recent(ctx context.Context, key string) ([]byte, error) {
	if !c.remembers(key) {
		return c.Store.Get(ctx, key)
	}
	value, hit, begun, standing := c.recent.look(key, c.clock())
	switch {
	case hit:
		c.hits.Inc()
		return value, nil
	case !standing:
		c.off.Inc()
		return c.Store.Get(ctx, key)
	}
	var asked atomic.Bool
	value, err := c.reads.Do(ctx, begun.name(key), readPatience, func(ctx context.Context) ([]byte, error) {
		asked.Store(true)
		return c.read(ctx, key, begun)
	})
	if asked.Load() {
		c.misses.Inc()
	} else {
		c.hits.Inc() // of somebody else's answer
	}
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil, failed(ctx, "get", err)
	}
	return value, err
}

// Get implements [Values]. It asks the store, and spares Recent doing so.
func (c *Cached) Get(ctx context.Context, key string) ([]byte, error) {
	if !c.remembers(key) {
		return c.Store.Get(ctx, key)
	}
	_, _, begun, _ := c.recent.look(key, c.clock())
	return c.read(ctx, key, begun)
}

func (c *Cached) read(ctx context.Context, key string, begun reading) ([]byte, error) {
	value, err := c.Store.Get(ctx, key)
	switch {
	case err == nil:
		c.recent.keep(key, value, begun)
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrSealed):
		c.recent.drop(key)
	}
	return value, err
}

// Set implements [Values].
func (c *Cached) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	err := c.Store.Set(ctx, key, value, ttl)
	c.changed(ctx, key, err == nil)
	return err
}

// SetIfAbsent implements [Values].
func (c *Cached) SetIfAbsent(ctx context.Context, key string, value []byte, ttl time.Duration) (bool, error) {
	did, err := c.Store.SetIfAbsent(ctx, key, value, ttl)
	c.changed(ctx, key, did)
	return did, err
}

// Replace implements [Values].
func (c *Cached) Replace(ctx context.Context, key string, value []byte, ttl time.Duration) (bool, error) {
	did, err := c.Store.Replace(ctx, key, value, ttl)
	c.changed(ctx, key, did)
	return did, err
}

// Touch implements [Values]. A new ttl is no change of the value.
func (c *Cached) Touch(ctx context.Context, key string, ttl time.Duration) (bool, error) {
	alive, err := c.Store.Touch(ctx, key, ttl)
	if !alive && err == nil {
		c.changed(ctx, key, false)
	}
	return alive, err
}

// Take implements [Values].
func (c *Cached) Take(ctx context.Context, key string) ([]byte, error) {
	value, err := c.Store.Take(ctx, key)
	c.changed(ctx, key, err == nil)
	return value, err
}

// Delete implements [Values].
func (c *Cached) Delete(ctx context.Context, key string) error {
	err := c.Store.Delete(ctx, key)
	c.changed(ctx, key, err == nil)
	return err
}

// Close implements [Store]; it closes the store inside.
func (c *Cached) Close() error {
	c.stop()
	c.listening.Wait() // or it might begin to watch a store that is closing
	return c.Store.Close()
}

// remembers reports whether the value under key may be remembered here.
func (c *Cached) remembers(key string) bool { return c.recent != nil && c.announces(key) }

// announces reports whether another replica may remember the value under key.
func (c *Cached) announces(key string) bool {
	for _, prefix := range c.prefixes {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}

// changed forgets a value, whether the write happened or not, and tells the
// others of one that did. The caller may be gone: they are told all the same.
func (c *Cached) changed(ctx context.Context, key string, did bool) {
	if !c.announces(key) {
		return
	}
	if c.recent != nil {
		c.recent.forget(key)
	}
	if !did {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), announcePatience)
	defer cancel()
	if err := c.Publish(ctx, changedChannel, []byte(c.self+" "+key)); err != nil {
		c.logger.WarnContext(ctx, "other replicas not told of a change; they notice when their read cache is over", "error", err.Error())
	}
}

// listen forgets what other replicas changed, until ctx ends.
func (c *Cached) listen(ctx context.Context) {
	for told := false; ; {
		messages, err := c.Watch(ctx, changedChannel, c.recent.standing)
		if err != nil && ctx.Err() == nil && !told {
			told = true
			c.logger.WarnContext(ctx, "read cache is off until redis can be listened to", "error", err.Error())
		}
		if err == nil {
			c.follow(messages)
		}
		timer := time.NewTimer(watchPause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

func (c *Cached) follow(messages <-chan []byte) {
	for message := range messages {
		if from, key, ok := strings.Cut(string(message), " "); ok && from != c.self {
			c.recent.forget(key)
		}
	}
}
