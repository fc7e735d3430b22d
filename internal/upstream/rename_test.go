package upstream

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

func TestChangeUsername(t *testing.T) {
	renamed := func() (*http.Response, error) { return reply(200, "", "Authorization: "+testJWT), nil }
	for name, c := range map[string]struct {
		upstream func() (*http.Response, error)
		want     string
		calls    int
	}{
		"renamed":           {renamed, "ok", 1},
		"taken":             {func() (*http.Response, error) { return reply(400, `{"message":"taken"}`), nil }, "invalid: taken", 1},
		"taken, no body":    {func() (*http.Response, error) { return reply(400, ""), nil }, "invalid: ", 1},
		"JWT refused":       {func() (*http.Response, error) { return reply(401, ""), nil }, "unauthorized", 1},
		"forbidden":         {func() (*http.Response, error) { return reply(403, ""), nil }, "whisp_bad_answer", 1},
		"no JWT":            {func() (*http.Response, error) { return reply(200, ""), nil }, "whisp_bad_answer", 1},
		"fails":             {func() (*http.Response, error) { return reply(500, ""), nil }, "whisp_failed", 1},
		"gateway lost it":   {func() (*http.Response, error) { return reply(502, ""), nil }, "whisp_failed", 1},
		"503 with a plan":   {func() (*http.Response, error) { return reply(503, "", "Retry-After: 1"), nil }, "whisp_failed", 3},
		"limited":           {func() (*http.Response, error) { return reply(429, ""), nil }, "whisp_rate_limited", 3},
		"never connected":   {func() (*http.Response, error) { return nil, errReset }, "whisp_unreachable", 3},
		"garbage for a JWT": {func() (*http.Response, error) { return reply(200, "", "Authorization: Bearer x"), nil }, "whisp_bad_answer", 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls []string
				whisp := newWhisp(t, whispConfig("https://whisp.test"), func(r *http.Request) (*http.Response, error) {
					body, _ := io.ReadAll(r.Body)
					calls = append(calls, fmt.Sprintf("%s %s auth=%q key=%q %s", r.Method, r.URL.Path, r.Header.Get("Authorization"), r.Header.Get("X-Api-Key"), body))
					return c.upstream()
				})
				jwt, expires, err := whisp.ChangeUsername(t.Context(), secret.New("a.b.c"), "alicia")
				if outcomeName(err) != c.want || len(calls) != c.calls {
					t.Errorf("got %v after %d calls, want %s after %d", err, len(calls), c.want, c.calls)
				}
				if want := `POST /api/user/changeUsername auth="Bearer a.b.c" key="" {"newUsername":"alicia"}`; calls[0] != want {
					t.Errorf("asked %s", calls[0])
				}
				if (jwt.Reveal() == testJWT) != (err == nil) || (expires.Year() == 2099 || expires.Year() == 2100) != (err == nil) {
					t.Errorf("got JWT %q until %v", jwt.Reveal(), expires)
				}
			})
		})
	}
}

// Renaming at the simulator: the old name is free, the new one opens.
func TestARenamedAccountOpensWithItsNewName(t *testing.T) {
	sim := whispsim.New(whispsim.Config{APIKeys: []secret.Text{secret.New(testKey)}})
	defer sim.Close()
	password := secret.New("Corr3ct-horse!")
	id := sim.AddUser("alice", "alice@example.com", password)
	server := httptest.NewServer(sim)
	defer server.Close()
	cfg := whispConfig(server.URL)
	whisp, err := NewWhisp(cfg, whispDeps(t, cfg))
	if err != nil {
		t.Fatal(err)
	}
	in, err := whisp.SignIn(t.Context(), "alice", password)
	if err != nil {
		t.Fatal(err)
	}
	jwt, _, err := whisp.ChangeUsername(t.Context(), in.JWT, "alicia")
	if err != nil {
		t.Fatal(err)
	}
	if user, err := whisp.User(t.Context(), jwt); err != nil || user.Username != "alicia" || user.ID != id {
		t.Errorf("user %+v %v", user, err)
	}
	if again, err := whisp.SignIn(t.Context(), "alicia", password); err != nil || again.UserID != id {
		t.Errorf("sign in with the new name: %v", err)
	}
	if _, err := whisp.SignIn(t.Context(), "alice", password); outcomeName(err) != "unauthorized" {
		t.Errorf("sign in with the old name: %v", err)
	}
}

func TestARenamingThroughTheProxyIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		path          string
		status        int
		headers       []string
		want          []string
		withoutEvents bool
	}{
		"renamed":        {path: "user/changeUsername", status: 200, headers: []string{"Authorization: Bearer new.jwt.x"}, want: []string{"renamed session-1 new.jwt.x", "passed"}},
		"bare JWT":       {path: "user/changeUsername", status: 200, headers: []string{"Authorization: new.jwt.x"}, want: []string{"renamed session-1 new.jwt.x", "passed"}},
		"no JWT":         {path: "user/changeUsername", status: 200, want: []string{"renamed session-1 ", "passed"}},
		"other scheme":   {path: "user/changeUsername", status: 200, headers: []string{"Authorization: Basic eA=="}, want: []string{"renamed session-1 ", "passed"}},
		"taken":          {path: "user/changeUsername", status: 400, want: []string{"passed"}},
		"refused":        {path: "user/changeUsername", status: 401, want: []string{"passed"}},
		"HTML":           {path: "user/changeUsername", status: 200, headers: []string{"Content-Type: text/html"}},
		"fails":          {path: "user/changeUsername", status: 500, headers: []string{"Content-Type: application/json"}, want: []string{"passed"}},
		"something else": {path: "chat/createChat", status: 200, headers: []string{"Authorization: Bearer new.jwt.x"}, want: []string{"passed"}},
		"nobody asks":    {path: "user/changeUsername", status: 200, withoutEvents: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newWhispSite(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				for _, line := range c.headers {
					key, value, _ := strings.Cut(line, ": ")
					w.Header().Set(key, value)
				}
				w.WriteHeader(c.status)
			}))
			var told []string
			s.proxy.events = Events{
				Renamed: func(session string, jwt secret.Text) { told = append(told, "renamed "+session+" "+jwt.Reveal()) },
				Passed:  func(string, string, int) { told = append(told, "passed") },
			}
			if c.withoutEvents {
				s.proxy.events = Events{}
			}
			send(t, "POST", s.URL+"/whisp/api/"+c.path, `{"newUsername":"alicia"}`, "Authorization: Bearer a.b.c", "Content-Type: application/json")
			if !slices.Equal(told, c.want) {
				t.Errorf("told %q, want %q", told, c.want)
			}
		})
	}
}
