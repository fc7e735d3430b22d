package sockproxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	ws "github.com/coder/websocket"
)

// Numbered messages of many sizes, sent in odd pieces while echoes are read late:
// each arrives once, whole and in order, whatever had to wait on the way.
func TestOrderUnderLoad(t *testing.T) {
	s := newSite(t, echoUpstream(t), func(cfg *Config, _ *Deps) { cfg.MaxFrameRate = 0 })
	var sockets sync.WaitGroup
	for seed := range uint64(8) {
		c := s.dialRaw("alice")
		sockets.Go(func() { sendNumbered(t, c, seed) })
		sockets.Go(func() { readNumbered(t, c, seed) })
	}
	sockets.Wait()
}

const numbered = 150

// numberedMessage is the message number i, up to 200 kB.
func numberedMessage(random *rand.Rand, i int) string {
	size := random.IntN(200)
	if random.IntN(5) == 0 {
		size = random.IntN(200_000)
	}
	message := bytes.Repeat([]byte{byte(i)}, size+4)
	binary.BigEndian.PutUint32(message, uint32(i))
	return string(message)
}

func sendNumbered(t *testing.T, c net.Conn, seed uint64) {
	random, pieces := rand.New(rand.NewPCG(seed, 0)), rand.New(rand.NewPCG(seed, 1))
	for i := range numbered {
		f := frame(0x82, true, numberedMessage(random, i))
		for len(f) > 0 {
			n := min(len(f), 1+pieces.IntN(50_000))
			if _, err := c.Write(f[:n]); err != nil {
				t.Error(err)
				return
			}
			f = f[n:]
		}
	}
}

func readNumbered(t *testing.T, c net.Conn, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0))
	for i := range numbered {
		want := frame(0x82, false, numberedMessage(random, i))
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("socket %d, message %d: %v, %.20x instead of %.20x", seed, i, err, got, want)
			_ = c.Close()
			return
		}
	}
}

// Sockets that come and go in every way leave goroutines and descriptors where
// they began.
func TestChurnLeavesNothing(t *testing.T) {
	upstream, conns := rawUpstream(t)
	s := newSite(t, upstream, nil)
	go func() {
		i := 0
		for up := range conns { // upstreams close in every way, too
			i++
			go leave(up, i)
		}
	}()
	round := func() {
		for i := range 40 {
			c := s.dialRaw("alice")
			_, _ = c.Write(frame(0x81, true, "hi"))
			switch i % 3 {
			case 0:
				_ = c.SetLinger(0)
			case 1:
				_, _ = c.Write(closeFrame(true, closeNormal, ""))
			}
			_ = c.Close()
		}
		s.settled()
	}
	round()
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	for range 3 {
		round()
	}
	s.eventually("goroutines and descriptors as before", func() bool {
		return runtime.NumGoroutine() <= goroutines+2 && openFiles(t) <= files+4
	})
}

// leave is what an upstream does with a connection.
func leave(up *net.TCPConn, how int) {
	switch how % 4 {
	case 0:
		_ = up.SetLinger(0)
	case 1:
		_, _ = up.Write(closeFrame(false, closeNormal, ""))
	default:
		_, _ = io.Copy(io.Discard, up)
	}
	_ = up.Close()
}

// openFiles counts this process's descriptors, on Linux.
func openFiles(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("needs /proc")
	}
	return len(entries)
}

// tlsDialer dials the upstream with TLS.
type tlsDialer struct {
	address string
	config  *tls.Config
}

func (d tlsDialer) Nodes(context.Context) ([]string, error) { return []string{d.address}, nil }

func (d tlsDialer) DialHTTP1(ctx context.Context, node string) (net.Conn, error) {
	return (&tls.Dialer{Config: d.config}).DialContext(ctx, "tcp", node)
}

func TestUpstreamTLS(t *testing.T) {
	address := tlsRelay(t, echoUpstream(t))
	s := newSite(t, address, func(_ *Config, deps *Deps) {
		deps.Dialer = tlsDialer{address, &tls.Config{InsecureSkipVerify: true}}
	})
	t.Cleanup(func() { _ = s.Drain(canceled()) })

	c := s.dialWS("alice")
	for _, size := range []int{1, smallBuffer - 4, smallBuffer, 200, 200_000} {
		message := strings.Repeat("x", size)
		if err := c.Write(t.Context(), ws.MessageText, []byte(message)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := c.Read(t.Context()); err != nil || string(got) != message {
			t.Fatalf("echo of %d bytes: %d bytes, %v", size, len(got), err)
		}
	}
	s.EndSession("alice")
	if _, _, err := c.Read(t.Context()); ws.CloseStatus(err) != ws.StatusNormalClosure {
		t.Errorf("ended with %v", err)
	}
	s.closedBecause(sessionEnded)
}

// tlsRelay puts TLS in front of an upstream.
func tlsRelay(t testing.TB, upstream string) (address string) {
	lender := httptest.NewUnstartedServer(nil) // has a certificate
	lender.StartTLS()
	config := &tls.Config{Certificates: lender.TLS.Certificates, MinVersion: tls.VersionTLS12}
	lender.Close()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	var relays sync.WaitGroup
	relays.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			relays.Go(func() { relay(c, upstream) })
		}
	})
	t.Cleanup(func() { _ = listener.Close(); relays.Wait() })
	return listener.Addr().String()
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// relay copies between c and a new connection to address until both end.
func relay(c net.Conn, address string) {
	inner, err := net.Dial("tcp", address)
	if err != nil {
		_ = c.Close()
		return
	}
	var both sync.WaitGroup
	for _, pair := range [][2]net.Conn{{c, inner}, {inner, c}} {
		both.Go(func() {
			_, _ = io.Copy(pair[1], pair[0])
			_ = c.Close()
			_ = inner.Close()
		})
	}
	both.Wait()
}
