package access_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/whisp-bff/whisp-bff/internal/access"
	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

var (
	guarded = access.Config{
		Default: access.SignedIn,
		Rules: []access.Rule{
			{Path: "/", Require: access.Public},
			{Path: "/assets/**", Require: access.Public},
			{Path: "/admin/**", Claim: "groups", Contains: "admins"},
			{Path: "/reports/*/edit", Claim: "realm_access.roles", Contains: "editor"},
			{Path: "/plan", Claim: "plan", Equals: "7"},
		},
	}
	admin = identity.Identity{Issuer: "https://idp", Subject: "1", Claims: map[string]any{
		"groups": []any{"staff", "admins"}, "plan": json.Number("7"), "realm_access": map[string]any{"roles": []any{"editor"}},
	}}
	guest = identity.Identity{Issuer: "https://idp", Subject: "2", Claims: map[string]any{"groups": "staff", "plan": "17"}}
)

func TestRules(t *testing.T) {
	policy := access.NewPolicy(guarded)
	for path, want := range map[string]string{ // public, admin only, both, or refused
		"/":                     "public",
		"/assets/x.js":          "public",
		"/assets":               "public",
		"/assets/a%20b.js":      "public",
		"/assets/%C3%BC.js":     "public",
		"/ASSETS/x.js":          "both", // a public pattern opens nothing it does not name
		"/else":                 "both",
		"/admin":                "admin",
		"/admin/":               "admin",
		"/admin/users":          "admin",
		"/ADMIN/users":          "admin",
		"/Admin":                "admin",
		"/reports/7/edit":       "admin",
		"/reports/7/edit/":      "admin",
		"/reports//edit":        "refused",
		"/reports/7/view":       "both",
		"/plan":                 "admin",
		"/planet":               "both",
		"/assets/../admin":      "refused",
		"/assets/%2e%2e/admin":  "refused",
		"/assets/..%2fadmin":    "refused",
		"/assets/..;/admin":     "refused",
		"/assets/%2e%2e%2fx":    "refused",
		"/assets\\..\\admin":    "refused",
		"/assets/%5c../admin":   "refused",
		"//admin":               "refused",
		"/assets/%252e%252e/x":  "refused",
		"/admin%00":             "refused",
		"/admin.":               "refused",
		"/admin%20":             "refused",
		"/admin%23x":            "refused",
		"/admin%3Fx":            "refused",
		"/admin%c0%ae":          "refused",
		"/%61dmin/x":            "admin",
		"/else?x=/assets/x.js":  "both",
		"/admin?public=/assets": "admin",
	} {
		u, err := url.ParseRequestURI(path)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		g, err := policy.For(u)
		got := "none"
		switch {
		case err != nil:
			got = "refused"
		case g.Public():
			got = "public"
		case g.Allows(admin) && g.Allows(guest):
			got = "both"
		case g.Allows(admin):
			got = "admin"
		}
		if got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestAnAppThatDecidesForItselfGetsEveryPath(t *testing.T) {
	policy := access.NewPolicy(access.DefaultConfig())
	for _, path := range []string{"/a/%2e%2e/b", "//x", "/a;b=c", "/%252f"} {
		u, err := url.ParseRequestURI(path)
		if err != nil {
			t.Fatal(err)
		}
		if g, err := policy.For(u); err != nil || !g.Public() {
			t.Errorf("%s: %v", path, err)
		}
	}
	if policy.Tells() {
		t.Error("a policy without headers claims to tell something")
	}
}

func TestTell(t *testing.T) {
	policy := access.NewPolicy(access.Config{Default: access.Public, Headers: map[string]string{
		"x-user": "sub", "X-Issuer": "iss", "X-Name": "name", "X-Groups": "groups", "X-Big": "big", "X-Missing": "none", "X-Object": "realm_access",
		"X-Verified": "email_verified", "X-Roles": "realm_access.roles", "X-Url": "https://example.com/tenant",
	}})
	h := http.Header{}
	policy.Tell(h, identity.Identity{Issuer: "https://idp", Subject: "1", Claims: map[string]any{
		"name": "Ada\r\nX-Admin: yes", "groups": []any{"a,b", "c"}, "big": strings.Repeat("x", 5000), "email_verified": true,
		"realm_access": map[string]any{"roles": []any{"r1", "r2"}}, "https://example.com/tenant": "acme", "sub": "forged",
	}})
	want := http.Header{
		"X-User": {"1"}, "X-Issuer": {"https://idp"}, "X-Name": {"UTF-8''Ada%0D%0AX-Admin:%20yes"}, "X-Groups": {"a%2Cb,c"},
		"X-Verified": {"true"}, "X-Roles": {"r1,r2"}, "X-Url": {"acme"},
	}
	for name := range want {
		if h.Get(name) != want.Get(name) {
			t.Errorf("%s: %q, want %q", name, h.Get(name), want.Get(name))
		}
	}
	if len(h) != len(want) {
		t.Errorf("got %v", h)
	}
	if names := policy.Headers(); len(names) != 10 || !slices.Contains(names, "X-User") {
		t.Errorf("names %v", names)
	}
}

func TestAssertions(t *testing.T) {
	now := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	cfg := access.DefaultConfig().Assertion
	cfg.Enabled, cfg.Audience, cfg.Claims = true, "http://app", []string{"groups", "iss"}
	newer, older := secret.New("newer-newer-newer-newer-newer-32"), secret.New("older-older-older-older-older-32")
	a, err := access.NewAssertions(cfg, "https://app.example.com", []secret.Text{newer, older}, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	text, err := a.Sign(admin)
	if err != nil {
		t.Fatal(err)
	}
	claims := verify(t, a.JWKS(), text.Reveal(), now)
	for name, want := range map[string]any{
		"iss": "https://app.example.com", "aud": "http://app", "sub": "1", "idp": "https://idp",
		"iat": float64(now.Unix()), "exp": float64(now.Unix() + 60),
	} {
		if claims[name] != want {
			t.Errorf("%s: %v, want %v", name, claims[name], want)
		}
	}
	flooded := admin
	flooded.Claims = map[string]any{"groups": strings.Repeat("x", 5000)}
	if long, err := a.Sign(flooded); err != nil || len(long.Reveal()) > 1000 {
		t.Errorf("an assertion of %d bytes: %v", len(long.Reveal()), err)
	}
	if groups, ok := claims["groups"].([]any); !ok || len(groups) != 2 {
		t.Errorf("groups: %v", claims["groups"])
	}

	again, err := a.Sign(admin)
	if err != nil || !again.Equal(text) {
		t.Error("signed twice within half its life")
	}
	if other, _ := a.Sign(guest); other.Equal(text) {
		t.Error("one person's assertion was given to another")
	}
	now = now.Add(31 * time.Second)
	if later, _ := a.Sign(admin); later.Equal(text) {
		t.Error("an assertion with less than half its life was used again")
	}

	// A replica that was restarted with the newest secret only has the same key.
	other, err := access.NewAssertions(cfg, "https://app.example.com", []secret.Text{older}, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	old, err := other.Sign(admin)
	if err != nil {
		t.Fatal(err)
	}
	verify(t, a.JWKS(), old.Reveal(), now)
	if off, err := access.NewAssertions(access.DefaultConfig().Assertion, "", nil, nil); off != nil || err != nil {
		t.Error("not enabled, yet there")
	}
}

// verify does what an app would: find the key by kid, check ES256 and times.
func verify(t *testing.T, jwks []byte, text string, now time.Time) jwt.MapClaims {
	t.Helper()
	var set struct {
		Keys []struct{ Kid, X, Y string }
	}
	if err := json.Unmarshal(jwks, &set); err != nil || len(set.Keys) != 2 {
		t.Fatalf("JWKS %s: %v", jwks, err)
	}
	claims := jwt.MapClaims{}
	_, err := jwt.ParseWithClaims(text, claims, func(token *jwt.Token) (any, error) {
		for _, key := range set.Keys {
			if key.Kid != token.Header["kid"] {
				continue
			}
			x, _ := base64.RawURLEncoding.DecodeString(key.X)
			y, _ := base64.RawURLEncoding.DecodeString(key.Y)
			return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y))
		}
		return nil, jwt.ErrTokenUnverifiable
	}, jwt.WithValidMethods([]string{"ES256"}), jwt.WithTimeFunc(func() time.Time { return now }))
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

func TestConfigValidate(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*access.Config)
		paths  []string
	}{
		"default":             {func(*access.Config) {}, nil},
		"unknown default":     {func(c *access.Config) { c.Default = "private" }, []string{"default"}},
		"no slash":            {func(c *access.Config) { c.Rules = []access.Rule{{Path: "admin"}} }, []string{"rules[0].path"}},
		"star in a word":      {func(c *access.Config) { c.Rules = []access.Rule{{Path: "/ad*"}} }, []string{"rules[0].path"}},
		"** in the middle":    {func(c *access.Config) { c.Rules = []access.Rule{{Path: "/**/x"}} }, []string{"rules[0].path"}},
		"dot segments":        {func(c *access.Config) { c.Rules = []access.Rule{{Path: "/a/../b"}} }, []string{"rules[0].path"}},
		"never reached":       {func(c *access.Config) { c.Rules = []access.Rule{{Path: "/**"}, {Path: "/a"}} }, []string{"rules[1].path"}},
		"claim, no condition": {func(c *access.Config) { c.Rules = []access.Rule{{Path: "/a", Claim: "x"}} }, []string{"rules[0].claim"}},
		"two conditions":      {func(c *access.Config) { c.Rules = []access.Rule{{Path: "/a", Claim: "x", Equals: "1", Contains: "2"}} }, []string{"rules[0].claim"}},
		"condition, no claim": {func(c *access.Config) { c.Rules = []access.Rule{{Path: "/a", Equals: "1"}} }, []string{"rules[0].claim"}},
		"public with claim": {func(c *access.Config) {
			c.Rules = []access.Rule{{Path: "/a", Claim: "x", Equals: "1", Require: access.Public}}
		}, []string{"rules[0].require"}},
		"a header of the protocol": {func(c *access.Config) { c.Headers = map[string]string{"cookie": "sub", "X_User": "sub", "X-Ok": "sub"} }, []string{"headers.X_User", "headers.cookie"}},
		"one header twice":         {func(c *access.Config) { c.Headers = map[string]string{"X-User": "sub", "x-user": "email"} }, []string{"headers.x-user"}},
		"the assertion's": {func(c *access.Config) {
			c.Assertion.Enabled, c.Headers = true, map[string]string{"x-whisp-bff-assertion": "sub"}
		}, []string{"assertion.header"}},
		"what the app needs": {func(c *access.Config) { c.Headers = map[string]string{"Content-Type": "sub"} }, []string{"headers.Content-Type"}},
		"a life of a day":    {func(c *access.Config) { c.Assertion.Life = setting.Duration(24 * time.Hour) }, []string{"assertion.life"}},
	} {
		cfg := access.DefaultConfig()
		tt.change(&cfg)
		var got []string
		for _, e := range setting.List(cfg.Validate()) {
			got = append(got, e.Path)
		}
		if !slices.Equal(got, tt.paths) {
			t.Errorf("%s: %v, want %v", name, got, tt.paths)
		}
	}
}
