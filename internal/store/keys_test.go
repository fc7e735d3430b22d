package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/store"
)

// listed are the keys that begin with prefix, each once.
func listed(t *testing.T, s store.Values, prefix string) []string {
	t.Helper()
	var keys []string
	must(t, s.Keys(t.Context(), prefix, func(key string) error {
		keys = append(keys, key)
		return nil
	}))
	slices.Sort(keys)
	return slices.Compact(keys)
}

// keysAreListed is the part of the conformance about Keys.
func keysAreListed(t *testing.T, s store.Store) {
	ctx := t.Context()
	const odd = `k*?[a]\{%7B}^-ü `
	want := []string{odd, odd + "\x00\n", odd + "%", odd + "}{"}
	for i := range 2500 { // more than one SCAN sees
		want = append(want, fmt.Sprint(odd, i))
	}
	slices.Sort(want)
	for _, key := range want {
		must(t, s.Set(ctx, key, []byte("v"), time.Minute))
	}
	must(t, s.Set(ctx, odd+"expired", []byte("v"), time.Millisecond))
	must(t, s.Set(ctx, odd+"deleted", []byte("v"), 0))
	must(t, s.Delete(ctx, odd+"deleted"))
	must(t, s.Add(ctx, odd+"set", "member", time.Minute))
	for _, other := range []string{`kx?[a]\{%7B}^-ü `, `k*?a\{%7B}^-ü `, `K*?[a]\{%7B}^-ü `, "before " + odd} {
		must(t, s.Set(ctx, other, []byte("v"), time.Minute))
	}
	eventuallyGone(t, s, odd+"expired")
	if got := listed(t, s, odd); !slices.Equal(got, want) {
		t.Errorf("%d keys of %d: %.10q", len(got), len(want), got)
	}
	if got := listed(t, s, odd+"249"); len(got) != 11 { // 249 and 2490 to 2499
		t.Errorf("a longer prefix: %q", got)
	}
	if got := listed(t, s, ""); !slices.Contains(got, odd) || !slices.Contains(got, "before "+odd) {
		t.Errorf("all: %d keys, not all of ours", len(got))
	}
	if got := listed(t, s, "nobody has such a key"); len(got) != 0 {
		t.Errorf("listed %q", got)
	}

	enough := errors.New("enough")
	calls := 0
	if err := s.Keys(ctx, odd, func(string) error { calls++; return enough }); err != enough || calls != 1 { //nolint:errorlint // as it is
		t.Errorf("%d calls, %v", calls, err)
	}
	must(t, s.Keys(ctx, odd+"249", func(key string) error { return s.Delete(ctx, key) }))
	if got := listed(t, s, odd+"249"); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Keys(ended, odd, func(string) error { return nil }); !errors.Is(err, context.Canceled) || errors.Is(err, store.ErrUnavailable) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestKeysStartAgainAfterARestart(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	s := open(t, redisConfig("restart:", server.addr))
	must(t, s.Set(t.Context(), "link:1", []byte("v"), 0))
	err := s.Keys(t.Context(), "link:", func(string) error {
		server.kill()
		server.start()
		return nil
	})
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "start again") {
		t.Errorf("the server restarted meanwhile: %v", err)
	}
	server.kill()
	if err := s.Keys(t.Context(), "link:", func(string) error { return nil }); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("without Redis: %v", err)
	}
}

func TestListingMemoryIsNoUse(t *testing.T) {
	cfg := store.DefaultConfig()
	cfg.MaxEntries = 32 * 2 // two in each shard
	m := store.NewMemory(cfg, time.Now)
	for i := range 64 {
		must(t, m.Set(t.Context(), fmt.Sprint("old", i), nil, 0))
	}
	listed(t, m, "old")
	for i := range 1000 {
		must(t, m.Set(t.Context(), fmt.Sprint("new", i), nil, 0))
	}
	if left := listed(t, m, "old"); len(left) != 0 {
		t.Errorf("listing kept %q", left)
	}
}
