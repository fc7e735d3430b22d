package sockproxy

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// ticketHash is all that is kept of a ticket.
type ticketHash [sha256.Size]byte

func hashTicket(ticket secret.Text) ticketHash { return sha256.Sum256([]byte(ticket.Reveal())) }

// Tickets remembers which browser session fetched which ticket. A ticket is
//
//	fresh ──Spend───▶ gone                      one plain WebSocket
//	fresh ──Admit───▶ bound to a SockJS client  which may start several sessions
//
// and in both cases forgotten once its life is over. A SockJS client is told by
// its server id, which sockjs-client draws once per client, while it draws a
// session id for each transport it tries.
type Tickets interface {
	// Issue notes a fresh ticket of session.
	Issue(ctx context.Context, ticket [sha256.Size]byte, session string) error
	// Known reports whether ticket is session's and its life not over.
	Known(ctx context.Context, ticket [sha256.Size]byte, session string) (bool, error)
	// Spend uses up a fresh ticket; of several calls at once one gets true.
	Spend(ctx context.Context, ticket [sha256.Size]byte, session string) (bool, error)
	// Admit binds the ticket to the SockJS client with that server id, or finds it bound so.
	Admit(ctx context.Context, ticket [sha256.Size]byte, session, server string) (bool, error)
}

const (
	// maxTickets bounds the memory for tickets: about 20 MB.
	maxTickets = 100_000
	// maxTicketsPerSession is how many tickets one browser session may hold at once;
	// a tab needs one per reconnect. The oldest goes first.
	maxTicketsPerSession = 16
	// maxAdmissions is how many SockJS sessions one ticket may start; sockjs-client has
	// ten transports to try.
	maxAdmissions = 16
)

type ticket struct {
	session  string
	expires  time.Time
	server   string // of the SockJS client it is bound to; empty: fresh
	admitted int
}

// memoryTickets keeps tickets in this process.
type memoryTickets struct {
	clock func() time.Time
	life  time.Duration

	mu        sync.Mutex
	byHash    map[ticketHash]*ticket
	order     []ticketHash // oldest first, which is also first to expire; may name tickets that are gone
	bySession map[string][]ticketHash
}

func newMemoryTickets(clock func() time.Time, life time.Duration) *memoryTickets {
	return &memoryTickets{clock: clock, life: life, byHash: map[ticketHash]*ticket{}, bySession: map[string][]ticketHash{}}
}

// Issue implements [Tickets].
func (m *memoryTickets) Issue(_ context.Context, hash [sha256.Size]byte, session string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.clock()
	for len(m.order) > 0 {
		oldest, live := m.byHash[m.order[0]]
		if live && now.Before(oldest.expires) && len(m.order) < maxTickets {
			break
		}
		m.forget(m.order[0])
		m.order = m.order[1:]
	}
	if held := m.bySession[session]; len(held) >= maxTicketsPerSession {
		m.forget(held[0])
	}
	m.forget(hash)
	m.byHash[hash] = &ticket{session: session, expires: now.Add(m.life)}
	m.order = append(m.order, hash)
	m.bySession[session] = append(m.bySession[session], hash)
	return nil
}

// Known implements [Tickets].
func (m *memoryTickets) Known(_ context.Context, hash [sha256.Size]byte, session string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.live(hash, session) != nil, nil
}

// Spend implements [Tickets].
func (m *memoryTickets) Spend(_ context.Context, hash [sha256.Size]byte, session string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := m.live(hash, session)
	if found == nil || found.server != "" {
		return false, nil
	}
	m.forget(hash)
	return true, nil
}

// Admit implements [Tickets].
func (m *memoryTickets) Admit(_ context.Context, hash [sha256.Size]byte, session, server string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := m.live(hash, session)
	if found == nil || found.server != "" && found.server != server || found.admitted == maxAdmissions {
		return false, nil
	}
	found.server = server
	found.admitted++
	return true, nil
}

// live finds a ticket of session whose life is not over. A ticket of another
// session is left alone: a stranger's try must not spend it.
func (m *memoryTickets) live(hash ticketHash, session string) *ticket {
	found := m.byHash[hash]
	if found == nil || found.session != session || !m.clock().Before(found.expires) {
		return nil
	}
	return found
}

// forget drops a ticket from all but order.
func (m *memoryTickets) forget(hash ticketHash) {
	found := m.byHash[hash]
	if found == nil {
		return
	}
	delete(m.byHash, hash)
	held := m.bySession[found.session]
	for i, other := range held {
		if other == hash {
			held = append(held[:i], held[i+1:]...)
			break
		}
	}
	if len(held) == 0 {
		delete(m.bySession, found.session)
	} else {
		m.bySession[found.session] = held
	}
}
