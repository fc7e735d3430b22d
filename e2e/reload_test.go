//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

const (
	reloadSockets = 500
	// reloadRate is how many requests are begun in a second; a slow machine begins
	// fewer, and the log of the test says how many.
	reloadRate = 200
)

// The configuration changes under 500 open sockets and 200 requests a second:
// nothing is dropped, a new API key is in use, a bad file is refused and the
// metric says so.
func TestReloadUnderLoad(t *testing.T) {
	st := newStack(t, setup{logLevel: "info", more: "realtime: {drain: 0s, max_tunnels_per_user: 0, connection_rate: 0, max_tunnels: 1000}\n"})
	file := st.bff.cmd.Args[len(st.bff.cmd.Args)-1]
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const second = "the-second-api-key-0002"
	st.sim.RestoreKey(secret.New(second)) // it is good from now on
	good := strings.Replace(string(raw), "  api_keys:\n", "  api_keys:\n    - {value: "+second+"}\n", 1)
	good = strings.Replace(good, "max_tunnels: 1000", "max_tunnels: 600", 1)
	rewrite := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	people := []*person{st.login(t, "alice"), st.login(t, "bob"), st.login(t, "carol"), st.login(t, "dave")}
	sockets := openSockets(t, st, people)
	load := startLoad(t, people)
	load.goesOn(t)

	rewrite(good)
	if err := st.bff.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new configuration in use", func() bool { return metric(t, st, `whisp_bff_config_reloads_total{outcome="applied"}`) == "1" })
	load.goesOn(t)
	eventually(t, "the new key used", func() bool { return signInsWith(st, second) > 0 })
	st.sim.RevokeKey(secret.New(st.apiKey)) // and nothing notices
	if got := metric(t, st, "whisp_bff_realtime_tunnels_limit"); got != "600" {
		t.Errorf("the limit of sockets is %s", got)
	}

	rewrite(strings.Replace(good, "max_tunnels:", "max_tunels:", 1)) // found without a signal
	eventually(t, "the bad file refused", func() bool { return metric(t, st, "whisp_bff_config_last_reload_success") == "0" })
	if log := st.bff.log.String(); !strings.Contains(log, "realtime.max_tunels is not a known key: did you mean max_tunnels?") || !strings.Contains(log, file+":") {
		t.Errorf("the log does not say why, with the place:\n%s", st.bff.log.tail(2000))
	}
	load.goesOn(t)
	rewrite(good)
	eventually(t, "the good file taken", func() bool { return metric(t, st, "whisp_bff_config_last_reload_success") == "1" })
	load.goesOn(t)
	load.stop()

	signedIn := signInsWith(st, second)
	t.Logf("%d requests in %s, %d sign-ins with the new key", load.answered.Load(), time.Since(load.began).Round(time.Millisecond), signedIn)
	for _, failure := range load.failures {
		t.Errorf("a request failed: %s", failure)
	}
	for _, s := range sockets {
		s.goesOn(t)
	}
	if got := st.sim.OpenSockets(); got != reloadSockets {
		t.Errorf("%d of %d sockets are open at Whisp", got, reloadSockets)
	}
	if got := metric(t, st, "whisp_bff_realtime_tunnels"); got != fmt.Sprint(reloadSockets) {
		t.Errorf("%s sockets are open", got)
	}
	if got := metric(t, st, "whisp_bff_whisp_key_position"); got != "1" {
		t.Errorf("the key in use is number %s", got)
	}
	if log := st.bff.log.String(); strings.Contains(log, second) || strings.Contains(log, st.apiKey) {
		t.Error("a key is in the log")
	}
}

func openSockets(t *testing.T, st *stack, people []*person) []*chatSocket {
	t.Helper()
	began := time.Now()
	sockets, errs := make([]*chatSocket, reloadSockets), make([]error, reloadSockets)
	var opening sync.WaitGroup
	turn := make(chan struct{}, 16)
	for i := range sockets {
		turn <- struct{}{}
		opening.Go(func() {
			defer func() { <-turn }()
			sockets[i], errs[i] = people[i%len(people)].connect(t, st.origin)
		})
	}
	opening.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d sockets open after %s", reloadSockets, time.Since(began).Round(time.Millisecond))
	return sockets
}

// requestLoad is people who use everything at a steady rate.
type requestLoad struct {
	began    time.Time
	stop     func()
	answered atomic.Int64

	mu       sync.Mutex
	failures []string
}

func startLoad(t *testing.T, people []*person) *requestLoad {
	t.Helper()
	l := &requestLoad{began: time.Now()}
	done := make(chan struct{})
	var asking sync.WaitGroup
	turn := make(chan struct{}, 64) // more are not begun, so a slow machine is not buried
	asking.Go(func() {
		ticker := time.NewTicker(time.Second / reloadRate)
		defer ticker.Stop()
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			case <-ticker.C:
			}
			turn <- struct{}{}
			asking.Go(func() {
				defer func() { <-turn }()
				l.ask(people[i%len(people)], i)
			})
		}
	})
	l.stop = sync.OnceFunc(func() { close(done); asking.Wait() })
	t.Cleanup(l.stop)
	return l
}

// ask makes one request: pages of the app, calls of our own, and now and then a
// sign-in that needs the API key.
func (l *requestLoad) ask(p *person, i int) {
	method, path, body := http.MethodGet, "/", ""
	switch {
	case i%40 < 4:
		method, path, body = http.MethodPost, "/auth/whisp/sign-in", `{"fresh":true}`
	case i%2 == 0:
		path = "/auth/session"
	}
	response, answer, err := p.try(method, path, body)
	if err == nil && response.StatusCode == http.StatusOK {
		l.answered.Add(1)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.failures) < 10 {
		l.failures = append(l.failures, fmt.Sprintf("%s %s: %v %s", method, path, err, answer))
	}
}

// goesOn waits for a second's worth of answers.
func (l *requestLoad) goesOn(t *testing.T) {
	t.Helper()
	before := l.answered.Load()
	eventually(t, "requests answered", func() bool { return l.answered.Load() >= before+reloadRate })
}

// signInsWith counts sign-ins that came to Whisp with a key, of the latest.
func signInsWith(st *stack, key string) int {
	n := 0
	for _, r := range st.sim.Requests() {
		if r.Operation == "signIn" && r.Header.Get("X-Api-Key") == key {
			n++
		}
	}
	return n
}
