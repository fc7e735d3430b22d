package upstream

import (
	"context"
	"fmt"
	"net"
	"net/netip"
)

// Nodes returns the addresses that Whisp's host has now, as host:port, the ones
// this machine reaches best first (RFC 6724). A base URL that names an IP address
// has that one. Nothing is remembered: each call asks the resolver, as each dial
// would. At least one is returned, or an error.
func (e *Endpoint) Nodes(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, e.pools.Load().timeouts.Dial.D())
	defer cancel()
	host, port, err := net.SplitHostPort(address(&e.base))
	if err != nil {
		return nil, fmt.Errorf("address of whisp: %w", err)
	}
	found, err := e.lookup(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("look up whisp: %w", err)
	}
	nodes := make([]string, 0, len(found))
	for _, ip := range found {
		nodes = append(nodes, net.JoinHostPort(ip.Unmap().String(), port))
	}
	if len(nodes) == 0 {
		return nil, fmt.Errorf("look up whisp: %s has no address", host)
	}
	return nodes, nil
}

// lookup is net.Resolver.LookupNetIP.
type lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
