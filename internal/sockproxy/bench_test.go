package sockproxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// helperUpstream, when set, turns the test binary into a fresh process with
// nothing but a site before that upstream; see TestBenchmarkHelper.
const helperUpstream = "SOCKPROXY_HELPER_UPSTREAM"

// helperTLS, when set too, makes it speak TLS with the upstream.
const helperTLS = "SOCKPROXY_HELPER_TLS"

// TestBenchmarkHelper is not a test: the benchmarks run it in a process of its own.
func TestBenchmarkHelper(t *testing.T) {
	upstream := os.Getenv(helperUpstream)
	if upstream == "" {
		t.Skip("only as a helper of the benchmarks")
	}
	s := newSite(t, upstream, func(cfg *Config, deps *Deps) {
		if os.Getenv(helperTLS) != "" {
			deps.Dialer = tlsDialer{upstream, &tls.Config{InsecureSkipVerify: true}}
		}
		cfg.MaxTunnelsPerUser, cfg.MaxFrameRate, cfg.AllowMissingOrigin = 0, 0, true
		cfg.IdleTimeout, cfg.TicketLife = 0, 60e9
	})
	s.interval = time.Second
	_, _ = fmt.Println("site", s.url)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); { // one ticket per line
		s.TicketIssued(lines.Text(), benchTicket(lines.Text()))
		_, _ = fmt.Println("ok")
	}
}

// helper starts the process and returns what it is reached by.
type helper struct {
	address string
	pid     int
	in      io.WriteCloser
	out     *bufio.Scanner
}

func startHelper(b *testing.B, upstream string, env ...string) *helper {
	cmd := exec.Command(os.Args[0], "-test.run=TestBenchmarkHelper$", "-test.timeout=10m")
	cmd.Env = append(append(os.Environ(), helperUpstream+"="+upstream), env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	h := &helper{pid: cmd.Process.Pid, in: in, out: bufio.NewScanner(out)}
	for h.out.Scan() {
		if address, ok := strings.CutPrefix(h.out.Text(), "site http://"); ok {
			h.address = address
			return h
		}
	}
	b.Fatal("helper said nothing")
	return nil
}

// open opens a socket of a session of its own.
func (h *helper) open(b *testing.B, session string) net.Conn {
	_, _ = fmt.Fprintln(h.in, session)
	if !h.out.Scan() || h.out.Text() != "ok" {
		b.Fatal("helper is gone")
	}
	conn, err := net.Dial("tcp", h.address)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	_, _ = io.WriteString(conn, "GET /whisp/api/wsConnect?ticket="+benchTicket(session).Reveal()+" HTTP/1.1\r\nHost: x\r\n"+
		"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nX-Session: "+session+"\r\n\r\n")
	if head := readHead(b, conn); !strings.HasPrefix(head, "HTTP/1.1 101 ") {
		b.Fatalf("handshake answered %q", head)
	}
	return conn
}

// rss is the resident memory of the helper in bytes, on Linux.
func (h *helper) rss(b *testing.B) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.pid))
	if err != nil {
		b.Skip("needs /proc")
	}
	_, after, _ := bytes.Cut(status, []byte("VmRSS:"))
	kib, err := strconv.Atoi(string(bytes.Fields(after)[0]))
	if err != nil {
		b.Fatal(err)
	}
	return kib << 10
}

// BenchmarkIdleTunnelMemory opens 3,000 sockets, one message through each, and
// reports how much the resident memory of a fresh process grew.
func BenchmarkIdleTunnelMemory(b *testing.B) {
	for range b.N {
		reportMemory(b, startHelper(b, benchUpstream(b)))
	}
}

// BenchmarkIdleTunnelMemoryTLS is the same with TLS to the upstream.
func BenchmarkIdleTunnelMemoryTLS(b *testing.B) {
	for range b.N {
		reportMemory(b, startHelper(b, tlsRelay(b, benchUpstream(b)), helperTLS+"=yes"))
	}
}

func reportMemory(b *testing.B, h *helper) {
	const tunnels = 3000
	h.open(b, "warm-up")
	before, begun := h.rss(b), time.Now()
	message, echoed := frame(0x81, true, "heart-beat"), make([]byte, 2+len("heart-beat"))
	for i := range tunnels {
		conn := h.open(b, "session-"+strconv.Itoa(i))
		_, _ = conn.Write(message)
		if _, err := io.ReadFull(conn, echoed); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(tunnels/time.Since(begun).Seconds(), "opened/s")
	b.ReportMetric(float64(h.rss(b)-before)/tunnels, "bytes/tunnel")
}

// BenchmarkEcho sends 200 bytes to and fro over 50 sockets at once; one
// operation is one round trip.
func BenchmarkEcho(b *testing.B) {
	h := startHelper(b, benchUpstream(b))
	message := frame(0x82, true, strings.Repeat("x", 200))
	var conns []net.Conn
	for i := range 50 {
		conns = append(conns, h.open(b, "session-"+strconv.Itoa(i)))
	}
	b.ResetTimer()
	before := h.cpu(b)
	var busy sync.WaitGroup
	for _, conn := range conns {
		busy.Go(func() {
			got := make([]byte, 4+200)
			for range b.N/len(conns) + 1 {
				_, _ = conn.Write(message)
				if _, err := io.ReadFull(conn, got); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	busy.Wait()
	b.ReportMetric(float64(h.cpu(b)-before)/float64(b.N)/1e3, "cpu-us/op") // the helper's alone
}

// cpu is the processor time the helper used, on Linux, in steps of 10 ms.
func (h *helper) cpu(b *testing.B) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.pid))
	if err != nil {
		b.Skip("needs /proc")
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // from the third on
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

func benchTicket(session string) secret.Text { return secret.New("ticket-" + session) }

// benchUpstream echoes single frames of known size as a server does, unmasked.
func benchUpstream(b *testing.B) string {
	address, conns := rawUpstream(b)
	var serving sync.WaitGroup
	done := make(chan struct{})
	serving.Go(func() {
		for {
			select {
			case conn, open := <-conns:
				if !open {
					return
				}
				serving.Go(func() { benchEcho(conn) })
			case <-done:
				return
			}
		}
	})
	b.Cleanup(func() {
		close(done)
		serving.Wait()
	})
	return address
}

func benchEcho(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	buf := make([]byte, 512)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		payload := buf[6:n] // up to 125 bytes
		answer := append(make([]byte, 0, 512), buf[0], buf[1]&0x7f)
		if buf[1]&0x7f == 126 {
			payload = buf[8:n]
			answer = append(answer, buf[2], buf[3])
		}
		if _, err := conn.Write(append(answer, payload...)); err != nil {
			return
		}
	}
}
