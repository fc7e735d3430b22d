//go:build linux

package main

import (
	"net/netip"
	"strings"
	"testing"
)

// roleVariable tells this test binary what it is, where bench has an argument.
const roleVariable = "BENCH_TEST_ROLE"

// startUpstream runs this test binary as the upstream's process.
func startUpstream(t *testing.T) netip.AddrPort {
	t.Helper()
	t.Setenv(roleVariable, roleUpstream)
	h, err := startHelper(t.Context(), roleUpstream, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.stop() })
	address, err := h.listening()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// TestEveryVisitEnds has visitors straight at the upstream, which ends what it
// is told to; who breaks the protocol needs a server that minds.
func TestEveryVisitEnds(t *testing.T) {
	address := startUpstream(t)
	server := &process{address: address}
	c := &carrier{process: server, path: "/api/wsConnect", cookies: []string{"none=1"}}
	s := &soak{carrier: c}
	var visits []visit
	for i := range 5 * ways {
		v := visit{Way: i % ways, Vanish: i%2 == 0}
		if v.Way == unmasked {
			continue
		}
		v.Request = c.handshake("any", "none=1")
		if v.Way.sockJS() {
			path := c.path + "/001/" + strings.Repeat("s", int(i)+1)
			v.Request = s.post(path+"/xhr_streaming", "any", "none=1", "")
			v.Send = s.post(path+"/xhr_send", "any", "none=1", `["`+v.Way.says()+`"]`)
		}
		visits = append(visits, v)
	}
	l, err := newLoop()
	if err != nil {
		t.Fatal(err)
	}
	result, err := (&clients{loop: l}).churn(order{Address: address, Visits: visits, Conns: 16})
	if err != nil || result.Lost != 0 {
		t.Fatalf("lost %d visits: %s; %v", result.Lost, result.Example, err)
	}
	for i, conn := range l.conns {
		if conn != nil {
			t.Errorf("connection %d is still open", i)
		}
	}
}

func TestGrownCounters(t *testing.T) {
	got := grown(map[string]float64{"a": 1, "b": 2}, map[string]float64{"b": 5, "a": 1, "c": 1})
	if got != "b 3, c 1" {
		t.Errorf("grown = %q", got)
	}
}
