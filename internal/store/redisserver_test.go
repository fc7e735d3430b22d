package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisServer is a real redis-server process on a loopback port of its own.
type redisServer struct {
	t    testing.TB
	addr string
	dir  string
	args []string
	cmd  *exec.Cmd
	log  *bytes.Buffer
	done chan struct{} // closed when the process has ended
}

// startRedis starts redis-server in a temporary directory and waits until it
// answers. Without persistence unless args say otherwise.
func startRedis(t testing.TB, args ...string) *redisServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Fatal("these tests run a real Redis: install redis-server (make test does, or: apt-get install redis-server)")
	}
	s := &redisServer{t: t, addr: freeAddr(t), dir: t.TempDir(), args: args}
	t.Cleanup(s.kill)
	s.start()
	return s
}

func (s *redisServer) start() {
	s.t.Helper()
	_, port, _ := net.SplitHostPort(s.addr)
	args := s.args
	if len(args) == 0 || !strings.HasSuffix(args[0], ".conf") { // a Sentinel has all in its file
		args = append([]string{"--port", port, "--bind", "127.0.0.1", "--dir", s.dir, "--save", ""}, args...)
	}
	s.log, s.done = &bytes.Buffer{}, make(chan struct{})
	s.cmd = exec.Command("redis-server", args...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	endWithParent(s.cmd)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func(cmd *exec.Cmd, done chan struct{}) {
		_ = cmd.Wait()
		close(done)
	}(s.cmd, s.done)
	if err := poll(10*time.Second, s.answers); err != nil {
		s.kill()
		s.t.Fatalf("redis-server %v does not answer:\n%s", args, s.log)
	}
}

// answers asks without go-redis, whose pool waits a second after failures.
func (s *redisServer) answers() bool {
	conn, err := net.DialTimeout("tcp", s.addr, time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	_, _ = io.WriteString(conn, "PING\r\n")
	reply := make([]byte, 7)
	_, err = io.ReadFull(conn, reply)
	return err == nil && string(reply) == "+PONG\r\n"
}

// client is a plain connection for the test's own hand on the server.
func (s *redisServer) client() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: s.addr, Protocol: 2, DisableIdentity: true, PoolSize: 2, MaxRetries: -1, DialerRetries: 1})
}

// do runs one command on the server.
func (s *redisServer) do(args ...any) string {
	s.t.Helper()
	client := s.client()
	defer client.Close()
	reply, err := client.Do(context.Background(), args...).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		s.t.Fatalf("%v at %s: %v", args, s.addr, err)
	}
	return fmt.Sprint(reply)
}

// kill is kill -9; it does nothing to a process that has ended.
func (s *redisServer) kill() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	select {
	case <-s.done:
		return
	default:
	}
	s.signal(syscall.SIGKILL)
	<-s.done
}

func (s *redisServer) signal(sig os.Signal) {
	if err := s.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Errorf("signal %v: %v", sig, err)
	}
}

// startCluster makes a Cluster of three masters.
func startCluster(t testing.TB) []*redisServer {
	t.Helper()
	var nodes []*redisServer
	for range 3 {
		_, bus, _ := net.SplitHostPort(freeAddr(t))
		nodes = append(nodes, startRedis(t, "--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-node-timeout", "2000"))
	}
	for i, node := range nodes {
		node.do("cluster", "set-config-epoch", i+1)
		node.do("cluster", "addslotsrange", i*16384/3, (i+1)*16384/3-1)
		if i > 0 {
			host, port, _ := net.SplitHostPort(nodes[0].addr)
			node.do("cluster", "meet", host, port, nodes[0].args[3])
		}
	}
	for _, node := range nodes {
		if err := poll(15*time.Second, func() bool {
			info := node.do("cluster", "info")
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:3")
		}); err != nil {
			t.Fatalf("no cluster: %s", node.do("cluster", "info"))
		}
	}
	return nodes
}

// followerOf adds a replica of a master to its Cluster.
func followerOf(t testing.TB, master *redisServer) *redisServer {
	t.Helper()
	_, bus, _ := net.SplitHostPort(freeAddr(t))
	s := startRedis(t, "--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-node-timeout", "2000", "--repl-diskless-sync-delay", "0")
	host, port, _ := net.SplitHostPort(master.addr)
	s.do("cluster", "meet", host, port, master.args[3])
	id := master.do("cluster", "myid")
	if err := poll(15*time.Second, func() bool { return strings.Contains(s.do("cluster", "nodes"), id) }); err != nil {
		t.Fatal("the replica does not find its master")
	}
	s.do("cluster", "replicate", id)
	if err := poll(15*time.Second, func() bool {
		return strings.Contains(s.do("info", "replication"), "master_link_status:up") && strings.Contains(master.do("cluster", "nodes"), "slave "+id)
	}); err != nil {
		t.Fatal("the replica does not follow")
	}
	return s
}

// sentinelTrio is a master and a replica, watched by three Sentinels.
type sentinelTrio struct {
	master, replica *redisServer
	sentinels       []string
}

const masterName = "whisp-test"

func startSentinels(t testing.TB) sentinelTrio {
	t.Helper()
	trio := sentinelTrio{master: startRedis(t, "--repl-diskless-sync-delay", "0")}
	host, port, _ := net.SplitHostPort(trio.master.addr)
	trio.replica = startRedis(t, "--replicaof", host+" "+port, "--repl-diskless-sync-delay", "0")
	if err := poll(10*time.Second, func() bool {
		return strings.Contains(trio.replica.do("info", "replication"), "master_link_status:up")
	}); err != nil {
		t.Fatal("the replica does not follow")
	}
	var watchers []*redisServer
	for range 3 {
		watchers = append(watchers, startSentinel(t, host, port))
	}
	for _, s := range watchers {
		trio.sentinels = append(trio.sentinels, s.addr)
		if err := poll(10*time.Second, func() bool {
			info := s.do("info", "sentinel")
			return strings.Contains(info, "slaves=1") && strings.Contains(info, "sentinels=3")
		}); err != nil {
			t.Fatalf("the Sentinels do not find each other: %s", s.do("info", "sentinel"))
		}
	}
	return trio
}

func startSentinel(t testing.TB, host, port string) *redisServer {
	t.Helper()
	s := &redisServer{t: t, addr: freeAddr(t), dir: t.TempDir()}
	_, own, _ := net.SplitHostPort(s.addr)
	conf := s.dir + "/sentinel.conf"
	text := fmt.Sprintf("port %s\nbind 127.0.0.1\ndir %s\nsentinel monitor %s %s %s 2\n", own, s.dir, masterName, host, port) +
		fmt.Sprintf("sentinel down-after-milliseconds %s 500\nsentinel failover-timeout %s 3000\n", masterName, masterName)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.args = []string{conf, "--sentinel"}
	t.Cleanup(s.kill)
	s.start()
	return s
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	return "127.0.0.1:" + strconv.Itoa(port)
}

// poll asks until it holds: what happens in another process cannot be waited
// for in any other way.
func poll(limit time.Duration, holds func() bool) error {
	deadline := time.Now().Add(limit)
	for !holds() {
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %s", limit)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}
