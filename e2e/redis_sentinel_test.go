//go:build e2e

package e2e

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The master that three Sentinels watch is killed while somebody works: until its
// replica has taken over there is 503, and then the same session and the same
// grant, and the socket has noticed nothing.
func TestAFailoverCostsNoSession(t *testing.T) {
	t.Parallel()
	master := startRedis(t, "--repl-diskless-sync-delay", "0")
	host, port, _ := strings.Cut(master.address, ":")
	second := startRedis(t, "--replicaof", host+" "+port, "--repl-diskless-sync-delay", "0")
	eventually(t, "the replica follows", func() bool {
		return strings.Contains(fmt.Sprint(second.do(t, "info", "replication")), "master_link_status:up")
	})
	var sentinels []*redisServer
	var addresses []string
	for range 3 {
		s := startSentinel(t, host, port)
		sentinels, addresses = append(sentinels, s), append(addresses, fmt.Sprintf("%q", s.address))
	}
	for _, s := range sentinels {
		eventually(t, "the Sentinels know each other", func() bool {
			info := fmt.Sprint(s.do(t, "info", "sentinel"))
			return strings.Contains(info, "slaves=1") && strings.Contains(info, "sentinels=3")
		})
	}
	st := newStack(t, setup{more: fmt.Sprintf("realtime: {drain: 0s}\nstore: {kind: redis, redis: {sentinel_master: people, addresses: [%s]}, seal_keys: [{value: %s}]}\n",
		strings.Join(addresses, ", "), rand.Text()+rand.Text())})
	alice := st.login(t, "alice")
	before := alice.signIn(t)
	socket := alice.mustConnect(t, st.origin)
	eventually(t, "the replica has everything", func() bool {
		return fmt.Sprint(second.do(t, "dbsize")) == fmt.Sprint(master.do(t, "dbsize"))
	})

	l := startSessionLoad(t, alice)
	l.sees(t, "answers before", &l.fine, 20)
	master.kill()
	began := time.Now()
	l.sees(t, "answers store_unavailable", &l.unavailable, 1)
	socket.goesOn(t)
	l.sees(t, "answers after", &l.fine, 20)
	l.stop()
	if after := alice.signIn(t); after.RefreshToken != before.RefreshToken || after.UserID != before.UserID {
		t.Error("another grant than before")
	}
	socket.goesOn(t)
	t.Logf("twenty good answers %s after the kill, down-after-milliseconds 500", time.Since(began).Round(time.Millisecond))
}

// startSentinel watches a master by the name of people.
func startSentinel(t testing.TB, host, port string) *redisServer {
	t.Helper()
	own, dir := freePorts(t, 1)[0], t.TempDir()
	file := filepath.Join(dir, "sentinel.conf")
	text := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\nsentinel monitor people %s %s 2\n", own, dir, host, port) +
		"sentinel down-after-milliseconds people 500\nsentinel failover-timeout people 3000\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &redisServer{address: fmt.Sprintf("127.0.0.1:%d", own), args: []string{file, "--sentinel"}, log: &logbook{}}
	t.Cleanup(s.kill)
	s.start(t)
	return s
}
