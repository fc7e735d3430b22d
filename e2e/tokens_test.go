//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/whisp-bff/whisp-bff/cmd/whisp-demo/web"
)

// Resources whose access tokens the tests use.
const (
	chatAudience = "https://chat.example.com"

	jwtToken        = "urn:chat:jwt"
	shortJWT        = "urn:chat:jwt-of-a-second"
	foreignJWT      = "urn:billing:jwt"
	opaqueToken     = "urn:chat:opaque"
	shortOpaque     = "urn:chat:opaque-of-a-second"
	foreignOpaque   = "urn:billing:opaque"
	bearerAudience  = "      audience: [" + chatAudience + "]\n      clock_leeway: 1ms\n"
	tokenCookieName = "access_token"
)

var tokenResources = map[string]resource{
	jwtToken:      {chatAudience, "jwt", 3600},
	shortJWT:      {chatAudience, "jwt", 1},
	foreignJWT:    {"https://billing.example.com", "jwt", 3600},
	opaqueToken:   {chatAudience, "opaque", 3600},
	shortOpaque:   {chatAudience, "opaque", 1},
	foreignOpaque: {"https://billing.example.com", "opaque", 3600},
}

// tokenStack is whisp-bff in front of an app whose login is the issuer's.
type tokenStack struct {
	*stack
	issuer *issuer
	given  []string // all tokens used
}

// newTokenStack takes the section identity; origin is where browsers go if that
// is not whisp-bff itself.
func newTokenStack(t testing.TB, i *issuer, origin, listen, identity string) *tokenStack {
	t.Helper()
	app := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(app.Close)
	return &tokenStack{stack: sourceStack(t, origin, listen, app.URL, identity, ""), issuer: i}
}

func ownOrigin(t testing.TB) (origin, listen string) {
	t.Helper()
	port := freePorts(t, 1)[0]
	return fmt.Sprintf("http://localhost:%d", port), fmt.Sprintf("127.0.0.1:%d", port)
}

// token has somebody sign in at the issuer, for a token of a resource.
func (st *tokenStack) token(t testing.TB, name, resource string) string {
	t.Helper()
	token := st.issuer.signIn(t, "page", name, resource).Access
	st.given = append(st.given, token)
	return token
}

// carrier makes a person's browser carry a token from here on; "" is none.
type carrier func(t testing.TB, p *person, token string)

func inAuthorization(_ testing.TB, p *person, token string) {
	if p.authorization = ""; token != "" {
		p.authorization = "Bearer " + token
	}
}

func inCookie(t testing.TB, p *person, token string) { p.setCookie(t, tokenCookieName, token) }

// inParts splits the token over two cookies, as Auth.js and others do with long
// ones.
func inParts(t testing.TB, p *person, token string) {
	p.setCookie(t, tokenCookieName+".0", token[:len(token)/2])
	p.setCookie(t, tokenCookieName+".1", token[len(token)/2:])
}

// setCookie sets a cookie of the app's, or deletes it.
func (p *person) setCookie(t testing.TB, name, value string) {
	t.Helper()
	origin, err := url.Parse(p.st.origin)
	if err != nil {
		t.Fatal(err)
	}
	cookie := &http.Cookie{Name: name, Value: value, Path: "/"}
	if value == "" {
		cookie.MaxAge = -1
	}
	p.client.Jar.SetCookies(origin, []*http.Cookie{cookie})
}

// sdkDir has the demo's stand-in for the SDK, as a module that Node takes.
func sdkDir(t testing.TB) string {
	t.Helper()
	app, err := web.Handler(nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := map[string][]byte{"package.json": []byte(`{"type":"module"}`)}
	for _, name := range []string{"whisp-client.js", "stomp-frame.js"} {
		answer := httptest.NewRecorder()
		app.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/"+name, nil))
		files[name] = answer.Body.Bytes()
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// sdkLine is what sdk.mjs prints.
type sdkLine struct{ UserID, Username, From, Message, Error string }

// page starts sdk.mjs in a person's browser and waits until it is connected.
func (p *person) page(t testing.TB, sdk, to, message string) (*process, sdkLine) {
	t.Helper()
	options, err := json.Marshal(map[string]string{
		"origin": p.st.origin, "sdk": "file://" + filepath.Join(sdk, "whisp-client.js"), "cookie": p.cookies(t), "authorization": p.authorization,
		"to": to, "message": message,
	})
	if err != nil {
		t.Fatal(err)
	}
	page := startScript(t, "sdk.mjs", string(options))
	return page, page.says(t)
}

func (p *process) says(t testing.TB) sdkLine {
	t.Helper()
	var line sdkLine
	if p.line(t, &line); line.Error != "" {
		t.Fatal(line.Error)
	}
	return line
}

// chats is the whole path: bob's page waits, alice's writes, both get it.
func (st *tokenStack) chats(t testing.TB, resource string, carry carrier) {
	t.Helper()
	sdk := sdkDir(t)
	people := map[string]*person{}
	for _, name := range []string{"alice", "bob"} {
		people[name] = st.newPerson(t)
		people[name].refused(t, "session_required")
		carry(t, people[name], st.token(t, name, resource))
	}
	bob, hello := people["bob"].page(t, sdk, "", "")
	if hello.Username != "bob" {
		t.Fatalf("bob is %+v", hello)
	}
	const message = "with a token of my own <&> äöü 🎉"
	alice, hello := people["alice"].page(t, sdk, "bob", message)
	if hello.Username != "alice" {
		t.Fatalf("alice is %+v", hello)
	}
	for name, page := range map[string]*process{"alice": alice, "bob": bob} {
		if got := page.says(t); got.Message != message || got.From != hello.UserID {
			t.Errorf("%s got %+v", name, got)
		}
	}
	if n := st.sim.Counters()["refreshToken"][http.StatusOK]; n != 1 {
		t.Errorf("Whisp saw %d refreshes, want alice's", n)
	}
	st.switches(t, resource, carry)
}

// switches: another person signs in to the app in the same browser.
func (st *tokenStack) switches(t testing.TB, resource string, carry carrier) {
	t.Helper()
	p := st.newPerson(t)
	carry(t, p, st.token(t, "carol", resource))
	carol := p.signIn(t)
	if again := p.signIn(t); again != carol {
		t.Error("the second sign-in in one browser gives another grant")
	}
	carry(t, p, st.token(t, "dave", resource))
	dave := p.signIn(t)
	if carol.Username != "carol" || dave.Username != "dave" || dave.RefreshToken == carol.RefreshToken {
		t.Errorf("signed in as %s, then %s", carol.Username, dave.Username)
	}
	if n := simUser(t, st.stack, "carol").Refresh; n != 0 {
		t.Errorf("carol's refresh token lives on after dave signed in in her browser: %d", n)
	}
}

// refusal is a token that must not pass, why, and what the log says of it.
type refusal struct {
	token       string
	code, cause string
}

// refuses tries each in a fresh browser; nothing of it may reach Whisp.
func (st *tokenStack) refuses(t testing.TB, carry carrier, table map[string]refusal) {
	t.Helper()
	before := len(st.sim.Requests())
	for name, tt := range table {
		p := st.newPerson(t)
		carry(t, p, tt.token)
		st.given = append(st.given, tt.token)
		response, body := p.fetch(t, http.MethodPost, "/auth/whisp/sign-in", "")
		said := decode[problemBody](t, body)
		if response.StatusCode != http.StatusUnauthorized || said.Code != tt.code {
			t.Errorf("%s: %s %s, want 401 %s", name, response.Status, body, tt.code)
			continue
		}
		if cause := st.cause(t, said.RequestID); !strings.Contains(cause, tt.cause) {
			t.Errorf("%s: the log says %q, want %q", name, cause, tt.cause)
		}
	}
	if after := len(st.sim.Requests()); after != before {
		t.Errorf("%d requests reached Whisp", after-before)
	}
}

// cause is what the log says of a request, which it does once that is over.
func (st *stack) cause(t testing.TB, requestID string) (cause string) {
	t.Helper()
	eventually(t, "the request in the log", func() bool {
		for line := range strings.Lines(st.bff.log.String()) {
			if strings.Contains(line, `"request_id":"`+requestID+`"`) && strings.Contains(line, `"msg":"request"`) {
				cause = decode[struct{ Cause string }](t, []byte(line)).Cause
				return true
			}
		}
		return false
	})
	return cause
}

// ends waits until a token that worked, or not even once, is refused for good.
func (st *tokenStack) ends(t testing.TB, p *person, cause string) {
	t.Helper()
	eventually(t, "the token is refused", func() bool {
		response, body := p.fetch(t, http.MethodGet, "/auth/session", "")
		if response.StatusCode == http.StatusOK {
			return false
		}
		said := decode[problemBody](t, body)
		if got := st.cause(t, said.RequestID); said.Code != "credential_refused" || !strings.Contains(got, cause) {
			t.Fatalf("refused with %s: %q", body, got)
		}
		return true
	})
}

// keepsSecrets searches what Whisp saw, and all that was logged, for the tokens.
func (st *tokenStack) keepsSecrets(t testing.TB) {
	t.Helper()
	log := st.bff.log.String()
	for _, token := range st.given {
		if len(token) < 20 {
			continue
		}
		for _, request := range st.sim.Requests() {
			if strings.Contains(fmt.Sprint(request.Header, request.Query, string(request.Body)), token) {
				t.Errorf("%s at Whisp has the provider's token", request.Operation)
			}
		}
		if strings.Contains(log, token) {
			t.Error("the log has a token")
		}
	}
}
