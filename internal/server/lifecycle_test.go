package server_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/server"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// A provider that is down at start makes us unready, not dead; and it heals.
func TestReadyOnceTheProviderIs(t *testing.T) {
	t.Parallel()
	var up atomic.Bool
	s := start(t, func(c *setup) { c.providerUp = up.Load })
	a := s.get(t, s.admin+"/readyz")
	if a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, `"login":"failing"`) {
		t.Errorf("readyz: %d %s", a.status, a.body)
	}
	if a := s.get(t, s.admin+"/healthz"); a.status != http.StatusOK {
		t.Errorf("healthz: %d", a.status)
	}
	s.send(t, http.MethodGet, "/page").want(http.StatusOK, "")
	up.Store(true)
	s.waitReady(t)
	s.login(t, "alice").signIn(t)
}

func TestAdminListener(t *testing.T) {
	s := start(t)
	s.waitReady(t)
	for path, status := range map[string]int{
		"/healthz": 200, "/readyz": 200, "/metrics": 200, "/": 404, "/auth/session": 404, "/debug/pprof/": 404, "/whisp/api/user/getUser": 404,
	} {
		if a := s.get(t, s.admin+path); a.status != status {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	if text := s.get(t, s.admin+"/metrics").body; !strings.Contains(text, "whisp_bff_http_requests_total") && !strings.Contains(text, "whisp_bff_") {
		t.Error("no metrics")
	}
	profiled := start(t, func(c *setup) { c.server.Pprof = true })
	if a := profiled.get(t, profiled.admin+"/debug/pprof/"); a.status != http.StatusOK {
		t.Errorf("pprof: %d", a.status)
	}
}

// security.md 57: not ready first, then sockets with 1012, requests finished.
func TestGracefulShutdown(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	s := start(t, func(c *setup) {
		c.server.ShutdownDelay = setting.Duration(100 * time.Millisecond)
		c.realtime.Drain = setting.Duration(100 * time.Millisecond)
		c.app = func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				entered <- struct{}{}
				<-leave
			}
			_, _ = io.WriteString(w, "finished")
		}
	})
	alice := s.login(t, "alice")
	g := alice.signIn(t)
	one, two := alice.socket(t, alice.ticket(t, g)), alice.socket(t, alice.ticket(t, g))
	one.connect(t, g.JWT)
	two.connect(t, g.JWT)
	late := alice.ticket(t, g)
	slow := make(chan *answer)
	go func() { slow <- s.send(t, http.MethodGet, "/slow") }()
	<-entered

	stopped := make(chan error)
	go func() { stopped <- s.stop() }()
	for s.readyStatus(t) != http.StatusServiceUnavailable {
		runtime.Gosched()
	}
	page := s.open(t, http.MethodGet, "/page")
	if page.StatusCode != http.StatusOK || !page.Close { // still served: balancers need time, to let go of connections too
		t.Errorf("while draining: %s, connection closed: %t", page.Status, page.Close)
	}
	_ = page.Body.Close()
	one.wantClosed(t, 1012)
	two.wantClosed(t, 1012)
	_ = late
	close(leave)
	if a := <-slow; a.status != http.StatusOK || a.body != "finished" {
		t.Errorf("request under way: %d %q", a.status, a.body)
	}
	if err := <-stopped; err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if lines := s.logs.lines(t, "shut down"); len(lines) != 1 {
		t.Errorf("log: %v", lines)
	}
}

// Whisp hangs, a request hangs on it, and yet we end in time.
func TestShutdownWhileWhispHangs(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *setup) {
		c.hangs = true
		c.server.ShutdownTimeout = setting.Duration(time.Second)
		c.whisp.Timeouts.ResponseHeader, c.whisp.Timeouts.Total = setting.Duration(4*time.Second), setting.Duration(4*time.Second)
	})
	alice := s.login(t, "alice")
	s.whisp.Fail(hanging("*"))
	hung := make(chan struct{})
	go func() {
		defer close(hung)
		conn := s.dial(t)
		_, _ = io.WriteString(conn, "POST /auth/whisp/sign-in HTTP/1.1\r\nHost: "+publicHost+"\r\nOrigin: "+publicOrigin+"\r\nCookie: "+sessionCookie+"="+alice.cookies[sessionCookie]+"\r\nContent-Length: 0\r\n\r\n")
		_, _ = io.Copy(io.Discard, conn)
	}()
	for s.whisp.Calls("signIn") == 0 {
		time.Sleep(time.Millisecond)
	}
	began := time.Now()
	err := s.stop()
	if took := time.Since(began); took > 2500*time.Millisecond {
		t.Errorf("took %s", took)
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an incomplete shutdown says %v", err)
	}
	<-hung
	s.whisp.Close()
}

// A fault of ours is a whole 500, or a broken connection; never half an answer
// that looks whole.
func TestPanics(t *testing.T) {
	s := start(t, func(c *setup) {
		c.tune = func(s *server.Server) { s.SetApp(panicking) }
	})
	s.secret("secret-in-a-panic")
	for path, status := range map[string]int{"/at-once": 500, "/after-headers": 500, "/index": 500, "/half-way": 0, "/on-purpose": 0, "/not": 200} {
		got := s.rawOnce(t, "GET "+path+" HTTP/1.1\r\nHost: "+publicHost+"\r\n\r\n")
		switch {
		case status == 0 && got != nil && got.whole:
			t.Errorf("%s looks whole: %d %q", path, got.status, got.body)
		case status != 0 && got == nil:
			t.Errorf("%s: no answer", path)
		case status == 500:
			got.want(status, "internal").has("Set-Cookie", "")
		}
	}
	if lines := s.logs.lines(t, "panic"); len(lines) != 4 {
		t.Errorf("%d panics in the log", len(lines))
	}
}

func panicking(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/at-once":
		panic("secret-in-a-panic")
	case "/after-headers":
		w.Header().Set("Content-Length", "5")
		w.Header().Set("Set-Cookie", "a=b")
		panic(io.ErrUnexpectedEOF)
	case "/index":
		_ = r.URL.Path[len(r.URL.Path)+1]
	case "/half-way":
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic("secret-in-a-panic")
	case "/on-purpose":
		panic(http.ErrAbortHandler)
	}
}
