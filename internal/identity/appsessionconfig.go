package identity

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// AppSessionConfig is the section "identity.app_session".
type AppSessionConfig struct {
	URL            string                    `yaml:"url" doc:"Where the app says who is signed in, as JSON: a path on app.url such as /api/auth/session, or an absolute URL; required."`
	Method         string                    `yaml:"method" doc:"GET or POST (without a body)."`
	Cookies        []string                  `yaml:"cookies" doc:"The app's session cookies, the only ones sent to url: names, or beginnings of names with a * after them for cookies that are split or renamed; without any of them in a request this source is skipped; required."`
	Headers        map[string]string         `yaml:"headers" doc:"More request headers for url, always the same."`
	SecretHeaders  map[string]setting.Secret `yaml:"secret_headers" doc:"More request headers for url whose values are secrets, such as a key of the endpoint's own."`
	Issuer         string                    `yaml:"issuer" doc:"The issuer of everybody who comes this way, part of their account's key for ever; the app's public URL is a good one, or the provider's issuer exactly as in its tokens if subject is the provider's sub; required."`
	Subject        string                    `yaml:"subject" doc:"Path in the JSON to the user's unique and never reassigned id, such as user.id; nobody is signed in where it is missing, null, false, empty or 0; required."`
	Claims         map[string]string         `yaml:"claims" doc:"Claims and the paths in the JSON to them, such as email: user.email."`
	Expires        string                    `yaml:"expires" doc:"Path in the JSON to the end of the app's session, RFC 3339 or Unix time, such as expires; empty if the JSON has none."`
	Cache          setting.Duration          `yaml:"cache" doc:"How long an answer counts for the same cookies, and so how long a logout in the app can go unnoticed (that nobody is signed in counts for 1s at most); up to 1m; 0s asks every time."`
	Timeout        setting.Duration          `yaml:"timeout" doc:"Longest time to wait for the whole answer; 100ms to 30s."`
	MaxConnections int                       `yaml:"max_connections" doc:"Most questions under way at once; more wait for their turn within timeout; 1 to 10000."`
	CAFile         string                    `yaml:"ca_file" doc:"PEM file with the certificate authorities to trust for url instead of the system's; for a path on app.url, app.ca_file counts."`
}

// DefaultAppSessionConfig returns the defaults; url, cookies, issuer and subject
// have none.
func DefaultAppSessionConfig() AppSessionConfig {
	return AppSessionConfig{
		Method:         http.MethodGet,
		Cache:          setting.Duration(3 * time.Second),
		Timeout:        setting.Duration(5 * time.Second),
		MaxConnections: 64,
	}
}

// Validate reports everything wrong with c. It reads no file and asks nobody.
func (c AppSessionConfig) Validate() error {
	var p setting.Problems
	c.validateQuestion(&p)
	validateIssuer(&p, c.Issuer)
	c.validateMapping(&p)
	for _, d := range []struct {
		path      string
		value     setting.Duration
		low, high time.Duration
	}{{"cache", c.Cache, 0, time.Minute}, {"timeout", c.Timeout, 100 * time.Millisecond, 30 * time.Second}} {
		if d.value.D() < d.low || d.value.D() > d.high {
			p.Addf(d.path, "is out of range", "write a duration from %s to %s", setting.Duration(d.low), setting.Duration(d.high))
		}
	}
	if c.MaxConnections < 1 || c.MaxConnections > 10_000 {
		p.Add("max_connections", "is out of range", "write a number from 1 to 10000")
	}
	return p.Err()
}

func (c AppSessionConfig) validateQuestion(p *setting.Problems) {
	if _, err := c.target(setting.MustURL("http://app.invalid")); err != nil {
		p.Add("url", err.Error(), "write a path of the app like /api/auth/session, or a whole URL like http://auth.internal:3000/me")
	}
	if c.Method != http.MethodGet && c.Method != http.MethodPost {
		p.Add("method", "is not known", "write GET or POST")
	}
	if len(c.Cookies) == 0 {
		p.Add("cookies", "is required", "list the app's session cookie; the browser's developer tools show its name")
	}
	for i, pattern := range c.Cookies {
		name := strings.TrimSuffix(pattern, "*")
		switch {
		case !headerName(name) || strings.Contains(name, "*"):
			p.Add(fmt.Sprintf("cookies[%d]", i), "is not a cookie name", `write it like "session" or "next-auth.session-token*"`)
		case ownCookie(name):
			p.Add(fmt.Sprintf("cookies[%d]", i), "is a cookie of whisp-bff", "list the app's cookie; ours are never sent to the app")
		}
	}
	for _, table := range []struct {
		path  string
		names []string
	}{{"headers", slices.Sorted(maps.Keys(c.Headers))}, {"secret_headers", slices.Sorted(maps.Keys(c.SecretHeaders))}} {
		for _, name := range table.names {
			if !headerName(name) || fixedHeader(name) {
				p.Add(table.path+"."+name, "is not a header for this", "take it out; Cookie, Host and X-Forwarded-* are set by whisp-bff")
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
		if !plain(c.Headers[name]) {
			p.Add("headers."+name, "has a control character", "write one line of text")
		}
	}
}

func (c AppSessionConfig) validateMapping(p *setting.Problems) {
	if c.Subject == "" {
		p.Add("subject", "is required", "write the path to the user's id in the JSON, like user.id")
	} else if _, err := parseClaimPath(c.Subject); err != nil {
		p.Add("subject", err.Error(), "write it like user.id or accounts[0].id")
	}
	for _, claim := range slices.Sorted(maps.Keys(c.Claims)) {
		if reservedClaim(claim) {
			p.Add("claims."+claim, "is set by whisp-bff", "take it out: issuer and subject say what it is")
		} else if _, err := parseClaimPath(c.Claims[claim]); err != nil {
			p.Add("claims."+claim, err.Error(), `write it like user.email or user["e-mail.work"]`)
		}
	}
	if c.Expires != "" {
		if _, err := parseClaimPath(c.Expires); err != nil {
			p.Add("expires", err.Error(), "write it like expires or session.expires_at")
		}
	}
}

// target is the whole URL to ask. Its errors follow the name of the key.
func (c AppSessionConfig) target(app setting.URL) (*url.URL, error) {
	parsed, err := url.Parse(c.URL)
	switch {
	case c.URL == "":
		return nil, errors.New("is required")
	case err != nil, !plain(c.URL), strings.ContainsAny(c.URL, ` \`):
		return nil, errors.New("is not a URL")
	case parsed.Fragment != "", strings.HasSuffix(c.URL, "#"):
		return nil, errors.New("has a fragment")
	case c.onApp():
		parsed.Scheme, parsed.Host = app.Scheme, app.Host
		return parsed, nil
	case parsed.User != nil:
		return nil, errors.New("has a user name or password in it")
	case (parsed.Scheme != "http" && parsed.Scheme != "https") || parsed.Hostname() == "":
		return nil, errors.New("is neither a path nor an http or https URL")
	}
	return parsed, nil
}

// onApp reports whether url is a path on app.url.
func (c AppSessionConfig) onApp() bool {
	return strings.HasPrefix(c.URL, "/") && !strings.HasPrefix(c.URL, "//")
}

// fixedHeader: what the question sets itself, or what belongs to the connection.
func fixedHeader(name string) bool {
	name = foldHeader(name)
	return strings.HasPrefix(name, "x-forwarded-") || name == foldHeader(askingHeader) || slices.Contains([]string{
		"connection", "content-length", "cookie", "expect", "forwarded", "host", "te", "trailer", "transfer-encoding", "upgrade",
	}, name)
}

// ownCookie: whisp-bff's cookies begin with "whisp-", after their prefix.
func ownCookie(name string) bool {
	name = strings.TrimPrefix(strings.TrimPrefix(name, "__Host-"), "__Secure-")
	return strings.HasPrefix(name, "whisp-")
}
