//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"syscall"
)

// Clients and upstream are single-threaded event loops on bare system calls.
// On two cores every cycle they take is one the measured server does not get,
// and net/http, even goroutines, would take more than nginx does.

// conn is one non-blocking TCP connection of a loop.
type conn struct {
	fd    int
	in    []byte // received, not yet used
	index int    // its place in loop.conns
	use   int    // whatever the loop's owner notes about it
}

// read appends what has arrived to c.in. Nothing there is no error; the peer's
// end of the stream is io.EOF.
func (c *conn) read() error {
	if cap(c.in)-len(c.in) < 2048 {
		c.in = append(make([]byte, 0, max(4096, 2*cap(c.in))), c.in...)
	}
	n, err := syscall.Read(c.fd, c.in[len(c.in):cap(c.in)])
	switch {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return nil
	case err != nil:
		return fmt.Errorf("read: %w", err)
	case n == 0:
		return io.EOF
	}
	c.in = c.in[:len(c.in)+n]
	return nil
}

// write sends p whole. Messages here are small and peers wait for them, so a
// full socket is a mistake and not waited for.
func (c *conn) write(p []byte) error {
	n, err := syscall.Write(c.fd, p)
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if n != len(p) {
		return errors.New("write: socket is full")
	}
	return nil
}

// used drops the first n received bytes.
func (c *conn) used(n int) {
	c.in = c.in[:copy(c.in, c.in[n:])]
}

// loop waits for many connections at once.
type loop struct {
	epoll  int
	conns  []*conn // by index; nil where one was closed
	free   []int
	events [256]syscall.EpollEvent
}

func newLoop() (*loop, error) {
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return &loop{epoll: epoll}, nil
}

// connect opens a connection and adds it. On loopback connecting is immediate,
// or waits for room in the listener's backlog.
func (l *loop) connect(to netip.AddrPort) (*conn, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("connect to %s: %w", to, err)
	}
	return l.add(fd)
}

// add takes over an open socket.
func (l *loop) add(fd int) (*conn, error) {
	err := syscall.SetNonblock(fd, true)
	if err == nil {
		err = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	}
	if err != nil {
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("set up socket: %w", err)
	}
	c := &conn{fd: fd, index: len(l.conns)}
	if last := len(l.free) - 1; last >= 0 {
		c.index, l.free = l.free[last], l.free[:last]
		l.conns[c.index] = c
	} else {
		l.conns = append(l.conns, c)
	}
	if err := l.watch(fd, c.index); err != nil {
		l.close(c)
		return nil, err
	}
	return c, nil
}

func (l *loop) watch(fd, index int) error {
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(index)} //nolint:gosec // a small number
	if err := syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_ADD, fd, &event); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// wait returns the indexes of what became readable, valid until the next call;
// none after millis milliseconds (-1: no limit).
func (l *loop) wait(millis int) ([]syscall.EpollEvent, error) {
	for {
		n, err := syscall.EpollWait(l.epoll, l.events[:], millis)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("epoll: %w", err)
		}
		return l.events[:n], nil
	}
}

func (l *loop) close(c *conn) {
	_ = syscall.Close(c.fd) // takes it out of the epoll set, too
	l.conns[c.index] = nil
	l.free = append(l.free, c.index)
}

var headEnd = []byte("\r\n\r\n")

// answerLength returns the length of the HTTP answer at the start of p, or 0 if
// it is not complete. It knows Content-Length and answers without a body.
func answerLength(p []byte) (int, error) {
	end := bytes.Index(p, headEnd)
	if end < 0 {
		if len(p) > 64<<10 {
			return 0, errors.New("endless headers")
		}
		return 0, nil
	}
	head := p[:end+2]
	body, ok := contentLength(head)
	if !ok {
		if bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) || bytes.HasPrefix(head, []byte("HTTP/1.1 204 ")) {
			return end + len(headEnd), nil
		}
		return 0, fmt.Errorf("an answer without Content-Length: %q", firstLine(head))
	}
	if total := end + len(headEnd) + body; len(p) >= total {
		return total, nil
	}
	return 0, nil
}

func contentLength(head []byte) (length int, ok bool) {
	for len(head) > 0 {
		line, rest, _ := bytes.Cut(head, []byte("\r\n"))
		head = rest
		if len(line) > 15 && line[14] == ':' && bytes.EqualFold(line[:14], []byte("content-length")) {
			for _, c := range bytes.TrimSpace(line[15:]) {
				length = length*10 + int(c-'0')
			}
			return length, true
		}
	}
	return 0, false
}

func firstLine(p []byte) []byte {
	line, _, _ := bytes.Cut(p, []byte("\r\n"))
	return line
}
