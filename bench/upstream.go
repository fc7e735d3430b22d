//go:build linux

package main

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // RFC 6455 section 1.3
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"syscall"
)

const roleUpstream = "upstream"

// upstream is what stands behind both proxies: the customer's app, and as much
// of Whisp as sockets need. Whatever is asked for, it answers
//
//	an upgrade                 101, then echoes every frame, or ends as a message says
//	POST /api/wsConnect/…      xhr_streaming and xhr_send of SockJS (sockjs.go)
//	GET /api/auth/getTicket    a ticket; any ticket opens a socket
//	POST /bench/hang-up        closes the other connections that are kept for HTTP
//	anything else              1 KiB of JSON
type upstream struct {
	loop    *loop
	streams streams
	tickets int
	out     []byte
}

// Uses of an upstream's connection.
const (
	useHTTP = iota
	useSocket
)

var oneKiB = httpAnswer(`{"filler":"` + string(bytes.Repeat([]byte("x"), 1024-len(`{"filler":""}`))) + `"}`)

func httpAnswer(body string) []byte {
	return []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body)
}

// serveUpstream listens on a free port, writes it to out, and serves until in
// ends, which it does when the bench process does, however that is.
func serveUpstream(in io.Reader, out io.Writer) error {
	debug.SetGCPercent(800)
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	tcp, ok := listener.(*net.TCPListener)
	if !ok {
		return fmt.Errorf("listener is a %T", listener)
	}
	file, err := tcp.File()
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, in)
		os.Exit(0)
	}()
	fmt.Fprintln(out, listener.Addr())
	u := &upstream{streams: newStreams()}
	err = u.serve(int(file.Fd()))
	_, _ = listener.Close(), file.Close() // until here the garbage collector must not do it
	return err
}

func (u *upstream) serve(listening int) error {
	var err error
	if u.loop, err = newLoop(); err != nil {
		return err
	}
	const listenerIndex = -1
	if err := syscall.SetNonblock(listening, true); err != nil {
		return err
	}
	if err := u.loop.watch(listening, listenerIndex); err != nil {
		return err
	}
	for {
		ready, err := u.loop.wait(-1)
		if err != nil {
			return err
		}
		for _, event := range ready {
			if event.Fd == listenerIndex {
				u.accept(listening)
				continue
			}
			if c := u.loop.conns[event.Fd]; c != nil && u.answer(c) != nil {
				u.streams.forget(c)
				u.loop.close(c)
			}
		}
	}
}

func (u *upstream) accept(listening int) {
	for {
		fd, _, err := syscall.Accept4(listening, syscall.SOCK_CLOEXEC)
		if err != nil { // nobody there any more, or out of descriptors: the client notices
			return
		}
		_, _ = u.loop.add(fd)
	}
}

// answer deals with what has arrived; an error, be it io.EOF, ends c.
func (u *upstream) answer(c *conn) error {
	if err := c.read(); err != nil {
		return err
	}
	for len(c.in) > 0 {
		var n int
		var err error
		if c.use == useSocket {
			n, err = u.echo(c)
		} else {
			n, err = u.answerRequest(c)
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		c.used(n)
	}
	if cap(c.in) > 0 && c.use == useSocket {
		c.in = nil // thousands are idle
	}
	return nil
}

func (u *upstream) answerRequest(c *conn) (used int, err error) {
	end := bytes.Index(c.in, headEnd)
	if end < 0 {
		return 0, nil
	}
	head := c.in[:end+2]
	used = end + len(headEnd)
	if body, ok := contentLength(head); ok {
		used += body
		if used > len(c.in) {
			return 0, nil
		}
	}
	switch {
	case bytes.HasPrefix(head, []byte("POST ")):
		return used, u.answerPost(c, head, c.in[end+len(headEnd):used])
	case bytes.HasPrefix(head, []byte("GET /api/wsConnect")):
		c.use = useSocket
		return used, c.write(switching(head))
	case bytes.HasPrefix(head, []byte("GET /api/auth/getTicket")):
		u.tickets++
		return used, c.write(httpAnswer(fmt.Sprintf(`{"ticket":"bench-ticket-%d"}`, u.tickets)))
	}
	return used, c.write(oneKiB)
}

func (u *upstream) answerPost(c *conn, head, body []byte) error {
	path, _, _ := bytes.Cut(head[len("POST "):], []byte(" "))
	path, _, _ = bytes.Cut(path, []byte("?"))
	switch {
	case bytes.HasPrefix(path, []byte("/api/wsConnect/")):
		return u.streams.answer(u.loop, c, path, body)
	case string(path) == hangUp:
		for _, other := range u.loop.conns {
			if other != nil && other != c && other.use == useHTTP && u.streams.names[other] == "" {
				u.loop.close(other)
			}
		}
	}
	return c.write(oneKiB)
}

// hangUp is the path that makes the upstream forget whom it knows.
const hangUp = "/bench/hang-up"

// switching answers an opening handshake (RFC 6455 section 4.2.2).
func switching(head []byte) []byte {
	var key []byte
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && bytes.EqualFold(name, []byte("sec-websocket-key")) {
			key = bytes.TrimSpace(value)
		}
	}
	sum := sha1.Sum(append(bytes.Clone(key), "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"...)) //nolint:gosec // as above
	return []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		base64.StdEncoding.EncodeToString(sum[:]) + "\r\n\r\n")
}

// echo sends the first frame back unmasked, payloads up to 65,535 bytes. A Close
// frame is echoed like any other, which is how it is answered, and is the end.
func (u *upstream) echo(c *conn) (used int, err error) {
	f, complete := parseFrame(c.in)
	if !complete {
		return 0, nil
	}
	u.out = append(u.out[:0], f.first)
	u.out = appendLength(u.out, 0, len(f.payload))
	header := len(u.out)
	for i, b := range f.payload {
		u.out = append(u.out, b^f.mask[i&3])
	}
	if bytes.HasPrefix(u.out[header:], []byte("bench-")) {
		return f.length, u.obey(c, string(u.out[header:]))
	}
	if err := c.write(u.out); err != nil {
		return 0, err
	}
	if f.first == 0x88 {
		return f.length, errOver
	}
	return f.length, nil
}

// obey ends a socket as its client has told.
func (u *upstream) obey(c *conn, command string) error {
	switch command {
	case tellClose: // the client's Close frame will be the end
		return c.write(serverClose)
	case tellReset:
		crash(c)
	case tellPart:
		_ = c.write([]byte{0x81, 100, 'x'})
	}
	return errOver
}
