//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
)

// A new person's page signs in a hundred times at once: one account, one grant.
func TestHundredFirstSignIns(t *testing.T) {
	t.Parallel()
	const callers = 100
	st := newStack(t, setup{})
	alice := st.login(t, "alice")

	answers := make([]signedIn, callers)
	errs := make([]error, callers)
	var wg sync.WaitGroup
	gate := make(chan struct{})
	for i := range callers {
		wg.Go(func() {
			<-gate
			resp, body, err := alice.try(http.MethodPost, "/auth/whisp/sign-in", "")
			if err == nil && resp.StatusCode != http.StatusOK {
				err = fmt.Errorf("%s %s", resp.Status, body)
			}
			if errs[i] = err; err == nil {
				answers[i] = decode[signedIn](t, body)
			}
		})
	}
	close(gate)
	wg.Wait()

	for i := range callers {
		if errs[i] != nil {
			t.Fatalf("caller %d: %v", i, errs[i])
		}
		if answers[i] != answers[0] {
			t.Fatalf("caller %d got another grant than the first", i)
		}
	}
	if n := st.sim.Calls("registerUser"); n != 1 {
		t.Errorf("registerUser was called %d times", n)
	}
	// The embedded store is not durable, so the name, plain or with its suffix,
	// may have an account already: sign-in is tried first (docs/architecture.md),
	// and its 401 gives no grant.
	if n := st.sim.Counters()["signIn"][http.StatusOK]; n != 1 {
		t.Errorf("signin succeeded %d times", n)
	}
	if users := st.sim.Users(); len(users) != 1 || users[0].Refresh != 1 {
		t.Errorf("Whisp has %+v, want one user with one refresh token", users)
	}
}
