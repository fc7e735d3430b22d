package broker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/broker"
	"github.com/whisp-bff/whisp-bff/internal/setting"
	"github.com/whisp-bff/whisp-bff/internal/store"
)

// uses is a count as it reads in tests: listed secrets in order, then the others.
func (f *fixture) uses() string {
	f.t.Helper()
	uses, err := f.CountBySecret(f.t.Context())
	must(f.t, err)
	var words []string
	for _, u := range uses {
		words = append(words, fmt.Sprintf("%s %d: %d", u.State, u.Position, u.Links))
	}
	return strings.ReplaceAll(strings.Join(words, ", "), " 0:", ":")
}

func TestLinksAreCountedBySecret(t *testing.T) {
	f := newFixture(t, true)
	expect := func(when, want string) {
		t.Helper()
		if got := f.uses(); got != want {
			t.Errorf("%s: %s\nwant %s", when, got, want)
		}
	}
	expect("nobody", "listed 1: 0, unlisted: 0, pending: 0, unreadable: 0")
	for i := range 40 { // more than are read at a time
		f.signIn(fmt.Sprint("s", i), person(fmt.Sprint(i), fmt.Sprint("person", i)))
	}
	expect("one secret", "listed 1: 40, unlisted: 0, pending: 0, unreadable: 0")

	masters := func(secrets ...string) {
		f.account.MasterSecrets = nil
		for _, s := range secrets {
			f.account.MasterSecrets = append(f.account.MasterSecrets, setting.SecretValue(s))
		}
		f.restart(true)
	}
	masters(masterB, masterA, masterA)
	f.signIn("new", person("new", "newcomer"))
	expect("rotated", "listed 1: 1, listed 2: 40, listed 3: 0, unlisted: 0, pending: 0, unreadable: 0")
	masters(masterB)
	expect("removed too early", "listed 1: 1, unlisted: 40, pending: 0, unreadable: 0")
	masters(masterB, masterA)

	f.whisp.set("register", errors.New("no answer"))
	if _, err := f.Ensure(t.Context(), person("late", "latecomer")); err == nil {
		t.Fatal("registered all the same")
	}
	key := "link:" + person("0", "").Key()
	raw, err := f.store.Get(t.Context(), key)
	must(t, err)
	must(t, f.store.Set(t.Context(), "link:"+person("1", "").Key(), raw, 0)) // another's
	must(t, f.store.Set(t.Context(), key, []byte("no link"), 0))
	f.store = sealedFor{f.store, "link:" + person("2", "").Key()}
	must(t, f.Release(t.Context(), person("3", "")))
	f.restart(true)
	expect("all kinds", "listed 1: 1, listed 2: 36, unlisted: 0, pending: 1, unreadable: 3")
}

// sealedFor refuses one key.
type sealedFor struct {
	broker.Store
	key string
}

func (s sealedFor) Get(ctx context.Context, key string) ([]byte, error) {
	if key == s.key {
		return nil, store.ErrSealed
	}
	return s.Store.Get(ctx, key)
}

// movingStore changes while it is counted.
type movingStore struct {
	broker.Store
	get func(key string) error
}

func (m movingStore) Get(ctx context.Context, key string) ([]byte, error) {
	if err := m.get(key); err != nil {
		return nil, err
	}
	return m.Store.Get(ctx, key)
}

func TestCountIsWholeOrAnError(t *testing.T) {
	f := newFixture(t, true)
	for i := range 100 {
		f.signIn(fmt.Sprint("s", i), person(fmt.Sprint(i), fmt.Sprint("person", i)))
	}
	sound := f.store
	f.store = movingStore{sound, func(key string) error {
		if key == "link:"+person("7", "").Key() {
			return sound.Delete(t.Context(), key)
		}
		return nil
	}}
	f.restart(true)
	if got := f.uses(); !strings.HasPrefix(got, "listed 1: 99, ") {
		t.Errorf("one was released meanwhile: %s", got)
	}
	f.store = movingStore{sound, func(string) error { return fmt.Errorf("%w: down", store.ErrUnavailable) }}
	f.restart(true)
	if uses, err := f.CountBySecret(t.Context()); f.code(err) != "store_unavailable" || uses != nil {
		t.Errorf("store down: %v, %v", uses, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	f.store = movingStore{sound, func(string) error { cancel(); return nil }}
	f.restart(true)
	if uses, err := f.CountBySecret(ctx); !errors.Is(err, context.Canceled) || uses != nil {
		t.Errorf("given up: %v, %v", uses, err)
	}
}
