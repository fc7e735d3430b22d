package store_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/setting"
	"github.com/whisp-bff/whisp-bff/internal/store"
)

const (
	// impatient is the time limit of an operation in these tests.
	impatient = 500 * time.Millisecond
	// late is when an operation has broken its limit. Another dial or retry
	// would make all operations late; a busy machine makes a few.
	late = 2 * impatient
)

func impatiently(cfg store.Config) store.Config {
	cfg.Redis.Timeout = setting.Duration(impatient)
	return cfg
}

// load reads and writes values that tell whose they are, until ctx ends. It
// reports every answer that is neither right nor "unavailable", and counts late ones.
type load struct {
	good, bad, late atomic.Int64
	wg              sync.WaitGroup
}

// stop waits for the workers and looks at the times.
func (l *load) stop(t *testing.T, cancel context.CancelFunc) {
	t.Helper()
	cancel()
	l.wg.Wait()
	if all := l.good.Load() + l.bad.Load(); l.late.Load() > all/10 {
		t.Errorf("%d of %d operations took more than %s, limit %s", l.late.Load(), all, late, impatient)
	}
}

func startLoad(ctx context.Context, t *testing.T, s store.Store) *load {
	l := &load{}
	for worker := range 8 {
		l.wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				l.once(t, s, fmt.Sprintf("load-%d-%d", worker, i%5))
			}
		})
	}
	return l
}

func (l *load) once(t *testing.T, s store.Store, key string) {
	ctx := context.Background()
	begun := time.Now()
	setErr := s.Set(ctx, key, []byte("value of "+key), time.Minute)
	between := time.Now()
	value, getErr := s.Get(ctx, key)
	end := time.Now()
	for _, took := range []time.Duration{between.Sub(begun), end.Sub(between)} {
		if took > late {
			l.late.Add(1)
		}
	}
	for _, err := range []error{setErr, getErr} {
		switch {
		case err == nil:
			l.good.Add(1)
		case errors.Is(err, store.ErrUnavailable):
			l.bad.Add(1)
		case errors.Is(err, store.ErrNotFound) && setErr != nil: // that set was lost
		default:
			t.Errorf("unexpected: %v", err)
		}
	}
	if getErr == nil && string(value) != "value of "+key {
		t.Errorf("%s holds %q", key, value)
	}
}

// reaches waits until the counter has grown by n.
func reaches(t *testing.T, what string, counter *atomic.Int64, n int64) {
	t.Helper()
	goal := counter.Load() + n
	if err := poll(15*time.Second, func() bool { return counter.Load() >= goal }); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// soon does what must succeed, though one try may be too late on a busy machine.
func soon(t *testing.T, do func() error) {
	t.Helper()
	var last error
	if err := poll(20*time.Second, func() bool { last = do(); return last == nil }); err != nil {
		t.Fatal(last)
	}
}

// taken takes a lock soon.
func taken(t *testing.T, s store.Store, key string, ttl time.Duration) (lease *store.Lease) {
	t.Helper()
	soon(t, func() (err error) {
		lease, err = s.Lock(t.Context(), key, ttl)
		return err
	})
	return lease
}

// renewed reports whether the lease is kept, soon.
func renewed(t *testing.T, lease *store.Lease) (kept bool) {
	t.Helper()
	soon(t, func() (err error) {
		kept, err = lease.Renew(t.Context())
		return err
	})
	return kept
}

// heals waits until a message arrives again.
func heals(t *testing.T, s store.Store, channel string, messages <-chan []byte) {
	t.Helper()
	for range 300 {
		_ = s.Publish(t.Context(), channel, []byte("back"))
		select {
		case got, open := <-messages:
			if !open || string(got) != "back" {
				t.Errorf("heard %q (open: %t)", got, open)
			}
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
	t.Error("the subscription does not come back")
}

func TestRedisIsKilledUnderLoad(t *testing.T) { // alone: it measures time
	server := startRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	s := open(t, impatiently(redisConfig("kill:", server.addr)))
	soon(t, func() error { return s.Set(t.Context(), "link", []byte("kept"), 0) })
	news, err := s.Subscribe(t.Context(), "news")
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	l := startLoad(ctx, t, s)
	reaches(t, "before", &l.good, 100)
	server.kill()
	reaches(t, "while dead", &l.bad, 50)
	if err := s.Ready(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Ready: %v", err)
	}
	server.start()
	reaches(t, "after", &l.good, 100)
	heals(t, s, "news", news)
	l.stop(t, stop)
	holds(t, s, "link", "kept")
	soon(t, func() error { return s.Ready(t.Context()) })
}

func TestRedisIsPaused(t *testing.T) { // alone: it measures time
	server := startRedis(t)
	s := open(t, impatiently(redisConfig("pause:", server.addr)))
	news, err := s.Subscribe(t.Context(), "news")
	must(t, err)
	lease := taken(t, s, "work", 1500*time.Millisecond)
	defer func() { _ = lease.Release(t.Context()) }()
	ctx, stop := context.WithCancel(t.Context())
	l := startLoad(ctx, t, s)
	reaches(t, "before", &l.good, 100)
	paused := time.Now()
	server.signal(syscall.SIGSTOP)
	select {
	case <-lease.Lost():
	case <-time.After(15 * time.Second):
		t.Error("nobody tells that the lease is lost")
	}
	if _, err := s.Lock(t.Context(), "other", time.Second); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Lock: %v", err)
	}
	reaches(t, "while paused", &l.bad, 50)
	if err := poll(10*time.Second, func() bool { return time.Since(paused) > 2*time.Second }); err != nil {
		t.Fatal(err)
	}
	server.signal(syscall.SIGCONT)
	reaches(t, "after", &l.good, 100)
	l.stop(t, stop)
	heals(t, s, "news", news)
	next := taken(t, s, "work", time.Second)
	if next.Token <= lease.Token {
		t.Errorf("token %d after %d", next.Token, lease.Token)
	}
	soon(t, func() error { return next.Release(t.Context()) })
}

func TestRedisFailsOver(t *testing.T) {
	t.Parallel()
	trio := startSentinels(t)
	cfg := redisConfig("failover:", trio.sentinels...)
	cfg.Redis.SentinelMaster = masterName
	s := open(t, impatiently(cfg))
	soon(t, func() error { return s.Set(t.Context(), "session", []byte("alice"), time.Minute) })
	lease := taken(t, s, "work", 30*time.Second)
	if err := poll(20*time.Second, func() bool { return trio.replica.do("dbsize") == trio.master.do("dbsize") }); err != nil {
		t.Fatal("the replica does not follow")
	}
	news, err := s.Subscribe(t.Context(), "news")
	must(t, err)
	trio.master.kill()
	if err := poll(60*time.Second, func() bool {
		err := s.Set(t.Context(), "after", []byte("bob"), time.Minute)
		if err != nil && !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("during failover: %v", err)
		}
		return err == nil
	}); err != nil {
		t.Fatalf("no failover: %v", err)
	}
	for key, want := range map[string]string{"session": "alice", "after": "bob"} {
		soon(t, func() error {
			got, err := s.Get(t.Context(), key)
			if err == nil && string(got) != want {
				t.Errorf("%s is %q", key, got)
			}
			return err
		})
	}
	if !renewed(t, lease) {
		t.Error("the lock is lost at the new master")
	}
	soon(t, func() error { return lease.Release(t.Context()) })
	next := taken(t, s, "work", time.Second)
	if next.Token <= lease.Token {
		t.Errorf("token %d after %d", next.Token, lease.Token)
	}
	soon(t, func() error { return next.Release(t.Context()) })
	heals(t, s, "news", news)
}

// TestAClusterNodeFails kills one of three masters: its share of the values says
// "unavailable" until its replica has taken over, the others' stay, and nothing is
// lost.
func TestAClusterNodeFails(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t)
	second := followerOf(t, nodes[0])
	cfg := redisConfig("node:", nodes[1].addr, nodes[2].addr)
	cfg.Redis.Cluster = true
	s := open(t, impatiently(cfg))
	const many = 60 // some of them on each node
	for i := range many {
		soon(t, func() error {
			return s.Set(t.Context(), fmt.Sprint("session", i), []byte(fmt.Sprint("person", i)), time.Minute)
		})
	}
	lease := taken(t, s, "work", 30*time.Second)
	if err := poll(20*time.Second, func() bool { return second.do("dbsize") == nodes[0].do("dbsize") }); err != nil {
		t.Fatal("the replica does not follow")
	}
	news, err := s.Subscribe(t.Context(), "news")
	must(t, err)
	look := func() (there, away int) {
		for i := range many {
			value, err := s.Get(t.Context(), fmt.Sprint("session", i))
			switch {
			case err == nil && string(value) == fmt.Sprint("person", i):
				there++
			case errors.Is(err, store.ErrUnavailable):
				away++
			default:
				t.Errorf("session %d: %q, %v", i, value, err)
			}
		}
		return there, away
	}
	nodes[0].kill()
	killed := time.Now()
	there, away := look()
	t.Logf("at once after the kill: %d there, %d away", there, away)
	if there == 0 || away == 0 {
		t.Errorf("%d values answer and %d do not, want some of each", there, away)
	}
	soon(t, func() error { return s.Ready(t.Context()) })
	if err := poll(60*time.Second, func() bool { _, away := look(); return away == 0 }); err != nil {
		t.Fatalf("no failover: %s", second.do("info", "replication"))
	}
	t.Logf("all there again after %s, cluster-node-timeout 2s", time.Since(killed).Round(10*time.Millisecond))
	if !renewed(t, lease) {
		t.Error("the lock is lost after the failover")
	}
	soon(t, func() error { return lease.Release(t.Context()) })
	heals(t, s, "news", news)
}

func TestTokensGrowAcrossDataLoss(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	s := open(t, redisConfig("loss:", server.addr))
	lease, err := s.Lock(t.Context(), "work", time.Second)
	must(t, err)
	server.do("flushall")
	if kept, err := lease.Renew(t.Context()); kept || err != nil {
		t.Errorf("Renew of a lock that is gone = %t, %v", kept, err)
	}
	select {
	case <-lease.Lost():
	default:
		t.Error("the lease does not know that it is lost")
	}
	next, err := s.Lock(t.Context(), "work", time.Second)
	must(t, err)
	if next.Token <= lease.Token {
		t.Errorf("token %d after %d", next.Token, lease.Token)
	}
	must(t, lease.Release(t.Context()))
	must(t, next.Release(t.Context()))
}

func TestAnAbandonedLockEnds(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	crashed, other := open(t, redisConfig("dead:", server.addr)), open(t, redisConfig("dead:", server.addr))
	_, err := crashed.Lock(t.Context(), "work", 500*time.Millisecond)
	must(t, err)
	must(t, crashed.Close()) // stops renewing, gives nothing back
	if _, err := crashed.Lock(t.Context(), "else", time.Second); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Lock of a closed store: %v", err)
	}
	lease, err := other.Lock(t.Context(), "work", 500*time.Millisecond)
	must(t, err)
	must(t, lease.Release(t.Context()))
}

func TestRedisIsSlow(t *testing.T) { // alone: it measures time
	server := startRedis(t)
	proxy := startProxy(t, server.addr)
	s := open(t, impatiently(redisConfig("slow:", proxy.addr)))
	proxy.delay.Store(int64(40 * time.Millisecond))
	must(t, s.Set(t.Context(), "k", []byte("v"), time.Minute))
	holds(t, s, "k", "v")
	proxy.delay.Store(int64(2 * impatient))
	fastest := time.Hour
	for range 3 {
		begun := time.Now()
		_, err := s.Get(t.Context(), "k")
		fastest = min(fastest, time.Since(begun))
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Get: %v", err)
		}
		cancelled, cancel := context.WithTimeout(t.Context(), impatient/4)
		if _, err := s.Get(cancelled, "k"); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Get with a shorter deadline: %v", err)
		}
		cancel()
	}
	if fastest < impatient || fastest > late {
		t.Errorf("gives up after %s, limit %s", fastest, impatient)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Get(ctx, "k"); !errors.Is(err, context.Canceled) || errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get of a caller who is gone: %v", err)
	}
	proxy.delay.Store(0)
	if err := poll(10*time.Second, func() bool { _, err := s.Get(t.Context(), "k"); return err == nil }); err != nil {
		t.Error("does not heal")
	}
}

// TestRepliesAreLost after Redis has done the work: what may run twice does,
// and what may not says that it does not know.
func TestRepliesAreLost(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	proxy := startProxy(t, server.addr)
	s := open(t, redisConfig("lose:", proxy.addr))
	ctx := t.Context()
	must(t, s.Set(ctx, "k", []byte("0"), time.Minute))
	proxy.lose.Store(1)
	must(t, s.Set(ctx, "k", []byte("1"), time.Minute))
	proxy.lose.Store(1)
	holds(t, s, "k", "1")
	proxy.lose.Store(1)
	lease, err := s.Lock(ctx, "work", 30*time.Second) // taken twice by one owner
	must(t, err)
	proxy.lose.Store(1)
	if ok, err := s.SetIfAbsent(ctx, "new", []byte("v"), time.Minute); ok || !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("SetIfAbsent = %t, %v", ok, err)
	}
	holds(t, s, "new", "v")
	proxy.lose.Store(1)
	if value, err := s.Take(ctx, "new"); value != nil || !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Take = %q, %v", value, err)
	}
	absent(t, s, "new")
	must(t, lease.Release(ctx))
}

// TestRepliesAreSwapped has one reply delivered to another's request. Without
// the seal that is another's session; it shows that the proxy does its work.
func TestRepliesAreSwapped(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	proxy := startProxy(t, server.addr)
	both := func(s store.Store) (values [2]string, errs [2]error) {
		var wg sync.WaitGroup
		for i, key := range []string{"alice", "bobby"} {
			wg.Go(func() {
				value, err := s.Get(t.Context(), key)
				values[i], errs[i] = string(value), err
			})
		}
		wg.Wait()
		return values, errs
	}
	for name, s := range map[string]store.Store{
		"bare":   openBare(t, redisConfig("bare:", proxy.addr)),
		"sealed": open(t, redisConfig("sealed:", proxy.addr)),
	} {
		must(t, s.Set(t.Context(), "alice", []byte("alice"), time.Minute))
		must(t, s.Set(t.Context(), "bobby", []byte("bobby"), time.Minute))
		proxy.delay.Store(int64(50 * time.Millisecond)) // so that two connections are open
		if values, errs := both(s); values != [2]string{"alice", "bobby"} {
			t.Fatalf("%s, undisturbed: %q, %v", name, values, errs)
		}
		proxy.swap.Store(true)
		values, errs := both(s)
		proxy.swap.Store(false)
		switch name {
		case "bare":
			if values != [2]string{"bobby", "alice"} {
				t.Errorf("the proxy swapped nothing: %q, %v", values, errs)
			}
		default:
			for i := range errs {
				if !errors.Is(errs[i], store.ErrSealed) || values[i] != "" {
					t.Errorf("%s got %q, %v", name, values[i], errs[i])
				}
			}
		}
		holds(t, s, "alice", "alice")
	}
}

// TestImpatientReadsNeverGetAnothersReply is go-redis's CVE-2025-29923 without
// the seal to help: readers give up at every moment of a request's life.
func TestImpatientReadsNeverGetAnothersReply(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	s := openBare(t, redisConfig("race:", server.addr))
	for i := range 16 {
		must(t, s.Set(t.Context(), fmt.Sprint("key", i), []byte(fmt.Sprint("value", i)), 0))
	}
	var wg sync.WaitGroup
	var answered, gaveUp atomic.Int64
	for worker := range 8 {
		wg.Go(func() {
			for i := range 1500 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration((i*37+worker*11)%1500)*time.Microsecond)
				number := (i + worker) % 16
				value, err := s.Get(ctx, fmt.Sprint("key", number))
				cancel()
				switch {
				case err != nil:
					gaveUp.Add(1)
				case string(value) != fmt.Sprint("value", number):
					t.Errorf("asked for %d, got %q", number, value)
				default:
					answered.Add(1)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d answered, %d gave up", answered.Load(), gaveUp.Load())
	if answered.Load() == 0 || gaveUp.Load() == 0 {
		t.Error("nothing raced")
	}
}

// TestRedisWithTLSAndAnACLUser has no more rights than docs/redis.md grants.
func TestRedisWithTLSAndAnACLUser(t *testing.T) {
	t.Parallel()
	certificate, key := selfSigned(t)
	_, tlsPort, _ := net.SplitHostPort(freeAddr(t))
	server := startRedis(t, "--tls-port", tlsPort, "--tls-cert-file", certificate, "--tls-key-file", key, "--tls-auth-clients", "no")
	rules := strings.Fields(aclRules(t))
	args := make([]any, 0, len(rules)+1)
	for _, word := range rules {
		args = append(args, word)
	}
	server.do(append([]any{"acl", "setuser"}, args...)...)
	cfg := redisConfig("whisp-bff:", "127.0.0.1:"+tlsPort)
	cfg.Redis.Username, cfg.Redis.Password = "whisp-bff", setting.SecretValue("change-me")
	cfg.Redis.TLS = store.RedisTLSConfig{Enabled: true, CAFile: certificate}
	s := open(t, cfg)
	for part, test := range conformance {
		t.Run(part, func(t *testing.T) { t.Parallel(); test(t, s) })
	}
	t.Run("refusals", func(t *testing.T) {
		for what, change := range map[string]func(*store.Config){
			"wrong password": func(c *store.Config) { c.Redis.Password = setting.SecretValue("hunter2") },
			"foreign prefix": func(c *store.Config) { c.Redis.Prefix = "other:" },
			"unknown CA":     func(c *store.Config) { c.Redis.TLS.CAFile = "" },
			"no TLS":         func(c *store.Config) { c.Redis.TLS = store.RedisTLSConfig{} },
		} {
			cfg := cfg
			change(&cfg)
			err := open(t, cfg).Set(t.Context(), "k", []byte("v"), time.Minute)
			if !errors.Is(err, store.ErrUnavailable) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: %v", what, err)
			}
		}
		cfg.Redis.TLS.CAFile = key
		if _, err := store.Open(t.Context(), cfg, time.Now, quiet()); err == nil {
			t.Error("a CA file without certificates is taken")
		}
	})
}

// aclRules are the rules of the documentation.
func aclRules(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/redis.md")
	must(t, err)
	for line := range strings.Lines(string(page)) {
		if rules, ok := strings.CutPrefix(line, "ACL SETUSER "); ok {
			return rules
		}
	}
	t.Fatal("docs/redis.md has no line ACL SETUSER")
	return ""
}

func selfSigned(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redis"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	must(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	dir := t.TempDir()
	certificate, key = dir+"/cert.pem", dir+"/key.pem"
	must(t, os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), 0o600))
	return certificate, key
}

func TestRedisAdvice(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		want []string
	}{
		"as it should be": {[]string{"--appendonly", "yes", "--maxmemory", "100mb", "--maxmemory-policy", "noeviction"}, nil},
		"snapshots":       {[]string{"--save", "60 1", "--maxmemory-policy", "allkeys-lru"}, nil}, // without maxmemory nothing is evicted
		"a cache":         {[]string{"--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"}, []string{"maxmemory-policy is allkeys-lru", "persistence is off"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := openBare(t, redisConfig("advice:", startRedis(t, test.args...).addr)).(*store.Redis)
			got := r.Advice(t.Context())
			if len(got) != len(test.want) {
				t.Fatalf("advice %q, want %q", got, test.want)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], test.want[i]) {
					t.Errorf("advice %q, want %q", got[i], test.want[i])
				}
			}
		})
	}
}

func TestOpenWithoutRedisAndLater(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	server.kill()
	s := open(t, impatiently(redisConfig("later:", server.addr)))
	if err := s.Set(t.Context(), "k", []byte("v"), 0); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Set without Redis: %v", err)
	}
	if _, err := s.Subscribe(t.Context(), "news"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Subscribe without Redis: %v", err)
	}
	server.start()
	if err := poll(10*time.Second, func() bool { return s.Ready(t.Context()) == nil }); err != nil {
		t.Fatal("does not heal")
	}
	soon(t, func() error { return s.Set(t.Context(), "k", []byte("v"), 0) })
	must(t, s.Close())
	must(t, s.Close())
	if err := s.Set(t.Context(), "k", []byte("v"), 0); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Set after Close: %v", err)
	}
}

// TestClosingWhileSubscribing is for the race detector.
func TestClosingWhileSubscribing(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	for range 20 {
		s := openBare(t, redisConfig("closing:", server.addr))
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				news, err := s.Subscribe(context.Background(), "news")
				if err != nil && !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("Subscribe: %v", err)
				}
				for err == nil { // ends with the store
					if _, open := <-news; !open {
						return
					}
				}
			})
		}
		must(t, s.Close())
		wg.Wait()
	}
}
