package whispsim

import "time"

// ticket is a one-time pass for the socket. It starts fresh and is then used
// either by one plain WebSocket or by one SockJS client:
//
//	fresh ──plain WebSocket──▶ spent
//	fresh ──SockJS session───▶ bound to that client's server id
//
// A bound ticket admits further SockJS sessions of the same server id (a
// client that falls back to its next transport) until it expires. sockjs-client
// draws the server id once per client, so that is what tells one client.
type ticket struct {
	user    *user
	expires time.Time
	spent   bool
	server  string
}

// tickets is every ticket that may still be used. Guarded by Server.mu.
type tickets struct {
	byText map[string]*ticket
	order  []string // oldest first, for forgetting
}

func newTickets() tickets { return tickets{byText: map[string]*ticket{}} }

// issue adds a ticket and forgets expired ones.
func (t *tickets) issue(text string, u *user, now time.Time, life time.Duration) {
	for len(t.order) > 0 {
		oldest := t.byText[t.order[0]]
		if oldest != nil && now.Before(oldest.expires) {
			break
		}
		delete(t.byText, t.order[0])
		t.order = t.order[1:]
	}
	t.byText[text] = &ticket{user: u, expires: now.Add(life)}
	t.order = append(t.order, text)
}

// live returns a ticket that could still admit something.
func (t *tickets) live(text string, now time.Time) *ticket {
	found := t.byText[text]
	if found == nil || found.spent || !now.Before(found.expires) {
		return nil
	}
	return found
}

// spend uses the ticket for a plain WebSocket.
func (t *tickets) spend(text string, now time.Time) *user {
	found := t.live(text, now)
	if found == nil || found.server != "" {
		return nil
	}
	found.spent = true
	return found.user
}

// bind uses the ticket for a SockJS session of the client with that server id.
func (t *tickets) bind(text, server string, now time.Time) *user {
	found := t.live(text, now)
	if found == nil || found.server != "" && found.server != server {
		return nil
	}
	found.server = server
	return found.user
}
