//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

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

// flipped changes one character in the middle of a token's part, counted from 0.
func flipped(token string, part int) string {
	parts := strings.Split(token, ".")
	text := []byte(parts[part])
	if at := len(text) / 2; text[at] == 'A' {
		text[at] = 'B'
	} else {
		text[at] = 'A'
	}
	parts[part] = string(text)
	return strings.Join(parts, ".")
}

// unsigned is the token with alg none.
func unsigned(token string) string {
	header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"at+jwt"}`))
	return header + "." + strings.Split(token, ".")[1] + "."
}

// badJWTs are refused wherever they stand.
func badJWTs(t testing.TB, st *tokenStack) map[string]refusal {
	t.Helper()
	good := st.issuer.signIn(t, "page", "alice", jwtToken)
	return map[string]refusal{
		"a changed signature":       {flipped(good.Access, 2), "credential_refused", "no key verifies the signature"},
		"alg none":                  {unsigned(good.Access), "credential_refused", "alg is not one of those configured"},
		"a token for another API":   {st.token(t, "alice", foreignJWT), "credential_refused", "aud is missing, or none of those configured"},
		"the page's ID token":       {good.ID, "credential_refused", "aud is missing, or none of those configured"},
		"more than a token can be":  {good.Access + strings.Repeat("A", 17<<10), "credential_refused", ""},
		"a token with a part extra": {good.Access + ".x.y", "credential_refused", ""},
	}
}

// Others' tokens in Authorization are none of our business, and nobody's
// sign-in.
func notOurs(t testing.TB) map[string]refusal {
	t.Helper()
	elsewhere := startIssuer(t, tokenResources).signIn(t, "page", "alice", jwtToken).Access
	return map[string]refusal{
		"nothing":                 {"", "session_required", ""},
		"a JWT of another issuer": {elsewhere, "session_required", ""},
	}
}

const bearerIdentity = "  sources: [bearer]\n  bearer:\n    - issuer: %s\n" + bearerAudience

func TestChatWithBearerInAuthorization(t *testing.T) {
	t.Parallel()
	i := startIssuer(t, tokenResources)
	origin, listen := ownOrigin(t)
	st := newTokenStack(t, i, origin, listen, fmt.Sprintf(bearerIdentity, i.url))
	st.chats(t, jwtToken, inAuthorization)

	p := st.newPerson(t)
	inAuthorization(t, p, st.token(t, "alice", shortJWT))
	st.refuses(t, inAuthorization, badJWTs(t, st))
	st.refuses(t, inAuthorization, notOurs(t))
	st.refuses(t, inAuthorization, map[string]refusal{
		"garbage":         {"garbage", "session_required", ""},
		"an opaque token": {st.token(t, "alice", opaqueToken), "session_required", ""},
	})
	st.ends(t, p, "exp is past")
	st.keepsSecrets(t)
}

func TestChatWithBearerInCookies(t *testing.T) {
	t.Parallel()
	i := startIssuer(t, tokenResources)
	origin, listen := ownOrigin(t)
	st := newTokenStack(t, i, origin, listen, fmt.Sprintf(bearerIdentity, i.url)+"      cookie: "+tokenCookieName+"\n")
	st.chats(t, jwtToken, inParts)

	p := st.newPerson(t)
	inCookie(t, p, st.token(t, "alice", shortJWT))
	good := st.token(t, "alice", jwtToken)
	bad := badJWTs(t, st)
	delete(bad, "more than a token can be") // no cookie can
	st.refuses(t, inCookie, bad)
	st.refuses(t, inCookie, map[string]refusal{
		"garbage":         {"garbage", "credential_refused", ""},
		"an opaque token": {st.token(t, "alice", opaqueToken), "credential_refused", ""},
	})
	st.refuses(t, func(t testing.TB, p *person, token string) {
		inParts(t, p, token)
		p.setCookie(t, tokenCookieName+".0", "")
	}, map[string]refusal{"the first part is missing": {good, "credential_refused", "lacks a part"}})
	st.refuses(t, func(t testing.TB, p *person, token string) {
		inParts(t, p, token)
		inCookie(t, p, token)
	}, map[string]refusal{"whole and in parts": {good, "credential_refused", "both whole and in parts"}})
	st.ends(t, p, "exp is past")
	st.keepsSecrets(t)
}

// oauth2-proxy with --pass-access-token: the browser has the proxy's cookie only.
func TestChatBehindOAuth2Proxy(t *testing.T) {
	t.Parallel()
	const header = "X-Forwarded-Access-Token"
	i := startIssuer(t, tokenResources)
	_, listen := ownOrigin(t)
	var sessions sync.Map // of the proxy: its cookie's value -> access token
	origin := proxy(t, listen, func(out http.Header, who string) {
		out.Del(header)
		if token, ok := sessions.Load(who); ok {
			out.Set(header, token.(string))
		}
	})
	st := newTokenStack(t, i, origin, listen, fmt.Sprintf("  sources: [bearer]\n  bearer:\n    - preset: oauth2_proxy\n      issuer: %s\n", i.url)+bearerAudience)
	behind := func(t testing.TB, p *person, token string) {
		t.Helper()
		session := fmt.Sprintf("%p", p)
		sessions.Store(session, token)
		p.setCookie(t, "proxy-session", session)
	}
	st.chats(t, jwtToken, behind)

	p := st.newPerson(t)
	behind(t, p, st.token(t, "alice", shortJWT))
	st.refuses(t, behind, badJWTs(t, st))
	st.refuses(t, behind, map[string]refusal{
		"garbage":         {"garbage", "credential_refused", ""},
		"an opaque token": {st.token(t, "alice", opaqueToken), "credential_refused", ""},
	})
	st.ends(t, p, "exp is past")
	st.keepsSecrets(t)
}

// cacheFor is how long a good answer of the provider counts.
const cacheFor = time.Second

const introspectionIdentity = `  sources: [introspection]
  introspection:
    url: %s/token/introspection
    issuer: %s
    client_id: whisp-bff
    audience: [` + chatAudience + `]
    client_ids: [page]
    scopes: [chat]
    clock_leeway: 0s
    cache_for: 1s
`

// introspects is the whole path with tokens that only the provider can read.
func introspects(t *testing.T, i *issuer, more string, carry carrier) *tokenStack {
	t.Helper()
	origin, listen := ownOrigin(t)
	st := newTokenStack(t, i, origin, listen, fmt.Sprintf(introspectionIdentity, i.url, i.url)+more)
	st.chats(t, opaqueToken, carry)

	p := st.newPerson(t)
	carry(t, p, st.token(t, "alice", shortOpaque))
	st.refuses(t, carry, map[string]refusal{
		"garbage":                  {"garbage-that-nobody-issued", "credential_refused", "token is not active"},
		"a token cut at its start": {st.token(t, "alice", opaqueToken)[1:], "credential_refused", "token is not active"},
		"a token for another API":  {st.token(t, "alice", foreignOpaque), "credential_refused", "aud is missing, or none of those configured"},
		"a token of another page":  {i.signIn(t, "other", "alice", opaqueToken).Access, "credential_refused", "client_id is missing, or none of those configured"},
	})
	st.ends(t, p, "")

	p = st.newPerson(t)
	token := st.token(t, "alice", opaqueToken)
	carry(t, p, token)
	st.revoked(t, p, token)
	return st
}

// revoked: from cacheFor after the provider has confirmed it, no request with
// the token passes, and never again.
func (st *tokenStack) revoked(t testing.TB, p *person, token string) {
	t.Helper()
	p.signIn(t)
	st.issuer.revoke(t, "page", token)
	revoked := time.Now()
	eventually(t, "the revoked token is refused", func() bool {
		asked := time.Now()
		response, body := p.fetch(t, http.MethodPost, "/auth/whisp/sign-in", "")
		if response.StatusCode == http.StatusOK {
			if late := asked.Sub(revoked); late > cacheFor {
				t.Fatalf("a token revoked %s ago passes", late)
			}
			return false
		}
		if code := decode[problemBody](t, body).Code; code != "credential_refused" {
			t.Fatalf("refused with %s", body)
		}
		return true
	})
	p.refused(t, "credential_refused")
}

func TestChatWithIntrospectionInAuthorization(t *testing.T) {
	t.Parallel()
	clientSecret := rand.Text()
	i := startIssuer(t, tokenResources, map[string]any{
		"client_id": "whisp-bff", "client_secret": clientSecret, "token_endpoint_auth_method": "client_secret_basic",
		"grant_types": []string{}, "response_types": []string{}, "redirect_uris": []string{},
	})
	st := introspects(t, i, "    client_auth: basic\n    client_secret: {value: "+clientSecret+"}\n", inAuthorization)
	st.refuses(t, inAuthorization, notOurs(t))

	// Nobody to ask: that is no yes, and says nothing against the token.
	p := st.newPerson(t)
	inAuthorization(t, p, st.token(t, "bob", opaqueToken))
	i.process.stop(t)
	if response, body := p.fetch(t, http.MethodPost, "/auth/whisp/sign-in", ""); response.StatusCode != http.StatusServiceUnavailable || decode[problemBody](t, body).Code != "identity_unavailable" {
		t.Errorf("with the provider down: %s %s", response.Status, body)
	}
	st.given = append(st.given, clientSecret)
	st.keepsSecrets(t)
}

func TestChatWithIntrospectionInCookies(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	i := startIssuer(t, tokenResources, map[string]any{
		"client_id": "whisp-bff", "token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "ES256",
		"jwks":        jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "2026-01", Algorithm: "ES256", Use: "sig"}}},
		"grant_types": []string{}, "response_types": []string{}, "redirect_uris": []string{},
	})
	st := introspects(t, i, "    cookie: "+tokenCookieName+"\n    client_auth: private_key_jwt\n    key_id: 2026-01\n    private_key: {file: "+file+"}\n", inParts)
	// In a cookie of ours the provider is asked about JWTs, too. This one answers
	// that with 400, which is neither a yes nor a no.
	p := st.newPerson(t)
	inCookie(t, p, st.token(t, "alice", jwtToken))
	p.refused(t, "identity_unavailable")
	st.keepsSecrets(t)
}
