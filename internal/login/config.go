package login

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// CallbackPath is where the provider sends the browser back to, on our own
// origin. Register PublicURL's origin + CallbackPath as redirect URI.
const CallbackPath = "/auth/callback"

// Config is the section "login".
type Config struct {
	Issuer               setting.URL       `yaml:"issuer" doc:"URL of the OpenID Provider, exactly as its metadata and tokens write it; https, or http on a loopback address; required"`
	ClientID             string            `yaml:"client_id" doc:"client id that the provider knows this site by; required"`
	ClientSecret         setting.Secret    `yaml:"client_secret" doc:"client secret; leave it out for a public client"`
	TokenEndpointAuth    string            `yaml:"token_endpoint_auth" doc:"how the client secret is sent: basic, post, or auto to use what the provider's metadata says"`
	Scopes               []string          `yaml:"scopes" doc:"scopes to ask for; openid must be one of them, offline_access asks for a refresh token where the provider wants that"`
	Prompt               string            `yaml:"prompt" doc:"prompt parameter such as login or select_account; empty sends none"`
	MaxAge               setting.Duration  `yaml:"max_age" doc:"longest time since the person last authenticated at the provider, checked by auth_time; 0s to 365d, 0s does not ask"`
	ExtraAuthorizeParams map[string]string `yaml:"extra_authorize_params" doc:"more parameters for the authorization request, such as audience or hd; those of the protocol itself are refused"`
	SigningAlgorithms    []string          `yaml:"signing_algorithms" doc:"algorithms an ID token may be signed with: RS256 to RS512, PS256 to PS512, ES256 to ES512, EdDSA"`
	ClaimsFromUserinfo   bool              `yaml:"claims_from_userinfo" doc:"ask the userinfo endpoint when the ID token has no e-mail, or neither a name nor a preferred_username"`
	PostLogoutPath       string            `yaml:"post_logout_path" doc:"path on this site where the provider sends people after logout; register it there"`
	Timeout              setting.Duration  `yaml:"timeout" doc:"longest time one login, refresh or discovery may take at the provider; 1s to 60s"`
	RefreshInterval      setting.Duration  `yaml:"refresh_interval" doc:"how often the provider's metadata and keys are fetched again; 1m to 24h"`
	ClockLeeway          setting.Duration  `yaml:"clock_leeway" doc:"how far the provider's clock may be off when times in tokens are checked; 0s to 5m"`
	CAFile               string            `yaml:"ca_file" doc:"PEM file with the certificates that may sign the provider's; empty means the system's"`
}

// DefaultConfig returns the defaults; Issuer and ClientID have none.
func DefaultConfig() Config {
	return Config{
		TokenEndpointAuth:  "auto",
		Scopes:             []string{"openid", "profile", "email"},
		SigningAlgorithms:  []string{"RS256", "ES256", "PS256", "EdDSA"},
		ClaimsFromUserinfo: true,
		PostLogoutPath:     "/",
		Timeout:            setting.Duration(10 * time.Second),
		RefreshInterval:    setting.Duration(time.Hour),
		ClockLeeway:        setting.Duration(30 * time.Second),
	}
}

// safeAlgorithms can be verified with a public key. "none" and the HMAC family
// (whose secret is the client's) are left out for good: RFC 8725 section 3.1.
var safeAlgorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// protocolParams are what Begin itself sends, or would break what it sends.
var protocolParams = []string{
	"response_type", "response_mode", "client_id", "client_secret", "redirect_uri", "scope", "state", "nonce",
	"code_challenge", "code_challenge_method", "request", "request_uri", "prompt", "max_age", "id_token_hint",
}

// Validate reports everything that is wrong, as [setting.List] takes apart. It
// reads no file and asks nobody.
func (c Config) Validate() error {
	var problems setting.Problems
	c.validateClient(&problems)
	c.validateRequest(&problems)
	for _, d := range []struct {
		path      string
		value     setting.Duration
		low, high time.Duration
	}{
		{"timeout", c.Timeout, time.Second, time.Minute},
		{"refresh_interval", c.RefreshInterval, time.Minute, 24 * time.Hour},
		{"clock_leeway", c.ClockLeeway, 0, 5 * time.Minute},
		{"max_age", c.MaxAge, 0, 365 * 24 * time.Hour},
	} {
		if d.value.D() < d.low || d.value.D() > d.high {
			problems.Addf(d.path, "is out of range", "write a duration from %s to %s", setting.Duration(d.low), setting.Duration(d.high))
		}
	}
	if c.PostLogoutPath == "" || SafeReturnTo(c.PostLogoutPath) != c.PostLogoutPath {
		problems.Add("post_logout_path", "is not a path on this site", `write it like "/" or "/goodbye"`)
	}
	return problems.Err()
}

func (c Config) validateClient(problems *setting.Problems) {
	switch {
	case c.Issuer.Empty():
		problems.Add("issuer", "is required", "write the provider's URL, such as https://login.example.com/realms/acme")
	case c.Issuer.Scheme != "https" && !c.Issuer.Loopback():
		problems.Add("issuer", "uses plain http", "use https; http is only safe on a loopback address such as 127.0.0.1")
	}
	if strings.TrimSpace(c.ClientID) == "" {
		problems.Add("client_id", "is required", "register this site at the provider and write the client id it gave")
	}
	if !slices.Contains([]string{"auto", "basic", "post"}, c.TokenEndpointAuth) {
		problems.Add("token_endpoint_auth", "is not known", "write auto, basic or post")
	}
	if len(c.SigningAlgorithms) == 0 {
		problems.Add("signing_algorithms", "is empty", "leave it out for the default, or list at least one")
	}
	for _, algorithm := range c.SigningAlgorithms {
		if !slices.Contains(safeAlgorithms, algorithm) {
			problems.Addf("signing_algorithms", "has an algorithm that is not allowed", "use only %s", strings.Join(safeAlgorithms, ", "))
			break
		}
	}
}

func (c Config) validateRequest(problems *setting.Problems) {
	if !slices.Contains(c.Scopes, "openid") {
		problems.Add("scopes", "lacks openid", "add openid; without it the provider gives no ID token")
	}
	for _, scope := range c.Scopes {
		if scope == "" || strings.ContainsFunc(scope, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
			problems.Add("scopes", "has an entry that is no scope", "list them one by one, without spaces or quotes")
			break
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.ExtraAuthorizeParams)) {
		if name == "" || slices.Contains(protocolParams, strings.ToLower(name)) {
			problems.Add("extra_authorize_params."+name, "belongs to the protocol", "take it out; prompt and max_age have keys of their own")
		}
	}
	switch c.Prompt {
	case "", "login", "consent", "select_account", "login consent", "select_account consent", "create":
	default:
		// "none" would make every first login fail.
		problems.Add("prompt", "is not known", "write login, consent, select_account or create, or leave it out")
	}
}
