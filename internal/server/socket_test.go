package server_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// socket is a plain WebSocket through the server.
type socket struct{ *websocket.Conn }

// handshake tries to open one; options change the opening request.
func (b *browser) handshake(t testing.TB, target string, options ...option) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.s.base, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.withCookies(request)
	request.Header.Set("Origin", publicOrigin)
	for _, option := range options {
		option(request)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	return websocket.Dial(ctx, "ws"+strings.TrimPrefix(b.s.base, "http")+target, &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: b.s.client.Transport},
		HTTPHeader: request.Header, Host: publicHost, Subprotocols: []string{"v12.stomp"},
	})
}

// refused tries a handshake that must fail.
func (b *browser) refused(t testing.TB, target string, options ...option) *answer {
	t.Helper()
	conn, response, err := b.handshake(t, target, options...)
	if err == nil {
		_ = conn.CloseNow()
		t.Fatalf("%s opened", target)
	}
	if response == nil {
		t.Fatalf("%s: %v", target, err)
	}
	read, _ := io.ReadAll(response.Body)
	b.s.remember(response.Header, string(read))
	return &answer{t, "socket " + target, response.StatusCode, response.Header, string(read), true}
}

func (b *browser) socket(t testing.TB, ticket string) socket {
	t.Helper()
	conn, _, err := b.handshake(t, "/whisp/api/wsConnect?ticket="+ticket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	return socket{conn}
}

// connect speaks STOMP's CONNECT.
func (c socket) connect(t testing.TB, jwt string) {
	t.Helper()
	frame := "CONNECT\naccept-version:1.2\nheart-beat:0,0\nAuthorization:Bearer " + jwt + "\n\n\x00"
	if err := c.Write(t.Context(), websocket.MessageText, []byte(frame)); err != nil {
		t.Fatal(err)
	}
	_, answer, err := c.Read(t.Context())
	if err != nil || !strings.HasPrefix(string(answer), "CONNECTED") {
		t.Fatalf("STOMP: %q %v", answer, err)
	}
}

// wantClosed waits for a close code; 0 stands for a connection that just ends.
func (c socket) wantClosed(t testing.TB, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for {
		_, _, err := c.Read(ctx)
		if err == nil {
			continue
		}
		closed, ok := errors.AsType[websocket.CloseError](err)
		if ctx.Err() != nil || (code != 0 && (!ok || int(closed.Code) != code)) {
			t.Errorf("socket ended with %v, want %d", err, code)
		}
		return
	}
}

// rawSocket opens a socket by hand, for frames that no library sends.
func (b *browser) rawSocket(t testing.TB, ticket string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn := b.s.dial(t)
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, err := io.WriteString(conn, "GET /whisp/api/wsConnect?ticket="+ticket+" HTTP/1.1\r\nHost: "+publicHost+
		"\r\nOrigin: "+publicOrigin+"\r\nCookie: "+sessionCookie+"="+b.cookies[sessionCookie]+
		"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"+
		"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("handshake: %v %v", response, err)
	}
	if extensions := response.Header.Get("Sec-Websocket-Extensions"); extensions != "" {
		t.Errorf("48: extension %q negotiated", extensions)
	}
	return conn, reader
}

// closeCode reads frames until a Close frame; 0 if the connection just ends.
func closeCode(reader *bufio.Reader) int {
	for {
		var head [2]byte
		if _, err := io.ReadFull(reader, head[:]); err != nil {
			return 0
		}
		length := int(head[1] & 0x7f)
		if length == 126 {
			var extended [2]byte
			if _, err := io.ReadFull(reader, extended[:]); err != nil {
				return 0
			}
			length = int(binary.BigEndian.Uint16(extended[:]))
		}
		payload := make([]byte, length)
		if _, err := io.ReadFull(reader, payload); err != nil {
			return 0
		}
		if head[0]&0x0f == 8 && length >= 2 {
			return int(binary.BigEndian.Uint16(payload))
		}
	}
}
