package server_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/setting"
	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

// security.md 54 and 55, Whisp's part: each failure is its own code, within
// the configured time, and over when Whisp is well again.
func TestWhispFaults(t *testing.T) {
	t.Parallel()
	const patience = 300 * time.Millisecond
	for name, test := range map[string]struct {
		fault    whispsim.Fault
		status   int
		code     string
		retry    string
		proxied  int // what a browser's own REST call gets
		proxyErr string
	}{
		"54: 500":              {whispsim.Fault{Status: 500}, 503, "whisp_failed", "", 503, "whisp_failed"},
		"54: 429":              {whispsim.Fault{Status: 429, RetryAfter: "7"}, 503, "whisp_rate_limited", "7", 429, ""},
		"54: hanging":          {whispsim.Fault{Hang: true}, 503, "whisp_timeout", "", 503, "whisp_timeout"},
		"54: cut":              {whispsim.Fault{Drop: whispsim.DropBefore}, 503, "whisp_unreachable", "", 503, "whisp_unreachable"},
		"54: cut half way":     {whispsim.Fault{Drop: whispsim.DropMid}, 503, "whisp_unreachable", "", 0, ""},
		"54: garbage":          {whispsim.Fault{Garbage: true}, 502, "whisp_bad_answer", "", 0, ""},
		"54: no Authorization": {whispsim.Fault{NoAuthorization: true}, 502, "whisp_bad_answer", "", 200, ""},
		"54: HTML":             {whispsim.Fault{Status: 200, Body: "<html>"}, 502, "whisp_bad_answer", "", 0, ""},
		"54: redirect":         {whispsim.Fault{Status: 302}, 502, "whisp_bad_answer", "", 502, "whisp_bad_answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(c *setup) {
				c.whisp.Timeouts.ResponseHeader, c.whisp.Timeouts.Total = setting.Duration(patience), setting.Duration(2*patience)
				c.whisp.Breaker.Failures = 1000
			})
			alice, bob := s.login(t, "alice"), s.login(t, "bob")
			g := alice.signIn(t)
			bob.signIn(t)
			bob.send(t, http.MethodPost, "/auth/whisp/sign-out", sameOrigin).want(http.StatusNoContent, "")
			test.fault.Operation = "*"
			s.whisp.Fail(test.fault)

			began := time.Now()
			a := bob.send(t, http.MethodPost, "/auth/whisp/sign-in", sameOrigin)
			if took := time.Since(began); took > 4*patience+time.Second {
				t.Errorf("took %s", took)
			}
			a.want(test.status, test.code)
			if test.retry != "" {
				a.has("Retry-After", test.retry)
			}
			alice.send(t, http.MethodPost, "/auth/whisp/sign-in", sameOrigin).want(http.StatusOK, "") // a live grant needs no Whisp
			if test.proxied != 0 {
				alice.send(t, http.MethodGet, "/whisp/api/user/getUser", sameOrigin, header("Authorization", "Bearer "+g.JWT)).want(test.proxied, test.proxyErr)
			}
			s.whisp.Heal("*")
			bob.signIn(t)
		})
	}
}

func TestKeyRevoked(t *testing.T) {
	s := start(t)
	alice := s.login(t, "alice")
	s.whisp.RevokeKey(secretOf(apiKey))
	alice.send(t, http.MethodPost, "/auth/whisp/sign-in", sameOrigin).want(http.StatusServiceUnavailable, "whisp_key_refused")
	s.whisp.RestoreKey(secretOf(apiKey))
	s.clock.advance(time.Minute) // whisp.key_retry
	alice.signIn(t)
}

// A short-lived JWT is never handed out when it is about to end.
func TestGrantsAreRenewed(t *testing.T) {
	s := start(t)
	alice := s.login(t, "alice")
	first := alice.signIn(t)
	s.clock.advance(4*time.Minute + 5*time.Second)
	second := alice.signIn(t)
	if second.JWT == first.JWT || second.RefreshToken != first.RefreshToken || second.ExpiresAt.Sub(s.clock.now()) < time.Minute {
		t.Errorf("renewed %v, same refresh token %v, %s left", second.JWT != first.JWT, second.RefreshToken == first.RefreshToken, second.ExpiresAt.Sub(s.clock.now()))
	}
}
