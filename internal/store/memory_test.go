package store_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/store"
)

type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.at.Store(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC).UnixNano())
	return c
}
func (c *clock) now() time.Time       { return time.Unix(0, c.at.Load()).UTC() }
func (c *clock) step(d time.Duration) { c.at.Add(int64(d)) }

func TestMemoryExpires(t *testing.T) {
	ctx, c := t.Context(), newClock()
	m := store.NewMemory(store.DefaultConfig(), c.now)
	must(t, m.Set(ctx, "a", []byte("1"), time.Minute))
	must(t, m.Set(ctx, "forever", []byte("2"), 0))
	want(t, m, "a", "1")
	c.step(59 * time.Second)
	if ok, _ := m.Touch(ctx, "a", time.Minute); !ok {
		t.Fatal("Touch found nothing")
	}
	c.step(59 * time.Second)
	want(t, m, "a", "1")
	c.step(time.Second)
	gone(t, m, "a")
	c.step(1000 * time.Hour)
	want(t, m, "forever", "2")
	if ok, _ := m.Touch(ctx, "a", time.Minute); ok {
		t.Error("Touch revived an expired value")
	}
}

func TestMemoryConditionalWrites(t *testing.T) {
	ctx, c := t.Context(), newClock()
	m := store.NewMemory(store.DefaultConfig(), c.now)
	if ok, _ := m.Replace(ctx, "k", []byte("x"), time.Minute); ok {
		t.Error("Replace created a value")
	}
	if ok, _ := m.SetIfAbsent(ctx, "k", []byte("1"), time.Minute); !ok {
		t.Error("SetIfAbsent refused a free key")
	}
	if ok, _ := m.SetIfAbsent(ctx, "k", []byte("2"), time.Minute); ok {
		t.Error("SetIfAbsent overwrote")
	}
	if ok, _ := m.Replace(ctx, "k", []byte("3"), time.Minute); !ok {
		t.Error("Replace missed a value")
	}
	want(t, m, "k", "3")
	c.step(time.Minute)
	if ok, _ := m.SetIfAbsent(ctx, "k", []byte("4"), 0); !ok {
		t.Error("an expired value still blocks SetIfAbsent")
	}
	must(t, m.Delete(ctx, "k"))
	must(t, m.Delete(ctx, "k"))
	gone(t, m, "k")
}

func TestMemoryTakeGivesTheValueOnce(t *testing.T) {
	ctx := t.Context()
	m := store.NewMemory(store.DefaultConfig(), newClock().now)
	must(t, m.Set(ctx, "ticket", []byte("v"), time.Minute))
	var taken atomic.Int32
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := m.Take(ctx, "ticket"); err == nil {
				taken.Add(1)
			}
		})
	}
	wg.Wait()
	if taken.Load() != 1 {
		t.Errorf("taken %d times", taken.Load())
	}
}

func TestMemoryIsBoundedAndKeepsWhatIsUsed(t *testing.T) {
	ctx, c := t.Context(), newClock()
	m := store.NewMemory(store.Config{MaxEntries: 1000}, c.now)
	must(t, m.Set(ctx, "used", []byte("v"), time.Hour))
	for i := range 50_000 {
		must(t, m.Set(ctx, "flood-"+strconv.Itoa(i), []byte("v"), time.Hour))
		if i%5 == 0 {
			want(t, m, "used", "v")
		}
	}
	if m.Len() > 1000 {
		t.Errorf("%d entries, limit 1000", m.Len())
	}
}

func TestMemoryForgetsExpiredEntriesWithoutASweeper(t *testing.T) {
	ctx, c := t.Context(), newClock()
	m := store.NewMemory(store.Config{MaxEntries: 1_000_000}, c.now)
	for i := range 10_000 {
		must(t, m.Set(ctx, "old-"+strconv.Itoa(i), []byte("v"), time.Second))
	}
	c.step(time.Minute)
	for i := range 1000 { // enough to visit every shard
		must(t, m.Set(ctx, "new-"+strconv.Itoa(i), []byte("v"), time.Minute))
	}
	if m.Len() != 1000 {
		t.Errorf("%d entries held, want the 1000 live ones", m.Len())
	}
}

func TestTypedDecodesEachVersionOnce(t *testing.T) {
	ctx, c := t.Context(), newClock()
	m := store.NewMemory(store.DefaultConfig(), c.now)
	decodes := 0
	typed := store.NewTyped(m, 10, func(_ string, raw []byte) (*string, error) {
		decodes++
		if string(raw) == "bad" {
			return nil, errors.New("bad")
		}
		s := string(raw)
		return &s, nil
	})
	for _, version := range []string{"one", "two"} {
		must(t, m.Set(ctx, "k", []byte(version), time.Minute))
		for range 3 {
			got, err := typed.Get(ctx, "k")
			if err != nil || *got != version {
				t.Fatalf("Get = %v, %v", got, err)
			}
		}
	}
	if decodes != 2 {
		t.Errorf("decoded %d times, want 2", decodes)
	}
	must(t, m.Set(ctx, "k", []byte("bad"), time.Minute))
	if _, err := typed.Get(ctx, "k"); err == nil {
		t.Error("a value that does not decode was returned")
	}
	must(t, m.Delete(ctx, "k"))
	if _, err := typed.Get(ctx, "k"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get after Delete: %v", err)
	}
}

func TestTypedSlides(t *testing.T) {
	ctx, c := t.Context(), newClock()
	m := store.NewMemory(store.DefaultConfig(), c.now)
	typed := store.NewTyped(m, 10, func(_ string, raw []byte) (*string, error) { s := string(raw); return &s, nil })
	must(t, m.Set(ctx, "k", []byte("v"), time.Minute))
	ttl := func(*string) time.Duration { return time.Minute }
	for range 20 {
		c.step(30 * time.Second)
		if _, err := typed.GetSliding(ctx, "k", store.Sliding[string]{Now: c.now(), Step: 5 * time.Second, TTL: ttl}); err != nil {
			t.Fatal(err)
		}
	}
	c.step(-time.Hour) // a clock stepped back neither ends the value nor stops the sliding
	if _, err := typed.GetSliding(ctx, "k", store.Sliding[string]{Now: c.now(), Step: 5 * time.Second, TTL: ttl}); err != nil {
		t.Fatal(err)
	}
	c.step(time.Minute)
	if _, err := typed.GetSliding(ctx, "k", store.Sliding[string]{Now: c.now(), Step: 5 * time.Second, TTL: ttl}); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("want ErrNotFound, got %v", err)
	}
}

func BenchmarkMemoryGet(b *testing.B) {
	ctx := context.Background()
	m := store.NewMemory(store.DefaultConfig(), time.Now)
	keys := make([]string, 1000)
	for i := range keys {
		keys[i] = fmt.Sprintf("session:%043d", i)
		_ = m.Set(ctx, keys[i], make([]byte, 700), time.Hour)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, err := m.Get(ctx, keys[i%len(keys)]); err != nil {
				b.Error(err)
			}
		}
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, m *store.Memory, key, value string) {
	t.Helper()
	got, err := m.Get(t.Context(), key)
	if err != nil || string(got) != value {
		t.Errorf("Get(%q) = %q, %v; want %q", key, got, err, value)
	}
}

func gone(t *testing.T, m *store.Memory, key string) {
	t.Helper()
	if _, err := m.Get(t.Context(), key); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get(%q): %v; want ErrNotFound", key, err)
	}
}
