package server

import (
	"net/http"
	"net/netip"
	"strings"
)

// clients tells who sent a request. The peer's own address counts, unless the
// peer is a trusted proxy: then the right-most address of X-Forwarded-For that
// is not a trusted proxy. Everything further left is the client's own words.
type clients struct{ trusted []netip.Prefix }

func newClients(proxies []string) (clients, error) {
	var c clients
	for _, text := range proxies {
		prefix, err := parsePrefix(text)
		if err != nil {
			return clients{}, err
		}
		c.trusted = append(c.trusted, prefix)
	}
	return c, nil
}

// of returns the client's address, and whether the peer is a trusted proxy.
func (c clients) of(r *http.Request) (client string, trusted bool) {
	if colon := strings.LastIndexByte(r.RemoteAddr, ':'); len(c.trusted) == 0 && colon > 0 && r.RemoteAddr[0] != '[' {
		return r.RemoteAddr[:colon], false // IPv4, as net.TCPAddr writes it: the common case
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return "", false
	}
	address := peer.Addr().Unmap()
	if len(c.trusted) == 0 || !c.trusts(address) {
		return address.String(), false
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break // what stands left of something unreadable cannot be trusted
		}
		address = hop.Unmap().WithZone("") // a zone is free text
		if !c.trusts(address) {
			break
		}
	}
	return address.String(), true
}

func (c clients) trusts(address netip.Addr) bool {
	for _, prefix := range c.trusted {
		if prefix.Contains(address) {
			return true
		}
	}
	return false
}
