package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/setting"
	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

// A life against the simulator: register, sign in, refresh, ask, log out.
func TestALifeAtWhisp(t *testing.T) {
	for _, bare := range []bool{false, true} {
		sim := whispsim.New(whispsim.Config{APIKeys: []secret.Text{secret.New(testKey)}, BareJWT: bare})
		server := httptest.NewServer(sim)
		cfg := whispConfig(server.URL)
		whisp, err := NewWhisp(cfg, whispDeps(t, cfg))
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		alice := Registration{Username: "alice", Email: "alice@example.com", FirstName: "Alice", SurName: "A", Password: secret.New("Corr3ct-horse!")}
		if err := whisp.ProbeKey(ctx); err != nil {
			t.Fatalf("probe: %v", err)
		}
		if _, err := whisp.SignIn(ctx, "alice", alice.Password); !errors.Is(err, ErrUnauthorized) {
			t.Errorf("nobody yet: %v", err)
		}
		if err := whisp.Register(ctx, alice); err != nil {
			t.Fatalf("register: %v", err)
		}
		if _, invalid := errors.AsType[*InvalidError](whisp.Register(ctx, alice)); !invalid {
			t.Error("registered twice")
		}
		in, err := whisp.SignIn(ctx, "alice", alice.Password)
		if err != nil || in.Username != "alice" || time.Until(in.Expires) < 4*time.Minute {
			t.Fatalf("sign in: %+v %v", in, err)
		}
		fresh, expires, err := whisp.Refresh(ctx, in.RefreshToken, in.JWT)
		if err != nil || fresh.Empty() || time.Until(expires) < 4*time.Minute {
			t.Fatalf("refresh: %v %v", expires, err)
		}
		if user, err := whisp.User(ctx, fresh); err != nil || user.ID != in.UserID || user.Username != "alice" {
			t.Errorf("user: %+v %v", user, err)
		}
		if err := whisp.Logout(ctx, fresh, in.RefreshToken); err != nil {
			t.Errorf("logout: %v", err)
		}
		if _, _, err := whisp.Refresh(ctx, in.RefreshToken, in.JWT); !errors.Is(err, ErrUnauthorized) {
			t.Errorf("a dead refresh token: %v", err)
		}
		if _, err := whisp.User(ctx, secret.New("not.a.jwt")); !errors.Is(err, ErrUnauthorized) {
			t.Errorf("a bad JWT: %v", err)
		}
		sim.RevokeKey(secret.New(testKey))
		if err := whisp.ProbeKey(ctx); problem.From(err).Code != "whisp_key_refused" {
			t.Errorf("probe with a revoked key: %v", err)
		}
		server.Close()
		sim.Close()
	}
}

// security.md 54 for our own calls: each fault has a code and a bounded time.
func TestFaultsOfWhispHaveTheirCodes(t *testing.T) {
	sim := whispsim.New(whispsim.Config{APIKeys: []secret.Text{secret.New(testKey)}})
	defer sim.Close()
	sim.AddUser("alice", "alice@example.com", secret.New("Corr3ct-horse!"))
	server := httptest.NewServer(sim)
	defer server.Close()
	for name, c := range map[string]struct {
		fault whispsim.Fault
		want  string
	}{
		"500":             {whispsim.Fault{Status: 500}, "whisp_failed"},
		"429":             {whispsim.Fault{Status: 429, RetryAfter: "30"}, "whisp_rate_limited"},
		"cut before":      {whispsim.Fault{Drop: whispsim.DropBefore}, "whisp_unreachable"},
		"cut in the body": {whispsim.Fault{Drop: whispsim.DropMid}, "whisp_unreachable"},
		"hanging":         {whispsim.Fault{Hang: true}, "whisp_timeout"},
		"garbage":         {whispsim.Fault{Garbage: true}, "whisp_bad_answer"},
		"no JWT":          {whispsim.Fault{NoAuthorization: true}, "whisp_bad_answer"},
		"once":            {whispsim.Fault{Status: 503, Times: 1}, "ok"},
		"twice":           {whispsim.Fault{Drop: whispsim.DropBefore, Times: 2}, "ok"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := whispConfig(server.URL)
			cfg.Timeouts.Total = setting.Duration(150 * time.Millisecond)
			if name == "twice" || name == "once" {
				cfg.Timeouts.Total = setting.Duration(10 * time.Second)
			}
			whisp, err := NewWhisp(cfg, whispDeps(t, cfg))
			if err != nil {
				t.Fatal(err)
			}
			c.fault.Operation = "signIn"
			sim.Fail(c.fault)
			defer sim.Heal("*")
			_, err = whisp.SignIn(t.Context(), "alice", secret.New("Corr3ct-horse!"))
			if outcomeName(err) != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

// The browser's side of a life, through the proxy.
func TestABrowsersLifeAtWhisp(t *testing.T) {
	sim := whispsim.New(whispsim.Config{APIKeys: []secret.Text{secret.New(testKey)}, BareJWT: true, BalancerCookie: "AWSALB"})
	defer sim.Close()
	sim.AddUser("alice", "alice@example.com", secret.New("Corr3ct-horse!"))
	s := newWhispSite(t, sim)
	back := httptest.NewServer(sim)
	defer back.Close()
	cfg := whispConfig(back.URL)
	whisp, err := NewWhisp(cfg, whispDeps(t, cfg))
	if err != nil {
		t.Fatal(err)
	}
	in, err := whisp.SignIn(t.Context(), "alice", secret.New("Corr3ct-horse!"))
	if err != nil {
		t.Fatal(err)
	}
	response, _ := send(t, "POST", s.URL+"/whisp/api/auth/refresh", fmt.Sprintf(`{"expiredJwt":"Bearer %s"}`, in.JWT.Reveal()),
		"Authorization: Bearer "+in.RefreshToken.Reveal(), "Content-Type: application/json", "X-Api-Key: "+testKey)
	authorization := response.Header.Get("Authorization")
	if response.StatusCode != http.StatusOK || !strings.HasPrefix(authorization, "Bearer ey") {
		t.Fatalf("refresh: %d %q", response.StatusCode, authorization)
	}
	if cookies := response.Header["Set-Cookie"]; len(cookies) == 0 || !strings.HasPrefix(cookies[0], "__Host-whisp-lb-AWSALB=") {
		t.Errorf("cookies %q", cookies)
	}
	_, body := send(t, "GET", s.URL+"/whisp/api/auth/getTicket", "", "Authorization: "+authorization)
	if len(s.tickets) != 1 || !strings.Contains(body, strings.TrimPrefix(s.tickets[0], "session-1 ")) {
		t.Errorf("ticket %s, events %d", body, len(s.tickets))
	}
	response, body = send(t, "POST", s.URL+"/whisp/api/chat/createChat", `{"chatName":"x","userNames":["alice","alice"]}`,
		"Authorization: "+authorization, "Content-Type: application/json")
	if response.StatusCode >= 500 || body == "" {
		t.Errorf("createChat: %d %s", response.StatusCode, body)
	}
	response, body = send(t, "GET", s.URL+"/whisp/api/user/getUser", "", "Authorization: Bearer expired")
	if response.StatusCode != http.StatusUnauthorized || !strings.Contains(body, "AUTH_") {
		t.Errorf("Whisp's own 401: %d %s", response.StatusCode, body)
	}
	for _, r := range sim.Requests() {
		if strings.Contains(r.Path, "signin") {
			continue
		}
		if r.Header.Get("X-Api-Key") != "" {
			t.Errorf("%s carried the key", r.Path)
		}
	}
}
