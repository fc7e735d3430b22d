package store_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/store"
)

// sealedOver is a seal around a store that the test can reach into.
func sealedOver(t *testing.T, inner store.Store, scope string, keys ...string) *store.Sealed {
	t.Helper()
	var ring []secret.Text
	for _, key := range keys {
		ring = append(ring, secret.New(key))
	}
	deps := quiet()
	deps.Rand = cryptoRand{}
	s, err := store.NewSealed(inner, ring, scope, deps)
	must(t, err)
	return s
}

var (
	keyOne = strings.Repeat("1", 32)
	keyTwo = strings.Repeat("2", 40)
)

func TestSealedRefuses(t *testing.T) {
	ctx := t.Context()
	inner := store.NewMemory(store.DefaultConfig(), time.Now)
	s := sealedOver(t, inner, "a:", keyOne)
	const value = "the session of alice"
	must(t, s.Set(ctx, "alice", []byte(value), time.Minute))
	must(t, s.Set(ctx, "mallory", []byte("the session of mallory"), time.Minute))
	raw, err := inner.Get(ctx, "alice")
	must(t, err)
	if bytes.Contains(raw, []byte("alice")) {
		t.Fatal("the value lies open")
	}
	refused := func(what, key string, stored []byte) {
		t.Helper()
		must(t, inner.Set(ctx, key, stored, time.Minute))
		got, err := s.Get(ctx, key)
		if !errors.Is(err, store.ErrSealed) || errors.Is(err, store.ErrNotFound) || got != nil {
			t.Errorf("%s: Get = %q, %v", what, got, err)
		}
		if got, err := s.Take(ctx, key); !errors.Is(err, store.ErrSealed) || got != nil {
			t.Errorf("%s: Take = %q, %v", what, got, err)
		}
	}
	for i := range raw {
		for bit := range 8 {
			flipped := bytes.Clone(raw)
			flipped[i] ^= 1 << bit
			refused("a flipped bit", "alice", flipped)
		}
		refused("cut short", "alice", raw[:i])
	}
	refused("longer", "alice", append(bytes.Clone(raw), 0))
	refused("moved to another key", "mallory", raw)
	refused("never sealed", "alice", []byte(value+strings.Repeat(" ", 100)))

	must(t, inner.Set(ctx, "alice", raw, time.Minute))
	holds(t, s, "alice", value) // all of that was the value's fault
	for what, other := range map[string]*store.Sealed{
		"another scope": sealedOver(t, inner, "b:", keyOne),
		"another key":   sealedOver(t, inner, "a:", keyTwo),
	} {
		if got, err := other.Get(ctx, "alice"); !errors.Is(err, store.ErrSealed) || got != nil {
			t.Errorf("%s: Get = %q, %v", what, got, err)
		}
	}
}

func TestSealedKeysAreRotated(t *testing.T) {
	ctx := t.Context()
	inner := store.NewMemory(store.DefaultConfig(), time.Now)
	before := sealedOver(t, inner, "", keyOne)
	during := sealedOver(t, inner, "", keyTwo, keyOne)
	after := sealedOver(t, inner, "", keyTwo)
	must(t, before.Set(ctx, "old", []byte("v"), time.Minute))
	must(t, during.Set(ctx, "new", []byte("v"), time.Minute))
	holds(t, during, "old", "v")
	holds(t, during, "new", "v")
	holds(t, after, "new", "v")
	if _, err := after.Get(ctx, "old"); !errors.Is(err, store.ErrSealed) {
		t.Errorf("sealed with a removed key: %v", err)
	}
	for _, keys := range [][]string{nil, {"short"}, {keyOne, keyOne}} {
		var ring []secret.Text
		for _, key := range keys {
			ring = append(ring, secret.New(key))
		}
		if _, err := store.NewSealed(inner, ring, "", quiet()); err == nil || strings.Contains(err.Error(), keyOne) {
			t.Errorf("ring of %d keys: %v", len(keys), err)
		}
	}
}

func TestSealedNeverSealsTwiceTheSame(t *testing.T) {
	ctx := t.Context()
	inner := store.NewMemory(store.DefaultConfig(), time.Now)
	s := sealedOver(t, inner, "", keyOne)
	var seen [][]byte
	for range 100 {
		must(t, s.Set(ctx, "k", []byte("v"), time.Minute))
		raw, err := inner.Get(ctx, "k")
		must(t, err)
		if slices.ContainsFunc(seen, func(other []byte) bool { return bytes.Equal(other[5:29], raw[5:29]) }) {
			t.Fatal("a nonce is used twice")
		}
		seen = append(seen, raw)
	}
}

func TestSealedMessagesAreRefusedAndLogged(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	inner := store.NewMemory(store.DefaultConfig(), time.Now)
	var log bytes.Buffer
	deps := store.Deps{Logger: slog.New(slog.NewTextHandler(&log, nil)), Rand: cryptoRand{}}
	s, err := store.NewSealed(inner, []secret.Text{secret.New(keyOne)}, "", deps)
	must(t, err)
	news, err := s.Subscribe(ctx, "news")
	must(t, err)
	tapped, err := inner.Subscribe(ctx, "other")
	must(t, err)
	must(t, inner.Publish(ctx, "news", []byte("forged")))
	must(t, s.Publish(ctx, "other", []byte("moved")))
	must(t, inner.Publish(ctx, "news", []byte(hears(t, tapped))))
	must(t, s.Set(ctx, "news", []byte("a value, not a message"), time.Minute))
	value, err := inner.Get(ctx, "news")
	must(t, err)
	must(t, inner.Publish(ctx, "news", value))
	must(t, s.Publish(ctx, "news", []byte("true")))
	hearsAll(t, news, "true")
	cancel()
	ends(t, news)
	ends(t, tapped)
	if count := strings.Count(log.String(), "message refused"); count != 3 {
		t.Errorf("logged %d refusals, want 3:\n%s", count, &log)
	}
}
