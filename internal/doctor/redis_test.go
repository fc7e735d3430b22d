package doctor_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/doctor"
)

var redisFaults = []fault{
	{"down", func(w *world) { w.useRedis("127.0.0.1:1") }, doctor.Fail, "store.redis", "nothing listens at 127.0.0.1:1", "start it"},
	{"wrong password", func(w *world) {
		w.startRedis()
		w.file("redis-password", "hunter2-wrong", 0o600)
	}, doctor.Fail, "store.redis", "refuses username or password", "store.redis.username"},
	{"no password", func(w *world) {
		w.startRedis()
		w.replace(", password: {file: redis-password}", "")
	}, doctor.Fail, "store.redis", "refuses username or password", "store.redis.username"},
	{"evicts", func(w *world) {
		w.startRedis("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru", "--appendonly", "yes")
	}, doctor.Warn, "store.redis.settings", "maxmemory-policy is allkeys-lru", "noeviction"},
	{"keeps nothing", func(w *world) { w.startRedis("--save", "") }, doctor.Warn, "store.redis.settings", "persistence is off", "appendonly yes"},
	{"a command is forbidden", func(w *world) {
		w.startRedis()
		w.redisCLI("ACL", "SETUSER", "app", "on", ">"+redisSecret, "~*", "&*", "+@all", "-publish")
		w.replace("timeout: 10s", "timeout: 10s, username: app")
	}, doctor.Fail, "store.redis.rights", "does not allow this user to publish", "ACL"},
	{"keys are forbidden", func(w *world) {
		w.startRedis()
		w.redisCLI("ACL", "SETUSER", "app", "on", ">"+redisSecret, "~other:*", "&*", "+@all")
		w.replace("timeout: 10s", "timeout: 10s, username: app")
	}, doctor.Fail, "store.redis.rights", "does not allow this user to set", "ACL"},
	{"INFO is forbidden", func(w *world) {
		w.startRedis()
		w.redisCLI("ACL", "SETUSER", "app", "on", ">"+redisSecret, "~*", "&*", "+@all", "-info", "-config")
		w.replace("timeout: 10s", "timeout: 10s, username: app")
	}, doctor.Info, "store.redis", "INFO is forbidden", ""},
	{"too old", func(w *world) { w.useRedis(oldRedis(w.t, "6.0.16", 0)) }, doctor.Fail, "store.redis", "Redis 6.0.16", "6.2"},
	{"far away", func(w *world) { w.useRedis(oldRedis(w.t, "7.2.0", 30*time.Millisecond)) }, doctor.Warn, "store.redis.latency", "PING takes", "nearer"},
	{"a black hole", func(w *world) { w.useRedis(oldRedis(w.t, "7.2.0", time.Hour)); w.timeout = 500 * time.Millisecond }, doctor.Fail, "store.redis", "does not answer in time", "firewall"},
	{"not Redis", func(w *world) { w.useRedis(strings.TrimPrefix(w.appURL, "http://")) }, doctor.Fail, "store.redis", "does not answer like Redis", "correct host and port"},
	{"one node of a Cluster", func(w *world) {
		w.startRedis("--cluster-enabled", "yes")
	}, doctor.Fail, "store.redis.rights", "CLUSTERDOWN", "Cluster"},
}

func TestRedisFaults(t *testing.T) {
	t.Parallel()
	for _, f := range redisFaults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			f.broken(w)
			f.found(t, w.examine())
		})
	}
}

// redisCLI sends one command as the default user.
func (w *world) redisCLI(command ...string) {
	w.t.Helper()
	host, port, _ := net.SplitHostPort(w.redis)
	cli := exec.Command("redis-cli", append([]string{"-h", host, "-p", port, "-a", redisSecret, "--no-auth-warning"}, command...)...)
	if out, err := cli.CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "OK") {
		w.t.Fatalf("redis-cli %v: %v\n%s", command, err, out)
	}
}

// oldRedis speaks as much of Redis's protocol as is needed to tell a version, each
// answer after a pause.
func oldRedis(t *testing.T, version string, pause time.Duration) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { close(done); _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				for {
					command, err := readCommand(in)
					if err != nil {
						return
					}
					select {
					case <-time.After(pause): // the distance of a far Redis
					case <-done:
						return
					}
					answer := "+OK\r\n"
					switch strings.ToUpper(command) {
					case "HELLO":
						answer = "-ERR unknown command\r\n"
					case "PING":
						answer = "+PONG\r\n"
					case "INFO":
						text := "# Server\r\nredis_version:" + version + "\r\n"
						answer = fmt.Sprintf("$%d\r\n%s\r\n", len(text), text)
					}
					if _, err := io.WriteString(conn, answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return listener.Addr().String()
}

// readCommand returns the name of the next command (an array of bulk strings).
func readCommand(in *bufio.Reader) (string, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return "", err
	}
	count, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "*")))
	if err != nil {
		return "", err
	}
	name := ""
	for i := range count {
		if _, err := in.ReadString('\n'); err != nil { // its length
			return "", err
		}
		word, err := in.ReadString('\n')
		if err != nil {
			return "", err
		}
		if i == 0 {
			name = strings.TrimSpace(word)
		}
	}
	return name, nil
}

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

func pemOf(certificate *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}))
}

// certificateUntil is a certificate that ends then from now.
func certificateUntil(end time.Duration) string {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(end),
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))
}
