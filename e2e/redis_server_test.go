//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisServer is a redis-server that a test may kill and start again.
type redisServer struct {
	address string
	args    []string
	mu      sync.Mutex
	cmd     *exec.Cmd
	exited  chan struct{}
	log     *logbook
}

// startRedis starts redis-server on a free port and waits until it answers.
func startRedis(t testing.TB, args ...string) *redisServer {
	t.Helper()
	port := freePorts(t, 1)[0]
	if len(args) == 0 {
		args = []string{"--appendonly", "no"}
	}
	s := &redisServer{
		address: fmt.Sprintf("127.0.0.1:%d", port), log: &logbook{},
		args: append([]string{"--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", ""}, args...),
	}
	t.Cleanup(s.kill)
	s.start(t)
	return s
}

func (s *redisServer) start(t testing.TB) {
	t.Helper()
	cmd, exited := exec.Command(tools.redis, s.args...), make(chan struct{})
	cmd.Stdout, cmd.Stderr = s.log, s.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.cmd, s.exited = cmd, exited
	s.mu.Unlock()
	go func() { _ = cmd.Wait(); close(exited) }()
	eventually(t, "redis-server answers", func() bool {
		select {
		case <-exited:
			t.Fatalf("redis-server ended:\n%s", s.log.tail(3000))
		default:
		}
		_, err := s.try("ping")
		return err == nil
	})
}

// kill is kill -9; it does nothing to a server that has ended.
func (s *redisServer) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGKILL)
	<-s.exited
}

func (s *redisServer) signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
}

func (s *redisServer) try(args ...any) (any, error) {
	conn, err := net.Dial("tcp", s.address) // go-redis would log that nobody listens
	if err != nil {
		return nil, err
	}
	_ = conn.Close()
	client := redis.NewClient(&redis.Options{Addr: s.address, Protocol: 2, DisableIdentity: true, PoolSize: 1, MaxRetries: -1, DialerRetries: 1})
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return client.Do(ctx, args...).Result()
}

// do is the test's own hand on the server.
func (s *redisServer) do(t testing.TB, args ...any) any {
	t.Helper()
	reply, err := s.try(args...)
	if err != nil && !errors.Is(err, redis.Nil) {
		t.Fatalf("%v: %v", args, err)
	}
	return reply
}

// keys lists the keys that match.
func (s *redisServer) keys(t testing.TB, pattern string) []string {
	t.Helper()
	var keys []string
	for _, key := range s.do(t, "keys", pattern).([]any) {
		keys = append(keys, fmt.Sprint(key))
	}
	return keys
}

// slowWay is a TCP proxy that delays what comes back.
type slowWay struct {
	address string
	delay   atomic.Int64 // nanoseconds before each piece

	listener net.Listener
	group    sync.WaitGroup
	mu       sync.Mutex
	conns    []net.Conn
}

func startSlowWay(t testing.TB, to string) *slowWay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &slowWay{address: listener.Addr().String(), listener: listener}
	p.group.Go(func() { p.accept(to) })
	t.Cleanup(func() {
		_ = listener.Close()
		p.mu.Lock()
		for _, conn := range p.conns {
			_ = conn.Close()
		}
		p.mu.Unlock()
		p.group.Wait()
	})
	return p
}

func (p *slowWay) accept(to string) {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", to)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, client, server)
		p.mu.Unlock()
		p.group.Go(func() { p.carry(server, client, false) })
		p.group.Go(func() { p.carry(client, server, true) })
	}
}

func (p *slowWay) carry(to, from net.Conn, slowly bool) {
	defer func() { _ = to.Close(); _ = from.Close() }()
	if !slowly {
		_, _ = io.Copy(to, from)
		return
	}
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			time.Sleep(time.Duration(p.delay.Load())) // what it is there for
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// lines counts those that have all the words.
func (l *logbook) lines(words ...string) (count int) {
	for line := range strings.Lines(l.String()) {
		all := true
		for _, word := range words {
			all = all && strings.Contains(line, word)
		}
		if all {
			count++
		}
	}
	return count
}
