package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/whisp-bff/whisp-bff/internal/store"
)

// failing answers every read with err, a second later.
type failing struct {
	store.Store
	err error
	now *time.Time
}

func (f failing) Get(context.Context, string) ([]byte, error) {
	*f.now = f.now.Add(time.Second)
	return nil, f.err
}

func TestObservedTellsOutcomesApart(t *testing.T) {
	now := time.Now()
	inner := &failing{now: &now}
	registry := prometheus.NewRegistry()
	observed := store.NewObserved(inner, func() time.Time { return now }, registry)
	for _, err := range []error{
		nil, store.ErrNotFound, fmt.Errorf("get: %w", store.ErrUnavailable), context.Canceled, errors.New("odd"),
		errors.Join(store.ErrLocked, context.DeadlineExceeded),
	} {
		inner.err = err
		_, got := observed.Get(t.Context(), "k")
		assert.Equal(t, err, got)
	}
	assert.Equal(t, map[string]float64{
		"get ok": 1, "get not_found": 1, "get unavailable": 1, "get cancelled": 1, "get failed": 1, "get locked": 1,
	}, operations(t, registry))
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() == "whisp_bff_store_operation_duration_seconds" {
			assert.InDelta(t, 6, family.GetMetric()[0].GetHistogram().GetSampleSum(), 0.001, "seconds")
		}
	}
}

// operations reads the counter: "operation outcome" to how often.
func operations(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	found := map[string]float64{}
	for _, family := range families {
		if family.GetName() != "whisp_bff_store_operations_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			found[m.GetLabel()[0].GetValue()+" "+m.GetLabel()[1].GetValue()] = m.GetCounter().GetValue()
		}
	}
	return found
}

// TestObservedPassesEverythingOn: an operation that forgot to call the store
// inside would be found here.
func TestObservedPassesEverythingOn(t *testing.T) {
	ctx, registry := t.Context(), prometheus.NewRegistry()
	s := store.NewObserved(store.NewMemory(store.DefaultConfig(), time.Now), time.Now, registry)
	t.Cleanup(func() { _ = s.Close() })
	require.NoError(t, s.Set(ctx, "a", []byte("1"), time.Minute))
	for _, answer := range []func() (bool, error){
		func() (bool, error) { return s.SetIfAbsent(ctx, "b", []byte("2"), time.Minute) },
		func() (bool, error) { return s.Replace(ctx, "b", []byte("3"), time.Minute) },
		func() (bool, error) { return s.Touch(ctx, "b", time.Minute) },
	} {
		did, err := answer()
		require.NoError(t, err)
		assert.True(t, did)
	}
	taken, err := s.Take(ctx, "b")
	require.NoError(t, err)
	assert.Equal(t, "3", string(taken))
	require.NoError(t, s.Delete(ctx, "a"))
	_, err = s.Get(ctx, "a")
	require.ErrorIs(t, err, store.ErrNotFound)

	require.NoError(t, s.Add(ctx, "set", "x", time.Minute))
	require.NoError(t, s.Add(ctx, "set", "y", time.Minute))
	require.NoError(t, s.Remove(ctx, "set", "y"))
	members, err := s.Members(ctx, "set")
	require.NoError(t, err)
	assert.Equal(t, []string{"x"}, members)

	lease, err := s.Lock(ctx, "l", time.Minute)
	require.NoError(t, err)
	lease.Release()
	require.NoError(t, s.Publish(ctx, "c", []byte("m")))
	require.NoError(t, s.Ready(ctx))
	assert.Equal(t, map[string]float64{
		"set ok": 1, "set_if_absent ok": 1, "replace ok": 1, "touch ok": 1, "take ok": 1, "delete ok": 1, "get not_found": 1,
		"add ok": 2, "remove ok": 1, "members ok": 1, "lock ok": 1, "publish ok": 1, "ready ok": 1,
	}, operations(t, registry))
}
