package sockproxy

import (
	"net/http"
	"net/netip"
	"testing"
	"time"
)

func from(address string) func(http.Header) {
	return func(h http.Header) { h.Set("X-Address", address) }
}

// still returns a clock that moves only when it is told to.
func still() *fakeClock {
	now := time.Now()
	return &fakeClock{read: func() time.Time { return now }}
}

func TestConnectionRatePerAddress(t *testing.T) {
	clock := still()
	s := newSite(t, echoUpstream(t), func(cfg *Config, deps *Deps) {
		cfg.ConnectionRate, cfg.ConnectionBurst, deps.Clock = 1, 2, clock.now
	})
	open := func(address string) *http.Response {
		s.ticket("alice", "t")
		return s.request("GET", "/api/wsConnect?ticket=t", from(address))
	}
	for _, step := range []struct {
		address string
		want    int
	}{
		{"192.0.2.1", 101},
		{"192.0.2.1", 101},
		{"192.0.2.1", 429},
		{"::ffff:192.0.2.1", 429}, // the same
		{"192.0.2.2", 101},
		{"2001:db8:0:1::1", 101},
		{"2001:db8:0:1::2", 101},
		{"2001:db8:0:1:ffff::3", 429}, // the same network
		{"2001:db8:0:2::1", 101},
		{"", 101}, // all that have none are one
		{"?", 101},
		{"", 429},
	} {
		if got := open(step.address); got.StatusCode != step.want {
			t.Fatalf("%q: %s, want %d", step.address, got.Status, step.want)
		}
	}
	refused := open("192.0.2.1")
	if refused.Header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q", refused.Header.Get("Retry-After"))
	}
	if got := s.dials.Load(); got != 8 {
		t.Errorf("Whisp was dialled %d times", got)
	}
	if got := s.metric("refused_total", "code", "connection_rate"); got != 5 {
		t.Errorf("counted %v refusals", got)
	}
	if got := s.metric("addresses"); got != 5 {
		t.Errorf("%v addresses", got)
	}
	clock.advance(1100 * time.Millisecond)
	if got := open("192.0.2.1"); got.StatusCode != 101 {
		t.Errorf("a second later: %s", got.Status)
	}
}

// A SockJS client sends a request per message: what counts is what it begins.
func TestConnectionRateCountsBeginnings(t *testing.T) {
	s, _ := sockJSSite(t, func(cfg *Config, deps *Deps) {
		cfg.ConnectionRate, cfg.ConnectionBurst, deps.Clock = 1, 2, still().now
	})
	s.ticket("alice", "t")
	do := func(method, path, body string) int {
		return s.sock("alice", method, path+"?ticket=t", body, nil).StatusCode
	}
	if info, begun := do("GET", "/info", ""), do("POST", "/000/abc/xhr", ""); info != 200 || begun != 200 {
		t.Fatalf("%d, %d", info, begun)
	}
	for range 20 {
		if got := do("POST", "/000/abc/xhr_send", `["x"]`); got != 204 {
			t.Fatal(got)
		}
		if got := do("POST", "/000/abc/xhr", ""); got != 200 {
			t.Fatal(got)
		}
	}
	if got := do("POST", "/000/def/xhr", ""); got != 429 {
		t.Errorf("another beginning: %d", got)
	}
}

// A flood of addresses takes no more memory than the table has, and does not make
// it forget one that is busy.
func TestAddressesAreBounded(t *testing.T) {
	clock := still()
	cfg := &limits{}
	cfg.Store(&Config{ConnectionRate: 1, ConnectionBurst: 3})
	r := newRates(cfg, clock.now)
	for range 3 {
		if err := r.allow("192.0.2.1"); err != nil {
			t.Fatal(err)
		}
	}
	for i := range maxAddresses + 1000 {
		address := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).String()
		if err := r.allow(address); err != nil {
			t.Fatalf("%s: %v", address, err)
		}
	}
	if got := r.count(); got != maxAddresses {
		t.Errorf("%d addresses", got)
	}
	if r.allow("192.0.2.1") == nil {
		t.Error("the busy address was forgotten")
	}
	clock.advance(time.Minute)
	if err := r.allow("192.0.2.1"); err != nil || r.count() != 1 {
		t.Errorf("at rest: %v, %d addresses", err, r.count())
	}
}
