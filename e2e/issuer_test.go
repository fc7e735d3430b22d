//go:build e2e

package e2e

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
)

// issuer is oidc-provider as apps without our login use it: a page gets access
// tokens for a resource server from it, by itself.
type issuer struct {
	url     string
	process *process
}

// resource is a resource server (RFC 8707) and how its tokens look.
type resource struct {
	Audience string `json:"audience"`
	Format   string `json:"format"` // jwt or opaque
	TTL      int    `json:"ttl"`    // seconds
}

// Where the page's login ends. Nothing listens there: the code is taken from
// the redirect.
const pageCallback = "http://localhost/callback"

// The page is a public client with PKCE; "other" is somebody else's.
var pageClients = []map[string]any{publicClient("page"), publicClient("other")}

func publicClient(id string) map[string]any {
	return map[string]any{
		"client_id": id, "token_endpoint_auth_method": "none",
		"grant_types": []string{"authorization_code"}, "redirect_uris": []string{pageCallback},
	}
}

// startIssuer runs oidc-provider with these resources, by their URI, and
// clients beside the page's.
func startIssuer(t testing.TB, resources map[string]resource, clients ...map[string]any) *issuer {
	t.Helper()
	options, err := json.Marshal(map[string]any{"port": 0, "resources": resources, "clients": append(clients, pageClients...)})
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{process: startScript(t, "provider.mjs", string(options))}
	var listening struct{ Issuer string }
	i.process.line(t, &listening)
	i.url = listening.Issuer
	return i
}

// tokens are what the token endpoint gives.
type tokens struct {
	Access string `json:"access_token"`
	ID     string `json:"id_token"`
}

// signIn is the code flow of a page: somebody signs in, and the client gets a
// token for the resource.
func (i *issuer) signIn(t testing.TB, client, name, resource string) tokens {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, Timeout: patience, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), pageCallback) {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	verifier := rand.Text() + rand.Text()
	challenge := sha256.Sum256([]byte(verifier))
	login := i.answer(t, browser, http.MethodGet, "/auth?"+url.Values{
		"client_id": {client}, "redirect_uri": {pageCallback}, "response_type": {"code"}, "scope": {"openid chat"}, "resource": {resource},
		"state": {rand.Text()}, "code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
	}.Encode(), nil)
	action := formAction.FindStringSubmatch(login.body)
	if action == nil {
		t.Fatalf("no login form: %+v", login)
	}
	back := i.answer(t, browser, http.MethodPost, html.UnescapeString(action[1]), url.Values{"account": {name}})
	at, err := url.Parse(back.location)
	if err != nil || at.Query().Get("code") == "" {
		t.Fatalf("the login ended at %q: %+v", back.location, back)
	}
	given := i.answer(t, browser, http.MethodPost, "/token", url.Values{
		"grant_type": {"authorization_code"}, "code": {at.Query().Get("code")}, "redirect_uri": {pageCallback},
		"client_id": {client}, "code_verifier": {verifier}, "resource": {resource},
	})
	if given.status != http.StatusOK {
		t.Fatalf("token: %+v", given)
	}
	return decode[tokens](t, []byte(given.body))
}

// revoke ends a token (RFC 7009).
func (i *issuer) revoke(t testing.TB, client, token string) {
	t.Helper()
	if ended := i.answer(t, http.DefaultClient, http.MethodPost, "/token/revocation", url.Values{"client_id": {client}, "token": {token}}); ended.status != http.StatusOK {
		t.Fatalf("revoke: %+v", ended)
	}
}

type issuerAnswer struct {
	status         int
	location, body string
}

func (i *issuer) answer(t testing.TB, client *http.Client, method, path string, form url.Values) issuerAnswer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, i.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return issuerAnswer{response.StatusCode, response.Header.Get("Location"), string(body)}
}
