package keyset_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/goleak"

	"github.com/whisp-bff/whisp-bff/internal/keyset"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParse(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	set := func(keys ...jose.JSONWebKey) string {
		encoded, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
		if err != nil {
			t.Fatal(err)
		}
		return string(encoded)
	}
	good := jose.JSONWebKey{Key: &ec.PublicKey, KeyID: "a", Algorithm: "ES256", Use: "sig"}
	many := make([]jose.JSONWebKey, 10_000)
	for i := range many {
		many[i] = jose.JSONWebKey{Key: public, KeyID: strconv.Itoa(i)}
	}
	for name, tt := range map[string]struct {
		document string
		keys     int
	}{
		"one":              {set(good), 1},
		"unknown kinds":    {`{"keys":[{"kty":"NEW"},7,` + strings.TrimPrefix(set(good), `{"keys":[`), 1},
		"10,000 keys":      {set(many...), keyset.MaxKeys},
		"for encryption":   {set(jose.JSONWebKey{Key: &ec.PublicKey, Use: "enc"}), 0},
		"private":          {set(jose.JSONWebKey{Key: ec}), 0},
		"symmetric":        {set(jose.JSONWebKey{Key: []byte("0123456789abcdef0123456789abcdef")}), 0},
		"RSA of 1024 bits": {set(jose.JSONWebKey{Key: &short.PublicKey}), 0},
		"none":             {`{"keys":[]}`, 0},
		"garbage":          {`<html>`, 0},
		"too large":        {`{"keys":[]` + strings.Repeat(" ", keyset.MaxDocument) + `}`, 0},
	} {
		keys, err := keyset.Parse([]byte(tt.document))
		if len(keys) != tt.keys || (err == nil) != (tt.keys > 0) {
			t.Errorf("%s: %d keys, %v", name, len(keys), err)
		}
	}
}

func TestParsePEM(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	pkix := func(key any) string {
		der, err := x509.MarshalPKIXPublicKey(key)
		return encode("PUBLIC KEY", der, err)
	}
	small, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(ec)
	for name, tt := range map[string]struct {
		document string
		keys     int
	}{
		"one":             {pkix(&ec.PublicKey), 1},
		"two":             {pkix(&ec.PublicKey) + "\n# the old one\n" + pkix(&ec.PublicKey), 2},
		"P-224":           {pkix(&small.PublicKey), 0},
		"a private key":   {encode("EC PRIVATE KEY", private, err), 0},
		"garbage inside":  {encode("PUBLIC KEY", []byte("x"), nil), 0},
		"bad certificate": {encode("CERTIFICATE", []byte("x"), nil), 0},
		"no PEM":          {"ssh-ed25519 AAAA", 0},
		"nothing":         {"", 0},
		"too large":       {strings.Repeat(" ", keyset.MaxDocument+1), 0},
	} {
		keys, err := keyset.ParsePEM([]byte(tt.document))
		if len(keys) != tt.keys || (err == nil) != (tt.keys > 0) {
			t.Errorf("%s: %d keys, %v", name, len(keys), err)
		}
	}
}

// source is a published key set that tests change. Keys are words; a signature
// is good if the word is the one asked for.
type source struct {
	mu      sync.Mutex
	keys    []keyset.Key
	err     error
	takes   time.Duration
	fetches int
}

func (s *source) fetch(ctx context.Context) ([]keyset.Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fetches++
	select {
	case <-time.After(s.takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return s.keys, s.err
}

func (s *source) set(err error, words ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys, s.err = nil, err
	for _, word := range words {
		s.keys = append(s.keys, keyset.Key{ID: "kid-" + word, Public: word})
	}
}

func verify(set *keyset.Set, kid, word string) error {
	return set.Verify(context.Background(), kid, "ES256", func(key any) bool { return key == word })
}

var policy = keyset.Policy{
	Pause: time.Minute, RetryPause: time.Second, Refresh: 10 * time.Minute, Stale: time.Hour, Timeout: 5 * time.Second,
}

func inBubble(t *testing.T, body func(t *testing.T, from *source, set *keyset.Set)) {
	synctest.Test(t, func(t *testing.T) {
		from := &source{takes: time.Millisecond}
		from.set(nil, "a")
		set := keyset.New(policy, time.Now, from.fetch)
		defer set.Close()
		body(t, from, set)
	})
}

func TestFloodOfUnknownKeys(t *testing.T) {
	inBubble(t, func(t *testing.T, from *source, set *keyset.Set) {
		for minute := 1; minute <= 3; minute++ {
			var wg sync.WaitGroup
			for i := range 10_000 {
				wg.Go(func() {
					if err := verify(set, "kid-"+strconv.Itoa(i), "x"); !errors.Is(err, keyset.ErrNoKey) {
						t.Errorf("got %v", err)
					}
				})
			}
			wg.Wait()
			if from.fetches > minute+1 { // the first one fetched twice: it had no keys, then no fitting one
				t.Errorf("%d fetches in minute %d", from.fetches, minute)
			}
			if err := verify(set, "kid-a", "a"); err != nil {
				t.Errorf("the good key: %v", err)
			}
			time.Sleep(time.Minute)
		}
	})
}

func TestRotationAndWithdrawal(t *testing.T) {
	inBubble(t, func(t *testing.T, from *source, set *keyset.Set) {
		if err := verify(set, "kid-a", "a"); err != nil {
			t.Fatal(err)
		}
		from.set(nil, "b")
		if err := verify(set, "kid-b", "b"); !errors.Is(err, keyset.ErrNoKey) {
			t.Errorf("within the pause: %v", err)
		}
		time.Sleep(time.Minute)
		if err := verify(set, "kid-b", "b"); err != nil {
			t.Errorf("after rotation: %v", err)
		}
		if err := verify(set, "kid-a", "a"); !errors.Is(err, keyset.ErrNoKey) {
			t.Errorf("withdrawn: %v", err)
		}
		from.set(nil, "c")
		time.Sleep(policy.Refresh)
		if err := verify(set, "kid-b", "b"); !errors.Is(err, keyset.ErrNoKey) {
			t.Errorf("withdrawn while nobody asked: %v", err)
		}
		from.set(nil)
		time.Sleep(policy.Refresh)
		if err := verify(set, "kid-c", "c"); !errors.Is(err, keyset.ErrNoKey) {
			t.Errorf("an empty list: %v", err)
		}
	})
}

func TestOldKeysWhileTheSourceIsDown(t *testing.T) {
	inBubble(t, func(t *testing.T, from *source, set *keyset.Set) {
		if err := verify(set, "kid-a", "a"); err != nil {
			t.Fatal(err)
		}
		from.set(errors.New("down"))
		waited := 0
		for begun := time.Now(); time.Since(begun) < policy.Stale-time.Second; time.Sleep(time.Second) {
			asked := time.Now()
			if err := verify(set, "kid-a", "a"); err != nil {
				t.Fatalf("after %s: %v", time.Since(begun), err)
			}
			if time.Since(asked) > 0 {
				waited++
			}
		}
		if waited > 1 {
			t.Errorf("%d callers waited for a source that is known to be down", waited)
		}
		if from.fetches > 65 {
			t.Errorf("%d fetches in an hour", from.fetches)
		}
		if err := verify(set, "kid-b", "b"); !errors.Is(err, keyset.ErrUnavailable) {
			t.Errorf("unknown key: %v", err)
		}
		if err := verify(set, "kid-a", "forged"); !errors.Is(err, keyset.ErrNoKey) {
			t.Errorf("known key, bad signature: %v", err)
		}
		time.Sleep(5 * time.Second)
		if err := verify(set, "kid-a", "a"); !errors.Is(err, keyset.ErrUnavailable) {
			t.Errorf("too old: %v", err)
		}
		from.set(nil, "a")
		time.Sleep(time.Minute)
		if err := verify(set, "kid-a", "a"); err != nil {
			t.Errorf("healed: %v", err)
		}
	})
}

func TestFirstFetchFailsAndHealsSoon(t *testing.T) {
	inBubble(t, func(t *testing.T, from *source, set *keyset.Set) {
		from.set(errors.New("down"))
		for range 100 {
			if err := verify(set, "kid-a", "a"); !errors.Is(err, keyset.ErrUnavailable) {
				t.Fatalf("got %v", err)
			}
		}
		if from.fetches != 1 {
			t.Errorf("%d fetches", from.fetches)
		}
		from.set(nil, "a")
		time.Sleep(policy.RetryPause)
		if err := verify(set, "kid-a", "a"); err != nil {
			t.Errorf("a second later: %v", err)
		}
	})
}

func TestACallerThatLeavesFailsNobody(t *testing.T) {
	inBubble(t, func(t *testing.T, from *source, set *keyset.Set) {
		from.takes = time.Second
		left, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			err := set.Verify(left, "kid-a", "ES256", func(any) bool { return true })
			if !errors.Is(err, keyset.ErrUnavailable) || !errors.Is(err, context.Canceled) {
				t.Errorf("the one that left: %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if err := verify(set, "kid-a", "a"); err != nil {
				t.Errorf("the one that stayed: %v", err)
			}
		})
		leave()
		wg.Wait()
	})
}

func TestAFetchIsBoundedAndCloseEndsIt(t *testing.T) {
	inBubble(t, func(t *testing.T, from *source, set *keyset.Set) {
		from.takes = time.Hour
		begun := time.Now()
		if err := verify(set, "", "a"); !errors.Is(err, keyset.ErrUnavailable) || time.Since(begun) != policy.Timeout {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
		time.Sleep(time.Minute)
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := set.Refresh(t.Context()); !errors.Is(err, keyset.ErrUnavailable) {
				t.Errorf("got %v", err)
			}
		})
		synctest.Wait()
		set.Close()
		wg.Wait()
		if err := set.Refresh(t.Context()); !errors.Is(err, keyset.ErrUnavailable) || from.fetches != 2 {
			t.Errorf("after Close: %v, %d fetches", err, from.fetches)
		}
	})
}

func TestClockSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := &source{takes: time.Millisecond}
		from.set(nil, "a")
		var back time.Duration
		set := keyset.New(policy, func() time.Time { return time.Now().Add(-back) }, from.fetch)
		defer set.Close()
		if err := verify(set, "kid-a", "a"); err != nil {
			t.Fatal(err)
		}
		back = 24 * time.Hour
		from.set(nil, "b")
		if err := verify(set, "kid-b", "b"); err != nil {
			t.Errorf("a day back: %v", err)
		}
	})
}

func TestWhichKeysAreTried(t *testing.T) {
	keys := []keyset.Key{{ID: "1", Algorithm: "RS256", Public: "rsa"}, {ID: "1", Public: "any"}, {ID: "2", Algorithm: "ES256", Public: "ec"}}
	for range 50 {
		keys = append(keys, keyset.Key{ID: "many", Public: "many"})
	}
	set := keyset.New(policy, time.Now, func(context.Context) ([]keyset.Key, error) { return keys, nil })
	defer set.Close()
	for name, tt := range map[string]struct{ kid, alg, want string }{
		"by name":            {"2", "ES256", "ec"},
		"by name, other alg": {"2", "RS256", ""},
		"same name":          {"1", "ES256", "any"},
		"both":               {"1", "RS256", "rsa any"},
		"case matters":       {"MANY", "RS256", ""},
		"bounded":            {"many", "ES256", strings.TrimSpace(strings.Repeat("many ", 16))},
	} {
		var tried []string
		err := set.Verify(t.Context(), tt.kid, tt.alg, func(key any) bool { tried = append(tried, key.(string)); return false })
		want := tt.want
		if got := strings.Join(tried, " "); !errors.Is(err, keyset.ErrNoKey) || got != want && got != want+" "+want {
			t.Errorf("%s: tried %q, %v", name, got, err)
		}
	}
}
