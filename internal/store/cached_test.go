package store_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/whisp-bff/whisp-bff/internal/setting"
	"github.com/whisp-bff/whisp-bff/internal/store"
)

// interval of the read caches in these tests, whose clock stands still.
const interval = 2 * time.Second

// sharedStore is what the replicas share: it counts reads, can keep one waiting
// until the test lets it go, and can lose messages.
type sharedStore struct {
	*store.Memory
	gets    atomic.Int64
	lost    atomic.Bool // messages, without a word
	held    atomic.Pointer[chan struct{}]
	arrived chan struct{} // a read that is held has its value
	deaf    atomic.Pointer[func(bool)]
}

func newSharedStore() *sharedStore {
	return &sharedStore{Memory: store.NewMemory(store.DefaultConfig(), time.Now), arrived: make(chan struct{}, 100)}
}

func (s *sharedStore) Get(ctx context.Context, key string) ([]byte, error) {
	s.gets.Add(1)
	value, err := s.Memory.Get(ctx, key)
	if held := s.held.Load(); held != nil {
		s.arrived <- struct{}{}
		<-*held
	}
	return value, err
}

func (s *sharedStore) Publish(ctx context.Context, channel string, payload []byte) error {
	if s.lost.Load() {
		return nil
	}
	return s.Memory.Publish(ctx, channel, payload)
}

// Watch lets the test say that the subscription of who watched last is down.
func (s *sharedStore) Watch(ctx context.Context, channel string, standing func(bool)) (<-chan []byte, error) {
	s.deaf.Store(&standing)
	return s.Memory.Watch(ctx, channel, standing)
}

// hold keeps reads waiting, with what they found, until release is called.
func (s *sharedStore) hold() (release func()) {
	gate := make(chan struct{})
	s.held.Store(&gate)
	return func() { s.held.Store(nil); close(gate) }
}

// replica is one read cache on what all share, and listens already.
func replica(t *testing.T, shared *sharedStore, clock func() time.Time, every time.Duration) *store.Cached {
	t.Helper()
	deps := quiet()
	deps.Rand, deps.Recent, deps.Metrics = cryptoRand{}, []string{"session:", "listening:"}, prometheus.NewRegistry()
	c, err := store.NewCached(shared, every, clock, deps)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	if every > 0 {
		listens(t, shared, c)
	}
	return c
}

// listens waits until c remembers.
func listens(t *testing.T, shared *sharedStore, c *store.Cached) {
	t.Helper()
	must(t, shared.Set(t.Context(), "listening:", []byte("yes"), 0))
	if err := poll(10*time.Second, func() bool {
		before := shared.gets.Load()
		recently(t, c, "listening:", "yes")
		recently(t, c, "listening:", "yes")
		return shared.gets.Load()-before < 2
	}); err != nil {
		t.Fatal("the read cache does not remember")
	}
	shared.gets.Store(0)
}

// recently asks by Recent; "" means that there is nothing.
func recently(t *testing.T, s store.Store, key, value string) {
	t.Helper()
	got, err := s.Recent(t.Context(), key)
	if value == "" && errors.Is(err, store.ErrNotFound) {
		return
	}
	if err != nil || string(got) != value {
		t.Errorf("Recent(%q) = %q, %v; want %q", key, got, err, value)
	}
}

// eventuallyRecent waits for a message to arrive.
func eventuallyRecent(t *testing.T, s store.Store, key, value string) {
	t.Helper()
	if err := poll(10*time.Second, func() bool {
		got, err := s.Recent(t.Context(), key)
		return err == nil && string(got) == value || value == "" && errors.Is(err, store.ErrNotFound)
	}); err != nil {
		t.Errorf("%s does not become %q", key, value)
	}
}

func TestReadCacheAsksOncePerInterval(t *testing.T) {
	t.Parallel()
	shared, clock := newSharedStore(), newClock()
	here := replica(t, shared, clock.now, interval)
	ctx := t.Context()
	must(t, here.Set(ctx, "session:alice", []byte("one"), time.Hour))
	for range 10 {
		for range 100 {
			recently(t, here, "session:alice", "one")
		}
		clock.step(interval)
	}
	if gets := shared.gets.Load(); gets != 10 {
		t.Errorf("asked %d times in ten intervals", gets)
	}
	clock.step(-time.Hour) // set back: what is from the future is not trusted
	recently(t, here, "session:alice", "one")
	if gets := shared.gets.Load(); gets != 11 {
		t.Errorf("asked %d times, want once more after the clock was set back", gets)
	}
	if _, err := here.Get(ctx, "session:alice"); err != nil || shared.gets.Load() != 12 {
		t.Errorf("Get did not ask (%v)", err)
	}
	for range 3 { // no negatives, and no other keys
		recently(t, here, "session:nobody", "")
		must(t, here.Set(ctx, "grant:alice", []byte("g"), time.Hour))
		recently(t, here, "grant:alice", "g")
	}
	if gets := shared.gets.Load(); gets != 18 {
		t.Errorf("asked %d times, want each time", gets)
	}
}

func TestReadCacheAsksOnceAtATime(t *testing.T) {
	t.Parallel()
	shared, clock := newSharedStore(), newClock()
	here := replica(t, shared, clock.now, interval)
	must(t, here.Set(t.Context(), "session:alice", []byte("one"), time.Hour))
	release := shared.hold()
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() { recently(t, here, "session:alice", "one") })
	}
	<-shared.arrived
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := here.Recent(impatient, "session:alice"); !errors.Is(err, context.Canceled) || errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Recent of a caller who is gone: %v", err)
	}
	late, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := here.Recent(late, "session:alice"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Recent of a caller who cannot wait: %v", err)
	}
	release()
	wg.Wait()
	if gets := shared.gets.Load(); gets != 1 {
		t.Errorf("asked %d times", gets)
	}
}

func TestReadCacheSeesOwnWritesAtOnce(t *testing.T) {
	t.Parallel()
	for what, test := range map[string]struct {
		write func(context.Context, store.Store) error
		after string
	}{
		"set": {func(ctx context.Context, s store.Store) error {
			return s.Set(ctx, "session:alice", []byte("two"), time.Hour)
		}, "two"},
		"delete": {func(ctx context.Context, s store.Store) error { return s.Delete(ctx, "session:alice") }, ""},
		"take":   {func(ctx context.Context, s store.Store) error { _, err := s.Take(ctx, "session:alice"); return err }, ""},
		"replace": {func(ctx context.Context, s store.Store) error {
			_, err := s.Replace(ctx, "session:alice", []byte("two"), time.Hour)
			return err
		}, "two"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			shared := newSharedStore()
			shared.lost.Store(true) // own writes need no message
			here := replica(t, shared, newClock().now, interval)
			must(t, here.Set(t.Context(), "session:alice", []byte("one"), time.Hour))
			recently(t, here, "session:alice", "one")
			must(t, test.write(t.Context(), here))
			recently(t, here, "session:alice", test.after)

			// A read that began before the write, and ends after it, leaves nothing.
			must(t, here.Set(t.Context(), "session:alice", []byte("one"), time.Hour))
			release := shared.hold()
			var wg sync.WaitGroup
			wg.Go(func() { recently(t, here, "session:alice", "one") })
			<-shared.arrived
			must(t, test.write(t.Context(), here))
			release()
			recently(t, here, "session:alice", test.after)
			wg.Wait()
			recently(t, here, "session:alice", test.after)
		})
	}
}

func TestReadCacheFollowsOtherReplicas(t *testing.T) {
	t.Parallel()
	shared, clock := newSharedStore(), newClock()
	here, there := replica(t, shared, clock.now, interval), replica(t, shared, clock.now, 0) // one without a cache tells as well
	ctx := t.Context()
	must(t, here.Set(ctx, "session:alice", []byte("one"), time.Hour))
	recently(t, here, "session:alice", "one")
	_, err := there.Replace(ctx, "session:alice", []byte("two"), time.Hour)
	must(t, err)
	eventuallyRecent(t, here, "session:alice", "two")
	must(t, there.Delete(ctx, "session:alice"))
	eventuallyRecent(t, here, "session:alice", "")

	// A lost message is made up for, counted from when the value was asked for.
	must(t, here.Set(ctx, "session:alice", []byte("three"), time.Hour))
	recently(t, here, "session:alice", "three")
	shared.lost.Store(true)
	must(t, there.Delete(ctx, "session:alice"))
	clock.step(interval - time.Millisecond)
	recently(t, here, "session:alice", "three")
	clock.step(time.Millisecond)
	recently(t, here, "session:alice", "")
}

func TestReadCacheIsOffWhileDeaf(t *testing.T) {
	t.Parallel()
	shared := newSharedStore()
	here := replica(t, shared, newClock().now, interval)
	ctx := t.Context()
	standing := *shared.deaf.Load()
	must(t, here.Set(ctx, "session:alice", []byte("one"), time.Hour))
	recently(t, here, "session:alice", "one")
	release := shared.hold()
	var wg sync.WaitGroup
	must(t, here.Set(ctx, "session:bob", []byte("one"), time.Hour))
	wg.Go(func() { recently(t, here, "session:bob", "one") })
	<-shared.arrived
	standing(false)
	must(t, shared.Set(ctx, "session:alice", []byte("two"), time.Hour)) // unheard
	must(t, shared.Set(ctx, "session:bob", []byte("two"), time.Hour))
	standing(true)
	release() // what was read before the gap is not remembered after it
	wg.Wait()
	recently(t, here, "session:alice", "two")
	recently(t, here, "session:bob", "two")
	standing(false)
	shared.gets.Store(0)
	for range 3 {
		recently(t, here, "session:alice", "two")
	}
	if gets := shared.gets.Load(); gets != 3 {
		t.Errorf("asked %d times of 3 while deaf", gets)
	}
}

func TestReadCacheIsBounded(t *testing.T) {
	t.Parallel()
	shared := newSharedStore()
	here := replica(t, shared, newClock().now, interval)
	ctx := t.Context()
	const many = 30_000
	for i := range many {
		must(t, shared.Set(ctx, "session:"+strconv.Itoa(i), []byte("v"), time.Hour))
		recently(t, here, "session:"+strconv.Itoa(i), "v")
	}
	shared.gets.Store(0)
	for i := range many {
		recently(t, here, "session:"+strconv.Itoa(i), "v")
	}
	if hits := many - shared.gets.Load(); hits > 10_000 {
		t.Errorf("%d values are remembered", hits)
	}
}

// TestReadCacheUnderRaces has many read what a few write, and nobody may see less
// than what was written before they asked.
func TestReadCacheUnderRaces(t *testing.T) {
	t.Parallel()
	shared := newSharedStore()
	here := replica(t, shared, time.Now, 10*time.Second)
	var written atomic.Int64
	must(t, here.Set(t.Context(), "session:n", []byte("0"), 0))
	ctx, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				least := written.Load()
				value, err := here.Recent(context.Background(), "session:n")
				if seen, _ := strconv.ParseInt(string(value), 10, 64); err != nil || seen < least {
					t.Errorf("saw %q after %d was written (%v)", value, least, err)
					return
				}
			}
		})
	}
	for i := range int64(2000) {
		must(t, here.Set(t.Context(), "session:n", strconv.AppendInt(nil, i, 10), 0))
		written.Store(i)
	}
	stop()
	readers.Wait()
}

// TestReadCacheOverRedis is the same with real connections: one replica's cache
// is off while it cannot listen, and what happens meanwhile is not missed.
func TestReadCacheOverRedis(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	cfg := redisConfig("cache:", server.addr)
	cfg.Redis.ReadCache = setting.Duration(10 * time.Second) // so that only messages can be in time
	registry := prometheus.NewRegistry()
	open := func(metrics prometheus.Registerer) store.Store {
		must(t, cfg.Validate())
		deps := quiet()
		deps.Recent, deps.Metrics = []string{"session:"}, metrics
		s, err := store.Open(t.Context(), cfg, time.Now, deps)
		must(t, err)
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	here, there := open(registry), open(nil)
	ctx := t.Context()
	must(t, there.Set(ctx, "session:alice", []byte("one"), time.Minute))
	hits := func() float64 { return counted(t, registry, "hit") }
	if err := poll(10*time.Second, func() bool { recently(t, here, "session:alice", "one"); return hits() > 0 }); err != nil {
		t.Fatal("nothing is remembered")
	}
	_, err := there.Replace(ctx, "session:alice", []byte("two"), time.Minute)
	must(t, err)
	eventuallyRecent(t, here, "session:alice", "two")
	recently(t, here, "session:alice", "two")

	off := counted(t, registry, "off")
	server.do("acl", "setuser", "default", "resetchannels") // nobody may listen, nobody may tell
	if err := poll(10*time.Second, func() bool {
		recently(t, here, "session:alice", "two")
		return counted(t, registry, "off") > off
	}); err != nil {
		t.Fatal("the read cache goes on without being told of changes")
	}
	must(t, there.Set(ctx, "session:alice", []byte("three"), time.Minute))
	recently(t, here, "session:alice", "three")
	server.do("acl", "setuser", "default", "allchannels")
	if err := poll(10*time.Second, func() bool {
		before := hits()
		recently(t, here, "session:alice", "three")
		return hits() > before
	}); err != nil {
		t.Error("the read cache does not come back")
	}
	must(t, there.Delete(ctx, "session:alice"))
	eventuallyRecent(t, here, "session:alice", "")
	server.kill()
	if err := poll(10*time.Second, func() bool { _, err := here.Recent(ctx, "session:alice"); return errors.Is(err, store.ErrUnavailable) }); err != nil {
		t.Error("no word of Redis being gone")
	}
}

func counted(t *testing.T, registry *prometheus.Registry, result string) float64 {
	t.Helper()
	families, err := registry.Gather()
	must(t, err)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if strings.HasSuffix(family.GetName(), "_recent_reads_total") && metric.GetLabel()[0].GetValue() == result {
				return metric.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// hushedTouch fails once where a value is kept alive.
type hushedTouch struct {
	*store.Memory
	fails atomic.Bool
}

func (h *hushedTouch) Touch(ctx context.Context, key string, ttl time.Duration) (bool, error) {
	if h.fails.Swap(false) {
		return false, store.ErrUnavailable
	}
	return h.Memory.Touch(ctx, key, ttl)
}

func TestTypedSlidesAgainAfterTrouble(t *testing.T) {
	t.Parallel()
	ctx, c := t.Context(), newClock()
	backend := &hushedTouch{Memory: store.NewMemory(store.DefaultConfig(), c.now)}
	typed := store.NewTyped(backend, 10, func(_ string, raw []byte) (*string, error) { s := string(raw); return &s, nil })
	by := func() store.Sliding[string] {
		return store.Sliding[string]{Now: c.now(), Step: 30 * time.Second, TTL: func(*string) time.Duration { return time.Minute }}
	}
	must(t, backend.Set(ctx, "k", []byte("v"), time.Minute))
	c.step(50 * time.Second)
	backend.fails.Store(true)
	if _, err := typed.RecentSliding(ctx, "k", by()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("trouble is kept quiet: %v", err)
	}
	if _, err := typed.RecentSliding(ctx, "k", by()); err != nil { // within the step, and all the same
		t.Error(err)
	}
	c.step(50 * time.Second)
	if _, err := typed.RecentSliding(ctx, "k", by()); err != nil {
		t.Errorf("not kept alive: %v", err)
	}
}
