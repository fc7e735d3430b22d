package sockproxy

import (
	"net/netip"
	"sync"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/problem"
)

const (
	// maxAddresses bounds the table of client addresses: about 5 MB.
	maxAddresses = 65_536
	// evictSample is how many entries are looked at to make room for one.
	evictSample = 16
	// ratesSwept is how often entries at rest are dropped.
	ratesSwept = 10 * time.Second
	// v6Site is what one customer gets of IPv6 (RFC 6177): within it addresses cost nothing.
	v6Site = 64
)

// rates bounds how often one client address begins something: a handshake, a
// SockJS session, or one of the documents before it. What an admitted SockJS session
// sends and polls is not counted, since that is a request per message.
//
// It is the generic cell rate algorithm (ITU-T I.371): of each address one moment
// is kept, up to which it has used what it may. An address at rest needs no entry, and
// what makes room is the entry that comes to rest first, so a flood of addresses
// forgives itself first and those it does not know last.
type rates struct {
	cfg   *limits
	clock func() time.Time

	mu    sync.Mutex
	used  map[netip.Prefix]time.Time
	swept time.Time
}

func newRates(cfg *limits, clock func() time.Time) *rates {
	return &rates{cfg: cfg, clock: clock, used: map[netip.Prefix]time.Time{}}
}

// allow counts one beginning by a client, or says how long it has to wait. An
// address that is none is one like any other, which all such clients share.
func (r *rates) allow(client string) error {
	cfg := r.cfg.Load()
	if cfg.ConnectionRate == 0 {
		return nil
	}
	each := time.Second / time.Duration(cfg.ConnectionRate)
	allowance := time.Duration(cfg.ConnectionBurst) * each
	key := network(client)
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock()
	r.sweep(now)
	used, known := r.used[key]
	if used.Before(now) {
		used = now
	}
	if used = used.Add(each); used.Sub(now) > allowance {
		return problem.ConnectionRate().After(used.Sub(now) - allowance)
	}
	if !known && len(r.used) >= maxAddresses {
		r.evict()
	}
	r.used[key] = used
	return nil
}

// evict makes room: of a few entries, which a map gives in no order, the one that
// comes to rest first.
func (r *rates) evict() {
	var first netip.Prefix
	var when time.Time
	looked := 0
	for key, used := range r.used {
		if looked == 0 || used.Before(when) {
			first, when = key, used
		}
		if looked++; looked == evictSample {
			break
		}
	}
	delete(r.used, first)
}

// sweep drops the addresses at rest, now and then. The caller holds mu.
func (r *rates) sweep(now time.Time) {
	if now.Sub(r.swept) < ratesSwept {
		return
	}
	r.swept = now
	for key, used := range r.used {
		if used.Before(now) {
			delete(r.used, key)
		}
	}
}

// count is how many addresses are known.
func (r *rates) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.used)
}

// network is what counts as one client: an IPv4 address, or an IPv6 network.
func network(client string) netip.Prefix {
	address, err := netip.ParseAddr(client)
	if err != nil {
		return netip.Prefix{}
	}
	address = address.Unmap().WithZone("")
	bits := address.BitLen()
	if address.Is6() {
		bits = v6Site
	}
	prefix, _ := address.Prefix(bits) // never more bits than there are
	return prefix
}
