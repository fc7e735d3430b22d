//go:build e2e

package e2e

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// One of two replicas is told to end while people work: nobody's request fails, and
// every socket finds the other one.
func TestAReplicaGoesUnderTraffic(t *testing.T) {
	t.Parallel()
	r := startReplicas(t, replicaSetup{server: "shutdown_delay: 3s, ", realtime: "{drain: 500ms}"})
	people := []*person{r.login(t, "alice"), r.login(t, "bob"), r.login(t, "carol"), r.login(t, "dave")}
	for _, p := range people {
		p.signIn(t)
	}

	over := make(chan struct{})
	var wg sync.WaitGroup
	var requests, reconnects, refusals atomic.Int64
	for _, p := range people {
		wg.Go(func() { // requests, one after the other
			for {
				for _, call := range []struct{ method, path string }{{http.MethodGet, "/"}, {http.MethodPost, "/auth/whisp/sign-in"}} {
					response, body, err := p.try(call.method, call.path, "")
					if err != nil || response.StatusCode != http.StatusOK {
						t.Errorf("%s %s after %d requests: %v %s", call.method, call.path, requests.Load(), err, body)
					}
					requests.Add(1)
				}
				select {
				case <-over:
					return
				case <-time.After(5 * time.Millisecond): // the pace of the load
				}
			}
		})
	}
	sockets := make(chan *chatSocket, 8)
	for i := range 2 * len(people) {
		p := people[i%len(people)]
		socket := p.mustConnect(t, r.direct[i/len(people)]) // four at each
		wg.Go(func() {
			for {
				select {
				case <-socket.ended:
				case <-over:
					sockets <- socket
					return
				}
				reconnects.Add(1)
				for { // as the SDK does: until it succeeds
					again, err := p.connect(t, r.origin)
					if err == nil {
						socket = again
						break
					}
					refusals.Add(1)
					select {
					case <-over:
						t.Errorf("a socket does not come back: %v", err)
						return
					case <-time.After(100 * time.Millisecond):
					}
				}
			}
		})
	}
	atLeast := func(n int64) {
		goal := requests.Load() + n
		eventually(t, "requests", func() bool { return requests.Load() >= goal })
	}
	atLeast(50)
	began := time.Now()
	r.bff[0].stop(t)
	took := time.Since(began)
	r.admin = r.admins[1]
	eventually(t, "all sockets at the other replica", func() bool { return metric(t, r.stack, "whisp_bff_realtime_tunnels") == "8" })
	atLeast(50)
	close(over)
	wg.Wait()
	close(sockets)
	for socket := range sockets {
		socket.goesOn(t)
	}
	t.Logf("the replica ended after %s; %d requests, %d sockets came back, %d handshakes were refused meanwhile",
		took.Round(time.Millisecond), requests.Load(), reconnects.Load(), refusals.Load())
	if reconnects.Load() < 4 {
		t.Errorf("%d sockets came back, want the four of the replica that ended", reconnects.Load())
	}
}
