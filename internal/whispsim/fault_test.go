package whispsim_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

func TestFaults(t *testing.T) {
	register := object("username", "newbie", "email", "n@example.com", "password", password)
	cases := []struct {
		name       string
		fault      whispsim.Fault
		status     int // 0: the call fails as a whole
		registered bool
		check      func(t *testing.T, r reply)
	}{
		{"status", whispsim.Fault{Status: 429, RetryAfter: "7", Body: "slow down"}, 429, false, func(t *testing.T, r reply) {
			if r.header.Get("Retry-After") != "7" || r.body != "slow down" {
				t.Errorf("Retry-After %q, body %q", r.header.Get("Retry-After"), r.body)
			}
		}},
		{"status after the work is done", whispsim.Fault{Status: 504, Committed: true}, 504, true, nil},
		{"delay", whispsim.Fault{Delay: time.Millisecond}, 201, true, nil},
		{"drop before", whispsim.Fault{Drop: whispsim.DropBefore}, 0, false, nil},
		{"drop mid", whispsim.Fault{Drop: whispsim.DropMid}, 0, true, nil},
		{"drop after", whispsim.Fault{Drop: whispsim.DropAfter}, 0, true, nil},
		{"garbage", whispsim.Fault{Garbage: true}, 201, true, func(t *testing.T, r reply) {
			if r.body == "" || json.Valid([]byte(r.body)) {
				t.Errorf("body = %q, want garbage", r.body)
			}
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := start(t, whispsim.Config{})
			c.fault.Operation, c.fault.Times = "registerUser", 1
			b.sim.Fail(c.fault)
			r, err := b.try("POST", "/api/user/registerUser", withKey(), register)
			if c.status == 0 && err == nil || c.status != 0 && r.status != c.status {
				t.Errorf("status %d, error %v, want status %d", r.status, err, c.status)
			}
			if c.check != nil {
				c.check(t, r)
			}
			if got := len(b.sim.Users()) == 1; got != c.registered {
				t.Errorf("registered: %v, want %v", got, c.registered)
			}
			want := 201 // the fault is used up
			if c.registered {
				want = 400
			}
			b.call("POST", "/api/user/registerUser", withKey(), register).want(t, want)
		})
	}
}

func TestFaultOnSignIn(t *testing.T) {
	b := start(t, whispsim.Config{})
	b.sim.AddUser("alice", "alice@example.com", secret.New(password))
	signIn := func() (reply, error) {
		return b.try("POST", "/api/user/signin", withKey(), object("username", "alice", "password", password))
	}
	b.sim.Fail(whispsim.Fault{Operation: "signIn", NoAuthorization: true, Times: 1})
	if r, err := signIn(); err != nil || r.status != 200 || r.header.Get("Authorization") != "" {
		t.Errorf("status %d, Authorization %q, error %v", r.status, r.header.Get("Authorization"), err)
	}
	b.sim.Fail(whispsim.Fault{Operation: "signIn", Drop: whispsim.DropMid, Times: 1})
	if r, err := signIn(); !errors.Is(err, io.ErrUnexpectedEOF) || r.status != 200 || r.body == "" {
		t.Errorf("status %d, body %q, error %v, want half an answer", r.status, r.body, err)
	}
	b.sim.Fail(whispsim.Fault{Operation: "*", Status: 503})
	for range 3 {
		if r, _ := signIn(); r.status != 503 {
			t.Errorf("status %d, want 503 until cleared", r.status)
		}
	}
	b.sim.Heal("*")
	if r, _ := signIn(); r.status != 200 {
		t.Errorf("status %d after healing", r.status)
	}
	if got := b.sim.Calls("signIn"); got != 6 {
		t.Errorf("%d calls, want 6", got)
	}
	if got := b.sim.Counters()["signIn"]; got[200] != 3 || got[503] != 3 {
		t.Errorf("counters = %v", got)
	}
}

func TestHangEndsWithTheClientAndWithClose(t *testing.T) {
	b := start(t, whispsim.Config{})
	b.sim.Fail(whispsim.Fault{Operation: "signIn", Hang: true})
	impatient := &http.Client{Transport: b.client.Transport, Timeout: 20 * time.Millisecond}
	if _, err := impatient.Post(b.url+"/api/user/signin", "application/json", strings.NewReader("{}")); err == nil {
		t.Error("a hanging call was answered")
	}
	ended := make(chan error)
	go func() {
		_, err := b.client.Post(b.url+"/api/user/signin", "application/json", strings.NewReader("{}"))
		ended <- err
	}()
	until(t, func() bool { return b.sim.Calls("signIn") == 2 })
	b.sim.Close()
	if err := <-ended; err == nil {
		t.Error("a hanging call was answered")
	}
	b.call("GET", "/api/user/getUser", nil, "").want(t, 503)
}

func TestFaultOnTheSocket(t *testing.T) {
	b := start(t, whispsim.Config{})
	alice := b.person("alice")
	b.sim.Fail(whispsim.Fault{Operation: "wsConnect", Status: 503, Times: 1})
	ticket := alice.ticket()
	if w := b.wire("wsConnect", "", ticket); w.end != "status 503" {
		t.Errorf("ended: %s", w.end)
	}
	if w := b.wire("wsConnect", "", ticket); w.send == nil {
		t.Errorf("the ticket was used up by a refused handshake: %s", w.end)
	}
}

func TestRequestsTellWhatReachedWhisp(t *testing.T) {
	b := start(t, whispsim.Config{RecordLimit: 2})
	for _, path := range []string{"/1", "/2", "/api/user/%73ignin?a=b"} {
		b.call("POST", path, map[string]string{"X-Forwarded-User": "root", "Cookie": "a=b"}, `{"x":1}`)
	}
	list := b.sim.Requests()
	if len(list) != 2 || list[0].Path != "/2" {
		t.Fatalf("requests = %v, want the last two", list)
	}
	r := list[1]
	if r.Operation != "signIn" || r.Method != "POST" || r.Path != "/api/user/%73ignin" || r.Query != "a=b" ||
		r.Header.Get("X-Forwarded-User") != "root" || r.Header.Get("Cookie") != "a=b" || string(r.Body) != `{"x":1}` ||
		!strings.HasPrefix(r.Host, "127.0.0.1:") {
		t.Errorf("request = %+v", r)
	}
	b.sim.ForgetRequests()
	if len(b.sim.Requests()) != 0 || b.sim.Calls("signIn") != 0 || len(b.sim.Counters()) != 0 {
		t.Error("something was not forgotten")
	}
}

func TestControl(t *testing.T) {
	b := start(t, whispsim.Config{})
	server := httptest.NewServer(b.sim.Control())
	defer server.Close()
	control := &bench{t: t, url: server.URL, client: b.client}

	var made struct{ ID string }
	control.call("POST", "/users", nil, object("username", "alice", "email", "a@example.com", "password", password)).want(t, 201).decode(t, &made)
	alice := b.signIn("alice")
	if made.ID != alice.id {
		t.Errorf("id %s, want %s", made.ID, alice.id)
	}
	control.call("POST", "/users", nil, object("username", "a")).want(t, 400)
	if r := control.call("GET", "/users", nil, "").want(t, 200); !strings.Contains(r.body, `"refreshTokens":1`) {
		t.Errorf("users: %s", r.body)
	}
	if r := control.call("GET", "/refreshToken?token="+alice.refresh, nil, ""); !strings.Contains(r.body, "true") {
		t.Errorf("refreshToken: %s", r.body)
	}

	control.call("POST", "/faults", nil, object("operation", "getUser", "status", 502, "delay", "1ms")).want(t, 204)
	if r := control.call("GET", "/faults", nil, ""); !strings.Contains(r.body, `"delay":"1ms"`) {
		t.Errorf("faults: %s", r.body)
	}
	alice.call("GET", "/api/user/getUser", "").want(t, 502)
	control.call("DELETE", "/faults?operation=getUser", nil, "").want(t, 204)
	alice.call("GET", "/api/user/getUser", "").want(t, 200)
	for name, body := range map[string]string{
		"no operation": `{}`, "bad drop": `{"operation":"*","drop":"never"}`, "bad delay": `{"operation":"*","delay":"1"}`,
		"bad status": `{"operation":"*","status":99}`, "unknown field": `{"operation":"*","statsu":500}`,
	} {
		if r := control.call("POST", "/faults", nil, body); r.status != 400 {
			t.Errorf("%s: status %d", name, r.status)
		}
	}
	control.call("POST", "/faults", map[string]string{"Content-Type": "text/plain"}, `{"operation":"*"}`).want(t, 415)

	control.call("POST", "/keys/revoke", nil, object("key", goodKey)).want(t, 204)
	b.call("POST", "/api/user/signin", withKey(), "{}").want(t, 401)
	control.call("POST", "/keys/restore", nil, object("key", goodKey)).want(t, 204)
	b.call("POST", "/api/user/signin", withKey(), "{}").want(t, 400)

	c := alice.talk("wsConnect", "")
	if r := control.call("GET", "/sockets", nil, ""); !strings.Contains(r.body, `"open":1`) {
		t.Errorf("sockets: %s", r.body)
	}
	control.call("POST", "/sockets/close", nil, object("code", 1012, "reason", "restart")).want(t, 204)
	if why := c.ended(); why != "1012" {
		t.Errorf("ended: %s", why)
	}
	if r := control.call("GET", "/counters", nil, ""); !strings.Contains(r.body, `"getUser":{"200":1,"502":1}`) {
		t.Errorf("counters: %s", r.body)
	}
	if r := control.call("GET", "/requests", nil, ""); !strings.Contains(r.body, `"Operation":"wsConnect"`) {
		t.Errorf("requests: %s", r.body)
	}
	control.call("DELETE", "/requests", nil, "").want(t, 204)
	if b.sim.Calls("getUser") != 0 {
		t.Error("calls were not forgotten")
	}
}
