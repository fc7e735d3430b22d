//go:build e2e

package e2e

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

// replicas are two whisp-bff on one Redis behind an nginx that takes turns.
type replicas struct {
	*stack
	redis *redisServer
	bff   [2]*process
	// direct are persons' ways to one replica alone, admins the replicas' own.
	direct, admins [2]string
}

// replicaSetup says what is special about replicas; the zero value is the
// ordinary one.
type replicaSetup struct {
	realtime string                      // the section, default {drain: 0s}
	server   string                      // more of the section server, as {key: value,
	redis    []string                    // arguments of redis-server, default no persistence
	via      func(address string) string // what the replicas reach Redis by
}

func newReplicas(t *testing.T) *replicas { t.Helper(); return startReplicas(t, replicaSetup{}) }

func startReplicas(t *testing.T, s replicaSetup) *replicas {
	t.Helper()
	ports := freePorts(t, 5)
	r := &replicas{stack: &stack{
		origin: fmt.Sprintf("http://localhost:%d", ports[0]),
		apiKey: rand.Text(), clientSecret: rand.Text(), masterSecret: rand.Text() + rand.Text(),
	}}
	r.redis = startRedis(t, s.redis...)
	address := r.redis.address
	if s.via != nil {
		address = s.via(address)
	}
	if s.realtime == "" {
		s.realtime = "{drain: 0s}"
	}

	clock := func() time.Time { return time.Now().Add(time.Duration(r.ahead.Load())) }
	r.sim = whispsim.New(whispsim.Config{APIKeys: []secret.Text{secret.New(r.apiKey)}, Clock: clock})
	whisp := httptest.NewServer(r.sim)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("app")) }))
	t.Cleanup(func() { r.sim.Close(); whisp.Close(); app.Close() })
	issuer := r.startProvider(t, 0)
	more := fmt.Sprintf("realtime: %s\nstore: {kind: redis, redis: {addresses: [%q]}, seal_keys: [{value: %s}]}\n", s.realtime, address, rand.Text()+rand.Text())
	dir := t.TempDir()
	var servers []string
	for i := range r.bff {
		listen, admin := fmt.Sprintf("127.0.0.1:%d", ports[1+i]), fmt.Sprintf("127.0.0.1:%d", ports[3+i])
		text := fmt.Sprintf(configuration, r.origin, app.URL, issuer, r.clientSecret, whisp.URL, r.apiKey, "",
			r.masterSecret, listen, admin, "debug", more)
		text = strings.Replace(text, "server: {", "server: {"+s.server, 1)
		file := filepath.Join(dir, fmt.Sprintf("config-%d.yaml", i))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r.stack.bff = start(t, fmt.Sprintf("whisp-bff-%d", i), tools.bff, "serve", "--config", file)
		r.bff[i], r.direct[i], r.admins[i] = r.stack.bff, "http://"+listen, "http://"+admin
		r.admin = r.admins[i]
		r.waitReady(t)
		servers = append(servers, listen)
	}
	startBalancer(t, r.origin, servers)
	return r
}

// startBalancer runs nginx with the configuration of docs/redis.md; only addresses
// and the patience with connections differ.
func startBalancer(t *testing.T, origin string, servers []string) {
	t.Helper()
	page, err := os.ReadFile("../docs/redis.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```nginx\n(.*?)```").FindSubmatch(page)
	if found == nil {
		t.Fatal("docs/redis.md has no nginx configuration")
	}
	block := string(found[1])
	for documented, ours := range map[string]string{
		"10.0.0.11:8080;":              servers[0] + ";",
		"10.0.0.12:8080;":              servers[1] + ";",
		"listen      80;":              "listen 127.0.0.1:" + portOf(origin) + ";",
		"server_name app.example.com;": "server_name localhost;",
		"proxy_connect_timeout 2s;":    "proxy_connect_timeout 30s;", // this machine may be busy
	} {
		if strings.Count(block, documented) != 1 {
			t.Fatalf("docs/redis.md: %q is not there once", documented)
		}
		block = strings.Replace(block, documented, ours, 1)
	}
	runNginx(t, block)
	eventually(t, "nginx listening", func() bool {
		response, err := http.Get(origin + "/")
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
}

// runNginx runs nginx with what belongs into its http block.
func runNginx(t *testing.T, block string) {
	t.Helper()
	dir, user := t.TempDir(), ""
	if os.Getuid() == 0 {
		user = "user root;\n" // its workers could not read the directory else
	}
	text := user + "daemon off;\nworker_processes 1;\npid " + dir + "/pid;\nerror_log stderr warn;\nevents {}\nhttp {\naccess_log off;\n"
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		text += kind + "_temp_path " + dir + "/" + kind + ";\n"
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(text+block+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, "nginx", tools.nginx, "-p", dir, "-e", "stderr", "-c", file)
}

// socket opens a plain WebSocket at one replica, with the person's session.
func (r *replicas) socket(t *testing.T, p *person, replica int) *websocket.Conn {
	t.Helper()
	grant := p.signIn(t)
	response, body := p.whisp(t, http.MethodGet, "auth/getTicket", "", grant.JWT)
	if response.StatusCode != http.StatusOK {
		t.Fatalf("ticket: %s %s", response.Status, body)
	}
	ticket := decode[struct{ Ticket string }](t, body).Ticket
	conn, refused, err := websocket.Dial(t.Context(), r.direct[replica]+"/whisp/api/wsConnect?ticket="+ticket, &websocket.DialOptions{
		Host:       strings.TrimPrefix(r.origin, "http://"),
		HTTPHeader: http.Header{"Origin": {r.origin}, "Cookie": {p.cookies(t)}},
	})
	if err != nil {
		t.Fatalf("socket at replica %d: %v %v", replica, err, refused)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	return conn
}

// closed waits until the other side closes the socket.
func closed(conn *websocket.Conn) chan error {
	ended := make(chan error, 1)
	go func() {
		for {
			if _, _, err := conn.Read(context.Background()); err != nil {
				ended <- err
				return
			}
		}
	}()
	return ended
}

func TestTwoReplicasAreOne(t *testing.T) {
	t.Parallel()
	r := newReplicas(t)
	alice := r.login(t, "alice") // nginx takes turns: each step meets the other replica

	t.Run("one registration for two hundred first sign-ins", func(t *testing.T) {
		bob := r.login(t, "bob")
		var wg sync.WaitGroup
		tokens := make([]string, 200)
		for i := range tokens {
			wg.Go(func() { tokens[i] = bob.signIn(t).RefreshToken })
		}
		wg.Wait()
		for _, token := range tokens {
			if token != tokens[0] {
				t.Fatal("one session holds two grants")
			}
		}
		registered := 0
		for _, u := range r.sim.Users() {
			if u.Username == "bob" {
				registered++
			}
		}
		if calls := r.sim.Calls("registerUser"); registered != 1 || calls != 1 {
			t.Errorf("%d accounts, %d calls of registerUser", registered, calls)
		}
	})

	t.Run("one refresh for two hundred sign-ins, each time the JWT ends", func(t *testing.T) {
		erin := r.login(t, "erin")
		for range 2 {
			// Whisp is four and a half minutes behind: the JWT it gives ends in 30 s,
			// and is not handed out again.
			r.ahead.Store(int64(-270 * time.Second))
			response, body := erin.fetch(t, http.MethodPost, "/auth/whisp/sign-in", `{"fresh":true}`)
			if response.StatusCode != http.StatusOK {
				t.Fatalf("sign-in: %s %s", response.Status, body)
			}
			ageing := decode[signedIn](t, body)
			r.ahead.Store(0)
			before := r.sim.Calls("refreshToken")
			var wg sync.WaitGroup
			got := make([]signedIn, 200)
			for i := range got {
				wg.Go(func() { got[i] = erin.signIn(t) })
			}
			wg.Wait()
			for _, in := range got {
				if in.JWT != got[0].JWT || in.JWT == ageing.JWT || in.RefreshToken != ageing.RefreshToken {
					t.Fatal("two hundred sign-ins did not get one refreshed grant")
				}
			}
			if calls := r.sim.Calls("refreshToken") - before; calls != 1 {
				t.Errorf("%d refreshes at Whisp", calls)
			}
		}
	})

	t.Run("one refresh for two hundred tabs", func(t *testing.T) {
		erin := r.login(t, "erin")
		r.ahead.Store(int64(-time.Minute)) // or the new JWT could be the old one: both count in seconds
		response, body := erin.fetch(t, http.MethodPost, "/auth/whisp/sign-in", `{"fresh":true}`)
		if response.StatusCode != http.StatusOK {
			t.Fatalf("sign-in: %s %s", response.Status, body)
		}
		r.ahead.Store(0)
		held := decode[signedIn](t, body)
		before := r.sim.Calls("refreshToken")
		var wg sync.WaitGroup
		got := make([]string, 200)
		for i := range got {
			wg.Go(func() {
				answer, _ := erin.fetch(t, http.MethodPost, "/whisp/api/auth/refresh", `{"expiredJwt":"`+held.JWT+`"}`, "Authorization", "Bearer "+held.RefreshToken)
				got[i] = answer.Header.Get("Authorization")
			})
		}
		wg.Wait()
		for _, jwt := range got {
			if jwt != got[0] || !strings.HasPrefix(jwt, "Bearer ") || jwt == "Bearer "+held.JWT {
				t.Fatal("two hundred tabs did not get one new JWT")
			}
		}
		if calls := r.sim.Calls("refreshToken") - before; calls != 1 {
			t.Errorf("%d refreshes at Whisp", calls)
		}
	})

	t.Run("a session that ends on one closes the sockets of both", func(t *testing.T) {
		var ended []chan error
		for replica := range 2 {
			ended = append(ended, closed(r.socket(t, alice, replica)))
		}
		grant := alice.signIn(t)
		began := time.Now()
		if response, body := alice.fetch(t, http.MethodPost, "/auth/logout", ""); response.StatusCode != http.StatusOK {
			t.Fatalf("logout: %s %s", response.Status, body)
		}
		for replica, socket := range ended {
			select {
			case err := <-socket:
				if status := websocket.CloseStatus(err); status != websocket.StatusNormalClosure {
					t.Errorf("replica %d closed with %v", replica, err)
				}
			case <-time.After(patience):
				t.Errorf("the socket at replica %d lives on", replica)
			}
		}
		t.Logf("both closed %s after the logout began", time.Since(began).Round(time.Millisecond))
		if r.sim.RefreshTokenAlive(secret.New(grant.RefreshToken)) {
			t.Error("the refresh token lives on")
		}
	})

	t.Run("what people do to their own accounts is followed everywhere", func(t *testing.T) {
		here, there := r.login(t, "dave"), r.login(t, "dave") // two browsers
		first, other := here.signIn(t), there.signIn(t)
		if first.UserID != other.UserID || first.RefreshToken == other.RefreshToken {
			t.Fatalf("two browsers of one person: %s and %s", first.UserID, other.UserID)
		}
		if response, body := here.whisp(t, http.MethodPost, "user/changeUsername", `{"newUsername":"david"}`, first.JWT); response.StatusCode != http.StatusOK {
			t.Fatalf("rename: %s %s", response.Status, body)
		}
		for range 4 { // whichever replica answers
			if got := here.signIn(t); got.UserID != first.UserID || got.Username != "david" {
				t.Errorf("after the rename: %+v", got)
			}
		}
		if got := there.signIn(t); got.Username != "david" || got.RefreshToken != other.RefreshToken {
			t.Errorf("the other browser: %+v", got)
		}
		if got := r.login(t, "dave").signIn(t); got.UserID != first.UserID || got.Username != "david" {
			t.Errorf("a third browser: %s is %s", got.Username, got.UserID)
		}

		now := here.signIn(t)
		if response, body := here.whisp(t, http.MethodPost, "auth/logoutAll", "", now.JWT); response.StatusCode != http.StatusOK {
			t.Fatalf("logoutAll: %s %s", response.Status, body)
		}
		if got := there.signIn(t); got.RefreshToken == other.RefreshToken || !r.sim.RefreshTokenAlive(secret.New(got.RefreshToken)) {
			t.Error("the other browser got a refresh token that is dead")
		}

		now = here.signIn(t)
		if response, body := here.whisp(t, http.MethodDelete, "user/deleteUser", "", now.JWT); response.StatusCode != http.StatusOK {
			t.Fatalf("delete: %s %s", response.Status, body)
		}
		if got := here.signIn(t); got.UserID == first.UserID || got.Username != "dave" {
			t.Errorf("after the deletion: %s is %s", got.Username, got.UserID)
		}
	})

	t.Run("a replica that goes takes nobody along", func(t *testing.T) {
		carol := r.login(t, "carol")
		before := carol.signIn(t)
		r.bff[0].stop(t)
		for range 20 {
			if got := carol.signIn(t); got.RefreshToken != before.RefreshToken {
				t.Error("another grant")
			}
		}
	})
}
