package session

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/store"
)

// TicketStore is what [Tickets] needs of a store.
type TicketStore interface {
	Get(ctx context.Context, key string) ([]byte, error)
	Set(ctx context.Context, key string, value []byte, ttl time.Duration) error
	SetIfAbsent(ctx context.Context, key string, value []byte, ttl time.Duration) (bool, error)
}

// Tickets remember which session fetched which realtime ticket, for all replicas: a
// browser may fetch its ticket from one and open its socket at another (package
// sockproxy says what a ticket goes through). A ticket is the value
// "ticket:<hash>"; what became of it is decided by who first sets
// "ticket-use:<hash>", so that of several uses at once one wins.
type Tickets struct {
	store TicketStore
	clock func() time.Time
	life  time.Duration
}

// NewTickets returns tickets kept in s for life.
func NewTickets(s TicketStore, clock func() time.Time, life time.Duration) *Tickets {
	return &Tickets{store: s, clock: clock, life: life}
}

type ticketRecord struct {
	Session string    `json:"session"`
	Expires time.Time `json:"expires"`
}

// spentUse marks a ticket that a plain WebSocket used up; a server id stands for
// the SockJS client that it is bound to, which is never empty.
const spentUse = ""

// Issue notes a fresh ticket of a session.
func (t *Tickets) Issue(ctx context.Context, hash [sha256.Size]byte, session string) error {
	encoded, err := json.Marshal(ticketRecord{Session: session, Expires: t.clock().Add(t.life)})
	if err != nil {
		return err
	}
	return ticketTrouble(t.store.Set(ctx, "ticket:"+ticketName(hash), encoded, t.life))
}

// Known reports whether a ticket is the session's and its life not over.
func (t *Tickets) Known(ctx context.Context, hash [sha256.Size]byte, session string) (bool, error) {
	raw, err := t.store.Get(ctx, "ticket:"+ticketName(hash))
	if lost(err) {
		return false, nil
	}
	if err != nil {
		return false, unavailable(err)
	}
	var found ticketRecord
	readable := json.Unmarshal(raw, &found) == nil
	return readable && found.Session == session && t.clock().Before(found.Expires), nil
}

// Spend uses up a fresh ticket; of several calls at once one gets true.
func (t *Tickets) Spend(ctx context.Context, hash [sha256.Size]byte, session string) (bool, error) {
	if known, err := t.Known(ctx, hash, session); !known || err != nil {
		return false, err
	}
	won, err := t.store.SetIfAbsent(ctx, "ticket-use:"+ticketName(hash), []byte(spentUse), 2*t.life)
	return won, ticketTrouble(err)
}

// Admit binds the ticket to the SockJS client with that server id, or finds it
// bound so. How many sessions one client starts is not counted
// here: within its life a ticket opens sessions of its own browser session only.
func (t *Tickets) Admit(ctx context.Context, hash [sha256.Size]byte, session, server string) (bool, error) {
	if known, err := t.Known(ctx, hash, session); !known || err != nil {
		return false, err
	}
	name := "ticket-use:" + ticketName(hash)
	won, err := t.store.SetIfAbsent(ctx, name, []byte(server), 2*t.life)
	if won || err != nil {
		return won, ticketTrouble(err)
	}
	used, err := t.store.Get(ctx, name)
	if lost(err) {
		return false, nil
	}
	return err == nil && server != "" && string(used) == server, ticketTrouble(err)
}

func ticketName(hash [sha256.Size]byte) string { return base64.RawURLEncoding.EncodeToString(hash[:]) }

// ticketTrouble turns what a store answered into a problem; nil stays nil.
func ticketTrouble(err error) error {
	if err == nil {
		return nil
	}
	return unavailable(err)
}

// lost reports that there is no value, or one that nobody may use any more.
func lost(err error) bool {
	return errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrSealed)
}
