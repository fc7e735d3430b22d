package server_test

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"strings"
	"testing"
)

// bench starts a stack without logs and records, and signs alice in.
func bench(b *testing.B, changes ...func(*setup)) (*stack, *browser) {
	b.Helper()
	s := start(b, append(changes, func(c *setup) { c.quiet, c.noChecks = true, true })...)
	alice := s.login(b, "alice")
	alice.signIn(b)
	return s, alice
}

// blank is a ResponseWriter that costs nothing.
type blank struct {
	header http.Header
	status int
}

func (w *blank) Header() http.Header         { return w.header }
func (w *blank) Write(p []byte) (int, error) { return len(p), nil }
func (w *blank) WriteHeader(status int)      { w.status = status }

// handle serves the request b.N times, with what net/http allocates anew for
// each: the request and its header.
func handle(b *testing.B, s *stack, request string, want int) {
	b.Helper()
	parsed, err := http.ReadRequest(bufio.NewReader(strings.NewReader(request)))
	if err != nil {
		b.Fatal(err)
	}
	parsed.RemoteAddr = "127.0.0.1:4711"
	parsed = parsed.WithContext(b.Context())
	handler := s.server.Handler()
	w := &blank{header: make(http.Header)}
	template, header := *parsed, make(http.Header)
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		clear(header)
		for name, values := range parsed.Header {
			header[name] = values
		}
		one := template
		one.Header = header
		w.status = 0
		handler.ServeHTTP(w, &one)
		if w.status != want {
			b.Fatal(w.status)
		}
	}
}

// Goal: what the whole product needs for this (net/http's reading and writing
// included) is at least 1.2 times nginx's plain GET; see bench/.
func BenchmarkSignInCached(b *testing.B) {
	s, alice := bench(b)
	handle(b, s, "POST /auth/whisp/sign-in HTTP/1.1\r\nHost: "+publicHost+"\r\nOrigin: "+publicOrigin+
		"\r\nSec-Fetch-Site: same-origin\r\nUser-Agent: bench\r\nAccept: */*\r\nCookie: "+sessionCookie+"="+alice.cookies[sessionCookie]+
		"\r\nContent-Length: 0\r\n\r\n", http.StatusOK)
}

// Goal: at least half of nginx's proxied GETs. The app here is a few lines over
// a socket, so that nearly all allocations are ours.
func BenchmarkAppGET(b *testing.B) {
	s, alice := bench(b, func(c *setup) { c.appURL = leanApp(b) })
	handle(b, s, "GET /page?x=1 HTTP/1.1\r\nHost: "+publicHost+"\r\nUser-Agent: bench\r\nAccept: */*\r\nAccept-Encoding: gzip\r\nCookie: theme=dark; "+
		sessionCookie+"="+alice.cookies[sessionCookie]+"\r\n\r\n", http.StatusOK)
}

// leanApp answers 1 KiB to whatever ends in an empty line.
func leanApp(b *testing.B) string {
	b.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = listener.Close() })
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: Tue, 24 Nov 2026 00:00:00 GMT\r\nContent-Length: 1024\r\n\r\n" + strings.Repeat("x", 1024))
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				buffer, end := make([]byte, 8<<10), []byte("\r\n\r\n")
				for {
					n, err := conn.Read(buffer)
					if err != nil {
						return
					}
					if bytes.HasSuffix(buffer[:n], end) {
						if _, err := conn.Write(answer); err != nil {
							return
						}
					}
				}
			}()
		}
	}()
	return "http://" + listener.Addr().String()
}
