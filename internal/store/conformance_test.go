package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/setting"
	"github.com/whisp-bff/whisp-bff/internal/store"
)

var sealKey = setting.SecretValue(strings.Repeat("k", 32))

func quiet() store.Deps { return store.Deps{Logger: slog.New(slog.DiscardHandler)} }

// redisConfig is the section of a server; tests are patient unless they test
// the patience.
func redisConfig(prefix string, addresses ...string) store.Config {
	cfg := store.DefaultConfig()
	cfg.Kind = store.KindRedis
	cfg.SealKeys = []setting.Secret{sealKey}
	cfg.Redis.Addresses = addresses
	cfg.Redis.Prefix = prefix
	cfg.Redis.Timeout = setting.Duration(5 * time.Second)
	return cfg
}

// open is what main does; the store is closed with the test.
func open(t testing.TB, cfg store.Config) store.Store {
	t.Helper()
	must(t, cfg.Validate())
	s, err := store.Open(context.Background(), cfg, time.Now, quiet())
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// openBare is Redis without the seal.
func openBare(t testing.TB, cfg store.Config) store.Store {
	t.Helper()
	must(t, cfg.Validate())
	deps := quiet()
	deps.Rand = cryptoRand{}
	r, err := store.NewRedis(cfg.Redis, deps)
	must(t, err)
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func TestConformance(t *testing.T) {
	single, cluster, trio := startRedis(t), startCluster(t), startSentinels(t)
	clustered := func(prefix string) store.Config {
		cfg := redisConfig(prefix, cluster[0].addr, cluster[1].addr)
		cfg.Redis.Cluster = true
		return cfg
	}
	watched := func(prefix string) store.Config {
		cfg := redisConfig(prefix, trio.sentinels...)
		cfg.Redis.SentinelMaster = masterName
		return cfg
	}
	for name, open := range map[string]func(testing.TB) store.Store{
		"memory": func(t testing.TB) store.Store { return open(t, store.DefaultConfig()) },
		"sealed memory": func(t testing.TB) store.Store {
			inner := store.NewMemory(store.DefaultConfig(), time.Now)
			deps := quiet()
			deps.Rand = cryptoRand{}
			s, err := store.NewSealed(inner, []secret.Text{sealKey.Text()}, "", deps)
			must(t, err)
			t.Cleanup(func() { _ = s.Close() })
			return s
		},
		"redis":           func(t testing.TB) store.Store { return openBare(t, redisConfig("bare:", single.addr)) },
		"sealed redis":    func(t testing.TB) store.Store { return open(t, redisConfig("sealed:", single.addr)) },
		"cluster":         func(t testing.TB) store.Store { return openBare(t, clustered("bare:")) },
		"sealed cluster":  func(t testing.TB) store.Store { return open(t, clustered("sealed:")) },
		"sentinel":        func(t testing.TB) store.Store { return openBare(t, watched("bare:")) },
		"sealed sentinel": func(t testing.TB) store.Store { return open(t, watched("sealed:")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			for part, test := range conformance {
				t.Run(part, func(t *testing.T) { t.Parallel(); test(t, s) })
			}
		})
	}
}

// conformance is the contract of store.Store. The parts share one store, and
// so each has keys of its own.
var conformance = map[string]func(*testing.T, store.Store){
	"values come back": func(t *testing.T, s store.Store) {
		ctx := t.Context()
		must(t, s.Ready(ctx))
		absent(t, s, "nobody")
		must(t, s.Delete(ctx, "nobody"))
		all := make([]byte, 256)
		for i := range all {
			all[i] = byte(i)
		}
		long := strings.Repeat("long", 500)
		for _, key := range []string{"plain", "", "a b\r\n\x00", "{tag}", "}{", "%7B", "{", "ünïcode", long} {
			for _, value := range [][]byte{[]byte("first of " + key), {}, all, bytes.Repeat(all, 256)} {
				must(t, s.Set(ctx, "back "+key, bytes.Clone(value), time.Minute))
				holds(t, s, "back "+key, string(value))
			}
			must(t, s.Set(ctx, key, []byte("own of "+key), time.Minute))
		}
		for _, key := range []string{"plain", "", "{tag}", "}{", "%7B", "{"} { // none is another
			holds(t, s, key, "own of "+key)
			must(t, s.Delete(ctx, key))
			absent(t, s, key)
		}
	},
	"keys are listed": keysAreListed,
	"values expire": func(t *testing.T, s store.Store) {
		ctx := t.Context()
		const short = 700 * time.Millisecond
		begun := time.Now()
		touchedInTime := true
		inTime := func(touched bool, err error) { // a machine that stood still proves nothing
			t.Helper()
			touchedInTime = touchedInTime && touched
			if err != nil || !touched && time.Since(begun) < short {
				t.Errorf("Touch = %t, %v", touched, err)
			}
		}
		must(t, s.Set(ctx, "x-short", []byte("v"), short))
		must(t, s.Set(ctx, "x-tiny", []byte("v"), time.Nanosecond))
		must(t, s.Set(ctx, "x-touched", []byte("v"), short))
		must(t, s.Set(ctx, "x-kept", []byte("v"), short))
		must(t, s.Set(ctx, "x-forever", []byte("v"), 0))
		must(t, s.Set(ctx, "x-negative", []byte("v"), -1)) // go-redis would keep an old ttl
		must(t, s.Set(ctx, "x-cleared", []byte("v"), short))
		must(t, s.Set(ctx, "x-cleared", []byte("v"), -1))
		must(t, s.Set(ctx, "x-replaced", []byte("v"), time.Minute))
		if _, err := s.Get(ctx, "x-short"); err != nil && time.Since(begun) < short {
			t.Errorf("Get = %v", err)
		}
		inTime(s.Touch(ctx, "x-touched", time.Minute))
		inTime(s.Touch(ctx, "x-kept", 0))
		inTime(s.Touch(ctx, "x-kept", 0))
		yes(t, "Replace")(s.Replace(ctx, "x-replaced", []byte("w"), 300*time.Millisecond))
		eventuallyGone(t, s, "x-tiny")
		eventuallyGone(t, s, "x-short")
		eventuallyGone(t, s, "x-replaced")
		for _, key := range []string{"x-forever", "x-negative", "x-cleared"} {
			holds(t, s, key, "v")
		}
		if !t.Failed() && touchedInTime {
			holds(t, s, "x-touched", "v")
			holds(t, s, "x-kept", "v")
		}
		no(t, "Touch of an expired value")(s.Touch(ctx, "x-short", time.Minute))
		no(t, "Touch for ever of an expired value")(s.Touch(ctx, "x-short", 0))
		yes(t, "Touch with a short ttl")(s.Touch(ctx, "x-forever", time.Millisecond))
		eventuallyGone(t, s, "x-forever")
	},
	"writes have conditions": func(t *testing.T, s store.Store) {
		ctx := t.Context()
		no(t, "Replace of nothing")(s.Replace(ctx, "c", []byte("0"), time.Minute))
		absent(t, s, "c")
		yes(t, "SetIfAbsent")(s.SetIfAbsent(ctx, "c", []byte("1"), time.Minute))
		no(t, "SetIfAbsent over a value")(s.SetIfAbsent(ctx, "c", []byte("2"), time.Minute))
		holds(t, s, "c", "1")
		yes(t, "Replace")(s.Replace(ctx, "c", []byte("3"), 0))
		holds(t, s, "c", "3")
		must(t, s.Delete(ctx, "c"))
		yes(t, "SetIfAbsent after Delete")(s.SetIfAbsent(ctx, "c", []byte("4"), 100*time.Millisecond))
		eventuallyGone(t, s, "c")
		yes(t, "SetIfAbsent after expiry")(s.SetIfAbsent(ctx, "c", []byte("5"), 0))
		holds(t, s, "c", "5")
	},
	"one of many wins": func(t *testing.T, s store.Store) {
		ctx := t.Context()
		must(t, s.Set(ctx, "once", []byte("ticket"), time.Minute))
		var taken, stored atomic.Int32
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				value, err := s.Take(ctx, "once")
				switch {
				case err == nil && string(value) == "ticket":
					taken.Add(1)
				case !errors.Is(err, store.ErrNotFound):
					t.Errorf("Take: %q, %v", value, err)
				}
				if ok, err := s.SetIfAbsent(ctx, "first", []byte("v"), time.Minute); err != nil {
					t.Error(err)
				} else if ok {
					stored.Add(1)
				}
			})
		}
		wg.Wait()
		if taken.Load() != 1 || stored.Load() != 1 {
			t.Errorf("taken %d times, stored %d times", taken.Load(), stored.Load())
		}
		absent(t, s, "once")
	},
	"sets": func(t *testing.T, s store.Store) {
		ctx := t.Context()
		const soon = 700 * time.Millisecond
		begun := time.Now()
		members(t, s, "nobody's")
		must(t, s.Remove(ctx, "nobody's", "x"))
		must(t, s.Add(ctx, "set", "a", time.Minute))
		must(t, s.Add(ctx, "set", "a", time.Minute))
		must(t, s.Add(ctx, "set", "b {b}", 0))
		must(t, s.Add(ctx, "set", "soon", soon))
		must(t, s.Add(ctx, "set", "longer", 100*time.Millisecond))
		must(t, s.Add(ctx, "set", "longer", time.Minute))
		must(t, s.Add(ctx, "set", "shorter", time.Minute))
		must(t, s.Add(ctx, "set", "shorter", soon))
		must(t, s.Add(ctx, "short", "only", soon))
		must(t, s.Set(ctx, "set", []byte("a value of the same name"), time.Minute))
		if all, err := s.Members(ctx, "set"); err != nil || len(all) != 5 && time.Since(begun) < soon {
			t.Errorf("Members = %q, %v", all, err)
		}
		if err := poll(5*time.Second, func() bool {
			left, err := s.Members(ctx, "set")
			short, shortErr := s.Members(ctx, "short")
			return err == nil && shortErr == nil && len(left) == 3 && len(short) == 0
		}); err != nil {
			t.Error(err)
		}
		members(t, s, "set", "a", "b {b}", "longer")
		must(t, s.Remove(ctx, "set", "a"))
		must(t, s.Remove(ctx, "set", "longer"))
		members(t, s, "set", "b {b}")
		must(t, s.Remove(ctx, "set", "b {b}"))
		members(t, s, "set")
		holds(t, s, "set", "a value of the same name")
	},
	"locks exclude": func(t *testing.T, s store.Store) {
		ctx := t.Context()
		var inside atomic.Int32
		var tokens []uint64 // guarded by the lock, and told to the race detector by mu
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				lease, err := s.Lock(ctx, "} l", 30*time.Second)
				if err != nil {
					t.Error(err)
					return
				}
				if inside.Add(1) != 1 {
					t.Error("two hold the lock")
				}
				mu.Lock()
				tokens = append(tokens, lease.Token)
				mu.Unlock()
				inside.Add(-1)
				if err := lease.Release(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(tokens) != 8 || !slices.IsSorted(tokens) || len(slices.Compact(tokens)) != 8 {
			t.Errorf("tokens do not grow: %v", tokens)
		}
	},
	"locks are refused and given back": func(t *testing.T, s store.Store) {
		ctx := t.Context()
		lease, err := s.Lock(ctx, "given back", 30*time.Second)
		must(t, err)
		patience, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		if _, err := s.Lock(patience, "given back", time.Second); !errors.Is(err, store.ErrLocked) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("second Lock: %v", err)
		}
		select {
		case <-lease.Lost():
			t.Fatal("lost a lease that is renewed")
		default:
		}
		if kept, err := lease.Renew(ctx); !kept || err != nil {
			t.Errorf("Renew = %t, %v", kept, err)
		}
		gaveUp, giveUp := context.WithCancel(ctx)
		failure := make(chan error, 1)
		go func() {
			_, err := s.Lock(gaveUp, "given back", time.Second)
			failure <- err
		}()
		giveUp()
		if err := <-failure; !errors.Is(err, context.Canceled) || errors.Is(err, store.ErrLocked) || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("cancelled Lock: %v", err)
		}
		must(t, lease.Release(ctx))
		must(t, lease.Release(ctx))
		if kept, err := lease.Renew(ctx); kept || err != nil {
			t.Errorf("Renew after Release = %t, %v", kept, err)
		}
		next, err := s.Lock(ctx, "given back", time.Second)
		must(t, err)
		if next.Token <= lease.Token {
			t.Errorf("token %d after %d", next.Token, lease.Token)
		}
		must(t, lease.Release(ctx)) // the old holder cannot free the new one's lock
		if kept, err := next.Renew(ctx); !kept || err != nil {
			t.Errorf("Renew = %t, %v", kept, err)
		}
		must(t, next.Release(ctx))
	},
	"messages": func(t *testing.T, s store.Store) {
		ctx, cancel := context.WithCancel(t.Context())
		first, err := s.Subscribe(ctx, "news")
		must(t, err)
		second, err := s.Subscribe(ctx, "news")
		must(t, err)
		other, err := s.Subscribe(ctx, "{news}")
		must(t, err)
		must(t, s.Publish(ctx, "nobody listens", []byte("lost")))
		for _, text := range []string{"one", "", "two\x00\xff"} {
			must(t, s.Publish(ctx, "news", []byte(text)))
		}
		hearsAll(t, first, "one", "", "two\x00\xff")
		hearsAll(t, second, "one", "", "two\x00\xff")
		must(t, s.Publish(ctx, "{news}", []byte("other")))
		hearsAll(t, other, "other")
		for i := range 2 * 256 { // nobody reads; nobody waits
			must(t, s.Publish(ctx, "news", fmt.Appendf(nil, "flood %d", i)))
		}
		hears(t, first)
		cancel()
		ends(t, first)
		ends(t, second)
		ends(t, other)
		if _, err := s.Subscribe(ctx, "news"); !errors.Is(err, context.Canceled) {
			t.Errorf("Subscribe with an ended context: %v", err)
		}
	},
}

func holds(t testing.TB, s store.Values, key, value string) {
	t.Helper()
	got, err := s.Get(context.Background(), key)
	if err != nil || string(got) != value {
		t.Errorf("Get(%.20q) = %.20q, %v; want %.20q", key, got, err, value)
	}
}

func absent(t testing.TB, s store.Values, key string) {
	t.Helper()
	if value, err := s.Get(context.Background(), key); !errors.Is(err, store.ErrNotFound) || value != nil {
		t.Errorf("Get(%.20q): %q, %v; want ErrNotFound", key, value, err)
	}
}

func eventuallyGone(t testing.TB, s store.Values, key string) {
	t.Helper()
	if err := poll(10*time.Second, func() bool {
		_, err := s.Get(context.Background(), key)
		return errors.Is(err, store.ErrNotFound)
	}); err != nil {
		t.Errorf("%q is still there: %v", key, err)
	}
}

func yes(t testing.TB, what string) func(bool, error) { return outcome(t, what, true) }
func no(t testing.TB, what string) func(bool, error)  { return outcome(t, what, false) }

func outcome(t testing.TB, what string, want bool) func(bool, error) {
	t.Helper()
	return func(got bool, err error) {
		t.Helper()
		if err != nil || got != want {
			t.Errorf("%s = %t, %v; want %t", what, got, err, want)
		}
	}
}

func members(t testing.TB, s store.Sets, set string, want ...string) {
	t.Helper()
	got, err := s.Members(context.Background(), set)
	slices.Sort(got)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("Members(%q) = %q, %v; want %q", set, got, err, want)
	}
}

// hears returns the next message.
func hears(t testing.TB, messages <-chan []byte) string {
	t.Helper()
	select {
	case got, open := <-messages:
		if !open {
			t.Error("the channel is closed")
		}
		return string(got)
	case <-time.After(10 * time.Second):
		t.Error("heard nothing")
		return ""
	}
}

// hearsAll wants these messages next, in any order.
func hearsAll(t testing.TB, messages <-chan []byte, want ...string) {
	t.Helper()
	var got []string
	for range want {
		got = append(got, hears(t, messages))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("heard %q, want %q", got, want)
	}
}

func ends(t testing.TB, messages <-chan []byte) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case _, open := <-messages:
			if !open {
				return
			}
		case <-deadline:
			t.Error("the channel stays open")
			return
		}
	}
}
