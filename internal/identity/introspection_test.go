package identity_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

const (
	endpoint = issuer + "/introspect"
	opaque   = "2YotnFZFEjr1zCsicMWpAA"
)

func introspects(change func(*identity.IntrospectionConfig)) identity.IntrospectionConfig {
	cfg := identity.DefaultIntrospectionConfig()
	cfg.URL, cfg.Issuer, cfg.ClientID, cfg.Audience = mustURL(endpoint), issuer, "bff", []string{audience}
	cfg.ClientSecret = setting.SecretValue("s3cr3t: of the client")
	if change != nil {
		change(&cfg)
	}
	return cfg
}

func newIntrospection(t testing.TB, w *web, clock func() time.Time, cfg identity.IntrospectionConfig) *identity.Introspection {
	t.Helper()
	s, err := identity.NewIntrospection(cfg, identity.Deps{Logger: slog.New(slog.DiscardHandler), Clock: clock, Rand: rand.Reader, Transport: w})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func active(now time.Time, change fields) fields {
	return with(fields{
		"active": true, "sub": "u-1", "aud": audience, "scope": "openid chat", "client_id": "spa", "username": "ada",
		"exp": now.Add(5 * time.Minute).Unix(), "token_type": "Bearer",
	}, change)
}

// TestIntrospectionAnswers: security.md 35.
func TestIntrospectionAnswers(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	says := func(change fields) http.HandlerFunc { return answers(200, jsonText(t, active(now, change))) }
	as := func(kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			_, _ = io.WriteString(w, body)
		}
	}
	good := jsonText(t, active(now, nil))
	const refused, unavailable = "credential_refused", "identity_unavailable"
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		want   string
		cause  string
	}{
		"active":              {says(nil), "u-1", ""},
		"active, our iss":     {says(fields{"iss": issuer}), "u-1", ""},
		"active, no exp":      {says(fields{"exp": nil}), "u-1", ""},
		"json with charset":   {as("application/json; charset=utf-8", good), "u-1", ""},
		"inactive":            {answers(200, `{"active":false}`), refused, "not active"},
		"inactive with sub":   {says(fields{"active": false}), refused, "not active"},
		"active a text":       {says(fields{"active": "true"}), unavailable, "no active"},
		"active a number":     {says(fields{"active": 1}), unavailable, "no active"},
		"active missing":      {says(fields{"active": nil}), unavailable, "no active"},
		"Active":              {says(fields{"active": nil, "Active": true}), unavailable, "no active"},
		"active twice":        {answers(200, `{"active":false,"active":true,"sub":"u-1","aud":"web"}`), unavailable, "twice"},
		"sub missing":         {says(fields{"sub": nil}), refused, "sub is missing"},
		"sub null":            {answers(200, `{"active":true,"sub":null,"aud":"web"}`), refused, "sub is missing"},
		"sub empty":           {says(fields{"sub": ""}), refused, "sub is missing"},
		"sub a number":        {says(fields{"sub": 7}), refused, "sub is missing"},
		"iss another":         {says(fields{"iss": issuer + "/"}), refused, "iss is another"},
		"iss a list":          {says(fields{"iss": []string{issuer}}), refused, "iss is another"},
		"aud another":         {says(fields{"aud": "api"}), refused, "aud is missing"},
		"aud missing":         {says(fields{"aud": nil}), refused, "aud is missing"},
		"aud list":            {says(fields{"aud": []string{"api", audience}}), "u-1", ""},
		"aud a number":        {says(fields{"aud": 1}), refused, "aud is no text"},
		"expired":             {says(fields{"exp": now.Add(-30 * time.Second).Unix()}), refused, "exp is past"},
		"exp a text":          {says(fields{"exp": "never"}), refused, "exp is no date"},
		"nbf in the future":   {says(fields{"nbf": now.Add(time.Minute).Unix()}), refused, "nbf is in the future"},
		"bound to a key":      {says(fields{"cnf": fields{"jkt": "x"}}), refused, "cnf"},
		"400":                 {answers(400, good), unavailable, "status 400"},
		"401: our credential": {answers(401, good), unavailable, "refuses our client_id"},
		"403: our credential": {answers(403, good), unavailable, "refuses our client_id"},
		"404":                 {answers(404, good), unavailable, "status 404"},
		"500":                 {answers(500, good), unavailable, "status 500"},
		"201":                 {answers(201, good), unavailable, "status 201"},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/realms/acme/elsewhere", http.StatusTemporaryRedirect)
		}, unavailable, "status 307"},
		"redirect to login": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://evil.example/", http.StatusFound)
		}, unavailable, "status 302"},
		"HTML":             {as("text/html", "<html>"), unavailable, "not JSON"},
		"JSON called HTML": {as("text/html", good), unavailable, "not JSON"},
		"no type": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			_, _ = io.WriteString(w, good)
		}, unavailable, "not JSON"},
		"signed answer": {as("application/token-introspection+jwt", "a.b.c"), unavailable, "RFC 9701"},
		"garbage":       {answers(200, `{"active":true`), unavailable, "not a JSON object"},
		"a list":        {answers(200, `[{"active":true}]`), unavailable, "not a JSON object"},
		"null":          {answers(200, `null`), unavailable, "not a JSON object"},
		"empty":         {answers(200, ``), unavailable, "not a JSON object"},
		"two answers":   {answers(200, good+good), unavailable, "follows"},
		"deep":          {answers(200, `{"active":true,"a":`+strings.Repeat("[", 100)), unavailable, "deeply"},
		"10 MB":         {answers(200, good[:len(good)-1]+`,"x":"`+strings.Repeat("x", 10<<20)+`"}`), unavailable, "too large"},
		"slow":          {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, unavailable, "deadline"},
		"no body":       {func(http.ResponseWriter, *http.Request) {}, unavailable, "not JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWeb()
				w.serve(endpoint, tt.answer)
				w.serve(issuer+"/elsewhere", answers(200, good))
				w.serve("https://evil.example/", answers(200, good))
				begun := time.Now()
				s := newIntrospection(t, w, func() time.Time { return now }, introspects(nil))
				answer, err := s.Identify(t.Context(), inAuthorization(opaque))
				if got := said(answer, err); got != tt.want || !strings.Contains(why(err), tt.cause) {
					t.Errorf("got %s (%v), want %s", got, err, tt.want)
				}
				if strings.Contains(why(err), opaque) || strings.Contains(why(err), "s3cr3t") {
					t.Errorf("the cause shows a secret: %v", err)
				}
				if time.Since(begun) > 3*time.Second || w.total() != 1 {
					t.Errorf("%d requests in %s", w.total(), time.Since(begun))
				}
			})
		})
	}
}

func TestIntrospectionIdentity(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	w := newWeb()
	w.serve(endpoint, answers(200, jsonText(t, active(now, fields{"uid": "p-7", "employee": 12345678901234567}))))
	s := newIntrospection(t, w, func() time.Time { return now }, introspects(func(c *identity.IntrospectionConfig) { c.SubjectClaim = "uid" }))
	for range 2 { // fresh, then kept
		answer, err := s.Identify(t.Context(), inAuthorization(opaque))
		if err != nil {
			t.Fatal(err)
		}
		claims := answer.Identity.Claims
		if answer.Identity.Issuer != issuer || answer.Identity.Subject != "p-7" || !answer.Expires.Equal(now.Add(5*time.Minute)) {
			t.Errorf("got %+v", answer)
		}
		if claims["username"] != "ada" || fmt.Sprint(claims["employee"]) != "12345678901234567" || claims["iss"] != issuer {
			t.Errorf("claims %v", claims)
		}
		for _, protocol := range []string{"active", "exp", "aud", "token_type"} {
			if _, has := claims[protocol]; has {
				t.Errorf("claims keep %s", protocol)
			}
		}
		claims["username"] = "changed by a caller"
	}
}

func TestIntrospectionDemands(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for name, tt := range map[string]struct {
		change func(*identity.IntrospectionConfig)
		want   string
	}{
		"any audience":  {func(c *identity.IntrospectionConfig) { c.Audience, c.AnyAudience = nil, true }, "u-1"},
		"client":        {func(c *identity.IntrospectionConfig) { c.Audience, c.ClientIDs = nil, []string{"spa"} }, "u-1"},
		"other client":  {func(c *identity.IntrospectionConfig) { c.ClientIDs = []string{"mobile"} }, "credential_refused"},
		"scope":         {func(c *identity.IntrospectionConfig) { c.Scopes = []string{"chat"} }, "u-1"},
		"scopes":        {func(c *identity.IntrospectionConfig) { c.Scopes = []string{"chat", "admin"} }, "credential_refused"},
		"part of scope": {func(c *identity.IntrospectionConfig) { c.Scopes = []string{"cha"} }, "credential_refused"},
		"claim": {func(c *identity.IntrospectionConfig) {
			c.RequiredClaims = []identity.RequiredClaim{{Claim: "username", Equals: "ada"}}
		}, "u-1"},
		"other claim": {func(c *identity.IntrospectionConfig) {
			c.RequiredClaims = []identity.RequiredClaim{{Claim: "username", Equals: "bob"}}
		}, "credential_refused"},
		"subject absent": {func(c *identity.IntrospectionConfig) { c.SubjectClaim = "uid" }, "credential_refused"},
	} {
		w := newWeb()
		w.serve(endpoint, answers(200, jsonText(t, active(now, nil))))
		s := newIntrospection(t, w, func() time.Time { return now }, introspects(tt.change))
		if got := said(s.Identify(t.Context(), inAuthorization(opaque))); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

// TestIntrospectionTokens: which tokens are for this source.
func TestIntrospectionTokens(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	good := goodToken(now)
	w := newWeb()
	w.serve(endpoint, answers(200, jsonText(t, active(now, nil))))
	clock := func() time.Time { return now }
	shared := newIntrospection(t, w, clock, introspects(nil))
	own := newIntrospection(t, w, clock, introspects(func(c *identity.IntrospectionConfig) { c.Header = "X-Token" }))
	cookie := newIntrospection(t, w, clock, introspects(func(c *identity.IntrospectionConfig) { c.Cookie = "token" }))
	for name, tt := range map[string]struct {
		source  *identity.Introspection
		request *http.Request
		want    string
	}{
		"nothing":                 {shared, requestWith(), "skip"},
		"basic":                   {shared, requestWith("Authorization: Basic YTpi"), "skip"},
		"opaque":                  {shared, inAuthorization(opaque), "u-1"},
		"JWT of the issuer":       {shared, inAuthorization(good.sign(t)), "u-1"},
		"JWT of another":          {shared, inAuthorization(good.claim(fields{"iss": "https://other.example"}).sign(t)), "skip"},
		"Whisp's own":             {shared, inAuthorization(good.claim(fields{"iss": nil}).sign(t)), "skip"},
		"twice":                   {shared, requestWith("Authorization: Bearer x", "Authorization: Bearer y"), "credential_refused"},
		"no token68":              {shared, requestWith("Authorization: Bearer a b"), "credential_refused"},
		"with &":                  {shared, inAuthorization("a&token=b"), "credential_refused"},
		"20 kB":                   {shared, inAuthorization(strings.Repeat("x", 20_000)), "credential_refused"},
		"own header":              {own, requestWith("X-Token: " + opaque), "u-1"},
		"own header, Whisp's JWT": {own, requestWith("X-Token: " + good.claim(fields{"iss": nil}).sign(t)), "u-1"}, // the provider decides
		"own header, none":        {own, inAuthorization(opaque), "skip"},
		"cookie":                  {cookie, requestWith("Cookie: token.1=b; token.0=a"), "u-1"},
		"cookie with a gap":       {cookie, requestWith("Cookie: token.0=a; token.2=b"), "credential_refused"},
		"cookie, Authorization":   {cookie, inAuthorization(opaque), "skip"},
	} {
		if got := said(tt.source.Identify(t.Context(), tt.request)); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
	if shared.Headers() != nil || cookie.Headers() != nil || len(own.Headers()) != 1 {
		t.Error("Headers is not the header of our own")
	}
}

// TestIntrospectionQuestion: what the endpoint sees, by kind of client authentication.
func TestIntrospectionQuestion(t *testing.T) {
	now := time.Now()
	pkcs8 := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(ecKey()))}))
	seen := map[string]bool{}
	for name, tt := range map[string]struct {
		change func(*identity.IntrospectionConfig)
		check  func(t *testing.T, r *http.Request)
	}{
		"basic": {nil, func(t *testing.T, r *http.Request) {
			if user, password, _ := r.BasicAuth(); user != "bff" || password != "s3cr3t%3A+of+the+client" || r.Form.Has("client_secret") {
				t.Errorf("basic authentication as %s", user)
			}
		}},
		"post": {func(c *identity.IntrospectionConfig) { c.ClientAuth = "post" }, func(t *testing.T, r *http.Request) {
			if r.Header.Get("Authorization") != "" || r.PostForm.Get("client_id") != "bff" || r.PostForm.Get("client_secret") != "s3cr3t: of the client" {
				t.Error("client_id and client_secret are not in the form")
			}
		}},
		"private_key_jwt": {func(c *identity.IntrospectionConfig) {
			c.ClientAuth, c.KeyID, c.ClientSecret, c.PrivateKey = "private_key_jwt", "k-1", setting.Secret{}, setting.SecretValue(pkcs8)
			c.CacheFor = 0
		}, func(t *testing.T, r *http.Request) {
			assertion, err := jwt.Parse(r.PostForm.Get("client_assertion"), func(*jwt.Token) (any, error) { return ecKey().Public(), nil },
				jwt.WithValidMethods([]string{"ES256"}), jwt.WithExpirationRequired(), jwt.WithAudience(endpoint), jwt.WithIssuer("bff"), jwt.WithSubject("bff"))
			if err != nil {
				t.Fatal(err)
			}
			claims, _ := assertion.Claims.(jwt.MapClaims)
			exp, _ := claims.GetExpirationTime()
			id, _ := claims["jti"].(string)
			if assertion.Header["kid"] != "k-1" || exp.Sub(now) > 61*time.Second || len(id) != 22 || seen[id] ||
				r.PostForm.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
				t.Errorf("assertion %v %v", assertion.Header, claims)
			}
			seen[id] = true
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w, asked := newWeb(), 0
			w.serve(endpoint, func(w http.ResponseWriter, r *http.Request) {
				asked++
				if err := r.ParseForm(); err != nil {
					t.Fatal(err)
				}
				if r.Method != http.MethodPost || r.PostForm.Get("token") != opaque || r.PostForm.Get("token_type_hint") != "access_token" || len(r.Cookies()) != 0 || r.URL.RawQuery != "" {
					t.Errorf("%s with %d form fields", r.Method, len(r.PostForm))
				}
				tt.check(t, r)
				answers(200, jsonText(t, active(now, nil)))(w, r)
			})
			s := newIntrospection(t, w, time.Now, introspects(tt.change))
			for range 2 {
				if got := said(s.Identify(t.Context(), requestWith("Authorization: Bearer "+opaque, "Cookie: a=b"))); got != "u-1" {
					t.Errorf("got %s", got)
				}
			}
			if want := map[bool]int{true: 2, false: 1}[name == "private_key_jwt"]; asked != want {
				t.Errorf("asked %d times, want %d", asked, want)
			}
		})
	}
}

func TestIntrospectionCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWeb()
		s := newIntrospection(t, w, time.Now, introspects(nil))
		ask := func(token string) string { return said(s.Identify(t.Context(), inAuthorization(token))) }
		says := func(change fields) { w.serve(endpoint, answers(200, jsonText(t, active(time.Now(), change)))) }
		for _, step := range []struct {
			name   string
			change fields
			token  string
			after  time.Duration // since the step before
			want   string
			asked  int
		}{
			{"fresh", nil, "a", 0, "u-1", 1},
			{"kept, though revoked", fields{"active": false}, "a", 29 * time.Second, "u-1", 1},
			{"another token is another question", fields{"sub": "u-2"}, "b", 0, "u-2", 2},
			{"after 30 s", fields{"active": false}, "a", time.Second, "credential_refused", 3},
			{"refused is kept", nil, "a", 4 * time.Second, "credential_refused", 3},
			{"but briefly", fields{"exp": time.Now().Add(time.Minute).Unix()}, "a", time.Second, "u-1", 4},
			{"kept until exp at most", fields{"sub": "u-3"}, "a", 26 * time.Second, "u-3", 5},
		} {
			time.Sleep(step.after)
			says(step.change)
			if got := ask(step.token); got != step.want || w.total() != step.asked {
				t.Errorf("%s: %s after %d questions, want %s after %d", step.name, got, w.total(), step.want, step.asked)
			}
		}
		w.serve(endpoint, answers(500, ""))
		for range 2 {
			if got := ask("c"); got != "identity_unavailable" {
				t.Errorf("500: %s", got)
			}
		}
		says(nil)
		if got := ask("c"); got != "u-1" {
			t.Errorf("trouble was kept: %s", got)
		}
	})
}

// TestIntrospectionCacheChecksAgain: a kept answer is held against the clock.
func TestIntrospectionCacheChecksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWeb()
		begin := time.Now()
		w.serve(endpoint, answers(200, jsonText(t, active(begin, fields{"exp": begin.Add(20 * time.Second).Unix()}))))
		s := newIntrospection(t, w, time.Now, introspects(func(c *identity.IntrospectionConfig) { c.ClockLeeway = 0 }))
		for _, want := range []string{"u-1", "u-1", "credential_refused"} {
			if got := said(s.Identify(t.Context(), inAuthorization(opaque))); got != want {
				t.Errorf("after %s: %s, want %s", time.Since(begin), got, want)
			}
			time.Sleep(10 * time.Second)
		}
	})
}

func TestIntrospectionOneQuestionPerToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWeb()
		w.serve(endpoint, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			_ = r.ParseForm()
			answers(200, jsonText(t, active(time.Now(), fields{"sub": "owner of " + r.PostForm.Get("token")})))(w, r)
		})
		s := newIntrospection(t, w, time.Now, introspects(nil))
		left, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := s.Identify(left, inAuthorization("t0")); err == nil {
				t.Error("the one that left got an answer")
			}
		})
		synctest.Wait()
		for i := range 300 {
			name := fmt.Sprintf("t%d", i%3)
			wg.Go(func() {
				if got := said(s.Identify(t.Context(), inAuthorization(name))); got != "owner of "+name {
					t.Errorf("%s is %s", name, got)
				}
			})
		}
		leave()
		wg.Wait()
		if w.total() != 3 {
			t.Errorf("%d questions about 3 tokens", w.total())
		}
	})
}

// TestIntrospectionFlood: made-up tokens neither grow the memory nor push out real ones.
func TestIntrospectionFlood(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	w := newWeb()
	w.serve(endpoint, func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		if r.PostForm.Get("token") != opaque {
			answers(200, `{"active":false}`)(w, r)
			return
		}
		answers(200, jsonText(t, active(now, nil)))(w, r)
	})
	s := newIntrospection(t, w, func() time.Time { return now }, introspects(func(c *identity.IntrospectionConfig) { c.CacheSize = 10 }))
	for i := range 1000 {
		if got := said(s.Identify(t.Context(), inAuthorization(fmt.Sprintf("made-up-%d", i)))); got != "credential_refused" {
			t.Fatal(got)
		}
		if got := said(s.Identify(t.Context(), inAuthorization(opaque))); got != "u-1" {
			t.Fatal(got)
		}
	}
	if w.total() != 1001 {
		t.Errorf("%d questions, want 1001", w.total())
	}
}

// TestIntrospectionOwnTransport uses the transport the source builds, over real
// connections, and reads what it logs.
func TestIntrospectionOwnTransport(t *testing.T) {
	down := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down {
			http.Error(w, opaque, http.StatusUnauthorized)
			return
		}
		answers(200, jsonText(t, active(time.Now(), nil)))(w, r)
	}))
	defer server.Close()
	var log bytes.Buffer
	cfg := introspects(func(c *identity.IntrospectionConfig) { c.URL = mustURL(server.URL) })
	s, err := identity.NewIntrospection(cfg, identity.Deps{Logger: slog.New(slog.NewTextHandler(&log, nil)), Clock: time.Now, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := said(s.Identify(t.Context(), inAuthorization(opaque))); got != "u-1" {
		t.Fatal(got)
	}
	down = true
	for i := range 10 {
		if got := said(s.Identify(t.Context(), inAuthorization(fmt.Sprintf("%s%d", opaque, i)))); got != "identity_unavailable" {
			t.Fatal(got)
		}
	}
	if lines := strings.Count(log.String(), "\n"); lines != 1 || !strings.Contains(log.String(), "refuses our client_id") || strings.Contains(log.String(), opaque) {
		t.Errorf("log:\n%s", &log)
	}
}
