package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/whisp-bff/whisp-bff/internal/config"
)

const reloadConfig = `public_url: http://localhost:8080
app: {url: "http://127.0.0.1:1", ca_file: CA}
login: {issuer: "http://127.0.0.1:2", client_id: web}
whisp:
  url: http://127.0.0.1:3
  api_keys: [{file: key}]
account:
  master_secrets: [{file: master}]
realtime: {max_tunnels: 10}
`

// reloads is a reloader over files in a folder, and what it handed on.
type reloads struct {
	*reloader
	t       *testing.T
	folder  string
	logs    bytes.Buffer
	adopted []string // the keys of each change, in order
	inUse   *config.File
	refuse  error
}

func newReloads(t *testing.T) *reloads {
	r := &reloads{t: t, folder: t.TempDir()}
	r.write("key", "first-api-key-0001")
	r.write("master", "master-secret-of-more-than-32-bytes-0001")
	r.write("ca", "an authority")
	r.writeConfig(reloadConfig)
	source := newSource(filepath.Join(r.folder, "config.yaml"))
	cfg, err := source.load()
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(&r.logs, nil))
	r.inUse = cfg
	r.reloader = newReloader(start{cfg: cfg, source: source}, func(_ context.Context, next *config.File, changed changes) error {
		if r.refuse == nil {
			r.adopted, r.inUse = append(r.adopted, strings.Join(changed, " ")), next
		}
		return r.refuse
	}, &process{cfg: cfg, logger: logger, clock: time.Now, registry: prometheus.NewRegistry()})
	return r
}

func (r *reloads) write(name, text string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.folder, name), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *reloads) writeConfig(text string) {
	r.write("config.yaml", strings.ReplaceAll(text, "CA", filepath.Join(r.folder, "ca")))
}

func (r *reloads) remove(name string) {
	r.t.Helper()
	if err := os.Remove(filepath.Join(r.folder, name)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *reloads) key() string { return r.inUse.Whisp.APIKeys[0].Text().Reveal() }

// metrics are success, pending, applied, unchanged and refused.
func (r *reloads) figures() string {
	outcome := func(name string) float64 { return testutil.ToFloat64(r.metrics.reloads.WithLabelValues(name)) }
	return fmt.Sprintf("success %v pending %v applied %v unchanged %v refused %v", testutil.ToFloat64(r.metrics.success),
		testutil.ToFloat64(r.metrics.pending), outcome(outcomeApplied), outcome(outcomeUnchanged), outcome(outcomeRefused))
}

func TestReloadOfEveryKindOfChange(t *testing.T) {
	r := newReloads(t)
	change := func(old, replacement string) func() {
		return func() { r.writeConfig(strings.Replace(reloadConfig, old, replacement, 1)) }
	}
	for _, step := range []struct {
		name    string
		do      func()
		adopted string // the keys handed on, "" for none
		log     []string
		figures string
	}{
		{"nothing changed", func() {}, "", nil, "success 1 pending 0 applied 0 unchanged 0 refused 0"},
		{
			"a new key", func() { r.write("key", "second-api-key-0002\n") }, "whisp.api_keys",
			[]string{"configuration reloaded", "changed=[whisp.api_keys]", "hash="}, "success 1 pending 0 applied 1 unchanged 0 refused 0",
		},
		{
			"an empty key", func() { r.write("key", "") }, "",
			[]string{"level=ERROR", "config.yaml:6:21: whisp.api_keys[0] names the file key, which is empty"}, "success 0 pending 0 applied 1 unchanged 0 refused 1",
		},
		{
			"the key is back", func() { r.write("key", "second-api-key-0002") }, "",
			[]string{"nothing to change"}, "success 1 pending 0 applied 1 unchanged 1 refused 1",
		},
		{
			"the key vanished", func() { r.remove("key") }, "",
			[]string{"which does not exist"}, "success 0 pending 0 applied 1 unchanged 1 refused 2",
		},
		{
			"another key instead", func() { r.write("key", "third-api-key-0003") }, "whisp.api_keys",
			[]string{"configuration reloaded"}, "success 1 pending 0 applied 2 unchanged 1 refused 2",
		},
		{
			"a limit", change("max_tunnels: 10", "max_tunnels: 20"), "realtime.max_tunnels",
			[]string{"changed=[realtime.max_tunnels]"}, "success 1 pending 0 applied 3 unchanged 1 refused 2",
		},
		{
			"a typo beside a good change", change("max_tunnels: 10}", "max_tunels: 30}\nlog: {level: debug}"), "",
			[]string{"config.yaml:9:12: realtime.max_tunels is not a known key: did you mean max_tunnels?"}, "success 0 pending 0 applied 3 unchanged 1 refused 3",
		},
		{
			"no YAML", func() { r.writeConfig("public_url: [") }, "",
			[]string{"config.yaml:1:"}, "success 0 pending 0 applied 3 unchanged 1 refused 4",
		},
		{
			"the file vanished", func() { r.remove("config.yaml") }, "",
			[]string{"cannot be read"}, "success 0 pending 0 applied 3 unchanged 1 refused 5",
		},
		{
			"back, with what needs a restart", change("client_id: web", "client_id: other"), "realtime.max_tunnels",
			[]string{"level=WARN", "restart", "keys=[login.client_id]", "refresh tokens"}, "success 1 pending 1 applied 4 unchanged 1 refused 5",
		},
		{
			"and one more", change("client_id: web}", "client_id: other, scopes: [openid]}\nserver: {listen: \":1\"}"), "login.scopes",
			[]string{"keys=\"[login.client_id server.listen]\""}, "success 1 pending 2 applied 5 unchanged 1 refused 5",
		},
		{
			"not valid before the restart", change("public_url: http://localhost:8080\napp: {url: \"http://127.0.0.1:1\"", "public_url: http://localhost:9090\napp: {url: \"http://localhost:8080\""), "",
			[]string{"level=ERROR", "not valid before a restart has taken public_url", "app.url"}, "success 0 pending 2 applied 5 unchanged 1 refused 6",
		},
		{
			"no restart needed after all", change("", ""), "login.scopes",
			[]string{"nothing of the configuration waits for a restart"}, "success 1 pending 0 applied 6 unchanged 1 refused 6",
		},
		{
			"an authority's file", func() { r.write("ca", "another authority") }, "app.ca_file",
			[]string{"changed=[app.ca_file]"}, "success 1 pending 0 applied 7 unchanged 1 refused 6",
		},
		{
			"refused by a part", func() { r.refuse = errors.New("app.ca_file: no certificate"); r.write("ca", "rubbish") }, "",
			[]string{"app.ca_file: no certificate"}, "success 0 pending 0 applied 7 unchanged 1 refused 7",
		},
		{
			"and repaired", func() { r.refuse = nil; r.write("ca", "a third authority") }, "app.ca_file",
			[]string{"configuration reloaded"}, "success 1 pending 0 applied 8 unchanged 1 refused 7",
		},
	} {
		r.logs.Reset()
		handedOn, before := len(r.adopted), r.inUse
		step.do()
		r.look(t.Context())
		if r.logs.Len() > 0 {
			t.Errorf("%s: taken at the first look, when it may be half-written: %s", step.name, r.logs.String())
		}
		r.look(t.Context())
		logged := r.logs.String()
		r.look(t.Context())
		if r.logs.String() != logged {
			t.Errorf("%s: done twice: %s", step.name, r.logs.String())
		}
		if got := strings.Join(r.adopted[handedOn:], "; "); got != step.adopted {
			t.Errorf("%s: handed on %q, want %q", step.name, got, step.adopted)
		}
		if step.adopted == "" && r.inUse != before {
			t.Errorf("%s: something changed", step.name)
		}
		for _, want := range step.log {
			if !strings.Contains(logged, want) {
				t.Errorf("%s: no %q in the log: %s", step.name, want, logged)
			}
		}
		if step.log == nil && logged != "" {
			t.Errorf("%s: logged %s", step.name, logged)
		}
		if got := r.figures(); got != step.figures {
			t.Errorf("%s: %s\nwant %s", step.name, got, step.figures)
		}
		if strings.Contains(logged, "api-key-000") || strings.Contains(logged, "32-bytes-0001") {
			t.Errorf("%s: a secret is in the log: %s", step.name, logged)
		}
	}
	if r.key() != "third-api-key-0003" || r.inUse.Login.ClientID != "web" {
		t.Errorf("in use is %s, %s", r.key(), r.inUse.Login.ClientID)
	}
}

// A file that is written over bit by bit is taken when it is complete.
func TestReloadWaitsUntilAFileHasSettled(t *testing.T) {
	r := newReloads(t)
	for _, part := range []string{"sec", "second-api-", "second-api-key-0002"} {
		r.write("key", part)
		r.look(t.Context())
		if r.key() != "first-api-key-0001" {
			t.Fatalf("%q was taken", r.key())
		}
	}
	r.look(t.Context())
	if r.key() != "second-api-key-0002" {
		t.Errorf("in use is %q", r.key())
	}
}

// Kubernetes mounts a volume as links into a folder that is itself a link, and
// swaps that one.
func TestReloadFollowsAtomicSwapsOfLinks(t *testing.T) {
	r := newReloads(t)
	link := func(to, name string) {
		t.Helper()
		next := filepath.Join(r.folder, name+"-next")
		if err := errors.Join(os.Symlink(to, next), os.Rename(next, filepath.Join(r.folder, name))); err != nil {
			t.Fatal(err)
		}
	}
	version := func(name, key string, tunnels int) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(r.folder, name), 0o700); err != nil {
			t.Fatal(err)
		}
		r.write(name+"/key", key)
		text := strings.Replace(reloadConfig, "max_tunnels: 10", fmt.Sprintf("max_tunnels: %d", tunnels), 1)
		r.write(name+"/config.yaml", strings.ReplaceAll(text, "CA", filepath.Join(r.folder, "ca")))
	}
	version("..2026_1", "first-api-key-0001", 10)
	link("..2026_1", "..data")
	link("..data/key", "key")
	link("..data/config.yaml", "config.yaml")
	r.look(t.Context())
	r.look(t.Context())
	if len(r.adopted) != 0 {
		t.Fatalf("the same contents behind links are a change: %v", r.adopted)
	}
	version("..2026_2", "second-api-key-0002", 20)
	link("..2026_2", "..data")
	r.look(t.Context())
	r.look(t.Context())
	if got := strings.Join(r.adopted, "; "); got != "whisp.api_keys realtime.max_tunnels" || r.key() != "second-api-key-0002" {
		t.Errorf("handed on %q, in use is %q", got, r.key())
	}
}

// What was read half before and half after a change is not used.
func TestReloadUsesNoMixtureOfFiles(t *testing.T) {
	r := newReloads(t)
	r.write("key", "second-api-key-0002")
	r.source.env = func(string) (string, bool) { // asked while the file is read
		r.write("key", "third-api-key-0003")
		return "seal-key-of-more-than-32-bytes-of-this-test", true
	}
	r.writeConfig(strings.Replace(reloadConfig, "account:\n", "  key_retry: 30s\naccount:\n", 1) + "store: {seal_keys: [{env: X}]}\n")
	r.reload(t.Context())
	if len(r.adopted) != 0 || !strings.Contains(r.logs.String(), "trying again") {
		t.Fatalf("handed on %v: %s", r.adopted, r.logs.String())
	}
	r.look(t.Context())
	r.look(t.Context())
	if got := strings.Join(r.adopted, "; "); r.key() != "third-api-key-0003" || got != "whisp.api_keys whisp.key_retry" {
		t.Errorf("in use is %q: %s", r.key(), r.logs.String())
	}
}

// SIGHUP asks for a reload at once, and changes nothing if nothing changed.
func TestReloadAtSIGHUP(t *testing.T) {
	r := newReloads(t)
	hangups := make(chan os.Signal, 1)
	r.hangups = hangups
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); r.run(ctx) }()
	until := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
		}
	}
	counts := func(outcome string) float64 { return testutil.ToFloat64(r.metrics.reloads.WithLabelValues(outcome)) }
	hangups <- os.Interrupt // whatever comes through the channel
	until("not read again", func() bool { return counts(outcomeUnchanged) == 1 })
	r.write("key", "second-api-key-0002")
	hangups <- os.Interrupt
	until("not applied", func() bool { return counts(outcomeApplied) == 1 })
	cancel()
	<-ended
	if r.key() != "second-api-key-0002" || len(r.adopted) != 1 {
		t.Errorf("in use is %q, handed on %v", r.key(), r.adopted)
	}
}
