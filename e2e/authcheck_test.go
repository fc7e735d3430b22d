//go:build e2e

package e2e

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

// nginxBlock reads nginx's configuration from docs/identity/check.md.
func nginxBlock(t testing.TB) string {
	t.Helper()
	page, err := os.ReadFile("../docs/identity/check.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```nginx\n(.*?)```").FindSubmatch(page)
	if found == nil {
		t.Fatal("docs/identity/check.md has no nginx configuration")
	}
	return string(found[1])
}

// startNginx runs nginx with the documented configuration; only addresses differ.
func startNginx(t testing.TB, origin, bff, app string) {
	t.Helper()
	block := nginxBlock(t)
	for documented, ours := range map[string]string{
		"listen      80;":                                           "listen 127.0.0.1:" + portOf(origin) + ";",
		"server_name app.example.com;":                              "server_name localhost;",
		"proxy_pass         http://127.0.0.1:8080;":                 "proxy_pass http://" + bff + ";",
		"proxy_pass              http://127.0.0.1:8080/auth/check;": "proxy_pass http://" + bff + "/auth/check;",
		"proxy_pass       http://127.0.0.1:3000;":                   "proxy_pass " + app + ";",
	} {
		if strings.Count(block, documented) != 1 {
			t.Fatalf("docs/identity/check.md: %q is not there once", documented)
		}
		block = strings.Replace(block, documented, ours, 1)
	}
	dir := t.TempDir()
	user := ""
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
	nginx := start(t, "nginx", tools.nginx, "-p", dir, "-e", "stderr", "-c", file)
	eventually(t, "nginx listening", func() bool {
		select {
		case <-nginx.exited:
			t.Fatalf("nginx ended: %v\n%s", nginx.err, nginx.log)
		default:
		}
		response, err := http.Get(origin + "/auth/session")
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return true
	})
}

// newStackBehindNginx is a stack whose app is behind nginx, which asks
// whisp-bff who it is; the app answers with the headers it got.
func newStackBehindNginx(t testing.TB) *stack {
	t.Helper()
	ports := freePorts(t, 3)
	st := &stack{
		origin:       fmt.Sprintf("http://localhost:%d", ports[0]),
		admin:        fmt.Sprintf("http://127.0.0.1:%d", ports[1]),
		apiKey:       rand.Text(),
		clientSecret: rand.Text(),
		masterSecret: rand.Text() + rand.Text(),
	}
	bff := fmt.Sprintf("127.0.0.1:%d", ports[2])
	st.sim = whispsim.New(whispsim.Config{APIKeys: []secret.Text{secret.New(st.apiKey)}})
	whisp := httptest.NewServer(st.sim)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(r.Header)
	}))
	t.Cleanup(func() {
		st.sim.Close()
		whisp.Close()
		app.Close()
	})
	text := fmt.Sprintf(configuration, st.origin, app.URL, st.startProvider(t, 0), st.clientSecret, whisp.URL, st.apiKey, "",
		st.masterSecret, bff, "127.0.0.1:"+portOf(st.admin), "debug", "access: {headers: {X-User-Email: email}}\n")
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	st.bff = start(t, "whisp-bff", tools.bff, "serve", "--config", file)
	st.waitReady(t)
	startNginx(t, st.origin, bff, app.URL)
	return st
}

// An app behind nginx alone: nginx asks whisp-bff who it is, and tells the app.
func TestNginxAsksWhispBFF(t *testing.T) {
	t.Parallel()
	st := newStackBehindNginx(t)
	forged := []string{"X-Whisp-Bff-Subject", "admin", "X_Whisp_Bff_Subject", "admin", "X-User-Email", "admin@example.com"}

	stranger := st.newPerson(t)
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		if response, body := stranger.fetch(t, method, "/orders", "", forged...); response.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s by a stranger: %s %s", method, response.Status, body)
		}
	}
	if response, _ := stranger.fetch(t, http.MethodGet, "/_who", ""); response.StatusCode != http.StatusNotFound {
		t.Errorf("the check itself is open to browsers: %s", response.Status)
	}
	if page, at := stranger.navigate(t, http.MethodGet, st.origin+"/orders", nil); !strings.HasPrefix(at.Path, "/interaction/") {
		t.Errorf("a stranger's click ended at %s: %s", at, page)
	}

	alice := st.login(t, "alice")
	for name, tt := range map[string]struct {
		method, body string
		header       []string
	}{
		"a fetch":                     {http.MethodGet, "", nil},
		"forged headers":              {http.MethodGet, "", forged},
		"a POST with a body":          {http.MethodPost, `{"x":1}`, nil},
		"a DELETE":                    {http.MethodDelete, "", nil},
		"a link on another site":      {http.MethodGet, "", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Origin", ""}},
		"a fetch from another origin": {http.MethodGet, "", []string{"Sec-Fetch-Site", "same-site", "Origin", "https://other.example.com"}},
	} {
		response, body := alice.fetch(t, tt.method, "/orders?a=1&b=2", tt.body, tt.header...)
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s: %s %s", name, response.Status, body)
			continue
		}
		seen := decode[http.Header](t, body)
		if got := []string{strings.Join(seen["X-Whisp-Bff-Subject"], "|"), strings.Join(seen["X-User-Email"], "|")}; got[0] != "alice" || got[1] != "alice@example.com" {
			t.Errorf("%s: the app was told %q", name, got)
		}
		if issuer := seen.Get("X-Whisp-Bff-Issuer"); !strings.HasPrefix(issuer, "http://127.0.0.1:") {
			t.Errorf("%s: issuer %q", name, issuer)
		}
		for spelling := range seen {
			if strings.Contains(spelling, "_") {
				t.Errorf("%s: the app got %s", name, spelling)
			}
		}
	}
	if grant := alice.signIn(t); grant.Username == "" {
		t.Error("sign-in through nginx gives no user")
	}

	// The check itself, as Traefik asks it, and as Envoy does.
	for path, status := range map[string]int{"/auth/check": http.StatusAccepted, "/auth/check/": http.StatusOK, "/auth/check/orders?a=1": http.StatusOK} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
			response, body := alice.fetch(t, method, path, "", "Origin", "https://other.example.com", "Sec-Fetch-Site", "cross-site")
			if response.StatusCode != status || len(body) != 0 || response.Header.Get("X-Whisp-Bff-Subject") != "alice" ||
				response.Header.Get("X-User-Email") != "alice@example.com" || response.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s %s: %s %v %q", method, path, response.Status, response.Header, body)
			}
			if response, _ = stranger.fetch(t, method, path, "", forged...); response.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s %s by a stranger: %s", method, path, response.Status)
			}
		}
	}
	alice.fetch(t, http.MethodPost, "/auth/logout", "")
	if response, _ := alice.fetch(t, http.MethodGet, "/orders", ""); response.StatusCode != http.StatusUnauthorized {
		t.Errorf("after logout: %s", response.Status)
	}
}
