package upstream

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// security.md 55: all keys revoked is told at once, with the time to come back,
// and costs Whisp one call per key and key_retry.
func TestNoRetryStormWhenEveryKeyIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeyed(t, "bad-one", "bad-two")
		k.before = func(string) { time.Sleep(100 * time.Millisecond) }
		if err := k.probeKey(); outcomeName(err) != "whisp_key_refused" {
			t.Fatal(err)
		}
		k.said()
		start := time.Now()
		for time.Since(start) < 10*time.Minute {
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					err := k.signIn("alice-2")
					if p := problem.From(err); p.Code != "whisp_key_refused" || p.RetryAfter <= 0 || p.RetryAfter > time.Minute {
						t.Errorf("got %v after %v", err, p.RetryAfter)
					}
				})
			}
			wg.Wait()
			time.Sleep(time.Second)
		}
		calls := strings.Split(k.said(), ", ")
		if len(calls) > 20 || len(calls) < 16 {
			t.Errorf("%d calls in ten minutes: %v", len(calls), calls)
		}
		for i := range calls {
			if !strings.HasPrefix(calls[i], "probe ") {
				t.Errorf("a set aside key was used for %s", calls[i])
			}
		}
		log := k.log.String()
		if strings.Contains(log, "bad-") || !strings.Contains(log, "refuses every API key") || !strings.Contains(log, "position=2 position_in_use=0") {
			t.Errorf("log %s", log)
		}
		if got := k.metric(t, "whisp_bff_whisp_key_refused_total"); got != float64(2+len(calls)) {
			t.Errorf("%v refusals counted of %d", got, 2+len(calls))
		}
	})
}

// A 403 that is not about the key must not take the key from everybody.
func TestALimitOfThePlanIsNotTheKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, do := range map[string]func(*keyed) error{
			"signin":   func(k *keyed) error { return k.signIn("bob") },
			"register": (*keyed).register,
		} {
			k := newKeyed(t, "one")
			k.transport = roundTrip(func(r *http.Request) (*http.Response, error) {
				answer, err := k.RoundTrip(r)
				if strings.HasPrefix(k.asked[len(k.asked)-1], name) {
					return reply(403, ""), nil
				}
				return answer, err
			})
			if err := do(k); outcomeName(err) != "whisp_rate_limited" {
				t.Errorf("%s: got %v", name, err)
			}
			if err := k.probeKey(); err != nil || k.metric(t, "whisp_bff_whisp_key_position") != 1 {
				t.Errorf("%s: the key is set aside: %v", name, err)
			}
		}
	})
}

// What cannot be told is neither "wrong password" nor "key refused".
func TestADoubtThatCannotBeResolved(t *testing.T) {
	for name, c := range map[string]struct {
		probe func() (*http.Response, error)
		want  string
	}{
		"no answer":    {func() (*http.Response, error) { return nil, errReset }, "whisp_unreachable"},
		"fails":        {func() (*http.Response, error) { return reply(500, ""), nil }, "whisp_failed"},
		"odd":          {func() (*http.Response, error) { return reply(404, ""), nil }, "whisp_bad_answer"},
		"unexpected":   {func() (*http.Response, error) { return reply(200, ""), nil }, "whisp_bad_answer"},
		"rate limited": {func() (*http.Response, error) { return reply(429, "", "Retry-After: 60"), nil }, "whisp_rate_limited"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKeyed(t, "one", "two")
				k.transport = roundTrip(func(r *http.Request) (*http.Response, error) {
					if strings.HasSuffix(r.URL.Path, "registerUser") {
						return c.probe()
					}
					return k.RoundTrip(r)
				})
				if err := k.signIn("alice"); outcomeName(err) != c.want {
					t.Errorf("got %v, want %s", err, c.want)
				}
				if got := k.metric(t, "whisp_bff_whisp_key_position"); got != 1 {
					t.Errorf("position %v", got)
				}
			})
		})
	}
}

// A probe whose caller goes away still brings the key back.
func TestTryingAKeyAgainOutlivesItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeyed(t, "bad-one")
		_ = k.probeKey()
		k.allow("bad-one", true)
		time.Sleep(61 * time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		k.before = func(string) { cancel() }
		_, _ = k.SignIn(ctx, "alice-2", secret.New("p"))
		k.before = nil
		if err := k.signIn("alice-2"); err != nil {
			t.Errorf("the key did not come back: %v", err)
		}
	})
}

func TestRefusalsAtTheSameTimeShareAProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeyed(t, "one", "two")
		k.before = func(string) { time.Sleep(time.Second) }
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if err := k.signIn("alice"); !errors.Is(err, ErrUnauthorized) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := strings.Count(k.said(), "probe"); n < 1 || n > 2 {
			t.Errorf("%d probes for a hundred refusals at once", n)
		}
	})
}

func TestNewsThatIsOldChangesNothing(t *testing.T) {
	k := newKeyed(t, "one")
	one, ctx := k.keys.inUse(), t.Context()
	first, second, third := k.keys.now(), k.keys.now(), k.keys.now()
	k.keys.good(one, second)
	k.keys.refuse(ctx, one, first)
	if k.keys.inUse() != one {
		t.Error("refused by an exchange that began before the one that proved it good")
	}
	k.keys.refuse(ctx, one, third)
	k.keys.good(one, second)
	if k.keys.inUse() != nil {
		t.Error("good by an exchange that began before the one that refused it")
	}
}

func TestKeysAreReplacedUnderLoad(t *testing.T) {
	k := newKeyed(t, "one", "two")
	k.allow("three", true)
	lists := [][]string{{"one", "two"}, {"two"}, {"three", "bad"}, {"bad", "one"}}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 50 {
				if err := k.setKeys(lists[(i+n)%4]...); err != nil {
					t.Error(err)
				}
				if err := k.signIn("alice-2"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestUnusableKeysAreRefused(t *testing.T) {
	for _, keys := range [][]setting.Secret{nil, {{Env: "UNSET"}}, {setting.SecretValue("line\nbreak")}} {
		cfg := whispConfig("https://whisp.test")
		cfg.APIKeys = keys
		if _, err := NewWhisp(cfg, whispDeps(t, cfg)); err == nil {
			t.Errorf("%v was taken", keys)
		}
	}
	k := newKeyed(t, "one")
	err := k.setKeys("two", "white space")
	if err == nil || strings.Contains(err.Error(), "white") || !strings.Contains(err.Error(), "api_keys[1]") {
		t.Errorf("got %v", err)
	}
}
