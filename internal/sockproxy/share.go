package sockproxy

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/problem"
)

const (
	// shareLife is how long an admission stands in the store after it was last
	// renewed, shareRenew how often a replica renews those it has.
	shareLife  = 2 * time.Minute
	shareRenew = 30 * time.Second
)

// Admissions are SockJS sessions that some replica admitted, for all of them, by
// the hash of the session id. They let the requests of one session arrive
// anywhere: a replica that does not know the session asks once.
type Admissions interface {
	// Find returns the admission, nil if there is none.
	Find(ctx context.Context, sock [sha256.Size]byte) ([]byte, error)
	// Claim notes an admission if there is none, and returns the one that stands, or nil.
	Claim(ctx context.Context, sock [sha256.Size]byte, admission []byte, ttl time.Duration) ([]byte, error)
	// Renew writes an admission anew.
	Renew(ctx context.Context, sock [sha256.Size]byte, admission []byte, ttl time.Duration) error
	// Withdraw forgets it.
	Withdraw(ctx context.Context, sock [sha256.Size]byte) error
}

// admission is what replicas tell each other of a SockJS session. It names the
// browser session and the ticket's hash, so that knowing a session's id opens nothing.
type admission struct {
	Session string     `json:"session"`
	Ticket  ticketHash `json:"ticket"`
	Server  string     `json:"server"`
	Node    string     `json:"node"` // where Whisp knows the session
}

// sameClient reports whether a request with other's session, ticket and server
// belongs to the SockJS session that a admitted.
func (a admission) sameClient(other admission) bool {
	return a.Session == other.Session && a.Ticket == other.Ticket && a.Server == other.Server
}

func hashSock(id string) [sha256.Size]byte { return sha256.Sum256([]byte("sockjs " + id)) }

// findShared looks for an admission by another replica. The WebSocket transport
// needs none, but must not take an id that is somebody else's.
func (p *Proxy) findShared(ctx context.Context, rt route, wants admission) (found admission, ok bool, err error) {
	if p.admissions == nil {
		return admission{}, false, nil
	}
	raw, err := p.admissions.Find(ctx, hashSock(rt.session))
	if err != nil {
		return admission{}, false, problem.StoreUnavailable().Because(err)
	}
	if raw == nil {
		return admission{}, false, nil
	}
	if json.Unmarshal(raw, &found) != nil || !found.sameClient(wants) {
		return admission{}, false, problem.TicketRefused()
	}
	return found, true, nil
}

// claim tells the other replicas of a session that Whisp has just opened, before
// the client can know of it. A store that does not answer leaves the session to this
// replica for now; the sweep tries again.
func (p *Proxy) claim(ctx context.Context, k *sockSession) error {
	if p.admissions == nil || k.alone || !k.claimDue() {
		return nil
	}
	what := k.admission()
	encoded, err := json.Marshal(what)
	if err != nil {
		return problem.Internal().Because(err)
	}
	stands, err := p.admissions.Claim(ctx, hashSock(k.id), encoded, shareLife)
	if err != nil {
		p.log.WarnContext(ctx, "realtime: SockJS session not shared with other replicas", "error", err)
		return nil
	}
	var other admission
	if json.Unmarshal(stands, &other) != nil || other != what { // somebody was there first
		p.live.removeSock(k)
		return problem.TicketRefused()
	}
	k.wasShared()
	return nil
}

// renew keeps the admission of a session that lives here.
func (p *Proxy) renew(ctx context.Context, k *sockSession) {
	encoded, err := json.Marshal(k.admission())
	if err == nil {
		err = p.admissions.Renew(ctx, hashSock(k.id), encoded, shareLife)
	}
	if err != nil {
		p.log.WarnContext(ctx, "realtime: SockJS session not shared with other replicas", "error", err)
	}
	k.wasShared() // if it was not, trying again is not more urgent
}

// forget drops a session that Whisp does not know, or no longer can, for all replicas.
func (p *Proxy) forget(ctx context.Context, k *sockSession) {
	p.live.removeSock(k)
	if p.admissions == nil || k.alone {
		return
	}
	if err := p.admissions.Withdraw(context.WithoutCancel(ctx), hashSock(k.id)); err != nil {
		p.log.WarnContext(ctx, "realtime: SockJS session not withdrawn", "error", err)
	}
}
