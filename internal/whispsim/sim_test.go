package whispsim_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

const (
	goodKey  = "key-1"
	password = "SecureP@ss123"
)

// clock is a wall clock that tests turn by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// bench is a simulator with a server in front and a client.
type bench struct {
	t      *testing.T
	sim    *whispsim.Server
	url    string
	client *http.Client
	clock  *clock
}

func start(t *testing.T, cfg whispsim.Config) *bench {
	t.Helper()
	b := &bench{t: t, clock: newClock(), client: &http.Client{Transport: &http.Transport{}}}
	if cfg.APIKeys == nil {
		cfg.APIKeys = []secret.Text{secret.New(goodKey)}
	}
	cfg.Clock = b.clock.Now
	b.sim = whispsim.New(cfg)
	server := httptest.NewServer(b.sim)
	b.url = server.URL
	t.Cleanup(func() {
		b.sim.Close()
		server.CloseClientConnections()
		server.Close()
		b.client.CloseIdleConnections()
	})
	return b
}

// reply is an answer, read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

func (r reply) jwt() string { return strings.TrimPrefix(r.header.Get("Authorization"), "Bearer ") }

func (r reply) decode(t *testing.T, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.body), into); err != nil {
		t.Fatalf("body %q is not JSON: %v", r.body, err)
	}
}

func (r reply) want(t *testing.T, status int) reply {
	t.Helper()
	if r.status != status {
		t.Fatalf("status = %d, want %d; body %s", r.status, status, r.body)
	}
	return r
}

// try does a call that may fail as a whole.
func (b *bench) try(method, path string, header map[string]string, body string) (reply, error) {
	b.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path, reader)
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		r.Header.Set(name, value)
	}
	answer, err := b.client.Do(r)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	return reply{answer.StatusCode, answer.Header, string(text)}, err
}

func (b *bench) call(method, path string, header map[string]string, body string) reply {
	b.t.Helper()
	r, err := b.try(method, path, header, body)
	if err != nil {
		b.t.Fatalf("%s %s: %v", method, path, err)
	}
	return r
}

func withKey() map[string]string { return map[string]string{"x-api-key": goodKey} }

// person is somebody signed in.
type person struct {
	b                      *bench
	id, name, jwt, refresh string
}

func (b *bench) person(name string) *person {
	b.t.Helper()
	b.sim.AddUser(name, name+"@example.com", secret.New(password))
	return b.signIn(name)
}

func (b *bench) signIn(name string) *person {
	b.t.Helper()
	r := b.call("POST", "/api/user/signin", withKey(), object("username", name, "password", password)).want(b.t, 200)
	var body struct{ ID, RefreshToken string }
	r.decode(b.t, &body)
	return &person{b: b, id: body.ID, name: name, jwt: r.jwt(), refresh: body.RefreshToken}
}

func (p *person) call(method, path, body string) reply {
	p.b.t.Helper()
	return p.b.call(method, path, map[string]string{"Authorization": "Bearer " + p.jwt}, body)
}

func (p *person) ticket() string {
	p.b.t.Helper()
	var body struct{ Ticket string }
	p.call("GET", "/api/auth/getTicket", "").want(p.b.t, 200).decode(p.b.t, &body)
	return body.Ticket
}

func (p *person) chat(name string, with ...*person) string {
	p.b.t.Helper()
	names := []string{p.name}
	for _, other := range with {
		names = append(names, other.name)
	}
	var body struct{ ChatID string }
	p.call("POST", "/api/chat/createChat", object("chatName", name, "userNames", names)).want(p.b.t, 201).decode(p.b.t, &body)
	return body.ChatID
}

// object writes a JSON object from names and values.
func object(pairs ...any) string {
	m := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1]
	}
	var text bytes.Buffer
	_ = json.NewEncoder(&text).Encode(m)
	return text.String()
}
