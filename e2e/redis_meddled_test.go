//go:build e2e

package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// Somebody with a hand in Redis moves and alters values: they are refused and
// logged, and whose they were signs in again. And a logout whose messages get lost
// reaches sockets and sessions on the other replica all the same.
func TestRedisIsMeddledWith(t *testing.T) {
	t.Parallel()
	r := startReplicas(t, replicaSetup{realtime: "{drain: 0s, check_interval: 1s}"})
	sessions := func() []string { return r.redis.keys(t, "whisp-bff:v{session:*") }
	// login returns a person and the key of the session.
	login := func(name string) (*person, string) {
		before := strings.Join(sessions(), " ")
		p := r.login(t, name)
		for _, key := range sessions() {
			if !strings.Contains(before, key) {
				return p, key
			}
		}
		t.Fatal("a login leaves no session in Redis")
		return nil, ""
	}
	grantOf := func(session string) string { return strings.Replace(session, "{session:", "{grant:", 1) }
	raw := func(key string) string {
		value, _ := r.redis.do(t, "get", key).(string)
		if value == "" {
			t.Fatalf("nothing under %s", key)
		}
		return value
	}
	put := func(key, value string) { r.redis.do(t, "set", key, value, "keepttl") }
	refusals := func(kind string) (lines int) {
		for _, bff := range r.bff {
			lines += bff.log.lines("a stored value was altered, moved or sealed with an unknown key", `"kind":"`+kind+`"`)
		}
		return lines
	}
	refused := func(t *testing.T, p *person) {
		t.Helper()
		eventually(t, "the session refused", func() bool { // remembered for two seconds
			response, body := p.fetch(t, http.MethodGet, "/auth/session", "")
			if response.StatusCode == http.StatusOK {
				return false
			}
			if code := decode[problemBody](t, body).Code; response.StatusCode != http.StatusUnauthorized || code != "session_required" {
				t.Fatalf("answered %s %s", response.Status, body)
			}
			return true
		})
	}

	alice, aliceKey := login("alice")
	alice.signIn(t)
	t.Run("a session under another's key", func(t *testing.T) {
		bob, bobKey := login("bob")
		bob.signIn(t)
		before := refusals("session")
		put(bobKey, raw(aliceKey))
		refused(t, bob)
		eventually(t, "a line in the log", func() bool { return refusals("session") > before })
		if in := alice.signIn(t); in.Username != "alice" {
			t.Errorf("alice is %s", in.Username)
		}
	})
	t.Run("a flipped bit", func(t *testing.T) {
		carol, carolKey := login("carol")
		before := refusals("session")
		altered := []byte(raw(carolKey))
		altered[len(altered)/2] ^= 1
		put(carolKey, string(altered))
		refused(t, carol)
		eventually(t, "a line in the log", func() bool { return refusals("session") > before })
	})
	t.Run("a grant under another's key", func(t *testing.T) {
		dave, daveKey := login("dave")
		own := dave.signIn(t)
		before := refusals("grant")
		put(grantOf(daveKey), raw(grantOf(aliceKey)))
		if in := dave.signIn(t); in.UserID != own.UserID || in.RefreshToken == own.RefreshToken {
			t.Errorf("dave is %s, and was %s", in.UserID, own.UserID)
		}
		eventually(t, "a line in the log", func() bool { return refusals("grant") > before })
	})
	t.Run("a logout that nobody is told of", func(t *testing.T) {
		erin, _ := login("erin")
		grant := erin.signIn(t)
		sockets := []*chatSocket{erin.mustConnect(t, r.direct[0]), erin.mustConnect(t, r.direct[1])}
		cookies := erin.cookies(t)
		r.redis.do(t, "acl", "setuser", "default", "-publish")
		began := time.Now()
		if response, body := erin.fetch(t, http.MethodPost, "/auth/logout", ""); response.StatusCode != http.StatusOK {
			t.Fatalf("logout: %s %s", response.Status, body)
		}
		for replica := range r.direct {
			eventually(t, "the session over", func() bool { return r.sessionStatus(t, replica, cookies) == http.StatusUnauthorized })
		}
		t.Logf("no session on either replica after %s, read_cache 2s", time.Since(began).Round(time.Millisecond))
		for replica, socket := range sockets {
			select {
			case <-socket.ended:
				t.Logf("the socket at replica %d ended after %s, check_interval 1s", replica, time.Since(began).Round(time.Millisecond))
			case <-time.After(patience):
				t.Errorf("the socket at replica %d lives on", replica)
			}
		}
		r.redis.do(t, "acl", "setuser", "default", "+publish")
		eventually(t, "the messages lost, or the test shows nothing", func() bool {
			return r.bff[0].log.lines("other replicas not told that")+r.bff[1].log.lines("other replicas not told that") > 0
		})
		if r.sim.RefreshTokenAlive(secret.New(grant.RefreshToken)) {
			t.Error("the refresh token lives on")
		}
	})
}

// sessionStatus asks one replica for the session of some cookies.
func (r *replicas) sessionStatus(t *testing.T, replica int, cookies string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.direct[replica]+"/auth/session", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = strings.TrimPrefix(r.origin, "http://")
	request.Header.Set("Cookie", cookies)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}
