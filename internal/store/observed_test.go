package store_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

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
		if !errors.Is(got, err) {
			t.Errorf("answered %v, was told %v", got, err)
		}
	}
	want := map[string]float64{
		"get ok": 1, "get not_found": 1, "get unavailable": 1, "get cancelled": 1, "get failed": 1, "get locked": 1,
	}
	if got := operations(t, registry); !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "whisp_bff_store_operation_duration_seconds" {
			if took := family.GetMetric()[0].GetHistogram().GetSampleSum(); took < 5.9 || took > 6.1 {
				t.Errorf("%v seconds, want 6", took)
			}
		}
	}
}

// operations reads the counter: "operation outcome" to how often.
func operations(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
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
	did := func(yes bool, err error) error {
		if err == nil && !yes {
			err = errors.New("did not")
		}
		return err
	}
	gone := func(_ []byte, err error) error {
		if !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("found, or: %w", err)
		}
		return nil
	}
	expect := func(want string) func(got []byte, err error) error {
		return func(got []byte, err error) error {
			if err == nil && string(got) != want {
				err = fmt.Errorf("got %q, want %q", got, want)
			}
			return err
		}
	}
	for i, err := range []error{
		s.Set(ctx, "a", []byte("1"), time.Minute),
		did(s.SetIfAbsent(ctx, "b", []byte("2"), time.Minute)),
		did(s.Replace(ctx, "b", []byte("3"), time.Minute)),
		did(s.Touch(ctx, "b", time.Minute)),
		expect("3")(s.Take(ctx, "b")),
		s.Delete(ctx, "a"),
		gone(s.Get(ctx, "a")),
		s.Add(ctx, "set", "x", time.Minute),
		s.Add(ctx, "set", "y", time.Minute),
		s.Remove(ctx, "set", "y"),
		s.Publish(ctx, "c", []byte("m")),
		s.Ready(ctx),
	} {
		if err != nil {
			t.Errorf("operation %d: %v", i, err)
		}
	}
	if members, err := s.Members(ctx, "set"); err != nil || !slices.Equal(members, []string{"x"}) {
		t.Errorf("members %v, %v", members, err)
	}
	lease, err := s.Lock(ctx, "l", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	must(t, lease.Release(ctx))

	want := map[string]float64{
		"set ok": 1, "set_if_absent ok": 1, "replace ok": 1, "touch ok": 1, "take ok": 1, "delete ok": 1, "get not_found": 1,
		"add ok": 2, "remove ok": 1, "members ok": 1, "lock ok": 1, "publish ok": 1, "ready ok": 1,
	}
	if got := operations(t, registry); !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}
