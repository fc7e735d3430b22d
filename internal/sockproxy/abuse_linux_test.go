package sockproxy

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// endings are all counts of sockets closed, handshakes refused and SockJS sessions
// ended that are not zero, as "name label".
func (s *site) endings() map[string]float64 {
	s.t.Helper()
	families, err := s.metrics.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	found := map[string]float64{}
	for _, family := range families {
		name := strings.TrimPrefix(family.GetName(), "whisp_bff_realtime_")
		if name != "tunnels_closed_total" && name != "refused_total" && name != "sockjs_ended_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			if value := m.GetCounter().GetValue(); value > 0 {
				found[name+" "+m.GetLabel()[0].GetValue()] = value
			}
		}
	}
	return found
}

// abuse is one thing that a peer may do. It begins on an open socket, whose two far
// ends it gets.
type abuse struct {
	name   string
	want   string    // the only metric that rises
	code   closeCode // which the client gets and answers by leaving; 0: it does neither
	tune   func(*Config)
	commit func(t *testing.T, s *site, client, whisp *net.TCPConn)
}

var abuses = []abuse{
	{
		name: "slow reader", want: "tunnels_closed_total slow_client",
		tune: func(cfg *Config) { cfg.IdleTimeout = 0 }, // time passes faster here than bytes
		commit: func(t *testing.T, s *site, _, whisp *net.TCPConn) {
			flooded(whisp, frame(0x82, false, string(make([]byte, 1<<20))))
			s.passes(t, time.Second)
		},
	},
	{
		name: "message of 64 MB", want: "tunnels_closed_total message_too_big", code: closeTooBig,
		commit: func(_ *testing.T, _ *site, client, _ *net.TCPConn) {
			_, _ = client.Write([]byte{0x82, 0xff, 0, 0, 0, 0, 4, 0, 0, 0, 1, 2, 3, 4})
			go func() { _, _ = io.Copy(client, zeros(64<<20)) }()
		},
	},
	{
		name: "fragment without end", want: "tunnels_closed_total message_too_big", code: closeTooBig,
		commit: func(_ *testing.T, _ *site, client, whisp *net.TCPConn) {
			go func() { _, _ = io.Copy(io.Discard, whisp) }()
			_, _ = client.Write(frame(0x01, true, "begun"))
			flooded(client, frame(0x00, true, string(make([]byte, 4000))))
		},
	},
	{
		name: "Close frame and no FIN", want: "tunnels_closed_total client_closed",
		commit: func(_ *testing.T, _ *site, client, _ *net.TCPConn) {
			_, _ = client.Write(closeFrame(true, closeNormal, ""))
		},
	},
	{
		name: "reset", want: "tunnels_closed_total client_lost",
		commit: func(_ *testing.T, _ *site, client, _ *net.TCPConn) {
			_ = client.SetLinger(0)
			_ = client.Close()
		},
	},
	{
		name: "half-open peer", want: "tunnels_closed_total client_vanished",
		tune: func(cfg *Config) { cfg.WriteTimeout = setting.Duration(time.Second) },
		commit: func(t *testing.T, _ *site, client, whisp *net.TCPConn) {
			vanish(t, client)
			_, _ = whisp.Write(frame(0x81, false, "anybody there?"))
		},
	},
	{
		name: "half-open Whisp", want: "tunnels_closed_total upstream_vanished",
		tune: func(cfg *Config) { cfg.WriteTimeout = setting.Duration(time.Second) },
		commit: func(t *testing.T, _ *site, client, whisp *net.TCPConn) {
			vanish(t, whisp)
			_, _ = client.Write(frame(0x81, true, "anybody there?"))
		},
	},
	{
		name: "silence", want: "tunnels_closed_total idle", code: closeGoingAway,
		commit: func(_ *testing.T, s *site, _, _ *net.TCPConn) { s.clock.advance(3 * time.Minute) },
	},
	{
		name: "burst of one-byte frames in the first second", want: "tunnels_closed_total frame_rate", code: closePolicy,
		tune: func(cfg *Config) { cfg.MaxFrameRate = 100 },
		commit: func(t *testing.T, s *site, client, whisp *net.TCPConn) {
			one := frame(0x82, true, "x")
			go func() { _, _ = client.Write(bytes.Repeat(one, 1_000_000)) }()
			passed := make(chan int64, 1)
			go func() {
				n, _ := io.Copy(io.Discard, whisp)
				passed <- n
			}()
			t.Cleanup(func() {
				if got, most := <-passed, int64(200*len(one)+2*bufferSize); got > most {
					t.Errorf("%d bytes passed, want at most %d", got, most)
				}
			})
		},
	},
	{
		name: "reset while Whisp takes nothing", want: "tunnels_closed_total client_lost",
		commit: func(t *testing.T, s *site, client, _ *net.TCPConn) {
			sent := flooded(client, frame(0x82, true, string(make([]byte, 1<<20))))
			s.eventually("the way to Whisp is full", func() bool {
				for _, u := range s.open() {
					if u.up.stalled.Load() != 0 {
						return true
					}
				}
				return false
			})
			_ = client.SetLinger(0)
			_ = client.Close()
			<-sent
		},
	},
	{
		name: "frame that nobody may send", want: "tunnels_closed_total protocol_error", code: closeProtocol,
		commit: func(_ *testing.T, _ *site, client, _ *net.TCPConn) { _, _ = client.Write(frame(0x83, true, "x")) },
	},
}

// zeros is a reader of n of them.
func zeros(n int64) io.Reader { return io.LimitReader(endless{}, n) }

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// flooded writes the same again and again until the connection ends.
func flooded(conn net.Conn, what []byte) (ended chan struct{}) {
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if _, err := conn.Write(what); err != nil {
				return
			}
		}
	}()
	return ended
}

// passes lets time pass until the tunnel is gone.
func (s *site) passes(t *testing.T, step time.Duration) {
	t.Helper()
	s.eventually("the tunnel is gone", func() bool {
		s.clock.advance(step)
		return s.live.whenEmpty() == nil
	})
}

// vanish makes a peer one that the network no longer reaches: its socket drops
// all that arrives, acknowledgements included (socket(7), SO_ATTACH_FILTER).
func vanish(t *testing.T, conn *net.TCPConn) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	failed := raw.Control(func(fd uintptr) {
		err = syscall.AttachLsf(int(fd), []syscall.SockFilter{*syscall.LsfStmt(syscall.BPF_RET|syscall.BPF_K, 0)}) //nolint:staticcheck // its successor is another module
	})
	if err := errors.Join(failed, err); err != nil {
		t.Fatal(err)
	}
}

// Each abuse raises its own reason and no other, and ends.
func TestEachAbuseHasItsReason(t *testing.T) {
	for _, a := range abuses {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			upstream, conns := rawUpstream(t)
			s := newSite(t, upstream, func(cfg *Config, _ *Deps) {
				if a.tune != nil {
					a.tune(cfg)
				}
			})
			client := s.dialRaw("alice")
			a.commit(t, s, client, <-conns)
			if a.code != 0 {
				wantClose(t, client, a.code)
				_ = client.Close()
			}
			s.settled()
			if got, want := s.endings(), map[string]float64{a.want: 1}; !maps.Equal(got, want) {
				t.Errorf("counted %v, want %v", got, want)
			}
		})
	}
}

// The same before a socket is open, and over HTTP.
func TestEachAbuseOfRequestsHasItsReason(t *testing.T) {
	for _, a := range []struct {
		name, want string
		tune       func(*Config)
		whisp      http.HandlerFunc
		commit     func(*testing.T, *site)
	}{
		{
			name: "handshake answered byte by byte", want: "refused_total whisp_timeout",
			tune:  func(cfg *Config) { cfg.HandshakeTimeout = setting.Duration(300 * time.Millisecond) },
			whisp: dripping,
			commit: func(_ *testing.T, s *site) {
				_ = s.request("GET", "/api/wsConnect?ticket=t", nil).Body.Close()
			},
		},
		{
			name: "replayed ticket", want: "refused_total ticket_refused",
			commit: func(_ *testing.T, s *site) {
				_ = s.request("GET", "/api/wsConnect?ticket=x", nil).Body.Close()
			},
		},
		{
			name: "too many beginnings", want: "refused_total connection_rate",
			tune: func(cfg *Config) { cfg.ConnectionBurst, cfg.ConnectionRate = 1, 1 },
			commit: func(_ *testing.T, s *site) {
				s.rates.used[network("")] = s.clock.now().Add(time.Minute)
				_ = s.request("GET", "/api/wsConnect?ticket=t", nil).Body.Close()
			},
		},
		{
			name: "SockJS body of 64 MB", want: "refused_total body_too_large",
			whisp: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "o\n") },
			commit: func(t *testing.T, s *site) {
				if got := s.post("alice", "/000/abc/xhr?ticket=t", ""); got != 200 {
					t.Fatal(got)
				}
				conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = conn.Close() }()
				_, _ = io.WriteString(conn, "POST /whisp/api/wsConnect/000/abc/xhr_send?ticket=t HTTP/1.1\r\nHost: x\r\nX-Session: alice\r\n"+
					"Origin: "+s.origin+"\r\nContent-Type: text/plain\r\nContent-Length: 67108864\r\n\r\n")
				if head := readHead(t, conn); !strings.HasPrefix(head, "HTTP/1.1 413 ") {
					t.Error(head)
				}
			},
		},
		{
			name: "SockJS stream that nobody reads", want: "sockjs_ended_total slow_client",
			whisp: func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, "o\n")
				for err := error(nil); err == nil; {
					_, err = w.Write(make([]byte, 1<<20))
				}
			},
			commit: func(t *testing.T, s *site) {
				r := s.sock("alice", "POST", "/000/abc/xhr_streaming?ticket=t", "", nil)
				if got := nextFrame(t, bufio.NewReader(r.Body)); got != "o" {
					t.Fatal(got)
				}
				s.passes(t, time.Second)
			},
		},
	} {
		t.Run(a.name, func(t *testing.T) {
			if a.whisp == nil {
				a.whisp = http.NotFound
			}
			upstream := httptest.NewServer(a.whisp)
			s := newSite(t, strings.TrimPrefix(upstream.URL, "http://"), func(cfg *Config, _ *Deps) {
				if a.tune != nil {
					a.tune(cfg)
				}
			})
			t.Cleanup(func() {
				_ = s.Drain(canceled())
				upstream.CloseClientConnections()
				upstream.Close()
			})
			s.ticket("alice", "t")
			a.commit(t, s)
			if got, want := s.endings(), map[string]float64{a.want: 1}; !maps.Equal(got, want) {
				t.Errorf("counted %v, want %v", got, want)
			}
		})
	}
}

// dripping answers one byte per tenth of a second.
func dripping(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	for _, b := range []byte("HTTP/1.1 101 Switching Protocols\r\n") {
		if _, err := conn.Write([]byte{b}); err != nil {
			return
		}
		time.Sleep(100 * time.Millisecond) // the attack itself, nothing waits for it
	}
}
