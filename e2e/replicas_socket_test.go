//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// chatSocket is a plain WebSocket with a STOMP connection to Whisp on it.
type chatSocket struct {
	conn   *websocket.Conn
	frames chan string
	ended  chan error // what closed it
	asked  int
}

// connect opens a socket at origin, with the person's session, and says CONNECT.
// A refusal is an error: it may be tried again.
func (p *person) connect(t testing.TB, origin string) (*chatSocket, error) {
	t.Helper()
	body, err := p.accepted(http.MethodPost, "/auth/whisp/sign-in")
	if err != nil {
		return nil, err
	}
	grant := decode[signedIn](t, body)
	body, err = p.accepted(http.MethodGet, "/whisp/api/auth/getTicket", "Authorization", "Bearer "+grant.JWT, "Content-Type", "application/json")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, origin+"/whisp/api/wsConnect?ticket="+decode[struct{ Ticket string }](t, body).Ticket, &websocket.DialOptions{
		Host: strings.TrimPrefix(p.st.origin, "http://"), HTTPHeader: http.Header{"Origin": {p.st.origin}, "Cookie": {p.cookies(t)}},
	})
	if err != nil {
		return nil, err
	}
	s := &chatSocket{conn: conn, frames: make(chan string, 100), ended: make(chan error, 1)}
	go func() {
		for {
			_, frame, err := conn.Read(context.Background())
			if err != nil {
				s.ended <- err
				return
			}
			select {
			case s.frames <- string(frame):
			default: // nobody looks
			}
		}
	}()
	t.Cleanup(func() { _ = conn.CloseNow() })
	if err := conn.Write(ctx, websocket.MessageText, []byte("CONNECT\naccept-version:1.2\nAuthorization:Bearer "+grant.JWT+"\n\n\x00")); err != nil {
		return nil, err
	}
	select {
	case frame := <-s.frames:
		if !strings.HasPrefix(frame, "CONNECTED") {
			return nil, fmt.Errorf("CONNECT answered with %q", frame)
		}
	case err := <-s.ended:
		return nil, err
	case <-ctx.Done():
		return nil, fmt.Errorf("no CONNECTED")
	}
	return s, nil
}

// accepted is try, with any status but 200 as an error.
func (p *person) accepted(method, path string, header ...string) ([]byte, error) {
	response, body, err := p.try(method, path, "", header...)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s %s", path, response.Status, body)
	}
	return body, err
}

// mustConnect is connect that must succeed.
func (p *person) mustConnect(t testing.TB, origin string) *chatSocket {
	t.Helper()
	s, err := p.connect(t, origin)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// goesOn has Whisp answer over the socket.
func (s *chatSocket) goesOn(t testing.TB) {
	t.Helper()
	s.asked++
	receipt := fmt.Sprintf("r%d", s.asked)
	frame := fmt.Sprintf("ACK\nid:0\nreceipt:%s\n\n\x00", receipt)
	if err := s.conn.Write(t.Context(), websocket.MessageText, []byte(frame)); err != nil {
		t.Fatalf("the socket does not go on: %v", err)
	}
	deadline := time.After(patience)
	for {
		select {
		case frame := <-s.frames:
			if strings.Contains(frame, "receipt-id:"+receipt) {
				return
			}
		case err := <-s.ended:
			t.Fatalf("the socket does not go on: %v", err)
		case <-deadline:
			t.Fatal("the socket does not go on: no receipt")
		}
	}
}

// metric returns the value of a metric without labels, "" if there is none.
func metric(t testing.TB, st *stack, name string) string {
	t.Helper()
	for line := range strings.Lines(st.metrics(t)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
