//go:build e2e

package e2e

import (
	"encoding/json"
	"net/http"
	"testing"
)

// echoed is what socket.mjs and lab.mjs give: the event that came back.
type echoed struct {
	Event struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	} `json:"event"`
	Version   string `json:"version"`
	Transport string `json:"transport"`
	Error     string `json:"error"`
}

func (e echoed) check(t *testing.T, transport, message string) {
	t.Helper()
	if e.Error != "" {
		t.Fatal(e.Error)
	}
	if e.Event.Message != message || e.Transport != transport || e.Version != "1.2" {
		t.Errorf("got %+v, want %q back over %s, STOMP 1.2", e, message, transport)
	}
}

func TestSocketsInNode(t *testing.T) {
	t.Parallel()
	st := newStack(t, setup{})
	alice := st.login(t, "alice")
	in := alice.signIn(t)
	chat := alice.newChat(t, in.JWT, in.Username)

	for _, transport := range []string{"plain", "websocket", "xhr-streaming", "xhr-polling", "eventsource"} {
		t.Run(transport, func(t *testing.T) {
			message := "over " + transport + " <&> äöü 🎉"
			options, err := json.Marshal(map[string]string{
				"transport": transport, "origin": st.origin, "cookie": alice.cookies(t), "chatId": chat, "message": message,
			})
			if err != nil {
				t.Fatal(err)
			}
			var got echoed
			startScript(t, "socket.mjs", string(options)).line(t, &got)
			got.check(t, transport, message)
		})
	}
}

func TestSocketsInChromium(t *testing.T) {
	t.Parallel()
	st := newStack(t, setup{})
	b := newBrowser(t)
	tab := b.open(t, st, "alice", window{})
	tab.signIn(t, "alice")
	alice := st.login(t, "alice") // makes the chat
	in := alice.signIn(t)
	chat := alice.newChat(t, in.JWT, in.Username)
	tab.visit(t, "/lab/")
	tab.sees(t, "#ready", "ready")

	for _, transport := range []string{
		"plain", "websocket", "xhr-streaming", "eventsource", "iframe-eventsource", "htmlfile", "iframe-htmlfile",
		"xhr-polling", "iframe-xhr-polling", "jsonp-polling",
	} {
		t.Run(transport, func(t *testing.T) {
			message := "over " + transport + " <&> äöü 🎉"
			got := evaluate[echoed](t, tab, "(options) => window.lab(options)",
				map[string]string{"transport": transport, "chatId": chat, "message": message})
			got.check(t, transport, message)
		})
	}
}

// A ticket is one session's and for one client: what Whisp calls single use.
func TestTicketsAreNotShared(t *testing.T) {
	t.Parallel()
	st := newStack(t, setup{})
	alice, bob := st.login(t, "alice"), st.login(t, "bob")
	in := alice.signIn(t)
	bob.signIn(t)
	resp, body := alice.whisp(t, http.MethodGet, "auth/getTicket", "", in.JWT)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("getTicket: %s %s", resp.Status, body)
	}
	ticket := decode[struct{ Ticket string }](t, body).Ticket

	before := st.sim.OpenSockets()
	resp, body = bob.fetch(t, http.MethodGet, "/whisp/api/wsConnect?ticket="+ticket, "", "Connection", "Upgrade",
		"Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	if resp.StatusCode != http.StatusUnauthorized || decode[problemBody](t, body).Code != "ticket_refused" {
		t.Errorf("bob with alice's ticket: %s %s", resp.Status, body)
	}
	if st.sim.OpenSockets() != before {
		t.Error("Whisp was dialled for a ticket of somebody else")
	}
}
