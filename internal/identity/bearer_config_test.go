package identity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// wrong lists the paths and problems of an error, in order of their text.
func wrong(err error) []string {
	var all []string
	for _, e := range setting.List(err) {
		all = append(all, strings.TrimSpace(e.Path+" "+e.Problem))
	}
	slices.Sort(all)
	return all
}

func TestBearerConfigValidate(t *testing.T) {
	none := setting.URL{}
	long := setting.SecretValue(strings.Repeat("s", 47))
	alb := identity.BearerConfig{Preset: "aws_alb", Issuer: issuer, LoadBalancers: []string{albARN}, Audience: []string{audience}}
	for name, tt := range map[string]struct {
		cfg  identity.BearerConfig
		want []string
	}{
		"good":                 {trusts(nil), nil},
		"discovery":            {trusts(func(c *identity.BearerConfig) { c.JWKSURL = none }), nil},
		"loopback":             {trusts(func(c *identity.BearerConfig) { c.Issuer, c.JWKSURL = "http://127.0.0.1:9000", none }), nil},
		"empty":                {identity.BearerConfig{}, []string{"audience is required", "issuer is required"}},
		"plain http":           {trusts(func(c *identity.BearerConfig) { c.Issuer, c.JWKSURL = "http://login.example.com", none }), []string{"issuer is plain http"}},
		"plain http keys":      {trusts(func(c *identity.BearerConfig) { c.JWKSURL = mustURL("http://login.example.com/jwks") }), []string{"jwks_url is plain http"}},
		"no address, no keys":  {trusts(func(c *identity.BearerConfig) { c.Issuer, c.JWKSURL = "my-app", none }), []string{"issuer is not an address, and there are no keys"}},
		"no address, but keys": {trusts(func(c *identity.BearerConfig) { c.Issuer = "my-app" }), nil},
		"two kinds of keys":    {trusts(func(c *identity.BearerConfig) { c.PublicKeys = []string{"x.pem"} }), []string{"has keys of several kinds"}},
		"HS256 with a key set": {trusts(func(c *identity.BearerConfig) { c.Algorithms = []string{"RS256", "HS256"} }), []string{"algorithms has one that these keys cannot be used with"}},
		"alg none":             {trusts(func(c *identity.BearerConfig) { c.Algorithms = []string{"none"} }), []string{"algorithms has one that these keys cannot be used with"}},
		"RS256 with a secret": {trusts(func(c *identity.BearerConfig) {
			c.JWKSURL, c.HMACSecrets, c.Algorithms = none, []setting.Secret{long}, []string{"RS256"}
		}), []string{"algorithms has one that these keys cannot be used with"}},
		"secret": {trusts(func(c *identity.BearerConfig) { c.JWKSURL, c.HMACSecrets = none, []setting.Secret{long} }), nil},
		"31 bytes": {trusts(func(c *identity.BearerConfig) {
			c.JWKSURL, c.HMACSecrets = none, []setting.Secret{long, setting.SecretValue(strings.Repeat("s", 31))}
		}), []string{"hmac_secrets[1] is too short"}},
		"47 bytes for HS384": {trusts(func(c *identity.BearerConfig) {
			c.JWKSURL, c.HMACSecrets, c.Algorithms = none, []setting.Secret{long}, []string{"HS384"}
		}), []string{"hmac_secrets[0] is too short"}},
		"public key as secret": {trusts(func(c *identity.BearerConfig) {
			c.JWKSURL, c.HMACSecrets = none, []setting.Secret{setting.SecretValue(publicPEM(ecKey().Public()))}
		}), []string{"hmac_secrets[0] is a key in PEM, no secret"}},
		"header and cookie": {trusts(func(c *identity.BearerConfig) { c.Header, c.Cookie = "X-Token", "token" }), []string{"cookie stands beside header"}},
		"bad header":        {trusts(func(c *identity.BearerConfig) { c.Header = "X Token" }), []string{"header is not the name of a header"}},
		"reserved header":   {trusts(func(c *identity.BearerConfig) { c.Header = "cookie" }), []string{"header means something else"}},
		"bad cookie":        {trusts(func(c *identity.BearerConfig) { c.Cookie = "a;b" }), []string{"cookie is not the name of a cookie"}},
		"audience twice":    {trusts(func(c *identity.BearerConfig) { c.AnyAudience = true }), []string{"any_audience contradicts audience"}},
		"empty audience":    {trusts(func(c *identity.BearerConfig) { c.Audience = []string{""} }), []string{"audience has an empty entry"}},
		"no end":            {trusts(func(c *identity.BearerConfig) { c.ExpOptional = true }), []string{"exp_optional is set without max_age"}},
		"rules": {trusts(func(c *identity.BearerConfig) {
			c.RequiredClaims = []identity.RequiredClaim{{Claim: "a"}, {Equals: "b"}, {Claim: "a", Equals: "b", Contains: "c"}}
		}), []string{"required_claims[0] needs equals or contains", "required_claims[1].claim is required", "required_claims[2] needs equals or contains"}},
		"durations": {trusts(func(c *identity.BearerConfig) {
			c.ClockLeeway, c.KeyInterval, c.KeyRefresh, c.KeyStale = setting.Duration(time.Hour), setting.Duration(time.Second), setting.Duration(2*time.Hour), setting.Duration(time.Hour)
		}), []string{"clock_leeway is out of range", "key_interval is out of range", "key_stale is below key_refresh"}},
		"unknown preset":     {identity.BearerConfig{Preset: "okta"}, []string{"preset is not known"}},
		"foreign preset key": {trusts(func(c *identity.BearerConfig) { c.Tenant = tenant }), []string{"tenant belongs to another preset"}},
		"cloudflare":         {identity.BearerConfig{Preset: "cloudflare_access", TeamDomain: "https://acme.cloudflareaccess.com", Audience: []string{"x"}}, nil},
		"cloudflare, bare":   {identity.BearerConfig{Preset: "cloudflare_access"}, []string{"audience is required", "issuer is required", "team_domain is required"}},
		"cloudflare, a path": {identity.BearerConfig{Preset: "cloudflare_access", TeamDomain: "evil.example/x", Audience: []string{"x"}}, []string{"issuer is required", "team_domain is required"}},
		"google":             {identity.BearerConfig{Preset: "google_iap", Audience: []string{"/projects/1/apps/x"}}, nil},
		"google, bare":       {identity.BearerConfig{Preset: "google_iap"}, []string{"audience is required"}},
		"azure":              {identity.BearerConfig{Preset: "azure_easy_auth", Tenant: tenant, Audience: []string{"x"}}, nil},
		"azure, common":      {identity.BearerConfig{Preset: "azure_easy_auth", Tenant: "common", Audience: []string{"x"}}, []string{"issuer is required", "tenant is required"}},
		"oauth2-proxy":       {identity.BearerConfig{Preset: "oauth2_proxy", Issuer: issuer, Audience: []string{"x"}}, nil},
		"oauth2-proxy, bare": {identity.BearerConfig{Preset: "oauth2_proxy"}, []string{"audience is required", "issuer is required"}},
		"alb":                {alb, nil},
		"alb, bare":          {identity.BearerConfig{Preset: "aws_alb"}, []string{"audience is required", "issuer is required", "load_balancers is required"}},
		"alb, ARNs": {identity.BearerConfig{Preset: "aws_alb", Issuer: issuer, Audience: []string{"x"}, LoadBalancers: []string{
			albARN, strings.Replace(albARN, "eu-central-1", "evil.example/#", 1), strings.Replace(albARN, "eu-central-1", "us-east-1", 1), strings.Replace(albARN, "app/", "net/", 1),
		}}, []string{"load_balancers[1] is not the ARN of an application load balancer", "load_balancers[2] is in another region than the first", "load_balancers[3] is not the ARN of an application load balancer"}},
		"alb, any audience": {identity.BearerConfig{Preset: "aws_alb", Issuer: issuer, LoadBalancers: []string{albARN}, AnyAudience: true}, []string{"any_audience does not go with aws_alb"}},
		"alb, keys":         {func() identity.BearerConfig { c := alb; c.JWKSURL = mustURL(issuer); return c }(), []string{"preset has its own way to find keys"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := wrong(tt.cfg.Validate()); !slices.Equal(got, tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			for _, e := range setting.List(tt.cfg.Validate()) {
				if e.Fix == "" {
					t.Errorf("%s says no fix", e.Path)
				}
			}
		})
	}
}

func TestBearerListValidate(t *testing.T) {
	own := trusts(func(c *identity.BearerConfig) { c.Header = "X-Token" })
	for name, tt := range map[string]struct {
		list []identity.BearerConfig
		want []string
	}{
		"none":            {nil, []string{"is empty"}},
		"two places":      {[]identity.BearerConfig{trusts(nil), own}, nil},
		"one place twice": {[]identity.BearerConfig{trusts(nil), own, trusts(func(c *identity.BearerConfig) { c.Header = "authorization" })}, []string{"[2] has issuer and place of another"}},
		"a bad one":       {[]identity.BearerConfig{own, {Issuer: "x", JWKSURL: mustURL(issuer)}}, []string{"[1].audience is required"}},
	} {
		if got := wrong(identity.ValidateBearer(tt.list)); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

func TestNewBearerReadsFiles(t *testing.T) {
	deps := identity.Deps{Logger: slog.New(slog.DiscardHandler), Clock: time.Now, Metrics: prometheus.NewRegistry()}
	bad := filepath.Join(t.TempDir(), "bad.pem")
	if err := os.WriteFile(bad, []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*identity.BearerConfig){
		"no key file":  func(c *identity.BearerConfig) { c.JWKSURL, c.PublicKeys = setting.URL{}, []string{"missing.pem"} },
		"bad key file": func(c *identity.BearerConfig) { c.JWKSURL, c.PublicKeys = setting.URL{}, []string{bad} },
		"no CA file":   func(c *identity.BearerConfig) { c.CAFile = "missing.pem" },
		"bad CA file":  func(c *identity.BearerConfig) { c.CAFile = bad },
		"secret unread": func(c *identity.BearerConfig) {
			c.JWKSURL, c.HMACSecrets = setting.URL{}, []setting.Secret{{File: "x"}}
		},
		"not valid": func(c *identity.BearerConfig) { c.Audience = nil },
	} {
		deps.Metrics = prometheus.NewRegistry()
		if _, err := identity.NewBearer([]identity.BearerConfig{trusts(change)}, deps); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := identity.NewBearer([]identity.BearerConfig{trusts(nil)}, identity.Deps{}); err == nil {
		t.Error("no clock: no error")
	}
}

func TestIntrospectionConfigValidate(t *testing.T) {
	small := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	pkcs8 := setting.SecretValue(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(small))})))
	signs := func(c *identity.IntrospectionConfig) {
		c.ClientAuth, c.ClientSecret, c.PrivateKey = "private_key_jwt", setting.Secret{}, pkcs8
	}
	for name, tt := range map[string]struct {
		change func(*identity.IntrospectionConfig)
		want   []string
	}{
		"good":           {nil, nil},
		"cookie":         {func(c *identity.IntrospectionConfig) { c.Cookie = "token" }, nil},
		"private key":    {signs, nil},
		"defaults alone": {func(c *identity.IntrospectionConfig) { *c = identity.DefaultIntrospectionConfig() }, []string{"audience is required", "client_id is required", "client_secret is required", "issuer is required", "url is required"}},
		"plain http":     {func(c *identity.IntrospectionConfig) { c.URL = mustURL("http://login.example.com/i") }, []string{"url is plain http"}},
		"loopback":       {func(c *identity.IntrospectionConfig) { c.URL = mustURL("http://127.0.0.1:9000/i") }, nil},
		"both places":    {func(c *identity.IntrospectionConfig) { c.Header, c.Cookie = "X-Token", "token" }, []string{"cookie stands beside header"}},
		"bad cookie":     {func(c *identity.IntrospectionConfig) { c.Cookie = "a=b" }, []string{"cookie is not the name of a cookie"}},
		"bad header":     {func(c *identity.IntrospectionConfig) { c.Header = "" }, []string{"header is not the name of a header"}},
		"reserved":       {func(c *identity.IntrospectionConfig) { c.Header = "X-Forwarded-For" }, []string{"header means something else"}},
		"unknown auth":   {func(c *identity.IntrospectionConfig) { c.ClientAuth = "none" }, []string{"client_auth is not known"}},
		"both secrets":   {func(c *identity.IntrospectionConfig) { c.PrivateKey = pkcs8 }, []string{"private_key is not used"}},
		"both keys":      {func(c *identity.IntrospectionConfig) { signs(c); c.ClientSecret = pkcs8 }, []string{"client_secret is not used"}},
		"no key":         {func(c *identity.IntrospectionConfig) { signs(c); c.PrivateKey = setting.Secret{} }, []string{"private_key is required"}},
		"no PEM":         {func(c *identity.IntrospectionConfig) { signs(c); c.PrivateKey = setting.SecretValue("x") }, []string{"private_key cannot be used"}},
		"a public key": {func(c *identity.IntrospectionConfig) {
			signs(c)
			c.PrivateKey = setting.SecretValue(publicPEM(ecKey().Public()))
		}, []string{"private_key cannot be used"}},
		"other alg":     {func(c *identity.IntrospectionConfig) { signs(c); c.Algorithm = "RS256" }, []string{"private_key cannot be used"}},
		"alg none":      {func(c *identity.IntrospectionConfig) { signs(c); c.Algorithm = "none" }, []string{"private_key cannot be used"}},
		"any audience":  {func(c *identity.IntrospectionConfig) { c.AnyAudience = true }, []string{"any_audience contradicts audience and client_ids"}},
		"empty entries": {func(c *identity.IntrospectionConfig) { c.Scopes, c.ClientIDs = []string{""}, []string{""} }, []string{"client_ids has an empty entry", "scopes has an empty entry"}},
		"no subject":    {func(c *identity.IntrospectionConfig) { c.SubjectClaim = "" }, []string{"subject_claim is empty"}},
		"numbers": {func(c *identity.IntrospectionConfig) {
			c.CacheFor, c.RefusedFor, c.Timeout, c.CacheSize = setting.Duration(time.Hour), setting.Duration(time.Hour), 0, 0
		}, []string{"cache_for is out of range", "cache_size is out of range", "refused_for is out of range", "timeout is out of range"}},
	} {
		if got := wrong(introspects(tt.change).Validate()); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q\nwant %q", name, got, tt.want)
		}
	}
}
