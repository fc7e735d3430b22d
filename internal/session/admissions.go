package session

import (
	"context"
	"crypto/sha256"
	"time"
)

// AdmissionStore is what [Admissions] needs of a store.
type AdmissionStore interface {
	TicketStore
	Delete(ctx context.Context, key string) error
}

// Admissions remember for all replicas which SockJS sessions a ticket admitted, so
// that the requests of one may reach any of them. An admission is the value
// "sockjs:<hash of the session id>"; what stands in it is package sockproxy's.
type Admissions struct{ store AdmissionStore }

// NewAdmissions returns admissions kept in s.
func NewAdmissions(s AdmissionStore) *Admissions { return &Admissions{store: s} }

// Find returns the admission of a SockJS session, nil if there is none.
func (a *Admissions) Find(ctx context.Context, sock [sha256.Size]byte) ([]byte, error) {
	found, err := a.store.Get(ctx, admissionKey(sock))
	if lost(err) {
		return nil, nil
	}
	return found, ticketTrouble(err)
}

// Claim notes an admission for ttl if there is none, and returns the one that
// stands: of several claims at once one wins. Nil: the other one is gone again.
func (a *Admissions) Claim(ctx context.Context, sock [sha256.Size]byte, admission []byte, ttl time.Duration) ([]byte, error) {
	won, err := a.store.SetIfAbsent(ctx, admissionKey(sock), admission, ttl)
	if err != nil {
		return nil, ticketTrouble(err)
	}
	if won {
		return admission, nil
	}
	return a.Find(ctx, sock)
}

// Renew lets an admission live for ttl from now.
func (a *Admissions) Renew(ctx context.Context, sock [sha256.Size]byte, admission []byte, ttl time.Duration) error {
	return ticketTrouble(a.store.Set(ctx, admissionKey(sock), admission, ttl))
}

// Withdraw forgets an admission.
func (a *Admissions) Withdraw(ctx context.Context, sock [sha256.Size]byte) error {
	return ticketTrouble(a.store.Delete(ctx, admissionKey(sock)))
}

func admissionKey(sock [sha256.Size]byte) string { return "sockjs:" + ticketName(sock) }
