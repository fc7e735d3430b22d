package store_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/store"
)

// person writes what one signed-in browser leaves in the store. The sizes are
// of a session with a 1 KB record, as docs/redis.md counts them.
func person(b *testing.B, s store.Store, i int) {
	b.Helper()
	key := fmt.Sprintf("%043d", i) // the base64url of a SHA-256 has 43 characters
	ctx := b.Context()
	must(b, s.Set(ctx, "session:"+key, make([]byte, 1024), 12*time.Hour))
	must(b, s.Set(ctx, "grant:"+key, make([]byte, 900), 12*time.Hour))
	must(b, s.Set(ctx, "link:"+key, make([]byte, 180), 0))
	for _, set := range []string{"holders:", "sessions:", "provider-session:"} {
		must(b, s.Add(ctx, set+key, key, 12*time.Hour))
	}
}

// BenchmarkBytesPerSession fills a real Redis and reads its own accounts.
func BenchmarkBytesPerSession(b *testing.B) {
	server := startRedis(b)
	s := open(b, redisConfig("whisp-bff:", server.addr))
	const people = 20_000
	before := usedMemory(b, server)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := worker; i < people; i += 8 {
				person(b, s, i)
			}
		})
	}
	wg.Wait()
	b.ReportMetric((usedMemory(b, server)-before)/people, "bytes/person")
	for metric, key := range map[string]string{"session": "v{session:%043d}", "grant": "v{grant:%043d}", "link": "v{link:%043d}", "set": "s{sessions:%043d}"} {
		bytes, err := strconv.ParseFloat(server.do("memory", "usage", fmt.Sprintf("whisp-bff:"+key, 7)), 64)
		must(b, err)
		b.ReportMetric(bytes, metric+"-bytes")
	}
	b.ReportMetric(0, "ns/op")
}

func usedMemory(b *testing.B, server *redisServer) float64 {
	b.Helper()
	for line := range strings.Lines(server.do("info", "memory")) {
		if text, ok := strings.CutPrefix(line, "used_memory:"); ok {
			bytes, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			must(b, err)
			return bytes
		}
	}
	b.Fatal("INFO memory does not tell used_memory")
	return 0
}

// BenchmarkRedis is operations on one server beside the benchmark, 16 at a time
// per processor.
func BenchmarkRedis(b *testing.B) {
	server := startRedis(b)
	s := open(b, redisConfig("whisp-bff:", server.addr))
	for i := range 1000 {
		person(b, s, i)
	}
	value := make([]byte, 1024)
	for _, test := range []struct {
		name string
		do   func(key string) error
	}{
		{"Get", func(key string) error { _, err := s.Get(b.Context(), "session:"+key); return err }},
		{"Touch", func(key string) error { _, err := s.Touch(b.Context(), "session:"+key, time.Hour); return err }},
		{"Set", func(key string) error { return s.Set(b.Context(), "session:"+key, value, time.Hour) }},
		{"Add", func(key string) error { return s.Add(b.Context(), "sessions:"+key, key, time.Hour) }},
		{"Publish", func(key string) error { return s.Publish(b.Context(), "ended", []byte(key)) }},
	} {
		b.Run(test.name, func(b *testing.B) {
			b.SetParallelism(16)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					if err := test.do(fmt.Sprintf("%043d", i%1000)); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
		})
	}
	b.Run("Lock", func(b *testing.B) {
		for b.Loop() {
			lease, err := s.Lock(b.Context(), "work", time.Second)
			must(b, err)
			must(b, lease.Release(b.Context()))
		}
	})
}

func BenchmarkSealedMemoryGet(b *testing.B) {
	inner := store.NewMemory(store.DefaultConfig(), time.Now)
	deps := quiet()
	deps.Rand = cryptoRand{}
	s, err := store.NewSealed(inner, []secret.Text{sealKey.Text()}, "", deps)
	must(b, err)
	must(b, s.Set(b.Context(), "session", make([]byte, 1024), 0))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Get(b.Context(), "session"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRecent is a session looked up from the read cache.
func BenchmarkRecent(b *testing.B) {
	deps := quiet()
	deps.Recent = []string{"session:"}
	s, err := store.Open(b.Context(), redisConfig("whisp-bff:", startRedis(b).addr), time.Now, deps)
	must(b, err)
	defer func() { _ = s.Close() }()
	keys := make([]string, 1000)
	for i := range keys {
		keys[i] = fmt.Sprintf("session:%043d", i)
		must(b, s.Set(b.Context(), keys[i], make([]byte, 1024), time.Hour))
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, err := s.Recent(b.Context(), keys[i%len(keys)]); err != nil {
				b.Error(err)
			}
		}
	})
}
