package server_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// Everything at once, under the race detector: every answer is one of those that
// the request may get, and each browser sees its own person only.
func TestHammer(t *testing.T) {
	const goroutines, rounds = 200, 2
	s := start(t, func(c *setup) { c.realtime.HandshakeTimeout = setting.Duration(10 * time.Second) })
	people := []string{"alice", "bob", "carol", "dave"}
	var browsers []*browser
	subjects := map[*browser]string{}
	for i := range 8 {
		b := s.login(t, people[i%len(people)])
		browsers = append(browsers, b)
		subjects[b] = "demo-" + people[i%len(people)]
	}
	leaving := s.login(t, "erin")
	var wg sync.WaitGroup
	for i := range goroutines {
		b := &browser{s: s, cookies: map[string]string{sessionCookie: browsers[i%8].cookies[sessionCookie]}}
		subject := subjects[browsers[i%8]]
		leaves := &browser{s: s, cookies: map[string]string{sessionCookie: leaving.cookies[sessionCookie]}}
		wg.Go(func() {
			for round := range rounds {
				var shown struct{ Subject string }
				b.send(t, http.MethodGet, "/auth/session", sameOrigin).want(http.StatusOK, "").decode(&shown)
				if shown.Subject != subject {
					t.Errorf("saw %s, is %s", shown.Subject, subject)
				}
				g := b.signIn(t)
				if "demo-"+g.Username != subject {
					t.Errorf("grant of %s for %s", g.Username, subject)
				}
				b.send(t, http.MethodGet, "/page").want(http.StatusOK, "")
				b.send(t, http.MethodGet, "/whisp/api/user/getUser", sameOrigin, header("Authorization", "Bearer "+g.JWT)).want(http.StatusOK, "")
				b.send(t, http.MethodPost, "/auth/logout").want(http.StatusForbidden, "origin_forbidden")
				b.send(t, http.MethodGet, "/whisp/api/user/signin", sameOrigin).want(http.StatusForbidden, "route_forbidden")
				b.send(t, http.MethodPost, "/upload", body("text/plain", "some text")).want(http.StatusOK, "")
				if i%10 == round {
					conn, _, err := b.handshake(t, "/whisp/api/wsConnect?ticket="+b.ticket(t, g))
					if err != nil {
						t.Errorf("socket: %v", err)
						continue
					}
					socket{conn}.connect(t, g.JWT)
					_ = conn.CloseNow()
				}
				if i%20 == 0 {
					switch a := leaves.send(t, http.MethodPost, "/auth/whisp/sign-in", sameOrigin); a.status {
					case http.StatusOK, http.StatusUnauthorized:
					default:
						t.Errorf("while leaving: %d %s", a.status, a.body)
					}
				}
				if i == 20 && round == 1 {
					leaving.send(t, http.MethodPost, "/auth/logout", sameOrigin).want(http.StatusOK, "")
				}
			}
		})
	}
	wg.Wait()
	for _, user := range s.whisp.Users() {
		if user.Username == "erin" && user.Refresh != 0 {
			t.Errorf("who left holds %d refresh tokens", user.Refresh)
		}
	}
	if n := s.whisp.Calls("registerUser"); n > 5 {
		t.Errorf("%d registrations of 5 people", n)
	}
}
