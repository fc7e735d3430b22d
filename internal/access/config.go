package access

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// Requirement names who may have a path.
type Requirement string

const (
	// Public paths are for everybody.
	Public Requirement = "public"
	// SignedIn paths are for whoever an identity source knows.
	SignedIn Requirement = "signed_in"
)

// Config is the section "access" of the configuration.
type Config struct {
	Default   Requirement       `yaml:"default" doc:"Who may have the app's paths that no rule names: public (the app decides for itself) or signed_in."`
	Rules     []Rule            `yaml:"rules" doc:"Who may have which of the app's paths; the first rule whose path matches decides."`
	Headers   map[string]string `yaml:"headers" doc:"Identity headers for the app: header name to claim, such as X-User-Id to sub. They are removed from every browser's request first, so the app can believe them."`
	Assertion AssertionConfig   `yaml:"assertion" doc:"A short-lived signed JWT that tells the app who asks, for apps that would rather verify than believe."`
}

// Rule is one entry of access.rules.
type Rule struct {
	Path     string      `yaml:"path" doc:"Path of the app: exact, or with * for one segment and a final /** for everything below (and the path itself); required."`
	Require  Requirement `yaml:"require" doc:"Who may have it: public or signed_in; left out, it is signed_in."`
	Claim    string      `yaml:"claim" doc:"A claim that the identity must have, such as groups; goes with equals or contains."`
	Equals   string      `yaml:"equals" doc:"The claim's value, compared as text."`
	Contains string      `yaml:"contains" doc:"A value that the claim, a list or a text of words, must contain."`
}

// AssertionConfig is the section "access.assertion".
type AssertionConfig struct {
	Enabled  bool             `yaml:"enabled" doc:"Send the assertion; its keys are at /auth/jwks here and at /jwks on the admin listener."`
	Header   string           `yaml:"header" doc:"Header that carries it."`
	Audience string           `yaml:"audience" doc:"The aud claim; empty means app.url."`
	Life     setting.Duration `yaml:"life" doc:"How long an assertion is good for; 10s to 10m."`
	Claims   []string         `yaml:"claims" doc:"Claims to pass on besides sub, such as email and groups."`
}

// DefaultConfig leaves every decision to the app and tells it nothing.
func DefaultConfig() Config {
	return Config{
		Default:   Public,
		Assertion: AssertionConfig{Header: "X-Whisp-Bff-Assertion", Life: setting.Duration(time.Minute)},
	}
}

// reserved headers have a meaning of their own on the way to the app.
var reserved = []string{
	"Host", "Cookie", "Authorization", "Connection", "Upgrade", "Content-Length", "Transfer-Encoding", "Te", "Trailer",
	"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Request-Id",
	"Accept", "Accept-Encoding", "Content-Encoding", "Content-Type", "Expect", "Keep-Alive", "Origin", "Proxy-Authorization",
	"Proxy-Connection", "Range", "Referer", "User-Agent",
}

// Validate reports everything wrong with c.
func (c Config) Validate() error {
	var p setting.Problems
	if c.Default != Public && c.Default != SignedIn {
		p.Add("default", "is not a known choice", "write public or signed_in")
	}
	for i, rule := range c.Rules {
		p.Include(fmt.Sprintf("rules[%d]", i), rule.validate(c.Rules[:i]))
	}
	names := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
		path := "headers." + name
		other, twice := names[http.CanonicalHeaderKey(name)]
		names[http.CanonicalHeaderKey(name)] = path
		switch {
		case twice:
			p.Add(path, "names the same header as "+other, "keep one of the two: case does not matter")
		case !headerName(name) || slices.Contains(reserved, http.CanonicalHeaderKey(name)):
			p.Add(path, "cannot be an identity header", "choose a name of your own, such as X-User-Id")
		case c.Headers[name] == "":
			p.Add(path, "has no claim", "write the claim's name, such as sub or email")
		}
	}
	if !headerName(c.Assertion.Header) || slices.Contains(reserved, http.CanonicalHeaderKey(c.Assertion.Header)) {
		p.Add("assertion.header", "cannot be an identity header", "choose a name of your own, such as X-Whisp-Bff-Assertion")
	}
	if other, twice := names[http.CanonicalHeaderKey(c.Assertion.Header)]; twice && c.Assertion.Enabled {
		p.Add("assertion.header", "names the same header as "+other, "give the assertion one of its own")
	}
	if c.Assertion.Life.D() < 10*time.Second || c.Assertion.Life.D() > 10*time.Minute {
		p.Add("assertion.life", "is out of range", "write a duration from 10s to 10m")
	}
	return p.Err()
}

func (r Rule) validate(before []Rule) error {
	var p setting.Problems
	if !validPattern(r.Path) {
		p.Add("path", "is not a path pattern", "write it like /admin/**, /reports/*/edit or /about")
	}
	for _, earlier := range before {
		if earlier.Path == r.Path || earlier.Path == "/**" {
			p.Addf("path", "is never reached", "an earlier rule for %s decides first: put this one before it", earlier.Path)
			break
		}
	}
	if r.Require != "" && r.Require != Public && r.Require != SignedIn {
		p.Add("require", "is not a known choice", "write public or signed_in")
	}
	conditions := 0
	for _, value := range []string{r.Equals, r.Contains} {
		if value != "" {
			conditions++
		}
	}
	switch {
	case r.Claim == "" && conditions > 0:
		p.Add("claim", "is required", "name the claim that equals or contains is about")
	case r.Claim != "" && conditions != 1:
		p.Add("claim", "needs exactly one condition", "write equals: value or contains: value beside it")
	case r.Claim != "" && r.Require == Public:
		p.Add("require", "contradicts claim", "a public path asks for no claim: leave one of the two out")
	}
	return p.Err()
}

func headerName(name string) bool {
	if name == "" || len(name) > 64 {
		return false
	}
	for i := range len(name) {
		c := name[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && c != '-' {
			return false // "_" would be the same header as "-" to many frameworks
		}
	}
	return true
}

func validPattern(path string) bool {
	if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "?#%\\; \t") || strings.Contains(path, "//") {
		return false
	}
	segments := strings.Split(path[1:], "/")
	for i, segment := range segments {
		last := i == len(segments)-1
		switch {
		case segment == "**":
			if !last {
				return false
			}
		case segment == "*":
		case strings.Contains(segment, "*"), segment == ".", segment == "..", segment == "" && !last:
			return false
		}
	}
	return true
}
