//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// The crowd: crowdPeople × crowdSockets sockets, to each of which each person's
// messages go. Every message is sent by another of the person's sockets.
const (
	crowdPeople   = 20
	crowdSockets  = 50
	crowdMessages = 20
)

// Numbered messages go up and come back down on a thousand sockets, while sockets
// come and go and connections to Whisp are reset at random. What Whisp acknowledged
// arrives exactly once on every socket that lives, in order; on one that ended,
// nothing is missing before its end.
//
// It runs alone: the tests in parallel wait until it is done.
func TestOrderAndLossUnderChurn(t *testing.T) {
	relay := newResettingRelay(t)
	st := newStack(t, setup{
		whispURL: relay.url, logLevel: "warn", more: "realtime: {drain: 0s, max_tunnels_per_user: 0}\n",
	})
	whisp := httptest.NewServer(st.sim)
	t.Cleanup(func() { st.sim.Close(); whisp.Close() })
	relay.to.Store(strings.TrimPrefix(whisp.URL, "http://"))

	st.sim.AddUser("companion", "companion@example.com", secret.New("SecureP@ss123")) // before newChat would, many times at once
	members := make([]*crowdMember, crowdPeople)
	for i := range members {
		members[i] = &crowdMember{t: t, person: st.login(t, fmt.Sprintf("member-%d", i))}
	}
	each := func(do func(*crowdMember)) {
		var wg sync.WaitGroup
		for _, m := range members {
			wg.Go(func() { do(m) })
		}
		wg.Wait()
	}
	each((*crowdMember).arrive)
	if got := st.sim.OpenSockets(); got != crowdPeople*crowdSockets {
		t.Fatalf("Whisp has %d sockets", got)
	}

	stop := relay.resetAtRandom(20 * time.Millisecond)
	each((*crowdMember).talk)
	resets := stop()
	each((*crowdMember).verify)

	var lived, ended, acknowledged, delivered int
	for _, m := range members {
		acknowledged += len(m.acknowledged)
		for _, s := range m.all {
			delivered += len(s.numbers())
			if s.over() {
				ended++
			} else {
				lived++
			}
		}
	}
	t.Logf("%d sockets lived, %d ended, after %d resets; %d messages acknowledged, %d delivered",
		lived, ended, resets, acknowledged, delivered)
	if resets == 0 || ended <= crowdPeople || lived < crowdPeople*crowdSockets/2 || acknowledged < crowdPeople*crowdMessages/2 {
		t.Error("too little happened to show anything")
	}
}

// crowdMember is a person with many sockets who sends numbers, one after the
// other. Only its own goroutine opens, closes and sends.
type crowdMember struct {
	t      *testing.T
	person *person
	grant  signedIn
	chat   string
	living []*crowdSocket
	all    []*crowdSocket
	next   int // number

	acknowledged []int
}

// crowdSocket is a STOMP connection that notes what it receives.
type crowdSocket struct {
	conn *websocket.Conn
	from int // the first number sent after it had subscribed
	done chan struct{}

	mu       sync.Mutex
	got      []int
	receipts map[string]chan struct{}
}

func (s *crowdSocket) numbers() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

func (s *crowdSocket) over() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// read notes numbers and receipts until the socket ends.
func (s *crowdSocket) read() {
	defer close(s.done)
	for {
		_, frame, err := s.conn.Read(context.Background())
		if err != nil {
			return
		}
		s.mu.Lock()
		head, body, _ := bytes.Cut(frame, []byte("\n\n"))
		if _, receipt, found := bytes.Cut(head, []byte("receipt-id:")); found {
			id, _, _ := strings.Cut(string(receipt), "\n")
			if waits := s.receipts[id]; waits != nil {
				delete(s.receipts, id)
				close(waits)
			}
		} else if bytes.HasPrefix(frame, []byte("MESSAGE")) {
			var event struct{ Message string }
			if json.Unmarshal(bytes.TrimRight(body, "\x00\n"), &event) == nil {
				if number, err := strconv.Atoi(event.Message); err == nil {
					s.got = append(s.got, number)
				}
			}
		}
		s.mu.Unlock()
	}
}

var errSocketEnded = errors.New("socket ended")

// ask sends a frame and waits for Whisp's receipt.
func (s *crowdSocket) ask(command, header, body string) error {
	id, receipt := strconv.FormatUint(rand.Uint64(), 36), make(chan struct{})
	s.mu.Lock()
	s.receipts[id] = receipt
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	frame := command + "\nreceipt:" + id + "\n" + header + "\n\n" + body + "\x00"
	if err := s.conn.Write(ctx, websocket.MessageText, []byte(frame)); err != nil {
		return err
	}
	select {
	case <-receipt:
		return nil
	case <-s.done:
		return errSocketEnded
	case <-ctx.Done():
		return fmt.Errorf("%s: no receipt within %s", command, patience)
	}
}

func (m *crowdMember) arrive() {
	m.grant = m.person.signIn(m.t)
	m.chat = m.person.newChat(m.t, m.grant.JWT, m.grant.Username)
	m.fill()
}

// fill opens sockets until there are as many as there should be. One that a reset
// hits while it opens is tried again, as the SDK does.
func (m *crowdMember) fill() {
	m.living = slices.DeleteFunc(m.living, (*crowdSocket).over)
	for failed := 0; len(m.living) < crowdSockets; {
		s, err := m.open()
		if err == nil {
			m.living, m.all = append(m.living, s), append(m.all, s)
			continue
		}
		if failed++; failed > 20 {
			m.t.Errorf("no socket opens any more: %v", err)
			return
		}
	}
}

func (m *crowdMember) open() (*crowdSocket, error) {
	body, err := m.person.accepted(http.MethodGet, "/whisp/api/auth/getTicket", "Authorization", "Bearer "+m.grant.JWT, "Content-Type", "application/json")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, m.person.st.origin+"/whisp/api/wsConnect?ticket="+decode[struct{ Ticket string }](m.t, body).Ticket, &websocket.DialOptions{
		HTTPHeader: http.Header{"Origin": {m.person.st.origin}, "Cookie": {m.person.cookies(m.t)}},
	})
	if err != nil {
		return nil, err
	}
	m.t.Cleanup(func() { _ = conn.CloseNow() })
	s := &crowdSocket{conn: conn, from: m.next, done: make(chan struct{}), receipts: map[string]chan struct{}{}}
	connect := "CONNECT\naccept-version:1.2\nheart-beat:0,0\nAuthorization:Bearer " + m.grant.JWT + "\n\n\x00"
	if err := conn.Write(ctx, websocket.MessageText, []byte(connect)); err != nil {
		return nil, err
	}
	if _, answer, err := conn.Read(ctx); err != nil || !bytes.HasPrefix(answer, []byte("CONNECTED")) {
		return nil, fmt.Errorf("CONNECT: %q %w", answer, err)
	}
	go s.read()
	return s, s.ask("SUBSCRIBE", "id:0\ndestination:/user/"+m.grant.UserID+"/queue/messages", "")
}

// talk sends each number on another socket. A number without receipt may have
// reached Whisp or not; it is not sent again.
func (m *crowdMember) talk() {
	for ; m.next < crowdMessages; m.next++ {
		m.fill()
		if len(m.living) == 0 {
			return
		}
		s := m.living[rand.IntN(len(m.living))]
		body := fmt.Sprintf(`{"type":"SEND_MSG","chatId":%q,"message":"%d"}`, m.chat, m.next)
		if s.ask("SEND", "destination:/api/chat\ncontent-type:application/json", body) == nil {
			m.acknowledged = append(m.acknowledged, m.next)
		}
		if leaving := m.living[rand.IntN(len(m.living))]; m.next%5 == 4 {
			_ = leaving.conn.CloseNow()
		}
	}
}

// verify compares what each socket got with what Whisp acknowledged.
func (m *crowdMember) verify() {
	for _, s := range m.all {
		want := slices.DeleteFunc(slices.Clone(m.acknowledged), func(n int) bool { return n < s.from })
		known := func(got []int) []int { // without those that Whisp took and could not acknowledge
			return slices.DeleteFunc(slices.Clone(got), func(n int) bool { return !slices.Contains(m.acknowledged, n) })
		}
		deadline := time.Now().Add(patience)
		for !s.over() && len(known(s.numbers())) < len(want) && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond) // the interval of the poll, nothing is timed by it
		}
		ended := s.over()
		got := s.numbers()
		if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
			m.t.Errorf("out of order, or twice: %v", got)
		}
		if kept := known(got); ended && len(kept) < len(want) {
			want = want[:len(kept)]
			if !slices.Equal(kept, want) {
				m.t.Errorf("a hole before the end of a socket: got %v of %v", kept, want)
			}
		} else if !slices.Equal(kept, want) {
			m.t.Errorf("a living socket got %v, want %v", kept, want)
		}
	}
}

// resettingRelay stands before Whisp and resets connections of sockets when it
// is told to. Other connections it only passes on.
type resettingRelay struct {
	url string
	to  atomic.Value // address

	mu      sync.Mutex
	sockets map[*relayed]struct{}
}

type relayed struct{ client, whisp *net.TCPConn }

func newResettingRelay(t *testing.T) *resettingRelay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &resettingRelay{url: "http://" + listener.Addr().String(), sockets: map[*relayed]struct{}{}}
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			passing.Go(func() { r.pass(conn.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() { _ = listener.Close(); passing.Wait() })
	return r
}

// pass copies in both directions until either ends.
func (r *resettingRelay) pass(client *net.TCPConn) {
	defer func() { _ = client.Close() }()
	first := make([]byte, 4096)
	n, err := client.Read(first)
	if err != nil {
		return
	}
	to, _ := r.to.Load().(string)
	dialled, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer func() { _ = dialled.Close() }()
	both := &relayed{client, dialled.(*net.TCPConn)}
	if bytes.HasPrefix(first, []byte("GET /api/wsConnect")) {
		r.mu.Lock()
		r.sockets[both] = struct{}{}
		r.mu.Unlock()
		defer func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			delete(r.sockets, both)
		}()
	}
	if _, err := dialled.Write(first[:n]); err != nil {
		return
	}
	var up sync.WaitGroup
	up.Go(func() {
		_, _ = io.Copy(dialled, client)
		_ = both.whisp.CloseWrite()
	})
	_, _ = io.Copy(client, dialled)
	_ = client.Close()
	up.Wait()
}

// resetAtRandom resets one socket each interval until it is stopped, which returns how
// many it were.
func (r *resettingRelay) resetAtRandom(interval time.Duration) (stop func() int) {
	over, count := make(chan struct{}), make(chan int)
	go func() {
		resets := 0
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-over:
				count <- resets
				return
			case <-ticker.C:
				if r.resetOne() {
					resets++
				}
			}
		}
	}()
	return func() int { close(over); return <-count }
}

func (r *resettingRelay) resetOne() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for both := range r.sockets { // a map gives any of them
		for _, conn := range []*net.TCPConn{both.client, both.whisp} {
			_ = conn.SetLinger(0)
			_ = conn.Close()
		}
		delete(r.sockets, both)
		return true
	}
	return false
}
