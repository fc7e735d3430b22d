//go:build e2e

package e2e

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/oidcsim"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

const configurationWithoutLogin = `public_url: %s
app: {url: "%s"}
identity:
%s
whisp:
  url: %s
  api_keys: [{value: %s}]
account:
  master_secrets: [{value: %s}]
server: {listen: "%s", admin_listen: "%s"}
realtime: {drain: 0s}
log: {level: debug, format: json}
%s`

// sourceStack is a whisp-bff that has no login of its own: people are known by
// other sources. listen is where it listens, origin where browsers go.
func sourceStack(t testing.TB, origin, listen, app, identity, more string) *stack {
	t.Helper()
	st := &stack{
		origin: origin, admin: fmt.Sprintf("http://127.0.0.1:%d", freePorts(t, 1)[0]),
		apiKey: rand.Text(), masterSecret: rand.Text() + rand.Text(),
	}
	st.sim = whispsim.New(whispsim.Config{APIKeys: []secret.Text{secret.New(st.apiKey)}})
	whisp := httptest.NewServer(st.sim)
	t.Cleanup(func() {
		st.sim.Close()
		whisp.Close()
	})
	text := fmt.Sprintf(configurationWithoutLogin, origin, app, identity, whisp.URL, st.apiKey, st.masterSecret, listen, "127.0.0.1:"+portOf(st.admin), more)
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	st.bff = start(t, "whisp-bff", tools.bff, "serve", "--config", file)
	st.waitReady(t)
	return st
}

// appStack is sourceStack with the app_session recipe of a framework.
func appStack(t testing.TB, heading string, startApp func(origin string) string) *stack {
	t.Helper()
	origin := fmt.Sprintf("http://localhost:%d", freePorts(t, 1)[0])
	text, _ := recipe(t, heading)
	text += "  cache: 0s\n" // a logout is seen at once
	identity := "  sources: [app_session]\n  " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ")
	return sourceStack(t, origin, "127.0.0.1:"+portOf(origin), startApp(origin), identity, "")
}

// chats sends a message over the socket and waits for it, with a real client.
func (p *person) chats(t testing.TB, username string) {
	t.Helper()
	in := p.signIn(t)
	if in.Username != username {
		t.Fatalf("signed in as %s, want %s", in.Username, username)
	}
	options, err := json.Marshal(map[string]string{
		"transport": "plain", "origin": p.st.origin, "cookie": p.cookies(t), "chatId": p.newChat(t, in.JWT, in.Username), "message": "hello from " + username,
	})
	if err != nil {
		t.Fatal(err)
	}
	var got echoed
	startScript(t, "socket.mjs", string(options)).line(t, &got)
	if got.Error != "" || got.Event.Message != "hello from "+username {
		t.Errorf("%s got %+v", username, got)
	}
}

func (p *person) refused(t testing.TB, code string) {
	t.Helper()
	response, body := p.fetch(t, http.MethodPost, "/auth/whisp/sign-in", "")
	if response.StatusCode/100 == 2 || decode[problemBody](t, body).Code != code {
		t.Fatalf("sign-in: %s %s, want %s", response.Status, body, code)
	}
}

// switches is the story of one browser: alice chats, somebody else signs in to
// the app, alice's grant is gone.
func (p *person) switches(t testing.TB, logIn func(name string), logOut func()) {
	t.Helper()
	p.refused(t, "session_required")
	logIn("alice")
	p.chats(t, "alice")
	if n := simUser(t, p.st, "alice").Refresh; n != 1 {
		t.Errorf("alice has %d refresh tokens", n)
	}
	logIn("bob") // without a logout, as app accounts are switched
	p.chats(t, "bob")
	if n := simUser(t, p.st, "alice").Refresh; n != 0 {
		t.Errorf("alice's refresh token lives on after bob signed in in her browser: %d", n)
	}
	logOut()
	p.refused(t, "session_required")
}

func TestChatWithAuthJS(t *testing.T) {
	t.Parallel()
	st := appStack(t, "Auth.js / NextAuth", func(string) string { return startApp(t, "app_authjs.mjs") })
	p := st.newPerson(t)
	post := func(path string, form url.Values) {
		page, _ := p.navigate(t, http.MethodGet, st.origin+"/api/auth/csrf", nil)
		form.Set("csrfToken", decode[struct{ CSRFToken string }](t, []byte(page)).CSRFToken)
		if page, at := p.navigate(t, http.MethodPost, st.origin+path, form); at.Path != "/" {
			t.Fatalf("ended at %s: %s", at, page)
		}
	}
	p.switches(t, func(name string) {
		post("/api/auth/callback/credentials", url.Values{"username": {name}, "callbackUrl": {st.origin + "/"}})
	}, func() { post("/api/auth/signout", url.Values{"callbackUrl": {st.origin + "/"}}) })
}

func TestChatWithPassport(t *testing.T) {
	t.Parallel()
	st := appStack(t, "Passport + express-session", func(string) string { return startApp(t, "app_passport.mjs") })
	p := st.newPerson(t)
	p.navigate(t, http.MethodGet, st.origin+"/", nil) // gives every visitor a session
	p.switches(t, func(name string) {
		p.navigate(t, http.MethodPost, st.origin+"/login", url.Values{"username": {name}})
	}, func() { p.navigate(t, http.MethodPost, st.origin+"/logout", url.Values{}) })
}

func TestChatWithExpressOpenIDConnect(t *testing.T) {
	t.Parallel()
	clientSecret := rand.Text()
	st := appStack(t, "express-openid-connect", func(origin string) string {
		provider, err := oidcsim.New(oidcsim.Config{
			Clients:   []oidcsim.Client{{ID: "app", Secret: secret.New(clientSecret), RedirectURIs: []string{origin + "/callback"}}},
			Algorithm: "RS256", Clock: time.Now, Rand: rand.Reader,
		})
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(provider)
		t.Cleanup(server.Close)
		if err := provider.SetIssuer(server.URL); err != nil {
			t.Fatal(err)
		}
		options, err := json.Marshal(map[string]string{"issuer": server.URL, "clientId": "app", "clientSecret": clientSecret, "publicURL": origin})
		if err != nil {
			t.Fatal(err)
		}
		return startApp(t, "app_openid.mjs", string(options))
	})
	p := st.newPerson(t)
	page, at := p.navigate(t, http.MethodGet, st.origin+"/login", nil)
	target, form := loginForm(t, page, at, "alice")
	if page, at = p.navigate(t, http.MethodPost, target, form); strings.TrimSuffix(at.String(), "/") != st.origin {
		t.Fatalf("login ended at %s:\n%s", at, page)
	}
	p.chats(t, "alice")
}

// proxy is an auth proxy in front of whisp-bff. Who is signed in to it says a
// cookie, in clear; identify puts that into the request, and who is "" for nobody.
func proxy(t testing.TB, listen string, identify func(out http.Header, who string)) string {
	t.Helper()
	target, err := url.Parse("http://" + listen)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host
		who := ""
		if cookie, err := r.In.Cookie("proxy-session"); err == nil {
			who = cookie.Value
		}
		identify(r.Out.Header, who)
	}})
	t.Cleanup(server.Close)
	return strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
}

// authProxy is a proxy that names people in plain headers.
func authProxy(t testing.TB, listen, peerSecret string) string {
	t.Helper()
	return proxy(t, listen, func(out http.Header, who string) {
		for _, name := range []string{"X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Preferred-Username", "X-Forwarded-Secret"} {
			out.Del(name)
		}
		out.Set("X-Forwarded-Secret", peerSecret)
		if who != "" {
			out.Set("X-Forwarded-User", "id-of-"+who)
			out.Set("X-Forwarded-Preferred-Username", who)
			out.Set("X-Forwarded-Email", who+"@example.com")
			out.Set("X-Forwarded-Groups", "support,sales")
		}
	})
}

const forwardedIdentity = `  sources: [forwarded]
  forwarded:
    trusted_peers: [%s]
    secrets: [{value: %s}]
    issuer: https://login.example.com`

func TestChatBehindAnAuthProxy(t *testing.T) {
	t.Parallel()
	peerSecret := rand.Text() + rand.Text()
	listen := fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0])
	var seen http.Header
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Clone()
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(app.Close)
	origin := authProxy(t, listen, peerSecret)
	st := sourceStack(t, origin, listen, app.URL, fmt.Sprintf(forwardedIdentity, "127.0.0.1", peerSecret), "access: {headers: {X-User-Id: sub}}\n")
	p := st.newPerson(t)
	at, err := url.Parse(origin)
	if err != nil {
		t.Fatal(err)
	}
	p.switches(t, func(name string) {
		p.client.Jar.SetCookies(at, []*http.Cookie{{Name: "proxy-session", Value: name, Path: "/"}})
	}, func() {
		p.client.Jar.SetCookies(at, []*http.Cookie{{Name: "proxy-session", Path: "/", MaxAge: -1}})
	})

	// Past the proxy: whisp-bff's own port, with headers of one's own.
	direct := func(header ...string) (*http.Response, []byte) {
		request, err := http.NewRequest(http.MethodGet, "http://"+listen+"/auth/session", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = at.Host
		for i := 0; i < len(header); i += 2 {
			request.Header[header[i]] = append(request.Header[header[i]], header[i+1])
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response, body
	}
	for name, tt := range map[string]struct {
		header []string
		code   string
	}{
		"no secret":       {[]string{"X-Forwarded-User", "admin"}, "credential_refused"},
		"a wrong secret":  {[]string{"X-Forwarded-User", "admin", "X-Forwarded-Secret", "guessed"}, "credential_refused"},
		"two users":       {[]string{"X-Forwarded-User", "alice", "X-Forwarded-User", "admin", "X-Forwarded-Secret", peerSecret}, "credential_refused"},
		"an odd spelling": {[]string{"X_Forwarded_User", "admin", "X-Forwarded-Secret", peerSecret}, "session_required"},
	} {
		if response, body := direct(tt.header...); response.StatusCode != http.StatusUnauthorized || decode[problemBody](t, body).Code != tt.code {
			t.Errorf("%s: %s %s", name, response.Status, body)
		}
	}

	// The app hears of people from us, and sees neither headers nor secret.
	p.client.Jar.SetCookies(at, []*http.Cookie{{Name: "proxy-session", Value: "alice", Path: "/"}})
	p.fetch(t, http.MethodGet, "/orders", "", "X_Forwarded_User", "admin", "X-User-Id", "admin")
	if got := seen["X-User-Id"]; len(got) != 1 || got[0] != "id-of-alice" {
		t.Errorf("the app was told %q", got)
	}
	for name, values := range seen {
		if strings.Contains(strings.ReplaceAll(strings.ToLower(name), "_", "-"), "forwarded-user") || strings.Contains(strings.Join(values, ""), peerSecret) {
			t.Errorf("the app got %s: %q", name, values)
		}
	}
	if strings.Contains(st.bff.log.String(), peerSecret) {
		t.Error("the secret is in the log")
	}
}

// The same proxy at an address that is not listed is a client like any other.
func TestHeadersOfAnUnlistedPeer(t *testing.T) {
	t.Parallel()
	peerSecret := rand.Text() + rand.Text()
	listen := fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0])
	var seen http.Header
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Clone()
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(app.Close)
	origin := authProxy(t, listen, peerSecret)
	st := sourceStack(t, origin, listen, app.URL, fmt.Sprintf(forwardedIdentity, "192.0.2.7", peerSecret), "")
	p := st.newPerson(t)
	at, err := url.Parse(origin)
	if err != nil {
		t.Fatal(err)
	}
	p.client.Jar.SetCookies(at, []*http.Cookie{{Name: "proxy-session", Value: "alice", Path: "/"}})
	p.refused(t, "session_required")
	p.fetch(t, http.MethodGet, "/orders", "")
	for name := range seen {
		if strings.HasPrefix(name, "X-Forwarded-") && !strings.Contains("X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto X-Forwarded-Port", name) {
			t.Errorf("the app got %s", name)
		}
	}
}
