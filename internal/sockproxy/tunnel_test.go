package sockproxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	ws "github.com/coder/websocket"
)

func TestEcho(t *testing.T) {
	s := newSite(t, echoUpstream(t), nil)
	c := s.dialWS("alice")
	for _, size := range []int{0, 1, 125, 126, 200, 65535, 65536, 200_000, 1 << 20} {
		message := bytes.Repeat([]byte("whisp"), size/5+1)[:size]
		if err := c.Write(t.Context(), ws.MessageText, message); err != nil {
			t.Fatal(err)
		}
		kind, got, err := c.Read(t.Context())
		if err != nil || kind != ws.MessageText || !bytes.Equal(got, message) {
			t.Fatalf("echo of %d bytes: %v, %d bytes, %v", size, kind, len(got), err)
		}
	}
	if err := c.Close(ws.StatusNormalClosure, "bye"); err != nil {
		t.Errorf("closing handshake: %v", err)
	}
	s.closedBecause(clientClosed)
	if up := s.metric("tunnel_bytes_total", "direction", "up"); up < 1<<20 {
		t.Errorf("counted %v bytes up", up)
	}
}

func TestFragmentedMessageWithPingBetween(t *testing.T) {
	s := newSite(t, echoUpstream(t), nil)
	c := s.dialRaw("alice")
	var sent []byte
	sent = append(sent, frame(0x01, true, "Hel")...)
	sent = append(sent, frame(0x89, true, "ping")...)
	sent = append(sent, frame(0x80, true, "lo")...)
	for _, b := range sent { // one byte per segment: headers come in pieces
		if _, err := c.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	want := append(frame(0x8a, false, "ping"), frame(0x81, false, "Hello")...)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %x, %v; want %x", got, err, want)
	}
}

// frame builds a frame with a first byte; a client's is masked with a non-zero key.
func frame(first byte, masked bool, payload string) []byte {
	f := []byte{first}
	mask := byte(0)
	if masked {
		mask = 0x80
	}
	switch n := len(payload); {
	case n < 126:
		f = append(f, mask|byte(n))
	case n <= 0xffff:
		f = binary.BigEndian.AppendUint16(append(f, mask|126), uint16(n))
	default:
		f = binary.BigEndian.AppendUint64(append(f, mask|127), uint64(n))
	}
	if !masked {
		return append(f, payload...)
	}
	key := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	f = append(f, key[:]...)
	for i := range len(payload) {
		f = append(f, payload[i]^key[i%4])
	}
	return f
}

func TestClientRulesBrokenCloseWithTheirCode(t *testing.T) {
	huge := binary.BigEndian.AppendUint64([]byte{0x82, 0xff}, 64<<20)
	for _, test := range []struct {
		name string
		sent []byte
		code closeCode
		why  reason
	}{
		{"64 MB frame", append(huge, 1, 2, 3, 4), closeTooBig, tooBig},
		{"endless empty continuations", append(frame(0x01, true, ""), bytes.Repeat(frame(0x00, true, ""), 300_000)...), closeTooBig, tooBig},
		{"reserved bit", frame(0xc1, true, "x"), closeProtocol, protocolError},
		{"unmasked", frame(0x81, false, "x"), closeProtocol, protocolError},
		{"long ping", frame(0x89, true, string(make([]byte, 126))), closeProtocol, protocolError},
		{"fragmented ping", frame(0x09, true, "x"), closeProtocol, protocolError},
	} {
		t.Run(test.name, func(t *testing.T) {
			upstream, conns := rawUpstream(t)
			s := newSite(t, upstream, func(cfg *Config, _ *Deps) { cfg.MaxFrameRate = 0 })
			c := s.dialRaw("alice")
			up := <-conns
			good := frame(0x81, true, "before")
			go func() { _, _ = c.Write(append(good, test.sent...)) }()
			got := make([]byte, len(good))
			if _, err := io.ReadFull(up, got); err != nil || !bytes.Equal(got, good) {
				t.Fatalf("the frame before: %x, %v", got, err)
			}
			wantClose(t, c, test.code)
			_, _ = c.Write(closeFrame(true, test.code, ""))
			_ = c.CloseWrite()
			rest, err := io.ReadAll(up)
			if err != nil || !bytes.HasSuffix(rest, closeFrame(true, closeGoingAway, "")) {
				t.Errorf("upstream's last bytes %x, %v", rest[max(0, len(rest)-20):], err)
			}
			s.closedBecause(test.why)
		})
	}
}

// wantClose reads one frame, which must be a Close with code.
func wantClose(t *testing.T, c io.Reader, code closeCode) {
	t.Helper()
	head := make([]byte, 4)
	if _, err := io.ReadFull(c, head); err != nil {
		t.Fatalf("waiting for a Close frame: %v", err)
	}
	if got := closeCode(binary.BigEndian.Uint16(head[2:])); head[0] != 0x88 || got != code {
		t.Fatalf("got frame %#x with code %d, want a Close with %d", head[0], got, code)
	}
	_, _ = io.CopyN(io.Discard, c, int64(head[1]-2))
}

func TestUpstreamRulesBroken(t *testing.T) {
	upstream, conns := rawUpstream(t)
	s := newSite(t, upstream, nil)
	c := s.dialRaw("alice")
	up := <-conns
	_, _ = up.Write(frame(0x81, true, "masked"))
	wantClose(t, c, closeInternal)
	_ = c.Close()
	s.closedBecause(upstreamProtocol)
}

func TestHalfClose(t *testing.T) {
	upstream, conns := rawUpstream(t)
	s := newSite(t, upstream, nil)
	c := s.dialRaw("alice")
	up := <-conns
	_, _ = c.Write(frame(0x81, true, "last words"))
	_ = c.CloseWrite()
	if got, err := io.ReadAll(up); err != nil || !bytes.Equal(got, frame(0x81, true, "last words")) {
		t.Fatalf("upstream got %x, %v", got, err)
	}
	_, _ = up.Write(frame(0x81, false, "answer"))
	_ = up.CloseWrite()
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, frame(0x81, false, "answer")) {
		t.Fatalf("client got %x, %v", got, err)
	}
	s.closedBecause(clientClosed)
}

func TestOneSideResetClosesTheOther(t *testing.T) {
	for _, test := range []struct {
		name string
		side func(client, upstream *net.TCPConn) (reset, other *net.TCPConn)
		why  reason
	}{
		{"client", func(c, u *net.TCPConn) (*net.TCPConn, *net.TCPConn) { return c, u }, clientLost},
		{"upstream", func(c, u *net.TCPConn) (*net.TCPConn, *net.TCPConn) { return u, c }, upstreamLost},
	} {
		t.Run(test.name, func(t *testing.T) {
			upstream, conns := rawUpstream(t)
			s := newSite(t, upstream, nil)
			reset, other := test.side(s.dialRaw("alice"), <-conns)
			_ = reset.SetLinger(0)
			_ = reset.Close()
			if _, err := other.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the other side reads %v", err)
			}
			s.closedBecause(test.why)
		})
	}
}

func TestSlowReaderIsCut(t *testing.T) {
	for _, test := range []struct {
		name string
		why  reason
	}{{"client", slowClient}, {"upstream", slowUpstream}} {
		t.Run(test.name, func(t *testing.T) {
			upstream, conns := rawUpstream(t)
			s := newSite(t, upstream, nil)
			var fast io.Writer = s.dialRaw("alice")
			message := frame(0x82, true, string(make([]byte, 1<<20)))
			if up := <-conns; test.why == slowClient {
				fast, message = up, frame(0x82, false, string(make([]byte, 1<<20)))
			}
			done := make(chan error, 1)
			go func() { // the other side never reads
				for {
					if _, err := fast.Write(message); err != nil {
						done <- err
						return
					}
				}
			}()
			s.eventually("a write stalls", func() bool {
				for _, u := range s.open() {
					if u.up.stalled.Load() != 0 || u.down.stalled.Load() != 0 {
						s.clock.advance(s.cfg.Load().WriteTimeout.D() / 10)
						s.now.Load()
					}
				}
				return s.metric("tunnels_closed_total", "reason", string(test.why)) > 0
			})
			if err := <-done; err == nil {
				t.Error("the fast side was not cut off")
			}
		})
	}
}

// open returns the tunnels there are.
func (s *site) open() []*tunnel {
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	var all []*tunnel
	for _, session := range s.live.sessions {
		all = append(all, session.tunnels...)
	}
	return all
}

func TestIdleTunnelIsClosed(t *testing.T) {
	s := newSite(t, echoUpstream(t), nil)
	c := s.dialWS("alice")
	_ = c.Write(t.Context(), ws.MessageText, []byte("\n")) // its echo says that the tunnel is open
	if _, _, err := c.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.clock.advance(s.cfg.Load().IdleTimeout.D() + time.Second)
	_, _, err := c.Read(t.Context())
	if ws.CloseStatus(err) != ws.StatusGoingAway {
		t.Errorf("idle tunnel ended with %v", err)
	}
	s.closedBecause(idleTimeout)
}

func TestEndSessionClosesItsTunnelsOnly(t *testing.T) {
	s := newSite(t, echoUpstream(t), nil)
	alice, again, bob := s.dialWS("alice"), s.dialWS("alice"), s.dialWS("bob")
	begun := time.Now()
	s.EndSession("alice")
	for _, c := range []*ws.Conn{alice, again} {
		if _, _, err := c.Read(t.Context()); ws.CloseStatus(err) != ws.StatusNormalClosure {
			t.Errorf("ended with %v", err)
		}
	}
	s.eventually("alice's tunnels gone", func() bool { return len(s.open()) == 1 })
	if took := time.Since(begun); took > time.Second {
		t.Errorf("took %s", took)
	}
	if err := bob.Write(t.Context(), ws.MessageText, []byte("hi")); err != nil {
		t.Error(err)
	}
	if _, _, err := bob.Read(t.Context()); err != nil {
		t.Error("bob:", err)
	}
}

func TestEndSessionWhileClientSaysNothing(t *testing.T) {
	upstream, conns := rawUpstream(t)
	s := newSite(t, upstream, nil)
	c := s.dialRaw("alice")
	<-conns
	begun := time.Now()
	s.EndSession("alice")
	wantClose(t, c, closeNormal)
	if _, err := c.Read(make([]byte, 1)); err == nil { // no answer of ours to the Close frame
		t.Error("still open")
	}
	if took := time.Since(begun); took > time.Second {
		t.Errorf("took %s", took)
	}
}

func TestCloseFrameWaitsForTheFrameInProgress(t *testing.T) {
	upstream, conns := rawUpstream(t)
	s := newSite(t, upstream, nil)
	c := s.dialRaw("alice")
	up := <-conns
	message := frame(0x82, false, string(make([]byte, 1000)))
	_, _ = up.Write(message[:600])
	got := make([]byte, len(message))
	if _, err := io.ReadFull(c, got[:600]); err != nil {
		t.Fatal(err)
	}
	s.EndSession("alice")
	_, _ = up.Write(append(message[600:], frame(0x81, false, "too late")...))
	if _, err := io.ReadFull(c, got[600:]); err != nil || !bytes.Equal(got, message) {
		t.Fatalf("rest of the frame: %v", err)
	}
	wantClose(t, c, closeNormal)
}

func TestTouchAndExpiry(t *testing.T) {
	s := newSite(t, echoUpstream(t), nil)
	later := s.clock.now().Add(24 * time.Hour)
	s.sessions.set(later, nil)
	c := s.dialWS("alice")
	s.clock.advance(s.cfg.Load().TouchInterval.D() + time.Second)
	s.tick()
	if err := c.Write(t.Context(), ws.MessageText, []byte("\n")); err != nil {
		t.Fatal(err)
	}
	s.eventually("touched", func() bool { return s.sessions.count() > 0 })
	if _, _, err := c.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.sessions.set(time.Time{}, errors.New("store is down"))
	for range 3 { // a store that is down changes nothing
		before := s.sessions.count()
		s.clock.advance(s.cfg.Load().TouchInterval.D() + time.Second)
		s.tick()
		_ = c.Write(t.Context(), ws.MessageText, []byte("\n"))
		s.eventually("touched again", func() bool { return s.sessions.count() > before })
		if _, _, err := c.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s.sessions.set(time.Time{}, ErrSessionEnded)
	s.clock.advance(s.cfg.Load().TouchInterval.D() + time.Second)
	s.tick()
	_ = c.Write(t.Context(), ws.MessageText, []byte("\n"))
	_, _, err := c.Read(t.Context())
	for err == nil {
		_, _, err = c.Read(t.Context())
	}
	if ws.CloseStatus(err) != ws.StatusNormalClosure {
		t.Errorf("ended with %v", err)
	}
	s.closedBecause(sessionExpired)
}

func TestDrainSpreadsCloses(t *testing.T) {
	s := newSite(t, echoUpstream(t), func(cfg *Config, _ *Deps) { cfg.Drain = 400_000_000 })
	var conns []*ws.Conn
	for range 20 {
		conns = append(conns, s.dialWS("alice"))
	}
	ended := make(chan time.Time, len(conns))
	for _, c := range conns {
		go func() {
			_, _, err := c.Read(context.Background())
			if ws.CloseStatus(err) != ws.StatusServiceRestart {
				t.Errorf("ended with %v", err)
			}
			ended <- time.Now()
		}()
	}
	if err := s.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	var times []time.Time
	for range conns {
		times = append(times, <-ended)
	}
	if spread := times[len(times)-1].Sub(times[0]); spread < 200*time.Millisecond {
		t.Errorf("all closed within %s", spread)
	}
	_, response, err := ws.Dial(t.Context(), s.url+"/whisp/api/wsConnect?ticket="+s.ticket("bob", "t"), &ws.DialOptions{
		HTTPHeader: http.Header{"X-Session": {"bob"}, "Origin": {s.origin}},
	})
	if err == nil || response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("new socket while draining: %v", err)
	}
}

func TestDrainCutsAtItsDeadline(t *testing.T) {
	upstream, conns := rawUpstream(t)
	s := newSite(t, upstream, nil)
	c := s.dialRaw("alice")
	<-conns
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Drain = %v", err)
	}
	if _, err := io.ReadAll(c); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
	if open := len(s.open()); open != 0 {
		t.Errorf("%d tunnels left", open)
	}
}
