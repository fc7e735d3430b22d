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
	bff [2]*process
	// direct are persons' ways to one replica alone.
	direct [2]string
}

const turns = `daemon off; worker_processes 1; pid %[1]s/pid; error_log stderr warn; %[4]s
events {}
http {
  access_log off;
  client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  map $http_upgrade $connection_upgrade { default upgrade; "" close; }
  upstream replicas { %[3]s }
  server {
    listen 127.0.0.1:%[2]s;
    location / {
      proxy_pass http://replicas;
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_read_timeout 1h;
    }
  }
}
`

func newReplicas(t *testing.T) *replicas {
	t.Helper()
	ports := freePorts(t, 6)
	r := &replicas{stack: &stack{
		origin: fmt.Sprintf("http://localhost:%d", ports[0]), admin: fmt.Sprintf("http://127.0.0.1:%d", ports[3]),
		apiKey: rand.Text(), clientSecret: rand.Text(), masterSecret: rand.Text() + rand.Text(),
	}}
	dir := t.TempDir()
	start(t, "redis-server", tools.redis, "--port", fmt.Sprint(ports[5]), "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "no")

	r.sim = whispsim.New(whispsim.Config{APIKeys: []secret.Text{secret.New(r.apiKey)}})
	whisp := httptest.NewServer(r.sim)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("app")) }))
	t.Cleanup(func() { r.sim.Close(); whisp.Close(); app.Close() })
	issuer := r.startProvider(t, 0)
	more := fmt.Sprintf("realtime: {drain: 0s}\nstore: {kind: redis, redis: {addresses: [\"127.0.0.1:%d\"]}, seal_keys: [{value: %s}]}\n", ports[5], rand.Text()+rand.Text())
	var servers string
	for i := range r.bff {
		listen := fmt.Sprintf("127.0.0.1:%d", ports[1+i])
		text := fmt.Sprintf(configuration, r.origin, app.URL, issuer, r.clientSecret, whisp.URL, r.apiKey, "",
			r.masterSecret, listen, fmt.Sprintf("127.0.0.1:%d", ports[3+i]), "debug", more)
		file := filepath.Join(dir, fmt.Sprintf("config-%d.yaml", i))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r.stack.bff = start(t, fmt.Sprintf("whisp-bff-%d", i), tools.bff, "serve", "--config", file)
		r.bff[i], r.direct[i] = r.stack.bff, "http://"+listen
		r.admin = fmt.Sprintf("http://127.0.0.1:%d", ports[3+i])
		r.waitReady(t)
		servers += "server " + listen + "; "
	}
	user := ""
	if os.Getuid() == 0 {
		user = "user root;"
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, turns, dir, portOf(r.origin), servers, user), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, "nginx", tools.nginx, "-p", dir, "-e", "stderr", "-c", file)
	eventually(t, "nginx listening", func() bool {
		response, err := http.Get(r.origin + "/")
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
	return r
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

	t.Run("a session that ends on one closes the sockets of both", func(t *testing.T) {
		var ended []chan error
		for replica := range 2 {
			ended = append(ended, closed(r.socket(t, alice, replica)))
		}
		grant := alice.signIn(t)
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
