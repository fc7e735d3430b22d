package identity

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// BearerConfig is one issuer whose JWTs are trusted; the section identity.bearer
// is a list of them. What is left out, or zero, takes the default of
// [DefaultBearerConfig], after what the preset fills in.
type BearerConfig struct {
	Preset string `yaml:"preset" doc:"fills in location, issuer, keys and algorithms for a product: cloudflare_access, google_iap, aws_alb, azure_easy_auth or oauth2_proxy; empty fills in nothing"`

	TeamDomain    string   `yaml:"team_domain" doc:"cloudflare_access: the team's domain, like acme.cloudflareaccess.com; required there"`
	LoadBalancers []string `yaml:"load_balancers" doc:"aws_alb: ARNs of the load balancers whose assertions are accepted, all in one region; required there"`
	Tenant        string   `yaml:"tenant" doc:"azure_easy_auth: the directory (tenant) id, a GUID; required there"`

	Header string `yaml:"header" doc:"request header that carries the token; Authorization (the default) takes the form Bearer <token> and leaves tokens of other issuers alone, any other header is exclusively ours"`
	Cookie string `yaml:"cookie" doc:"cookie that carries the token, also split into name.0, name.1 and so on; instead of header"`

	Issuer        string           `yaml:"issuer" doc:"the iss of the tokens, to the letter; required unless the preset knows it; also the address of discovery if neither jwks_url nor keys are given"`
	JWKSURL       setting.URL      `yaml:"jwks_url" doc:"address of the issuer's key set, instead of discovery; https, or http on a loopback address"`
	PublicKeys    []string         `yaml:"public_key_files" doc:"PEM files with public keys or certificates, instead of discovery; all of them are accepted"`
	PublicKeyPEMs []string         `yaml:"public_keys" doc:"public keys or certificates as PEM text, instead of discovery; all of them are accepted"`
	HMACSecrets   []setting.Secret `yaml:"hmac_secrets" doc:"secrets shared with an app that signs assertions itself with HS256, HS384 or HS512, at least 32, 48 or 64 bytes, instead of discovery; all of them are accepted"`
	CAFile        string           `yaml:"ca_file" doc:"PEM file with the certificates that may sign the issuer's; empty means the system's"`

	Audience          []string `yaml:"audience" doc:"the token's aud must have one of these; required unless any_audience; for aws_alb the client ids of the load balancer's OIDC action"`
	AnyAudience       bool     `yaml:"any_audience" doc:"accept tokens made for anybody: whoever gets a token of this issuer for another service can use it here"`
	AuthorizedParties []string `yaml:"authorized_parties" doc:"the token's azp must be one of these; without it, azp matters only for a token with audiences besides ours, and must then be one of audience"`
	Algorithms        []string `yaml:"algorithms" doc:"signature algorithms that are accepted; RS256, ES256, PS256 and EdDSA by default, HS256 with hmac_secrets"`
	Types             []string `yaml:"types" doc:"values of the typ header that are accepted, like at+jwt; empty accepts all but those of other purposes, such as logout+jwt"`

	RequiredClaims []RequiredClaim  `yaml:"required_claims" doc:"claims that a token must have; all of them"`
	ClockLeeway    setting.Duration `yaml:"clock_leeway" doc:"how far the issuer's clock may be off; 1ms to 5m, 30s by default"`
	MaxAge         setting.Duration `yaml:"max_age" doc:"longest time since iat; 1s to 365d, 0s does not ask"`
	ExpOptional    bool             `yaml:"exp_optional" doc:"accept tokens that never end; set max_age then"`

	KeyInterval setting.Duration `yaml:"key_interval" doc:"shortest time between two fetches of keys that tokens with unknown keys cause; 10s to 1h, 1m by default"`
	KeyRefresh  setting.Duration `yaml:"key_refresh" doc:"keys are fetched again when they are this old, and withdrawn ones forgotten; 1m to 24h, 10m by default"`
	KeyStale    setting.Duration `yaml:"key_stale" doc:"how long keys are used while they cannot be fetched again; 1m to 24h and not below key_refresh, 1h by default"`
	Timeout     setting.Duration `yaml:"timeout" doc:"longest time one fetch of keys may take, and a request wait for it; 100ms to 30s, 5s by default"`
}

// RequiredClaim is a condition on one claim; exactly one of Equals and Contains
// is set.
type RequiredClaim struct {
	Claim    string `yaml:"claim" doc:"name of the claim, or a path like realm_access.roles; a claim of exactly this name wins; required"`
	Equals   string `yaml:"equals" doc:"the claim is this text, number, true or false; this or contains is required"`
	Contains string `yaml:"contains" doc:"the claim is a list with this element, or a text with this among its words"`
}

// DefaultBearerConfig returns the defaults; Issuer and Audience have none.
func DefaultBearerConfig() BearerConfig {
	return BearerConfig{
		ClockLeeway: setting.Duration(30 * time.Second),
		KeyInterval: setting.Duration(time.Minute),
		KeyRefresh:  setting.Duration(10 * time.Minute),
		KeyStale:    setting.Duration(time.Hour),
		Timeout:     setting.Duration(5 * time.Second),
	}
}

const authorization = "Authorization"

var (
	publicAlgorithms = []string{"RS256", "ES256", "PS256", "EdDSA", "RS384", "RS512", "PS384", "PS512", "ES384", "ES512"}
	hmacAlgorithms   = []string{"HS256", "HS384", "HS512"}
)

// complete fills in what was left out: preset first, then defaults.
func (c BearerConfig) complete() BearerConfig {
	if fill, ok := presets[c.Preset]; ok {
		fill.apply(&c)
	}
	if c.Header == "" && c.Cookie == "" {
		c.Header = authorization
	}
	if len(c.Algorithms) == 0 {
		c.Algorithms = publicAlgorithms[:4]
		if len(c.HMACSecrets) > 0 {
			c.Algorithms = hmacAlgorithms[:1]
		}
	}
	defaults := DefaultBearerConfig()
	for _, d := range []struct {
		value    *setting.Duration
		fallback setting.Duration
	}{
		{&c.ClockLeeway, defaults.ClockLeeway}, {&c.KeyInterval, defaults.KeyInterval},
		{&c.KeyRefresh, defaults.KeyRefresh}, {&c.KeyStale, defaults.KeyStale}, {&c.Timeout, defaults.Timeout},
	} {
		if *d.value == 0 {
			*d.value = d.fallback
		}
	}
	return c
}

// Validate reports everything that is wrong, as [setting.List] takes apart. It
// reads no file and asks nobody.
func (c BearerConfig) Validate() error {
	var problems setting.Problems
	if _, ok := presets[c.Preset]; !ok && c.Preset != "" {
		problems.Addf("preset", "is not known", "write %s, or leave it out", strings.Join(presetNames(), ", "))
		return problems.Err()
	}
	c.validatePresetKeys(&problems)
	c = c.complete()
	c.validateLocation(&problems)
	c.validateKeys(&problems)
	c.validateToken(&problems)
	c.validateDurations(&problems)
	return problems.Err()
}

func (c BearerConfig) validateLocation(problems *setting.Problems) {
	switch {
	case c.Header != "" && c.Cookie != "":
		problems.Add("cookie", "stands beside header", "keep one of the two; for both, list the issuer twice")
	case c.Cookie != "" && !headerName(c.Cookie):
		problems.Add("cookie", "is not the name of a cookie", "write it as the browser shows it")
	case c.Header != "" && !headerName(c.Header):
		problems.Add("header", "is not the name of a header", "write it like X-Forwarded-Access-Token")
	case c.Header != "" && !strings.EqualFold(c.Header, authorization) && reservedHeader(c.Header):
		problems.Add("header", "means something else", "use Authorization or a header of its own")
	}
}

// validateKeys wants exactly one place where keys come from, and algorithms
// that fit it: a public key must never be taken for a shared secret (RFC 8725
// section 3.1).
func (c BearerConfig) validateKeys(problems *setting.Problems) {
	static := len(c.PublicKeys)+len(c.PublicKeyPEMs) > 0
	sources := 0
	for _, given := range []bool{!c.JWKSURL.Empty(), static, len(c.HMACSecrets) > 0} {
		if given {
			sources++
		}
	}
	switch {
	case sources > 1:
		problems.Add("", "has keys of several kinds", "keep one of jwks_url, public keys and hmac_secrets; for more, list another issuer")
	case !c.JWKSURL.Empty() && c.JWKSURL.Scheme != "https" && !c.JWKSURL.Loopback():
		problems.Add("jwks_url", "is plain http", "use https: whoever can change the answer can sign in as anybody")
	case sources == 0 && c.Preset != presetALB && c.Issuer != "":
		var issuer setting.URL
		if err := issuer.UnmarshalText([]byte(c.Issuer)); err != nil {
			problems.Add("issuer", "is not an address, and there are no keys", "write the provider's https URL, or give jwks_url, public keys or hmac_secrets")
		} else if issuer.Scheme != "https" && !issuer.Loopback() {
			problems.Add("issuer", "is plain http", "use https: whoever can change the answer can sign in as anybody")
		}
	}
	allowed := publicAlgorithms
	if len(c.HMACSecrets) > 0 {
		allowed = hmacAlgorithms
	}
	for _, algorithm := range c.Algorithms {
		if !slices.Contains(allowed, algorithm) {
			problems.Addf("algorithms", "has one that these keys cannot be used with", "use only %s", strings.Join(allowed, ", "))
			break
		}
	}
	for i, shared := range c.HMACSecrets {
		path := element("hmac_secrets", i)
		switch text := shared.Text().Reveal(); {
		case !shared.Given():
			problems.Add(path, "is empty", "write {file: …} or {env: …}")
		case strings.Contains(text, "-----BEGIN"):
			problems.Add(path, "is a key in PEM, no secret", "public keys belong into public_keys; anybody may have them")
		case text != "" && len(text) < c.shortestSecret():
			problems.Addf(path, "is too short", "use at least %d bytes, such as the output of: openssl rand -base64 64", c.shortestSecret())
		}
	}
}

// shortestSecret is the output size of the largest hash (RFC 7518 section 3.2), in bytes.
func (c BearerConfig) shortestSecret() int {
	switch {
	case slices.Contains(c.Algorithms, "HS512"):
		return 64
	case slices.Contains(c.Algorithms, "HS384"):
		return 48
	}
	return 32
}

func (c BearerConfig) validateToken(problems *setting.Problems) {
	switch {
	case c.Issuer == "":
		problems.Add("issuer", "is required", "write the iss of the tokens, to the letter")
	case len(c.Issuer) > maxSubject || !plain(c.Issuer) || strings.TrimSpace(c.Issuer) != c.Issuer:
		problems.Addf("issuer", "is not a name", "write up to %d bytes without control characters", maxSubject)
	}
	switch {
	case len(c.Audience) == 0 && !c.AnyAudience:
		problems.Add("audience", "is required", "write the aud of tokens that are made for this site, or any_audience: true")
	case len(c.Audience) > 0 && c.AnyAudience:
		problems.Add("any_audience", "contradicts audience", "keep one of the two")
	}
	validateEntries("audience", c.Audience, problems)
	validateEntries("authorized_parties", c.AuthorizedParties, problems)
	validateEntries("types", c.Types, problems)
	if c.ExpOptional && c.MaxAge == 0 {
		problems.Add("exp_optional", "is set without max_age", "set max_age, or a stolen token works for ever")
	}
	validateRequiredClaims(c.RequiredClaims, problems)
}

// validateEntries refuses an empty text, which a forgotten value looks like.
func validateEntries(path string, list []string, problems *setting.Problems) {
	if slices.Contains(list, "") {
		problems.Add(path, "has an empty entry", "remove it, or write the value")
	}
}

func validateRequiredClaims(list []RequiredClaim, problems *setting.Problems) {
	for i, rule := range list {
		path := element("required_claims", i)
		if rule.Claim == "" || len(rule.Claim) > maxPathBytes {
			problems.Add(path+".claim", "is required", "write the name of a claim, like groups")
		}
		if (rule.Equals == "") == (rule.Contains == "") {
			problems.Add(path, "needs equals or contains", "write exactly one of the two")
		}
	}
}

func (c BearerConfig) validateDurations(problems *setting.Problems) {
	validateRanges(problems, []durationRange{
		{"clock_leeway", c.ClockLeeway, time.Millisecond, 5 * time.Minute},
		{"max_age", c.MaxAge, 0, 365 * 24 * time.Hour},
		{"key_interval", c.KeyInterval, 10 * time.Second, time.Hour},
		{"key_refresh", c.KeyRefresh, time.Minute, 24 * time.Hour},
		{"key_stale", c.KeyStale, time.Minute, 24 * time.Hour},
		{"timeout", c.Timeout, 100 * time.Millisecond, 30 * time.Second},
	})
	if c.KeyStale < c.KeyRefresh {
		problems.Add("key_stale", "is below key_refresh", "keys would be unusable before they are fetched again")
	}
}

type durationRange struct {
	path      string
	value     setting.Duration
	low, high time.Duration
}

func validateRanges(problems *setting.Problems, list []durationRange) {
	for _, d := range list {
		if d.value.D() < d.low || d.value.D() > d.high {
			problems.Addf(d.path, "is out of range", "write a duration from %s to %s", setting.Duration(d.low), setting.Duration(d.high))
		}
	}
}

// element is the path of one element of a list.
func element(list string, i int) string { return list + "[" + strconv.Itoa(i) + "]" }
