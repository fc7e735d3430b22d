package sockproxy

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/store"
)

// TicketStore is what [SharedTickets] needs of a store.
type TicketStore interface {
	Get(ctx context.Context, key string) ([]byte, error)
	Set(ctx context.Context, key string, value []byte, ttl time.Duration) error
	SetIfAbsent(ctx context.Context, key string, value []byte, ttl time.Duration) (bool, error)
}

// SharedTickets are [Tickets] that all replicas see: a browser may fetch its
// ticket from one and open its socket at another. A ticket is the value
// "ticket:<hash>"; what became of it is decided by who first sets
// "ticket-use:<hash>", so that of several uses at once one wins.
type SharedTickets struct {
	store TicketStore
	clock func() time.Time
	life  time.Duration
}

// NewSharedTickets returns tickets kept in s for life.
func NewSharedTickets(s TicketStore, clock func() time.Time, life time.Duration) *SharedTickets {
	return &SharedTickets{store: s, clock: clock, life: life}
}

type sharedTicket struct {
	Session string    `json:"session"`
	Expires time.Time `json:"expires"`
}

// spentUse marks a ticket that a plain WebSocket used up; a server id stands for
// the SockJS client that it is bound to, which is never empty.
const spentUse = ""

// Issue implements [Tickets].
func (t *SharedTickets) Issue(ctx context.Context, hash [sha256.Size]byte, session string) error {
	encoded, err := json.Marshal(sharedTicket{Session: session, Expires: t.clock().Add(t.life)})
	if err != nil {
		return err
	}
	return ticketTrouble(t.store.Set(ctx, "ticket:"+ticketName(hash), encoded, t.life))
}

// Known implements [Tickets].
func (t *SharedTickets) Known(ctx context.Context, hash [sha256.Size]byte, session string) (bool, error) {
	raw, err := t.store.Get(ctx, "ticket:"+ticketName(hash))
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, ticketTrouble(err)
	}
	var found sharedTicket
	if json.Unmarshal(raw, &found) != nil {
		return false, nil
	}
	return found.Session == session && t.clock().Before(found.Expires), nil
}

// Spend implements [Tickets].
func (t *SharedTickets) Spend(ctx context.Context, hash [sha256.Size]byte, session string) (bool, error) {
	if known, err := t.Known(ctx, hash, session); !known || err != nil {
		return false, err
	}
	won, err := t.store.SetIfAbsent(ctx, "ticket-use:"+ticketName(hash), []byte(spentUse), 2*t.life)
	return won, ticketTrouble(err)
}

// Admit implements [Tickets]. How many sessions one client starts is not counted
// here: within its life a ticket opens sessions of its own browser session only.
func (t *SharedTickets) Admit(ctx context.Context, hash [sha256.Size]byte, session, server string) (bool, error) {
	if known, err := t.Known(ctx, hash, session); !known || err != nil {
		return false, err
	}
	name := "ticket-use:" + ticketName(hash)
	won, err := t.store.SetIfAbsent(ctx, name, []byte(server), 2*t.life)
	if won || err != nil {
		return won, ticketTrouble(err)
	}
	used, err := t.store.Get(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil && server != "" && string(used) == server, ticketTrouble(err)
}

func ticketName(hash [sha256.Size]byte) string { return base64.RawURLEncoding.EncodeToString(hash[:]) }

func ticketTrouble(err error) error {
	if err == nil {
		return nil
	}
	return problem.StoreUnavailable().Because(err).After(time.Second)
}
