//go:build e2e

package e2e

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/oidcsim"
	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// recipe reads a framework's YAML from docs/identity/app-session.md.
func recipe(t testing.TB, heading string) (text string, cfg identity.AppSessionConfig) {
	t.Helper()
	page, err := os.ReadFile("../docs/identity/app-session.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)\n### " + regexp.QuoteMeta(heading) + "\n.*?```yaml\n(.*?)```").FindSubmatch(page)
	if found == nil {
		t.Fatalf("docs/identity/app-session.md has no recipe for %s", heading)
	}
	section := struct {
		AppSession identity.AppSessionConfig `yaml:"app_session"`
	}{identity.DefaultAppSessionConfig()}
	if err := yaml.UnmarshalWithOptions(found[1], &section, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	return string(found[1]), section.AppSession
}

// frontDoor is the https site in front of an app, with the source that asks it.
type frontDoor struct {
	public setting.URL
	app    *url.URL
	source *identity.AppSession
	late   atomic.Int64 // how far the source's clock has been put forward
}

func newFrontDoor(t testing.TB, public, app string, cfg identity.AppSessionConfig) *frontDoor {
	t.Helper()
	f := &frontDoor{public: setting.MustURL(public)}
	var err error
	if f.app, err = url.Parse(app); err != nil {
		t.Fatal(err)
	}
	f.source, err = identity.NewAppSession(cfg, identity.AppSite{PublicURL: f.public, URL: setting.MustURL(app), PreserveHost: true},
		identity.Deps{Logger: slog.New(slog.DiscardHandler), Clock: func() time.Time { return time.Now().Add(time.Duration(f.late.Load())) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.source.Close)
	return f
}

// RoundTrip carries what is for the site to the app, as whisp-bff does.
func (f *frontDoor) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != f.public.Host {
		return http.DefaultTransport.RoundTrip(r)
	}
	in := r.Clone(r.Context())
	in.Host = f.public.Host
	in.URL.Scheme, in.URL.Host = f.app.Scheme, f.app.Host
	in.Header.Set("X-Forwarded-Host", f.public.Host)
	in.Header.Set("X-Forwarded-Proto", f.public.Scheme)
	return http.DefaultTransport.RoundTrip(in)
}

// visitor is a browser at the site.
type visitor struct {
	t      testing.TB
	door   *frontDoor
	client *http.Client
}

func (f *frontDoor) visitor(t testing.TB) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &visitor{t, f, &http.Client{Transport: f, Jar: jar, Timeout: patience}}
}

// get and post return the page they end at.
func (v *visitor) get(path string) string {
	v.t.Helper()
	response, err := v.client.Get(v.door.public.Origin() + path)
	return v.page(response, err)
}

func (v *visitor) post(path string, form url.Values) string {
	v.t.Helper()
	response, err := v.client.PostForm(v.door.public.Origin()+path, form)
	return v.page(response, err)
}

func (v *visitor) page(response *http.Response, err error) string {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode >= 400 {
		v.t.Fatalf("%s: %s %s %v", response.Request.URL.Path, response.Status, body, err)
	}
	return string(body)
}

// request has the cookies that the browser sends.
func (v *visitor) request() *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/auth/whisp/sign-in", nil)
	for _, cookie := range v.client.Jar.Cookies(&v.door.public.URL) {
		r.AddCookie(cookie)
	}
	return r
}

// sees asks the source who the visitor is and compares: a subject, "skipped" or
// a problem's code.
func (v *visitor) sees(r *http.Request, want string) identity.Identity {
	v.t.Helper()
	answer, err := v.door.source.Identify(v.t.Context(), r)
	got := answer.Identity.Subject
	switch {
	case errors.Is(err, identity.ErrSkip):
		got = "skipped"
	case err != nil:
		got = problem.From(err).Code
	}
	if got != want {
		v.t.Fatalf("the source says %s (%v), want %s", got, err, want)
	}
	return answer.Identity
}

// past lets the answers that are kept get old.
func (f *frontDoor) past() { f.late.Add(int64(time.Minute)) }

// tampered returns the request with one character of its cookies changed. Not the
// last one: of that, base64 may not use all bits.
func tampered(r *http.Request) *http.Request {
	cookies := []byte(r.Header.Get("Cookie"))
	at := len(cookies) - 10
	if cookies[at] == 'A' {
		cookies[at] = 'B'
	} else {
		cookies[at] = 'A'
	}
	r.Header.Set("Cookie", string(cookies))
	return r
}

func startApp(t testing.TB, script string, args ...string) string {
	t.Helper()
	var listening struct{ URL string }
	startScript(t, script, args...).line(t, &listening)
	return listening.URL
}

func TestAppSessionAuthJS(t *testing.T) {
	t.Parallel()
	_, cfg := recipe(t, "Auth.js / NextAuth")
	door := newFrontDoor(t, "https://app.example.com", startApp(t, "app_authjs.mjs"), cfg)
	signIn := func(v *visitor, name string) {
		var csrf struct{ CSRFToken string }
		if err := json.Unmarshal([]byte(v.get("/api/auth/csrf")), &csrf); err != nil {
			t.Fatal(err)
		}
		v.post("/api/auth/callback/credentials", url.Values{"csrfToken": {csrf.CSRFToken}, "username": {name}, "callbackUrl": {"/"}})
	}
	alice, bob := door.visitor(t), door.visitor(t)
	alice.get("/api/auth/csrf")
	alice.sees(alice.request(), "skipped")

	signIn(alice, "alice")
	id := alice.sees(alice.request(), "id-of-alice")
	if id.Issuer != "https://app.example.com" || id.Claims["email"] != "alice@example.com" || id.Claims["name"] != "alice" {
		t.Errorf("%+v", id)
	}
	signIn(bob, "bob")
	split := bob.request()
	if !strings.Contains(split.Header.Get("Cookie"), "__Secure-authjs.session-token.1=") {
		t.Errorf("the session is in one cookie: %d bytes", len(split.Header.Get("Cookie")))
	}
	bob.sees(split, "id-of-bob")
	half := bob.request()
	half.Header.Set("Cookie", regexp.MustCompile(`__Secure-authjs\.session-token\.0=[^;]*;? ?`).ReplaceAllString(half.Header.Get("Cookie"), ""))
	bob.sees(half, "session_required")
	alice.sees(tampered(alice.request()), "session_required")

	var csrf struct{ CSRFToken string }
	if err := json.Unmarshal([]byte(alice.get("/api/auth/csrf")), &csrf); err != nil {
		t.Fatal(err)
	}
	alice.post("/api/auth/signout", url.Values{"csrfToken": {csrf.CSRFToken}})
	alice.sees(alice.request(), "skipped")
}

func TestAppSessionExpressOpenIDConnect(t *testing.T) {
	t.Parallel()
	const public, issuerClient = "https://app.example.com", "app"
	clientSecret := rand.Text()
	provider, err := oidcsim.New(oidcsim.Config{
		Clients:   []oidcsim.Client{{ID: issuerClient, Secret: secret.New(clientSecret), RedirectURIs: []string{public + "/callback"}}},
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
	options, err := json.Marshal(map[string]string{"issuer": server.URL, "clientId": issuerClient, "clientSecret": clientSecret, "publicURL": public})
	if err != nil {
		t.Fatal(err)
	}
	_, cfg := recipe(t, "express-openid-connect")
	door := newFrontDoor(t, public, startApp(t, "app_openid.mjs", string(options)), cfg)

	alice := door.visitor(t)
	alice.get("/")
	alice.sees(alice.request(), "skipped")
	for name, v := range map[string]*visitor{"alice": alice, "bob": door.visitor(t)} {
		page, at := v.follow("/login")
		v.choose(page, at, name)
		id := v.sees(v.request(), "demo-"+name)
		if id.Issuer != cfg.Issuer || id.Claims["preferred_username"] != name || id.Claims["email"] != name+"@example.com" {
			t.Errorf("%+v", id)
		}
	}
	alice.sees(tampered(alice.request()), "session_required")
	alice.get("/") // rolls the session: another cookie, the same person
	alice.sees(alice.request(), "demo-alice")
}

// choose clicks on a name on oidcsim's page.
func (v *visitor) choose(page string, at *url.URL, name string) {
	v.t.Helper()
	target, form := loginForm(v.t, page, at, name)
	response, err := v.client.PostForm(target, form)
	v.page(response, err)
}

// loginForm fills in oidcsim's page.
func loginForm(t testing.TB, page string, at *url.URL, name string) (target string, form url.Values) {
	t.Helper()
	action := formAction.FindStringSubmatch(page)
	if action == nil {
		t.Fatalf("no login form at %s:\n%s", at, page)
	}
	to, err := at.Parse(action[1])
	if err != nil {
		t.Fatal(err)
	}
	form = url.Values{"person": {name}}
	for _, field := range hiddenField.FindAllStringSubmatch(page, -1) {
		form.Set(field[1], html.UnescapeString(field[2]))
	}
	return to.String(), form
}

var hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)"`)

// follow is get, and where it ended.
func (v *visitor) follow(path string) (string, *url.URL) {
	v.t.Helper()
	response, err := v.client.Get(v.door.public.Origin() + path)
	page := v.page(response, err)
	return page, response.Request.URL
}

func TestAppSessionPassport(t *testing.T) {
	t.Parallel()
	_, cfg := recipe(t, "Passport + express-session")
	door := newFrontDoor(t, "https://app.example.com", startApp(t, "app_passport.mjs"), cfg)
	alice, bob := door.visitor(t), door.visitor(t)
	alice.sees(alice.request(), "skipped")
	alice.get("/")
	anonymous := alice.request()
	alice.sees(anonymous, "session_required")

	alice.post("/login", url.Values{"username": {"alice"}})
	id := alice.sees(alice.request(), "1")
	if id.Claims["preferred_username"] != "alice" || id.Claims["email"] != "alice@example.com" {
		t.Errorf("%+v", id)
	}
	alice.sees(anonymous, "session_required") // the session was fixed to nobody
	bob.post("/login", url.Values{"username": {"bob"}})
	bob.sees(bob.request(), "2")
	alice.sees(tampered(alice.request()), "session_required")

	before := alice.request()
	alice.post("/logout", nil)
	alice.sees(before, "1") // an answer counts for cache …
	door.past()
	alice.sees(before, "session_required") // … and not longer
	alice.sees(alice.request(), "session_required")

	// The account is switched in the app: the next request is the new person.
	alice.post("/login", url.Values{"username": {"bob"}})
	alice.sees(alice.request(), "2")
}
