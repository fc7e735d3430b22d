package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// gatekeeper is a Whisp of one account, "alice-2", that minds its keys.
type gatekeeper struct {
	mu         sync.Mutex
	valid      map[string]bool
	refusal    int      // of a key: 401 or 403
	asked      []string // "signin one", "register one", "probe one"
	registered bool
	before     func(call string) // runs before a call is looked at
}

func (g *gatekeeper) RoundTrip(r *http.Request) (*http.Response, error) {
	var body map[string]any
	_ = json.NewDecoder(r.Body).Decode(&body)
	call := "signin"
	switch {
	case strings.HasSuffix(r.URL.Path, "signin"):
	case len(body) == 0:
		call = "probe"
	default:
		call = "register"
	}
	if g.before != nil {
		g.before(call)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	key := r.Header.Get("X-Api-Key")
	g.asked = append(g.asked, call+" "+key)
	switch {
	case !g.valid[key]:
		return reply(g.refusal, ""), nil
	case call == "probe":
		return reply(400, `{"message":"username is required"}`), nil
	case call == "register":
		g.registered = true
		return reply(201, ""), nil
	case body["username"] != "alice-2":
		return reply(401, ""), nil
	}
	return reply(200, `{"id":"1","refreshToken":"r"}`, "Authorization: Bearer "+testJWT), nil
}

// testJWT has no sub and an exp in the year 2100.
const testJWT = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjQxMDI0NDQ4MDB9.c2ln"

// said returns what was asked since the last time.
func (g *gatekeeper) said() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer func() { g.asked = nil }()
	return strings.Join(g.asked, ", ")
}

func (g *gatekeeper) allow(key string, valid bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.valid[key] = valid
}

// keyed is a client with keys before a gatekeeper.
type keyed struct {
	*Whisp
	*gatekeeper
	log      bytes.Buffer
	registry *prometheus.Registry
}

// newKeyed starts with the keys listed; those that start with "bad" are revoked.
func newKeyed(t testing.TB, keys ...string) *keyed {
	t.Helper()
	k := &keyed{gatekeeper: &gatekeeper{valid: map[string]bool{}, refusal: 401}, registry: prometheus.NewRegistry()}
	cfg := whispConfig("https://whisp.test")
	cfg.APIKeys = nil
	for _, key := range keys {
		cfg.APIKeys = append(cfg.APIKeys, setting.SecretValue(key))
		k.valid[key] = !strings.HasPrefix(key, "bad")
	}
	deps := whispDeps(t, cfg)
	deps.Metrics = NewMetrics(k.registry, deps.Endpoint)
	deps.Logger = slog.New(slog.NewTextHandler(&k.log, nil))
	whisp, err := NewWhisp(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	whisp.transport = k.gatekeeper
	k.Whisp = whisp
	return k
}

func (k *keyed) signIn(username string) error {
	_, err := k.SignIn(context.Background(), username, secret.New("p"))
	return err
}

func (k *keyed) register() error {
	return k.Register(context.Background(), Registration{Username: "alice"})
}

func (k *keyed) probeKey() error { return k.ProbeKey(context.Background()) }

func (k *keyed) setKeys(keys ...string) error {
	var texts []secret.Text
	for _, key := range keys {
		texts = append(texts, secret.New(key))
	}
	return k.SetKeys(texts)
}

// metric reads the only series of a metric.
func (k *keyed) metric(t testing.TB, name string) float64 {
	t.Helper()
	families, err := k.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			m := family.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// step is a line of a session with the client.
type step struct {
	do   string
	want string  // the outcome, for what has one
	asks string  // what Whisp is asked for it
	at   float64 // whisp_bff_whisp_key_position afterwards
}

func (k *keyed) perform(t *testing.T, do string) error {
	t.Helper()
	verb, rest, _ := strings.Cut(do, " ")
	switch verb {
	case "signin":
		return k.signIn(rest)
	case "register":
		return k.register()
	case "probe":
		return k.probeKey()
	case "set":
		return k.setKeys(strings.Fields(rest)...)
	case "revoke", "restore":
		k.allow(rest, verb == "restore")
	case "wait":
		d, err := time.ParseDuration(rest)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(d)
	default:
		t.Fatalf("%q?", do)
	}
	return nil
}

func TestKeysTakeTurns(t *testing.T) {
	for name, c := range map[string]struct {
		keys    []string
		refusal int
		steps   []step
	}{
		"a sign-in finds the key revoked and goes on with the next": {[]string{"bad-one", "two"}, 401, []step{
			{"signin alice-2", "ok", "signin bad-one, probe bad-one, signin two", 2},
			{"signin alice-2", "ok", "signin two", 2},
			{"signin alice", "unauthorized", "signin two, probe two", 2},
			{"register", "ok", "register two", 2},
			{"probe", "ok", "probe two", 2},
		}},
		"the same with 403": {[]string{"bad-one", "two"}, 403, []step{
			{"signin alice", "unauthorized", "signin bad-one, probe bad-one, signin two, probe two", 2},
		}},
		"a good key is proven when a password is wrong": {[]string{"one", "two"}, 401, []step{
			{"signin alice", "unauthorized", "signin one, probe one", 1},
		}},
		"registering stops at a refused key": {[]string{"bad-one", "two"}, 401, []step{
			{"register", "key changed", "register bad-one", 2},
			{"register", "ok", "register two", 2},
		}},
		"probing tells that the key changed": {[]string{"bad-one", "two"}, 401, []step{
			{"probe", "key changed", "probe bad-one, probe two", 2},
			{"probe", "ok", "probe two", 2},
		}},
		"the preferred key comes back": {[]string{"bad-one", "two"}, 401, []step{
			{"signin alice-2", "ok", "signin bad-one, probe bad-one, signin two", 2},
			{"wait 59s", "", "", 2},
			{"restore bad-one", "", "", 2},
			{"signin alice-2", "ok", "signin two", 2},
			{"wait 2s", "", "", 2},
			{"signin alice-2", "ok", "probe bad-one, signin bad-one", 1},
			{"signin alice-2", "ok", "signin bad-one", 1},
		}},
		"a key that is still refused is left alone as long again": {[]string{"bad-one", "two"}, 401, []step{
			{"register", "key changed", "register bad-one", 2},
			{"wait 61s", "", "", 2},
			{"register", "ok", "probe bad-one, register two", 2},
			{"wait 59s", "", "", 2},
			{"register", "ok", "register two", 2},
			{"wait 2s", "", "", 2},
			{"register", "ok", "probe bad-one, register two", 2},
		}},
		"a key coming back between sign-in and probe": {[]string{"bad-one", "two"}, 401, []step{
			{"signin alice", "unauthorized", "signin bad-one, probe bad-one, signin two, probe two", 2},
			{"restore bad-one", "", "", 2},
			{"wait 61s", "", "", 2},
			{"probe", "key changed", "probe bad-one, probe bad-one", 1},
		}},
		"every key refused": {[]string{"bad-one", "bad-two"}, 401, []step{
			{"signin alice-2", "whisp_key_refused", "signin bad-one, probe bad-one, signin bad-two, probe bad-two", 0},
			{"signin alice-2", "whisp_key_refused", "", 0},
			{"register", "whisp_key_refused", "", 0},
			{"probe", "whisp_key_refused", "", 0},
			{"restore bad-two", "", "", 0},
			{"wait 61s", "", "", 0},
			{"signin alice-2", "ok", "probe bad-one, probe bad-two, signin bad-two", 2},
		}},
		"the only key refused, then replaced": {[]string{"bad-one"}, 401, []step{
			{"signin alice", "unauthorized", "signin bad-one", 1},
			{"register", "whisp_key_refused", "register bad-one", 0},
			{"signin alice", "whisp_key_refused", "", 0},
			{"set bad-one", "ok", "", 0},
			{"signin alice", "whisp_key_refused", "", 0},
			{"set two bad-one", "ok", "", 1},
			{"restore two", "", "", 1},
			{"signin alice-2", "ok", "signin two", 1},
			{"set bad-one two", "ok", "", 2},
			{"signin alice-2", "ok", "signin two", 2},
			{"set ", "error", "", 2},
			{"set two bad\x7fkey", "error", "", 2},
			{"signin alice-2", "ok", "signin two", 2},
		}},
		"a key listed twice is one key": {[]string{"bad-one", "bad-one", "two"}, 401, []step{
			{"probe", "key changed", "probe bad-one, probe two", 3},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKeyed(t, c.keys...)
				k.refusal = c.refusal
				for i, s := range c.steps {
					err := k.perform(t, s.do)
					got := outcomeName(err)
					if strings.HasPrefix(s.do, "set") && err != nil {
						got = "error"
					}
					if s.want != "" && got != s.want {
						t.Errorf("%d %s: got %v, want %s", i, s.do, err, s.want)
					}
					if said := k.said(); said != s.asks {
						t.Errorf("%d %s: asked %q, want %q", i, s.do, said, s.asks)
					}
					if at := k.metric(t, "whisp_bff_whisp_key_position"); at != s.at {
						t.Errorf("%d %s: position %v, want %v", i, s.do, at, s.at)
					}
				}
			})
		})
	}
}
