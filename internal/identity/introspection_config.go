package identity

import (
	"strings"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// IntrospectionConfig is the section "identity.introspection".
type IntrospectionConfig struct {
	URL    setting.URL `yaml:"url" doc:"the provider's introspection endpoint; https, or http on a loopback address; required"`
	Issuer string      `yaml:"issuer" doc:"who names the people, as the provider writes its iss; part of every account's key, so never change it; required"`
	Header string      `yaml:"header" doc:"request header that carries the token; Authorization takes the form Bearer <token> and leaves JWTs of other issuers alone, any other header is exclusively ours"`
	Cookie string      `yaml:"cookie" doc:"cookie that carries the token, also split into name.0, name.1 and so on; instead of header"`

	ClientID     string         `yaml:"client_id" doc:"client id that the provider knows us by at this endpoint; required"`
	ClientAuth   string         `yaml:"client_auth" doc:"how we authenticate there: basic, post or private_key_jwt"`
	ClientSecret setting.Secret `yaml:"client_secret" doc:"client secret for basic and post"`
	PrivateKey   setting.Secret `yaml:"private_key" doc:"private key in PEM for private_key_jwt (RFC 7523): RSA from 2048 bits, EC or Ed25519"`
	KeyID        string         `yaml:"key_id" doc:"kid of that key, as registered at the provider; empty sends none"`
	Algorithm    string         `yaml:"algorithm" doc:"algorithm of the client assertion; empty takes RS256, the one of the EC key's curve, or EdDSA"`
	AssertionAud string         `yaml:"assertion_audience" doc:"aud of the client assertion; empty takes url"`

	Audience       []string        `yaml:"audience" doc:"the answer's aud must have one of these; this, client_ids or any_audience is required"`
	ClientIDs      []string        `yaml:"client_ids" doc:"the answer's client_id, the client that the token was given to, must be one of these"`
	AnyAudience    bool            `yaml:"any_audience" doc:"accept tokens made for anybody; without it, audience or client_ids is required"`
	Scopes         []string        `yaml:"scopes" doc:"scopes that the token must have; all of them"`
	RequiredClaims []RequiredClaim `yaml:"required_claims" doc:"members that the answer must have; all of them"`
	SubjectClaim   string          `yaml:"subject_claim" doc:"member of the answer that names the person: unique for ever, never an e-mail address"`

	ClockLeeway setting.Duration `yaml:"clock_leeway" doc:"how far the provider's clock may be off; 0s to 5m"`
	CacheFor    setting.Duration `yaml:"cache_for" doc:"how long a positive answer is used again, never beyond its exp: a revoked token works that long; 0s to 5m, 0s asks every time"`
	RefusedFor  setting.Duration `yaml:"refused_for" doc:"how long a negative answer is used again; 0s to 1m"`
	CacheSize   int              `yaml:"cache_size" doc:"how many answers are kept; 1 to 1000000"`
	Timeout     setting.Duration `yaml:"timeout" doc:"longest time one question may take; 100ms to 30s"`
	CAFile      string           `yaml:"ca_file" doc:"PEM file with the certificates that may sign the provider's; empty means the system's"`
}

// DefaultIntrospectionConfig returns the defaults; URL, Issuer and the client have none.
func DefaultIntrospectionConfig() IntrospectionConfig {
	return IntrospectionConfig{
		Header:       authorization,
		ClientAuth:   authBasic,
		SubjectClaim: "sub",
		ClockLeeway:  setting.Duration(30 * time.Second),
		CacheFor:     setting.Duration(30 * time.Second),
		RefusedFor:   setting.Duration(5 * time.Second),
		CacheSize:    10_000,
		Timeout:      setting.Duration(3 * time.Second),
	}
}

const (
	authBasic      = "basic"
	authPost       = "post"
	authPrivateKey = "private_key_jwt"
)

// at is where the token stands; a cookie wins over the default header.
func (c IntrospectionConfig) at() place { return placeOf(c.Header, c.Cookie) }

// Validate reports everything that is wrong, as [setting.List] takes apart. It
// reads no file and asks nobody.
func (c IntrospectionConfig) Validate() error {
	var problems setting.Problems
	switch {
	case c.URL.Empty():
		problems.Add("url", "is required", "write the introspection_endpoint of the provider's metadata")
	case c.URL.Scheme != "https" && !c.URL.Loopback():
		problems.Add("url", "is plain http", "use https: tokens and the client secret are sent there")
	}
	if c.Issuer == "" || len(c.Issuer) > maxSubject || !plain(c.Issuer) || strings.TrimSpace(c.Issuer) != c.Issuer {
		problems.Addf("issuer", "is required", "write the provider's iss, to the letter; up to %d bytes", maxSubject)
	}
	c.validateLocation(&problems)
	c.validateClient(&problems)
	c.validateDemands(&problems)
	validateRanges(&problems, []durationRange{
		{"clock_leeway", c.ClockLeeway, 0, 5 * time.Minute},
		{"cache_for", c.CacheFor, 0, 5 * time.Minute},
		{"refused_for", c.RefusedFor, 0, time.Minute},
		{"timeout", c.Timeout, 100 * time.Millisecond, 30 * time.Second},
	})
	if c.CacheSize < 1 || c.CacheSize > 1_000_000 {
		problems.Add("cache_size", "is out of range", "write a number from 1 to 1000000")
	}
	return problems.Err()
}

func (c IntrospectionConfig) validateLocation(problems *setting.Problems) {
	switch at := c.at(); {
	case c.Cookie != "" && c.Header != "" && !strings.EqualFold(c.Header, authorization):
		problems.Add("cookie", "stands beside header", "keep one of the two")
	case c.Cookie != "" && !headerName(c.Cookie):
		problems.Add("cookie", "is not the name of a cookie", "write it as the browser shows it")
	case c.Cookie == "" && !headerName(c.Header):
		problems.Add("header", "is not the name of a header", "write it like X-Forwarded-Access-Token")
	case c.Cookie == "" && !at.shared() && reservedHeader(c.Header):
		problems.Add("header", "means something else", "use Authorization or a header of its own")
	}
}

func (c IntrospectionConfig) validateClient(problems *setting.Problems) {
	if strings.TrimSpace(c.ClientID) == "" || !plain(c.ClientID) {
		problems.Add("client_id", "is required", "write the client id that may use the endpoint")
	}
	switch c.ClientAuth {
	case authBasic, authPost:
		if !c.ClientSecret.Given() {
			problems.Add("client_secret", "is required", "write {file: …} or {env: …}; the endpoint must not answer to everybody (RFC 7662 section 2.1)")
		}
		if c.PrivateKey.Given() {
			problems.Add("private_key", "is not used", "remove it, or set client_auth to private_key_jwt")
		}
	case authPrivateKey:
		if !c.PrivateKey.Given() {
			problems.Add("private_key", "is required", "write {file: …} with the private key in PEM")
		} else if text := c.PrivateKey.Text(); !text.Empty() {
			if _, err := readClientKey(c); err != nil {
				problems.Add("private_key", "cannot be used", err.Error())
			}
		}
		if c.ClientSecret.Given() {
			problems.Add("client_secret", "is not used", "remove it, or set client_auth to basic or post")
		}
	default:
		problems.Add("client_auth", "is not known", "write basic, post or private_key_jwt")
	}
}

func (c IntrospectionConfig) validateDemands(problems *setting.Problems) {
	demands := len(c.Audience)+len(c.ClientIDs) > 0
	switch {
	case !demands && !c.AnyAudience:
		problems.Add("audience", "is required", "write audience or client_ids of tokens that are made for this site, or any_audience: true")
	case demands && c.AnyAudience:
		problems.Add("any_audience", "contradicts audience and client_ids", "keep one of them")
	}
	validateEntries("audience", c.Audience, problems)
	validateEntries("client_ids", c.ClientIDs, problems)
	validateEntries("scopes", c.Scopes, problems)
	if c.SubjectClaim == "" {
		problems.Add("subject_claim", "is empty", "leave it out for sub")
	}
	validateRequiredClaims(c.RequiredClaims, problems)
}
