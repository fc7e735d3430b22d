//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
)

// Twenty tabs begin a login before any of them finishes; all of them do, and
// are the same person with one account.
//
// A login ends the session that the browser had, so what a tab asks for while
// others are still at it may be refused. That is not looked at here: the tabs
// begin to ask once all have arrived.
func TestTwentyLoginTabs(t *testing.T) {
	t.Parallel()
	const tabs = 20
	st := newStack(t, setup{})
	b := newBrowser(t, loadFailures)
	var open []*tab
	for i := range tabs {
		open = append(open, b.open(t, st, fmt.Sprintf("alice/%d", i), window{}))
	}
	target := func(i int) string { return fmt.Sprintf("%s/lab/blank?tab=%d", st.origin, i) }

	allTabs(t, open, func(i int, p *tab) error {
		return p.try("goto", command{"url": fmt.Sprintf("%s/auth/login?return_to=/lab/blank%%3Ftab%%3D%d", st.origin, i)})
	})
	if n := len(b.cookiesOf(t, "alice", "localhost")); n < tabs || n > tabs+10 {
		t.Errorf("%d cookies while %d logins are on their way", n, tabs)
	}
	allTabs(t, open, func(i int, p *tab) error {
		return errors.Join(
			p.try("click", command{"selector": `button[value="alice"]`}),
			p.try("waitURL", command{"prefix": target(i)}),
		)
	})
	for _, p := range open {
		if at := call[string](t, b, command{"do": "url", "page": p.name}); at != target(slices.Index(open, p)) {
			t.Errorf("tab %s is at %s", p.name, at)
		}
	}
	if left := b.cookiesOf(t, "alice", "localhost"); len(left) != 1 {
		t.Errorf("left are %d cookies, not the session's alone: %v", len(left), left)
	}
	answers := make([]string, tabs)
	allTabs(t, open, func(i int, p *tab) error {
		given, err := b.ask(command{"do": "evaluate", "page": p.name, "script": `async () => {
			const answer = await fetch("/auth/whisp/sign-in", { method: "POST" });
			return answer.status + " " + (await answer.json()).userId;
		}`})
		answers[i] = string(given)
		return err
	})
	want := fmt.Sprintf(`"200 %s"`, simUser(t, st, "alice").ID)
	if same := slices.Compact(answers); len(same) != 1 || same[0] != want {
		t.Errorf("sign-in answers %q, want %s in each tab", same, want)
	}
	open[0].visit(t, "/")
	open[0].sees(t, "#status", "Connected")
	if n := st.sim.Calls("registerUser"); n != 1 {
		t.Errorf("registerUser was called %d times for one person", n)
	}
}

func allTabs(t *testing.T, tabs []*tab, do func(i int, p *tab) error) {
	t.Helper()
	errs := make([]error, len(tabs))
	var wg sync.WaitGroup
	for i, p := range tabs {
		wg.Go(func() { errs[i] = do(i, p) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// The provider comes up after whisp-bff: no restart is needed.
func TestProviderDownAtStart(t *testing.T) {
	t.Parallel()
	port := freePorts(t, 1)[0]
	st := newStack(t, setup{noStart: true, issuerURL: fmt.Sprintf("http://127.0.0.1:%d", port)})
	eventually(t, "/readyz says 503", func() bool { return st.readyz() == http.StatusServiceUnavailable })

	p := st.newPerson(t)
	resp, body := p.fetch(t, http.MethodGet, "/auth/login", "", "Accept", "application/json")
	if resp.StatusCode != http.StatusServiceUnavailable || decode[problemBody](t, body).Code != "provider_unavailable" {
		t.Errorf("login without a provider: %s %s", resp.Status, body)
	}
	st.startProvider(t, port)
	st.waitReady(t)
	st.login(t, "alice").signIn(t)
}
