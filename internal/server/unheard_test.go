package server_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// security.md 29 and 50: a handshake that comes byte by byte ends in bounded time and shows.
func TestDrippedHandshakeEnds(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *setup) { c.server.ReadHeaderTimeout = setting.Duration(time.Second) })
	shows := func(count string) bool {
		return strings.Contains(s.metricsText(t), "whisp_bff_http_unheard_connections_total "+count)
	}
	s.send(t, http.MethodGet, "/page").want(http.StatusOK, "")
	_ = s.dial(t).Close() // a probe

	drip := s.dial(t)
	defer func() { _ = drip.Close() }()
	done := make(chan struct{})
	defer close(done)
	go func() {
		for _, b := range []byte("GET /whisp/api/wsConnect?ticket=t HTTP/1.1\r\nHost: " + publicHost + "\r\n" + strings.Repeat("X: x\r\n", 1000)) {
			select {
			case <-done:
				return
			case <-time.After(100 * time.Millisecond): // the attack itself
			}
			if _, err := drip.Write([]byte{b}); err != nil {
				return
			}
		}
	}()
	_ = drip.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.Copy(io.Discard, drip); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("not ended by us: %v", err)
	}
	for deadline := time.Now().Add(20 * time.Second); !shows("1"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not show")
		}
	}
}
