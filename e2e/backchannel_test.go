//go:build e2e

package e2e

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// logoutField finds what the provider's logout page wants back.
var logoutField = regexp.MustCompile(`name="xsrf" value="([^"]+)"`)

// logOutAtProvider signs the person out at the provider, and nowhere else: what a
// click in another app does.
func (p *person) logOutAtProvider(t testing.TB) {
	t.Helper()
	page, at := p.navigate(t, http.MethodGet, p.st.issuer+"/session/end", nil)
	action, field := formAction.FindStringSubmatch(page), logoutField.FindStringSubmatch(page)
	if action == nil || field == nil {
		t.Fatalf("no logout form at %s:\n%s", at, page)
	}
	target, err := at.Parse(action[1])
	if err != nil {
		t.Fatal(err)
	}
	if _, at = p.navigate(t, http.MethodPost, target.String(), url.Values{"xsrf": {field[1]}, "logout": {"yes"}}); !strings.HasPrefix(at.String(), p.st.issuer) {
		t.Fatalf("after logout at %s", at)
	}
}

// A person signs out at the provider, which tells one replica: the session is
// over, and its sockets close on both.
func TestLogoutAtTheProviderReachesEveryReplica(t *testing.T) {
	t.Parallel()
	r := newReplicas(t)
	alice, elsewhere, bob := r.login(t, "alice"), r.login(t, "alice"), r.login(t, "bob")
	var ended []chan error
	for replica := range 2 {
		ended = append(ended, closed(r.socket(t, alice, replica)))
	}
	untouched := closed(r.socket(t, bob, 0))
	grant := alice.signIn(t)

	alice.logOutAtProvider(t)
	began := time.Now()
	for range 4 { // whichever replica answers
		if response, body := alice.fetch(t, http.MethodGet, "/auth/session", ""); response.StatusCode != http.StatusUnauthorized {
			t.Errorf("the session after the logout: %s %s", response.Status, body)
		}
	}
	for replica, socket := range ended {
		select {
		case err := <-socket:
			if status := websocket.CloseStatus(err); status != websocket.StatusNormalClosure {
				t.Errorf("replica %d closed with %v", replica, err)
			}
		case <-time.After(patience):
			t.Errorf("the socket at replica %d lives on", replica)
		}
	}
	t.Logf("sockets of both replicas closed within %s of the logout", time.Since(began).Round(time.Millisecond))
	eventually(t, "the refresh token is revoked", func() bool { return !r.sim.RefreshTokenAlive(secret.New(grant.RefreshToken)) })

	// The same person in another browser, and somebody else, go on.
	for _, p := range []*person{elsewhere, bob} {
		if response, body := p.fetch(t, http.MethodGet, "/auth/session", ""); response.StatusCode != http.StatusOK {
			t.Errorf("somebody else's session: %s %s", response.Status, body)
		}
	}
	select {
	case err := <-untouched:
		t.Errorf("somebody else's socket closed: %v", err)
	default:
	}

	// Alice comes back with a new sign-in.
	again := r.login(t, "alice")
	if got := again.signIn(t); got.UserID != grant.UserID || got.RefreshToken == grant.RefreshToken {
		t.Errorf("signed in again as %s", got.UserID)
	}
}
