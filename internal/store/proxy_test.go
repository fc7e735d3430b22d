package store_test

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// faultProxy stands between the store and Redis and delays replies, loses them,
// or hands them to the wrong connection.
type faultProxy struct {
	addr   string
	delay  atomic.Int64 // nanoseconds before each reply
	lose   atomic.Int64 // so many replies are lost with their connections
	swap   atomic.Bool  // two replies under way at once change places
	parked chan []byte  // where a reply waits for another to change places with

	listener net.Listener
	group    sync.WaitGroup
	mu       sync.Mutex
	conns    []net.Conn
}

func startProxy(t testing.TB, upstream string) *faultProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &faultProxy{addr: l.Addr().String(), parked: make(chan []byte), listener: l}
	p.group.Go(func() { p.accept(upstream) })
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		for _, conn := range p.conns {
			_ = conn.Close()
		}
		p.mu.Unlock()
		p.group.Wait()
	})
	return p
}

func (p *faultProxy) accept(upstream string) {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", upstream)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, client, server)
		p.mu.Unlock()
		p.group.Go(func() { p.carry(server, client, false) })
		p.group.Go(func() { p.carry(client, server, true) })
	}
}

// carry treats what one Read gives as one reply, which holds for the small
// replies and one request at a time that these tests send.
func (p *faultProxy) carry(to, from net.Conn, replies bool) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		piece := append([]byte(nil), buffer[:n]...)
		if replies {
			time.Sleep(time.Duration(p.delay.Load()))
			if p.lose.Add(-1) >= 0 {
				return
			}
			if p.swap.Load() {
				piece = p.exchange(piece)
			}
		}
		if _, err := to.Write(piece); err != nil {
			return
		}
	}
}

func (p *faultProxy) exchange(mine []byte) []byte {
	select {
	case theirs := <-p.parked:
		p.parked <- mine
		return theirs
	case p.parked <- mine:
		return <-p.parked
	case <-time.After(time.Second): // nobody to change with
		return mine
	}
}
