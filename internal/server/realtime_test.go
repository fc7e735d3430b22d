package server_test

import (
	"encoding/binary"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// security.md 44
func TestSocketOrigins(t *testing.T) {
	s := start(t)
	alice := s.login(t, "alice")
	ticket := alice.ticket(t, alice.signIn(t))
	for name, origins := range map[string]option{
		"44: foreign":    header("Origin", "https://evil.example"),
		"44: null":       header("Origin", "null"),
		"44: missing":    func(r *http.Request) { r.Header.Del("Origin") },
		"44: http":       header("Origin", "http://"+publicHost),
		"44: two":        header("Origin", publicOrigin, "https://evil.example"),
		"44: other port": header("Origin", publicOrigin+":444"),
	} {
		t.Run(name, func(t *testing.T) {
			alice.refused(t, "/whisp/api/wsConnect?ticket="+ticket, origins).want(http.StatusForbidden, "origin_forbidden")
			for method, path := range map[string]string{
				http.MethodGet: "/whisp/api/wsConnect/info", http.MethodPost: "/whisp/api/wsConnect/000/abcdefgh/xhr_streaming",
			} {
				alice.send(t, method, path+"?ticket="+ticket, origins).want(http.StatusForbidden, "origin_forbidden")
			}
		})
	}
	if s.whisp.OpenSockets() != 0 || s.whisp.Calls("wsConnect") != 0 {
		t.Error("44: Whisp was dialled")
	}
	_ = alice.socket(t, ticket) // none of that spent the ticket
}

// security.md 45
func TestSocketTickets(t *testing.T) {
	s := start(t)
	alice, bob := s.login(t, "alice"), s.login(t, "bob")
	g := alice.signIn(t)
	ticket := alice.ticket(t, g)
	bob.refused(t, "/whisp/api/wsConnect?ticket="+ticket).want(http.StatusUnauthorized, "ticket_refused") // stolen
	for name, query := range map[string]string{
		"absent":  "",
		"empty":   "?ticket=",
		"made up": "?ticket=5f0c9c0e-0000-4000-8000-000000000000",
		"10 kB":   "?ticket=" + strings.Repeat("x", 10<<10),
		"twice":   "?ticket=" + ticket + "&ticket=" + ticket,
		"CR LF":   "?ticket=" + ticket + "%0d%0aX-Api-Key:%20x",
	} {
		if a := alice.refused(t, "/whisp/api/wsConnect"+query); a.status != http.StatusUnauthorized {
			t.Errorf("45: %s: %d %s", name, a.status, a.body)
		}
	}
	nobody := s.browser()
	nobody.refused(t, "/whisp/api/wsConnect?ticket="+ticket).want(http.StatusUnauthorized, "session_required")
	if s.whisp.Calls("wsConnect") != 0 {
		t.Error("45: Whisp was dialled")
	}
	alice.socket(t, ticket).connect(t, g.JWT)
	alice.refused(t, "/whisp/api/wsConnect?ticket="+ticket).want(http.StatusUnauthorized, "ticket_refused") // replayed
	late := alice.ticket(t, g)
	s.clock.advance(21 * time.Second)
	alice.refused(t, "/whisp/api/wsConnect?ticket="+late).want(http.StatusUnauthorized, "ticket_refused")
}

// security.md 47
func TestHostileFrames(t *testing.T) {
	t.Parallel()
	mask := "\x00\x00\x00\x00"
	long := func(first byte, length uint64) string {
		return string([]byte{first, 0x80 | 127}) + string(binary.BigEndian.AppendUint64(nil, length)) + mask
	}
	for name, test := range map[string]struct {
		frames string
		code   int
	}{
		"47: 64 MB frame":          {long(0x82, 64<<20), 1009},
		"47: length with the sign": {long(0x82, 1<<63), 1002},
		"47: reserved bit":         {"\xc1\x80" + mask, 1002},
		"47: reserved opcode":      {"\x83\x80" + mask, 1002},
		"47: unmasked":             {"\x81\x01x", 1002},
		"47: long ping":            {"\x89\xfe\x00\x7e" + mask + strings.Repeat("x", 126), 1002},
		"47: fragmented ping":      {"\x09\x80" + mask, 1002},
		"47: lone continuation":    {"\x80\x80" + mask, 1002},
		"47: endless continuation": {"\x02\x80" + mask + strings.Repeat("\x00\xfe\xff\xff"+mask+strings.Repeat("x", 65535), 17), 1009},
		"47: flood of tiny frames": {strings.Repeat("\x8a\x80"+mask, 20), 1008}, // again and again
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			alice := s.login(t, "alice")
			conn, reader := alice.rawSocket(t, alice.ticket(t, alice.signIn(t)))
			_ = conn.SetReadDeadline(time.Now().Add(8 * time.Second))
			go func() {
				for {
					if _, err := conn.Write([]byte(test.frames)); err != nil || test.code != 1008 {
						return
					}
					time.Sleep(time.Millisecond)
				}
			}()
			if got := closeCode(reader); got != test.code {
				t.Errorf("closed with %d, want %d", got, test.code)
			}
			if a := alice.send(t, http.MethodGet, "/auth/session", sameOrigin); a.status != http.StatusOK {
				t.Errorf("the session suffered: %d", a.status)
			}
		})
	}
}

// security.md 51: no path but the socket's turns into something else.
func TestUpgradesElsewhere(t *testing.T) {
	s := start(t)
	alice := s.login(t, "alice")
	g := alice.signIn(t)
	for _, path := range []string{
		"/whisp/api/user/getUser", "/whisp/api/chat/getChats", "/auth/session", "/whisp/api/user/signin",
		"/whisp/api/wsConnect/info", "/whisp/api/wsConnect/../user/getUser", "/whisp/api/wsConnect/000/abcdefgh/xhr", "/whisp/api/wsConnectX",
	} {
		for _, protocol := range []string{"websocket", "h2c", "TLS/1.0", "websocket, h2c"} {
			got := s.rawOnce(t, "GET "+path+" HTTP/1.1\r\nHost: "+publicHost+"\r\nOrigin: "+publicOrigin+"\r\nAuthorization: Bearer "+g.JWT+
				"\r\nCookie: "+sessionCookie+"="+alice.cookies[sessionCookie]+"\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nUpgrade: "+protocol+
				"\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
			if got == nil || got.status == http.StatusSwitchingProtocols || got.status >= 500 {
				t.Errorf("51: %s to %s: %+v", path, protocol, got)
			}
		}
	}
	for _, request := range s.whisp.Requests() {
		if request.Header.Get("Upgrade") != "" || request.Header.Get("Http2-Settings") != "" {
			t.Errorf("51: an upgrade reached Whisp's %s", request.Operation)
		}
	}
}

// security.md 52: however a session ends, its sockets end with it.
func TestSocketsEndWithTheirSession(t *testing.T) {
	s := start(t)
	for name, end := range map[string]func(*testing.T, *browser){
		"logout": func(t *testing.T, b *browser) { b.send(t, http.MethodPost, "/auth/logout", sameOrigin).want(200, "") },
		"new login": func(t *testing.T, b *browser) {
			b.send(t, http.MethodGet, b.toProvider(t, "bob", "/"), navigate).want(302, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			alice, other := s.login(t, "alice"), s.login(t, "alice")
			g := alice.signIn(t)
			first, second := alice.socket(t, alice.ticket(t, g)), alice.socket(t, alice.ticket(t, g))
			kept := other.socket(t, other.ticket(t, other.signIn(t)))
			first.connect(t, g.JWT)
			end(t, alice)
			first.wantClosed(t, 1000)
			second.wantClosed(t, 1000)
			kept.connect(t, other.signIn(t).JWT) // another browser of the same person
		})
	}
}

// security.md 50: sockets that Whisp does not answer are bounded in number and time.
func TestHalfOpenHandshakes(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *setup) {
		c.realtime.MaxTunnels, c.realtime.MaxTunnelsPerUser = 10, 5
		c.realtime.HandshakeTimeout = setting.Duration(300 * time.Millisecond)
	})
	alice := s.login(t, "alice")
	g := alice.signIn(t)
	var tickets []string
	for range 8 {
		tickets = append(tickets, alice.ticket(t, g))
	}
	s.whisp.Fail(hanging("*"))
	results := make(chan *answer, len(tickets))
	for _, ticket := range tickets {
		go func() { results <- alice.refused(t, "/whisp/api/wsConnect?ticket="+ticket) }()
	}
	codes := map[string]int{}
	for range tickets {
		codes[(<-results).code()]++
	}
	if codes["tunnel_limit"] != 3 || codes["whisp_timeout"] != 5 {
		t.Errorf("50: %v", codes)
	}
	s.whisp.Heal("*")
	alice.socket(t, alice.ticket(t, g)).connect(t, g.JWT)
}
