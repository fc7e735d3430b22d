package oidcsim

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// Config of a [Provider]. Only Clients, Clock and Rand are required.
type Config struct {
	// Issuer is this provider's identifier and base URL, without a trailing
	// slash. It may be empty here and given by [Provider.SetIssuer] once
	// the port is known, before the first request.
	Issuer string
	// Clients that may use the provider; at least one.
	Clients []Client
	// People one can be; [People] if empty.
	People []Person
	// Clock and Rand are where time and random bytes come from.
	Clock func() time.Time
	Rand  io.Reader

	// Algorithm signs ID tokens: "ES256" (default, keys are made instantly) or "RS256".
	Algorithm string
	// CodeLife (default 1m), AccessLife (10m), IDTokenLife (10m), RefreshLife
	// (30d) and SessionLife (8h, the SSO session) say how long things live.
	CodeLife, AccessLife, IDTokenLife, RefreshLife, SessionLife time.Duration
	// RefreshWithoutScope gives a refresh token even if offline_access was not
	// asked for. Such a token ends with the SSO session.
	RefreshWithoutScope bool
	// KeepRefreshToken leaves the refresh token as it is on use. By default each
	// use gives a new one, and using an old one again revokes the whole family
	// (RFC 9700 section 4.14).
	KeepRefreshToken bool
	// LeanIDToken leaves profile, email and groups out of the ID token, so that
	// they are only at the userinfo endpoint, as many providers do.
	LeanIDToken bool
	// TrustLoginHint logs in the person login_hint names without a page.
	TrustLoginHint bool
	// HTTP sends logout tokens to clients; without one nobody is told.
	HTTP *http.Client
}

// Client is a relying party.
type Client struct {
	ID string
	// Secret is empty for a public client.
	Secret secret.Text
	// RedirectURIs and PostLogoutRedirectURIs are compared as exact strings.
	RedirectURIs           []string
	PostLogoutRedirectURIs []string
	// BackChannelLogoutURI is told when an SSO session ends that the client took
	// part in; empty for a client that does not want to know.
	BackChannelLogoutURI string
}

// Person is somebody one can log in as.
type Person struct {
	// ID is what the login page and login_hint call the person, such as "alice".
	ID string
	// Subject is the sub claim; ID if empty.
	Subject string
	// Claims beside sub: name, preferred_username, email, groups …
	Claims map[string]any
}

// People returns the people of the demo, all at example.com.
func People() []Person {
	person := func(id, given, family string, groups ...string) Person {
		return Person{ID: id, Subject: "demo-" + id, Claims: map[string]any{
			"preferred_username": id,
			"name":               given + " " + family,
			"given_name":         given,
			"family_name":        family,
			"email":              id + "@example.com",
			"email_verified":     true,
			"groups":             groups,
		}}
	}
	return []Person{
		person("alice", "Alice", "Anderson", "support", "admins"),
		person("bob", "Bob", "Brown", "support"),
		person("carol", "Carol", "Clark", "sales"),
		person("dave", "Dave", "Dubois", "sales"),
		person("erin", "Erin", "Evans", "engineering"),
		person("frank", "Frank", "Fischer", "engineering"),
	}
}

func (c *Config) setDefaults() {
	for _, d := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{
		{&c.CodeLife, time.Minute},
		{&c.AccessLife, 10 * time.Minute},
		{&c.IDTokenLife, 10 * time.Minute},
		{&c.RefreshLife, 30 * 24 * time.Hour},
		{&c.SessionLife, 8 * time.Hour},
	} {
		if *d.value == 0 {
			*d.value = d.fallback
		}
	}
	if c.Algorithm == "" {
		c.Algorithm = "ES256"
	}
	if len(c.People) == 0 {
		c.People = People()
	}
}

func (c *Config) validate() error {
	var errs []error
	if c.Clock == nil || c.Rand == nil {
		errs = append(errs, errors.New("a Clock and a Rand are required"))
	}
	if c.Algorithm != "ES256" && c.Algorithm != "RS256" {
		errs = append(errs, fmt.Errorf("algorithm %q: write ES256 or RS256", c.Algorithm))
	}
	if len(c.Clients) == 0 {
		errs = append(errs, errors.New("at least one client is required"))
	}
	seen := map[string]bool{}
	for _, person := range c.People {
		if person.ID == "" || seen[person.ID] {
			errs = append(errs, fmt.Errorf("person %q: ids must be given and unique", person.ID))
		}
		seen[person.ID] = true
	}
	return errors.Join(errs...)
}

func validIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("issuer must be an http or https URL without query and fragment (OpenID Connect Discovery 1.0 section 3)")
	}
	if strings.HasSuffix(issuer, "/") {
		return errors.New("issuer must not end with a slash")
	}
	return nil
}

func (p Person) clone() *Person {
	p.Claims = maps.Clone(p.Claims)
	if p.Subject == "" {
		p.Subject = p.ID
	}
	return &p
}

// Name is what to call the person on a page.
func (p Person) Name() string {
	if name, ok := p.Claims["name"].(string); ok && name != "" {
		return name
	}
	return p.ID
}

// Initials are the first letters of the first and the last word of Name.
func (p Person) Initials() string {
	words := strings.Fields(p.Name())
	if len(words) > 2 {
		words = []string{words[0], words[len(words)-1]}
	}
	var initials strings.Builder
	for _, word := range words {
		initials.WriteString(string([]rune(word)[:1]))
	}
	return strings.ToUpper(initials.String())
}

// Detail is the line under the name.
func (p Person) Detail() string {
	if email, ok := p.Claims["email"].(string); ok {
		return email
	}
	return p.Subject
}

func (c Client) allows(redirectURI string) bool { return slices.Contains(c.RedirectURIs, redirectURI) }
