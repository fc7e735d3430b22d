package server_test

import (
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/session"
)

// wavering is a source whose trust in its issuers a reload may end.
type wavering struct {
	*identity.Bearer
	distrusts atomic.Bool
}

func (w *wavering) TrustsInAuthorization(issuer string) bool {
	return !w.distrusts.Load() && w.Bearer.TrustsInAuthorization(issuer)
}

// Whoever was known by an issuer that is taken out of the configuration is nobody from the
// next request on, below /whisp too, where the device stands for the token.
func TestDeviceEndsWithTheTrustInItsIssuer(t *testing.T) {
	t.Parallel()
	source := &wavering{}
	s := start(t, func(c *setup) {
		c.noLogin = true
		c.sources = func(s *stack, _ *session.Sessions) []identity.Source {
			source.Bearer = newSource(newOutside(t), s, nil, "bearer").(*identity.Bearer)
			return []identity.Source{source}
		}
	})
	alice := s.visit(t, wayOf(t, "bearer in Authorization"), "alice")
	g := alice.signIn(t, alice.credential)
	alice.sdk(t, http.MethodGet, "/user/getUser", g.JWT).want(http.StatusOK, "")
	source.distrusts.Store(true)
	alice.sdk(t, http.MethodGet, "/user/getUser", g.JWT).want(http.StatusUnauthorized, "session_required")
}
