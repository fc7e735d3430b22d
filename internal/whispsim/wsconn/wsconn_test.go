package wsconn_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/whisp-bff/whisp-bff/internal/whispsim/wsconn"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair returns both ends of a connection; ended is closed when Serve returns.
func pair(t *testing.T) (server *wsconn.Conn, client *websocket.Conn, ended <-chan struct{}) {
	t.Helper()
	accepted, done := make(chan *wsconn.Conn, 1), make(chan struct{})
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(done)
		conn, err := wsconn.Accept(w, r, "v2", "v1")
		if err != nil {
			return
		}
		accepted <- conn
		conn.Serve(conn.Send) // an echo
	}))
	client, _, err := websocket.Dial(t.Context(), listener.URL, &websocket.DialOptions{Subprotocols: []string{"v1", "v0"}})
	if err != nil {
		t.Fatal(err)
	}
	client.SetReadLimit(2 * wsconn.MaxQueue)
	t.Cleanup(func() {
		_ = client.CloseNow()
		<-done
		listener.Close()
	})
	return <-accepted, client, done
}

// next is the client's next message, or the close code.
func next(t *testing.T, client *websocket.Conn) string {
	t.Helper()
	_, text, err := client.Read(t.Context())
	if err != nil {
		return fmt.Sprint(int(websocket.CloseStatus(err)))
	}
	return string(text)
}

func TestMessagesKeepTheirOrderAndCloseComesLast(t *testing.T) {
	server, client, ended := pair(t)
	if server.Subprotocol() != "v1" {
		t.Errorf("subprotocol = %q", server.Subprotocol())
	}
	if err := client.Write(t.Context(), websocket.MessageText, []byte("echo")); err != nil {
		t.Fatal(err)
	}
	if got := next(t, client); got != "echo" {
		t.Errorf("got %q", got)
	}
	for i := range 1000 {
		server.Send(fmt.Append(nil, i))
	}
	server.Close(4000, strings.Repeat("long ", 100))
	server.Send([]byte("too late"))
	for i := range 1000 {
		if got := next(t, client); got != fmt.Sprint(i) {
			t.Fatalf("got %q, want %d", got, i)
		}
	}
	if got := next(t, client); got != "4000" {
		t.Errorf("got %q, want 4000", got)
	}
	<-ended
}

func TestCloseCodesThatMayNotBeSent(t *testing.T) {
	for _, code := range []int{0, 999, 1004, 1005, 1006, 1015, 2010, 5000} {
		server, client, _ := pair(t)
		server.Close(code, "")
		if got := next(t, client); got != "1000" {
			t.Errorf("%d became %s, want 1000", code, got)
		}
	}
}

func TestCutDoesNotWaitForAClientThatIgnoresClose(t *testing.T) {
	server, client, ended := pair(t)
	server.Close(1012, "") // the client does not read, so it does not answer
	server.Cut()
	<-ended
	_ = client.CloseNow()
	server.Cut() // twice is fine
}

func TestSlowReaderIsCut(t *testing.T) {
	server, _, ended := pair(t) // it never reads
	message := bytes.Repeat([]byte("x"), 1<<20)
	for range 3 * wsconn.MaxQueue >> 20 {
		server.Send(message)
	}
	<-ended
}

func TestTooLargeAMessageEndsTheConnection(t *testing.T) {
	_, client, ended := pair(t)
	if err := client.Write(t.Context(), websocket.MessageText, make([]byte, wsconn.MaxMessage+1)); err != nil {
		t.Logf("write: %v", err) // it may be cut while writing
	}
	if got := next(t, client); got != "1009" && got != "-1" {
		t.Errorf("got %s, want 1009", got)
	}
	<-ended
}
