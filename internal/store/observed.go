package store

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Observed counts and times what is asked of the store inside. It goes around a
// store on the network; one in memory has nothing to tell. Listing keys and
// subscribing are not counted: they take as long as somebody listens.
//
// The labels are closed sets: the methods below, and the outcomes of outcomeOf.
type Observed struct {
	Store
	clock    func() time.Time
	outcomes *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

// NewObserved wraps inner, which it owns from then on. It panics if metrics has
// those of another store already.
func NewObserved(inner Store, clock func() time.Time, metrics prometheus.Registerer) *Observed {
	o := &Observed{
		Store: inner, clock: clock,
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "whisp_bff_store_operations_total",
			Help: "Operations on Redis by outcome: ok, not_found, locked, unavailable, cancelled, failed.",
		}, []string{"operation", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "whisp_bff_store_operation_duration_seconds",
			Help:    "Time of one operation on Redis, connecting and retries included; lock includes the wait for it.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}, []string{"operation"}),
	}
	metrics.MustRegister(o.outcomes, o.duration)
	return o
}

// observe begins an operation; what it returns is called with its error.
func (o *Observed) observe(operation string) func(error) {
	began := o.clock()
	return func(err error) {
		o.duration.WithLabelValues(operation).Observe(o.clock().Sub(began).Seconds())
		o.outcomes.WithLabelValues(operation, outcomeOf(err)).Inc()
	}
}

// outcomeOf names an error for a metric.
func outcomeOf(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, ErrNotFound):
		return "not_found"
	case errors.Is(err, ErrLocked):
		return "locked"
	case errors.Is(err, ErrUnavailable):
		return "unavailable"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "cancelled" // the caller's time was up, not the store's
	}
	return "failed"
}

// Get implements [Values].
func (o *Observed) Get(ctx context.Context, key string) ([]byte, error) {
	done := o.observe("get")
	value, err := o.Store.Get(ctx, key)
	done(err)
	return value, err
}

// Recent implements [Values].
func (o *Observed) Recent(ctx context.Context, key string) ([]byte, error) {
	done := o.observe("get")
	value, err := o.Store.Recent(ctx, key)
	done(err)
	return value, err
}

// Set implements [Values].
func (o *Observed) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	done := o.observe("set")
	err := o.Store.Set(ctx, key, value, ttl)
	done(err)
	return err
}

// SetIfAbsent implements [Values].
func (o *Observed) SetIfAbsent(ctx context.Context, key string, value []byte, ttl time.Duration) (bool, error) {
	done := o.observe("set_if_absent")
	did, err := o.Store.SetIfAbsent(ctx, key, value, ttl)
	done(err)
	return did, err
}

// Replace implements [Values].
func (o *Observed) Replace(ctx context.Context, key string, value []byte, ttl time.Duration) (bool, error) {
	done := o.observe("replace")
	did, err := o.Store.Replace(ctx, key, value, ttl)
	done(err)
	return did, err
}

// Touch implements [Values].
func (o *Observed) Touch(ctx context.Context, key string, ttl time.Duration) (bool, error) {
	done := o.observe("touch")
	did, err := o.Store.Touch(ctx, key, ttl)
	done(err)
	return did, err
}

// Take implements [Values].
func (o *Observed) Take(ctx context.Context, key string) ([]byte, error) {
	done := o.observe("take")
	value, err := o.Store.Take(ctx, key)
	done(err)
	return value, err
}

// Delete implements [Values].
func (o *Observed) Delete(ctx context.Context, key string) error {
	done := o.observe("delete")
	err := o.Store.Delete(ctx, key)
	done(err)
	return err
}

// Add implements [Sets].
func (o *Observed) Add(ctx context.Context, set, member string, ttl time.Duration) error {
	done := o.observe("add")
	err := o.Store.Add(ctx, set, member, ttl)
	done(err)
	return err
}

// Remove implements [Sets].
func (o *Observed) Remove(ctx context.Context, set, member string) error {
	done := o.observe("remove")
	err := o.Store.Remove(ctx, set, member)
	done(err)
	return err
}

// Members implements [Sets].
func (o *Observed) Members(ctx context.Context, set string) ([]string, error) {
	done := o.observe("members")
	members, err := o.Store.Members(ctx, set)
	done(err)
	return members, err
}

// Publish implements [Messages].
func (o *Observed) Publish(ctx context.Context, channel string, payload []byte) error {
	done := o.observe("publish")
	err := o.Store.Publish(ctx, channel, payload)
	done(err)
	return err
}

// Lock implements [Store].
func (o *Observed) Lock(ctx context.Context, key string, ttl time.Duration) (*Lease, error) {
	done := o.observe("lock")
	lease, err := o.Store.Lock(ctx, key, ttl)
	done(err)
	return lease, err
}

// Ready implements [Store].
func (o *Observed) Ready(ctx context.Context) error {
	done := o.observe("ready")
	err := o.Store.Ready(ctx)
	done(err)
	return err
}
