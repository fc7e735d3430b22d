package sockproxy

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"
)

const (
	// nodeRest is how long a node that could not be connected to is tried after all others.
	nodeRest = 15 * time.Second
	// nodePatience is the least time one of several nodes gets to accept.
	nodePatience = 2 * time.Second
)

// nodes are the addresses behind Whisp's name. A WebSocket goes to any of them,
// spread evenly. A SockJS session is known to one only, so all of its requests go
// where the first one was answered (socksession.go). What a balancer behind one address
// decides by its cookie is the browser's to carry, see [BalancerCookies].
type nodes struct {
	dialer Dialer
	clock  func() time.Time
	rand   io.Reader

	mu      sync.Mutex
	resting map[string]time.Time // until when
}

// order returns the nodes there are, in the order in which to try them: the
// address family that this machine prefers first, within it by chance, and those that rest
// last of all.
func (n *nodes) order(ctx context.Context) ([]string, error) {
	found, err := n.dialer.Nodes(ctx)
	if err != nil || len(found) < 2 {
		return found, err
	}
	var seed [16]byte
	_, _ = io.ReadFull(n.rand, seed[:])                                                                         // without it the order is merely predictable
	chance := rand.New(rand.NewPCG(binary.LittleEndian.Uint64(seed[:8]), binary.LittleEndian.Uint64(seed[8:]))) //nolint:gosec // spreads load, keeps no secret
	groups := n.grouped(found)
	order := make([]string, 0, len(found))
	for _, group := range groups {
		chance.Shuffle(len(group), func(i, j int) { group[i], group[j] = group[j], group[i] })
		order = append(order, group...)
	}
	return order, nil
}

// grouped sorts nodes into those of the first one's address family, the others,
// and those that rest.
func (n *nodes) grouped(found []string) (groups [3][]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.clock()
	for _, node := range found {
		group := 1
		if now.Before(n.resting[node]) {
			group = 2
		} else if v6(node) == v6(found[0]) {
			group = 0
		}
		groups[group] = append(groups[group], node)
	}
	return groups
}

func v6(node string) bool { return strings.HasPrefix(node, "[") }

// rest notes that a node could not be connected to.
func (n *nodes) rest(node string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.clock()
	for other, until := range n.resting { // those that the resolver no longer names would stay
		if !now.Before(until) {
			delete(n.resting, other)
		}
	}
	n.resting[node] = now.Add(nodeRest)
}

// dial connects to the first node that accepts. Each gets its share of the time
// that ctx leaves, as with net.Dialer.
func (n *nodes) dial(ctx context.Context) (net.Conn, error) {
	order, err := n.order(ctx)
	if err != nil {
		return nil, err
	}
	for i, node := range order {
		var conn net.Conn
		if conn, err = n.dialOne(ctx, node, len(order)-i); err == nil {
			return conn, nil
		}
		if ctx.Err() != nil {
			break // it is not the node's fault
		}
		n.rest(node)
	}
	return nil, err
}

// dialOne connects to one of left nodes that are still to be tried.
func (n *nodes) dialOne(ctx context.Context, node string, left int) (net.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok && left > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, max(nodePatience, deadline.Sub(n.clock())/time.Duration(left)))
		defer cancel()
	}
	return n.dialer.DialHTTP1(ctx, node)
}

// neverSent reports whether err says that there was no connection to send a
// request on, so that the request may be sent elsewhere.
func neverSent(err error) bool {
	failed, ok := errors.AsType[*net.OpError](err)
	return ok && failed.Op == "dial"
}
