//go:build e2e

package e2e

import (
	"net/http"
	"testing"

	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

// loadFailures is what Chromium's console says of every 4xx answer, the ones
// this test provokes included.
const loadFailures = "Failed to load resource"

func TestTwoPeopleChat(t *testing.T) {
	t.Parallel()
	// BareJWT: this Whisp leaves out "Bearer ", which the SDK insists on when a
	// socket comes back. TestNoSecretLeaks reconnects with one that sends it.
	st := newStack(t, setup{sim: whispsim.Config{BareJWT: true}})
	b := newBrowser(t, loadFailures)
	alice, bob := b.open(t, st, "alice", window{}), b.open(t, st, "bob", window{Dark: true})
	alice.signIn(t, "alice")

	// Whisp knows people from their first sign-in on.
	alice.click(t, `[data-person="bob"]`)
	alice.sees(t, "#notice", "has not signed in yet")
	bob.signIn(t, "bob")
	alice.click(t, `[data-person="bob"]`)
	alice.sees(t, "#chat-title", "Bob Brown")

	alice.say(t, "Hello Bob <b>&amp;</b>")
	alice.sees(t, ".own .bubble", "Hello Bob <b>&amp;</b>")
	bob.click(t, "#chats .row")
	bob.sees(t, ".theirs .bubble", "Hello Bob <b>&amp;</b>")

	bob.types(t, alice)
	bob.say(t, "Hi Alice")
	alice.sees(t, ".theirs .bubble", "Hi Alice")

	alice.hover(t, ".theirs")
	alice.click(t, ".theirs .react")
	alice.click(t, `.theirs [data-pick="🎉"]`)
	bob.sees(t, `.own [data-reaction="🎉"]`, "")

	t.Run("reload keeps the session", func(t *testing.T) {
		alice.reload(t)
		alice.sees(t, "#status", "Connected")
		alice.sees(t, ".theirs .bubble", "Hi Alice")
		alice.sees(t, `.theirs [data-reaction="🎉"][aria-pressed="true"]`, "")
	})
	t.Run("expired JWTs heal unseen", func(t *testing.T) { healsUnseen(t, st, alice, bob) })
	t.Run("logout ends the session and its refresh token", func(t *testing.T) { logsOut(t, st, alice, bob) })
}

// types writes until the other person sees it: the hint goes after a while.
func (p *tab) types(t testing.TB, other *tab) {
	t.Helper()
	hint := command{"selector": "#typing", "text": "is typing", "timeout": 1000}
	eventually(t, other.name+" sees that somebody types", func() bool {
		p.fill(t, "#draft", "")
		p.fill(t, "#draft", "I")
		return other.try("wait", hint) == nil
	})
}

func (p *tab) say(t testing.TB, text string) {
	t.Helper()
	p.fill(t, "#draft", text)
	p.press(t, "#draft", "Enter")
}

// healsUnseen: first by a REST call that meets 401, then by a socket that comes
// back with a JWT of its own. Nothing is shown to the person either time.
func healsUnseen(t *testing.T, st *stack, alice, bob *tab) {
	before := st.sim.Counters()["refreshToken"][http.StatusOK]
	st.jwtsExpire()
	alice.reopenChat(t)
	eventually(t, "a refresh after the JWT expired", func() bool {
		return st.sim.Counters()["refreshToken"][http.StatusOK] > before
	})
	alice.sees(t, ".theirs .bubble", "Hi Alice")

	before = st.sim.Counters()["refreshToken"][http.StatusOK]
	for _, person := range []*tab{alice, bob} {
		person.watchStatus(t)
	}
	st.sim.CloseSockets(1012, "restart")
	for _, person := range []*tab{alice, bob} {
		if seen := person.statusWas(t, "Reconnecting", "Connected"); len(seen) != 2 {
			t.Errorf("%s saw %q", person.name, seen)
		}
	}
	if after := st.sim.Counters()["refreshToken"][http.StatusOK]; after < before+2 {
		t.Errorf("%d refreshes for two sockets that came back", after-before)
	}
	bob.say(t, "Still here")
	alice.sees(t, ".theirs .bubble", "Still here")
	if notice := call[string](t, alice.b, command{"do": "text", "page": "alice", "selector": "#notice"}); notice != "" {
		t.Errorf("alice was shown %q", notice)
	}
}

// reopenChat leaves the open chat and comes back, which fetches its messages.
func (p *tab) reopenChat(t testing.TB) {
	t.Helper()
	evaluate[any](t, p, `() => {
		const at = location.hash;
		location.hash = "";
		setTimeout(() => (location.hash = at));
	}`, nil)
}

// watchStatus notes from here on what the status pill shows, however briefly.
func (p *tab) watchStatus(t testing.TB) {
	t.Helper()
	evaluate[any](t, p, `() => {
		const pill = document.getElementById("status");
		window.statusSeen = [];
		new MutationObserver(() => window.statusSeen.push(pill.textContent)).observe(pill, { childList: true });
	}`, nil)
}

// statusWas waits until the pill has shown the wanted texts in that order, and
// returns all it has shown.
func (p *tab) statusWas(t testing.TB, wanted ...string) []string {
	t.Helper()
	return evaluate[[]string](t, p, `async (wanted) => {
		const shown = () => wanted.reduce((from, text) => {
			const at = from < 0 ? -1 : window.statusSeen.indexOf(text, from);
			return at < 0 ? -1 : at + 1;
		}, 0) > 0;
		while (!shown()) await new Promise(requestAnimationFrame);
		return window.statusSeen;
	}`, wanted)
}

func logsOut(t *testing.T, st *stack, alice, bob *tab) {
	second := alice.b.open(t, st, "alice/2", window{})
	second.visit(t, "/")
	second.sees(t, "#status", "Connected")
	if user := simUser(t, st, "alice"); user.Refresh != 1 || user.Sockets != 2 {
		t.Fatalf("before logout alice has %d refresh tokens and %d sockets, not 1 and one per tab", user.Refresh, user.Sockets)
	}
	old := alice.b.cookies(t, "alice")
	alice.click(t, "#log-out")
	alice.click(t, "#logout") // the provider asks
	alice.arrives(t, st.origin)

	eventually(t, "no refresh token and no socket of alice's at Whisp", func() bool {
		user := simUser(t, st, "alice")
		return user.Refresh == 0 && user.Sockets == 0
	})
	if user := simUser(t, st, "bob"); user.Refresh != 1 || user.Sockets != 1 {
		t.Errorf("bob has %d refresh tokens and %d sockets after alice's logout", user.Refresh, user.Sockets)
	}
	second.sees(t, "#sign-in-button", "Sign in") // the other tab notices by itself
	// The old cookie is worth nothing (security.md 13).
	p := st.newPerson(t)
	for _, cookie := range old {
		resp, body := p.fetch(t, http.MethodGet, "/auth/session", "", "Cookie", cookie.Name+"="+cookie.Value)
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("with the old cookie %s /auth/session answers %s %s", cookie.Name, resp.Status, body)
		}
	}
}

func simUser(t testing.TB, st *stack, name string) whispsim.User {
	t.Helper()
	for _, user := range st.sim.Users() {
		if user.Username == name {
			return user
		}
	}
	t.Fatalf("Whisp knows no %s", name)
	return whispsim.User{}
}
