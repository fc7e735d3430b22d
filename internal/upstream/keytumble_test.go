package upstream

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// broker goes about as internal/broker does: it looks for an account under each
// name it could have, and registers one only if there is none.
func broker(k *keyed, linked bool) (err error) {
	for range 3 {
		if err = brokerOnce(k, linked); !errors.Is(err, ErrKeyChanged) {
			break
		}
	}
	return err
}

var errLost = errors.New("the link was dropped")

func brokerOnce(k *keyed, linked bool) error {
	names := []string{"alice", "alice-2"}
	if linked {
		names = []string{"alice-2"}
	}
	for _, name := range names {
		if err := k.signIn(name); !errors.Is(err, ErrUnauthorized) {
			return err
		}
	}
	if linked {
		if err := k.probeKey(); err != nil {
			return err
		}
		return errLost
	}
	return k.register()
}

// Whatever happens to the keys in the middle of a sign-in, nobody who has an
// account is given a second one, and no link is dropped: every event before
// every call, and every pair of them.
//
// A key is never restored between a sign-in and what verifies it, and with one
// key a sign-in does not take more than settle: see withKey.
func TestNoSecondAccountWhateverHappensToTheKeys(t *testing.T) {
	events := []string{"revoke one", "revoke two", "restore one", "another call", "retry", "set two one", "set two", "set three one", "set one"}
	synctest.Test(t, func(t *testing.T) {
		for _, keys := range [][]string{{"one", "two"}, {"bad-zero", "one", "two"}, {"one"}} {
			for _, linked := range []bool{true, false} {
				for first := range events {
					for i := range 5 {
						for second := range events {
							for j := i; j < 7; j++ {
								tumble(t, keys, linked, []string{events[first], events[second]}, []int{i, j})
							}
						}
					}
				}
			}
		}
	})
}

// tumble performs one sign-in with events before the calls of those numbers.
func tumble(t *testing.T, keys []string, linked bool, events []string, at []int) {
	if len(keys) == 1 && slices.Contains(events, "retry") {
		return
	}
	k := newKeyed(t, keys...)
	k.allow("three", true)
	var ahead time.Duration
	now := func() time.Time { return time.Now().Add(ahead) }
	k.clock, k.keys.clock = now, now
	pending, calls := slices.Clone(events), 0
	k.before = func(call string) {
		for len(pending) > 0 && calls >= at[len(at)-len(pending)] && (call == "signin" || !strings.HasPrefix(pending[0], "restore")) {
			event := pending[0]
			pending = pending[1:]
			switch event {
			case "retry":
				ahead += 61 * time.Second
			case "another call":
				before := k.before
				k.before = nil
				_ = k.probeKey()
				k.before = before
			default:
				if err := k.perform(t, event); err != nil {
					t.Error(err)
				}
			}
		}
		calls++
	}
	err := broker(k, linked)
	if k.registered || errors.Is(err, errLost) {
		t.Fatalf("keys %v, linked %v, %v before %v: second account %v, %v; asked %v", keys, linked, events, at, k.registered, err, k.asked)
	}
	if code := outcomeName(err); code != "ok" && code != "key changed" && code != "whisp_key_refused" && code != "unauthorized" {
		t.Fatalf("keys %v, linked %v, %v before %v: %v", keys, linked, events, at, err)
	}
	// Later, with a good key, everything is as before.
	k.before = nil
	k.allow("two", true)
	if err := k.setKeys("one", "two"); err != nil {
		t.Fatal(err)
	}
	ahead += 10 * time.Minute
	if err := broker(k, linked); err != nil || k.registered {
		t.Fatalf("afterwards: %v; asked %v", err, fmt.Sprint(k.asked))
	}
}
