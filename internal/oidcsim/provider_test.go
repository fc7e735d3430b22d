package oidcsim_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"go.uber.org/goleak"
	"golang.org/x/oauth2"

	"github.com/whisp-bff/whisp-bff/internal/oidcsim"
	"github.com/whisp-bff/whisp-bff/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const callback = "http://app.test/auth/callback"

// desk is a provider that serves, a browser with a cookie jar, and a relying
// party made of libraries only.
type desk struct {
	*oidcsim.Provider
	t       *testing.T
	now     atomic.Int64
	browser *http.Client
	client  oauth2.Config
	oidc    *oidc.Provider
	ctx     context.Context
}

func open(t *testing.T, change func(*oidcsim.Config)) *desk {
	t.Helper()
	d := &desk{t: t}
	d.now.Store(time.Now().Unix())
	cfg := oidcsim.Config{
		Clients: []oidcsim.Client{
			{ID: "web", Secret: secret.New("top+secret/%"), RedirectURIs: []string{callback}, PostLogoutRedirectURIs: []string{"http://app.test/"}},
			{ID: "spa", RedirectURIs: []string{callback}},
		},
		Clock: d.clock,
		Rand:  rand.Reader,
	}
	if change != nil {
		change(&cfg)
	}
	provider, err := oidcsim.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	d.Provider = provider
	server := httptest.NewServer(provider)
	t.Cleanup(server.Close)
	if err := provider.SetIssuer(server.URL); err != nil {
		t.Fatal(err)
	}
	jar, _ := cookiejar.New(nil)
	transport := server.Client().Transport
	d.browser = &http.Client{Transport: transport, Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	d.ctx = oidc.ClientContext(t.Context(), &http.Client{Transport: transport})
	d.oidc, err = oidc.NewProvider(d.ctx, server.URL)
	if err != nil {
		t.Fatal(err)
	}
	d.client = oauth2.Config{ClientID: "web", ClientSecret: "top+secret/%", RedirectURL: callback, Endpoint: d.oidc.Endpoint(), Scopes: []string{"openid", "profile", "email"}}
	d.client.Endpoint.AuthStyle = oauth2.AuthStyleInHeader
	return d
}

func (d *desk) clock() time.Time { return time.Unix(d.now.Load(), 0) }

// get returns status, body and, if it is a redirect, the query it carries.
func (d *desk) get(address string) (int, string, url.Values) {
	d.t.Helper()
	response, err := d.browser.Get(address)
	return d.read(response, err)
}

func (d *desk) post(address string, form url.Values) (int, string, url.Values) {
	d.t.Helper()
	response, err := d.browser.PostForm(address, form)
	return d.read(response, err)
}

func (d *desk) read(response *http.Response, err error) (int, string, url.Values) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	location, err := response.Location()
	if err != nil {
		return response.StatusCode, string(body), nil
	}
	return response.StatusCode, string(body), location.Query()
}

func (d *desk) authorizeURL(options ...oauth2.AuthCodeOption) string {
	options = append([]oauth2.AuthCodeOption{oauth2.S256ChallengeOption("verifier-verifier-verifier-verifier-verifier"), oidc.Nonce("n-1")}, options...)
	return d.client.AuthCodeURL("s-1", options...)
}

// code logs alice in by the page and returns the code.
func (d *desk) code(options ...oauth2.AuthCodeOption) string {
	d.t.Helper()
	address := d.authorizeURL(options...)
	status, body, answer := d.get(address)
	if status == http.StatusOK {
		if !strings.Contains(body, "Alice Anderson") {
			d.t.Fatalf("the login page does not offer alice: %s", body)
		}
		_, query, _ := strings.Cut(address, "?")
		status, body, answer = d.post(d.Issuer()+"/login", url.Values{"person": {"alice"}, "request": {query}})
	}
	if status != http.StatusSeeOther || answer.Get("code") == "" {
		d.t.Fatalf("no code: %d %v %s", status, answer, body)
	}
	if answer.Get("state") != "s-1" || answer.Get("iss") != d.Issuer() {
		d.t.Errorf("state %q, iss %q", answer.Get("state"), answer.Get("iss"))
	}
	return answer.Get("code")
}

func (d *desk) exchange(code string) (*oauth2.Token, error) {
	return d.client.Exchange(d.ctx, code, oauth2.VerifierOption("verifier-verifier-verifier-verifier-verifier"))
}

func (d *desk) verify(token *oauth2.Token) (*oidc.IDToken, map[string]any) {
	d.t.Helper()
	raw, _ := token.Extra("id_token").(string)
	verifier := d.oidc.VerifierContext(d.ctx, &oidc.Config{ClientID: d.client.ClientID, Now: func() time.Time { return time.Unix(d.now.Load(), 0) }})
	idToken, err := verifier.Verify(d.ctx, raw)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := idToken.VerifyAccessToken(token.AccessToken); err != nil {
		d.t.Error(err)
	}
	var claims map[string]any
	if err := idToken.Claims(&claims); err != nil {
		d.t.Fatal(err)
	}
	return idToken, claims
}

func TestLogin(t *testing.T) {
	for _, algorithm := range []string{"ES256", "RS256"} {
		t.Run(algorithm, func(t *testing.T) {
			d := open(t, func(c *oidcsim.Config) { c.Algorithm = algorithm })
			token, err := d.exchange(d.code())
			if err != nil {
				t.Fatal(err)
			}
			idToken, claims := d.verify(token)
			if idToken.Subject != "demo-alice" || idToken.Nonce != "n-1" || claims["email"] != "alice@example.com" || claims["preferred_username"] != "alice" {
				t.Errorf("claims %v", claims)
			}
			if token.RefreshToken != "" {
				t.Error("a refresh token nobody asked for")
			}
			info, err := d.oidc.UserInfo(d.ctx, oauth2.StaticTokenSource(token))
			if err != nil || info.Subject != "demo-alice" || info.Email != "alice@example.com" {
				t.Errorf("userinfo %+v, %v", info, err)
			}
			if status, _, answer := d.get(d.authorizeURL(oauth2.SetAuthURLParam("prompt", "none"))); status != 303 || answer.Get("code") == "" {
				t.Errorf("no single sign-on: %d %v", status, answer)
			}
		})
	}
}

func TestPublicClientAndLoginHint(t *testing.T) {
	d := open(t, func(c *oidcsim.Config) { c.TrustLoginHint, c.LeanIDToken = true, true })
	d.client.ClientID, d.client.ClientSecret = "spa", ""
	d.client.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	_, _, answer := d.get(d.authorizeURL(oauth2.SetAuthURLParam("login_hint", "bob")))
	token, err := d.exchange(answer.Get("code"))
	if err != nil {
		t.Fatal(err)
	}
	idToken, claims := d.verify(token)
	if idToken.Subject != "demo-bob" || claims["email"] != nil {
		t.Errorf("claims %v", claims)
	}
}

func TestAuthorizeRefuses(t *testing.T) {
	set := oauth2.SetAuthURLParam
	for name, tc := range map[string]struct {
		option oauth2.AuthCodeOption
		error  string // empty: a page, never a redirect
	}{
		"unknown client":         {set("client_id", "other"), ""},
		"unregistered redirect":  {set("redirect_uri", "http://evil.test/auth/callback"), ""},
		"redirect with more":     {set("redirect_uri", callback+"/x"), ""},
		"implicit flow":          {set("response_type", "id_token"), "unsupported_response_type"},
		"no openid":              {set("scope", "profile"), "invalid_scope"},
		"plain PKCE":             {set("code_challenge_method", "plain"), "invalid_request"},
		"no challenge":           {set("code_challenge", ""), "invalid_request"},
		"no state":               {set("state", ""), "invalid_request"},
		"request object":         {set("request", "x"), "request_not_supported"},
		"nobody for prompt none": {set("prompt", "none"), "login_required"},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, nil)
			status, _, answer := d.get(d.authorizeURL(tc.option))
			if tc.error == "" && (status != http.StatusBadRequest || answer != nil) {
				t.Errorf("status %d, answer %v; want a page", status, answer)
			}
			if tc.error != "" && (answer.Get("error") != tc.error || answer.Has("code")) {
				t.Errorf("status %d, answer %v; want %s", status, answer, tc.error)
			}
		})
	}
}

func TestTokenRefuses(t *testing.T) {
	d := open(t, nil)
	for name, tc := range map[string]struct {
		change func(*url.Values)
		status int
		error  string
	}{
		"wrong secret":   {func(v *url.Values) { v.Set("client_secret", "guess") }, 401, "invalid_client"},
		"no secret":      {func(v *url.Values) { v.Del("client_secret") }, 401, "invalid_client"},
		"other client":   {func(v *url.Values) { v.Set("client_id", "spa"); v.Del("client_secret") }, 400, "invalid_grant"},
		"wrong verifier": {func(v *url.Values) { v.Set("code_verifier", strings.Repeat("x", 43)) }, 400, "invalid_grant"},
		"other redirect": {func(v *url.Values) { v.Set("redirect_uri", "http://app.test/") }, 400, "invalid_grant"},
		"unknown code":   {func(v *url.Values) { v.Set("code", "x") }, 400, "invalid_grant"},
		"password grant": {func(v *url.Values) { v.Set("grant_type", "password") }, 400, "unsupported_grant_type"},
	} {
		t.Run(name, func(t *testing.T) {
			form := url.Values{"grant_type": {"authorization_code"}, "client_id": {"web"}, "client_secret": {"top+secret/%"},
				"code": {d.code()}, "redirect_uri": {callback}, "code_verifier": {"verifier-verifier-verifier-verifier-verifier"}}
			tc.change(&form)
			status, body, _ := d.post(d.Issuer()+"/token", form)
			var answer struct{ Error string }
			if err := json.Unmarshal([]byte(body), &answer); err != nil || status != tc.status || answer.Error != tc.error {
				t.Errorf("%d %s", status, body)
			}
		})
	}
}

func TestCodeIsUsedOnceAndExpires(t *testing.T) {
	d := open(t, nil)
	code := d.code(oauth2.SetAuthURLParam("scope", "openid offline_access"))
	token, err := d.exchange(code)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.exchange(code); err == nil {
		t.Error("a code worked twice")
	}
	if _, err := d.refresh(token.RefreshToken); err == nil {
		t.Error("the second use of the code did not revoke what the first gave")
	}
	late := d.code()
	d.now.Add(61)
	if _, err := d.exchange(late); err == nil {
		t.Error("a code lived longer than a minute")
	}
}

func (d *desk) refresh(token string) (*oauth2.Token, error) {
	return d.client.TokenSource(d.ctx, &oauth2.Token{RefreshToken: token}).Token()
}

func TestRefreshRotatesAndEnds(t *testing.T) {
	d := open(t, func(c *oidcsim.Config) { c.RefreshWithoutScope = true })
	first, err := d.exchange(d.code())
	if err != nil {
		t.Fatal(err)
	}
	second, err := d.refresh(first.RefreshToken)
	if err != nil || second.RefreshToken == first.RefreshToken {
		t.Fatalf("no rotation: %v", err)
	}
	if _, claims := d.verify(second); claims["nonce"] != nil || claims["sub"] != "demo-alice" {
		t.Errorf("claims of a refreshed ID token: %v", claims)
	}
	if _, err := d.refresh(first.RefreshToken); err == nil {
		t.Error("a used refresh token worked again")
	}
	if _, err := d.refresh(second.RefreshToken); err == nil {
		t.Error("the family survived the reuse")
	}
	third, err := d.exchange(d.code())
	if err != nil {
		t.Fatal(err)
	}
	d.Disable("alice")
	if _, err := d.refresh(third.RefreshToken); err == nil || !strings.Contains(err.Error(), "invalid_grant") {
		t.Errorf("a disabled person's token: %v", err)
	}
	if status, body, answer := d.get(d.authorizeURL()); status != 200 || answer != nil || !strings.Contains(body, "disabled") {
		t.Errorf("a disabled person's SSO session: %d %v", status, answer)
	}
}

func TestKeyRotation(t *testing.T) {
	d := open(t, nil)
	old, err := d.exchange(d.code())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.RotateKey(); err != nil {
		t.Fatal(err)
	}
	d.verify(old)
	current, err := d.exchange(d.code())
	if err != nil {
		t.Fatal(err)
	}
	d.verify(current)
	d.DropOldKeys()
	raw, _ := old.Extra("id_token").(string)
	if _, err := d.oidc.VerifierContext(d.ctx, &oidc.Config{ClientID: "web"}).Verify(d.ctx, raw); err == nil {
		t.Error("a dropped key still verifies")
	}
}

func TestLogout(t *testing.T) {
	d := open(t, nil)
	token, err := d.exchange(d.code())
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := token.Extra("id_token").(string)
	end := d.Issuer() + "/end-session?"
	if status, _, answer := d.get(end + url.Values{"id_token_hint": {raw}, "post_logout_redirect_uri": {"http://evil.test/"}}.Encode()); status != 400 || answer != nil {
		t.Errorf("unregistered logout target: %d", status)
	}
	if status, body, _ := d.get(end); status != 200 || !strings.Contains(body, "confirmed") {
		t.Errorf("logout without a hint did not ask: %d", status)
	}
	if status, body, _ := d.get(end + "confirmed=1"); status != 200 || !strings.Contains(body, "confirmed") {
		t.Errorf("an image tag could confirm: %d", status)
	}
	if status, _, answer := d.get(d.authorizeURL(oauth2.SetAuthURLParam("prompt", "none"))); status != 303 || !answer.Has("code") {
		t.Fatalf("logged out too early: %d %v", status, answer)
	}
	status, _, answer := d.get(end + url.Values{"id_token_hint": {raw}, "client_id": {"web"}, "post_logout_redirect_uri": {"http://app.test/"}, "state": {"bye"}}.Encode())
	if status != 303 || answer.Get("state") != "bye" {
		t.Errorf("logout: %d %v", status, answer)
	}
	if _, _, answer := d.get(d.authorizeURL(oauth2.SetAuthURLParam("prompt", "none"))); answer.Get("error") != "login_required" {
		t.Errorf("still logged in: %v", answer)
	}
	d.code()
	if status, body, _ := d.post(d.Issuer()+"/end-session", url.Values{"confirmed": {"1"}}); status != 200 || !strings.Contains(body, "Signed out") {
		t.Errorf("confirmed logout: %d", status)
	}
	if _, _, answer := d.get(d.authorizeURL(oauth2.SetAuthURLParam("prompt", "none"))); answer.Get("error") != "login_required" {
		t.Errorf("still logged in: %v", answer)
	}
}

func TestLoginFormNeedsOwnOrigin(t *testing.T) {
	d := open(t, nil)
	_, query, _ := strings.Cut(d.authorizeURL(), "?")
	body := url.Values{"person": {"alice"}, "request": {query}}.Encode()
	request, _ := http.NewRequest(http.MethodPost, d.Issuer()+"/login", strings.NewReader(body))
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Origin", "http://evil.test")
	response, err := d.browser.Do(request)
	if status, _, _ := d.read(response, err); status != http.StatusForbidden {
		t.Errorf("status %d", status)
	}
}

func TestPageEscapes(t *testing.T) {
	d := open(t, nil)
	d.SetClaims("alice", map[string]any{"name": `<script>alert(1)</script>`})
	_, body, _ := d.get(d.authorizeURL(oauth2.SetAuthURLParam("login_hint", `"><script>`)))
	if strings.Contains(body, "<script>") {
		t.Error("the page does not escape")
	}
}
