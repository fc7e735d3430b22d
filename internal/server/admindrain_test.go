package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

type drainState struct {
	Draining                bool
	Tunnels, SockJSSessions int
}

// A process that is drained on demand closes its sockets, takes no new ones, says
// that it is not ready, and goes on with everything else.
func TestDrainOnDemand(t *testing.T) {
	t.Parallel()
	s := start(t, withAdminToken, func(c *setup) { c.realtime.Drain = setting.Duration(0) })
	alice := s.login(t, "alice")
	g := alice.signIn(t)
	one, two := alice.socket(t, alice.ticket(t, g)), alice.socket(t, alice.ticket(t, g))
	one.connect(t, g.JWT)
	two.connect(t, g.JWT)

	var state drainState
	s.administer(t, http.MethodGet, "/admin/drain", "").want(http.StatusOK, "").decode(&state)
	if state != (drainState{false, 2, 0}) {
		t.Errorf("before: %+v", state)
	}
	if a := s.administer(t, http.MethodGet, "/admin/drain", "", func(r *http.Request) { r.Header.Del("Authorization") }); a.status != http.StatusUnauthorized {
		t.Errorf("without the token: %d", a.status)
	}
	s.administer(t, http.MethodDelete, "/admin/drain", "").want(http.StatusMethodNotAllowed, "method_not_allowed")

	for range 2 { // the second changes nothing
		state = drainState{}
		s.administer(t, http.MethodPost, "/admin/drain", "").want(http.StatusAccepted, "").decode(&state)
		if !state.Draining {
			t.Errorf("begun: %+v", state)
		}
	}
	one.wantClosed(t, 1012)
	two.wantClosed(t, 1012)
	for state.Tunnels > 0 {
		state = drainState{}
		s.administer(t, http.MethodGet, "/admin/drain", "").want(http.StatusOK, "").decode(&state)
	}

	if a := s.get(t, s.admin+"/readyz"); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, `"realtime":"failing"`) {
		t.Errorf("readyz: %d %s", a.status, a.body)
	}
	refused := alice.refused(t, "/whisp/api/wsConnect?ticket="+alice.ticket(t, g))
	refused.want(http.StatusServiceUnavailable, "shutting_down").has("Retry-After", "1")
	s.send(t, http.MethodGet, "/page").want(http.StatusOK, "")
	alice.signIn(t)
}
