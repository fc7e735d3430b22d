package identity

import (
	"fmt"
	"slices"
	"strings"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// Names of the sources, as in identity.sources.
const (
	SourceSession       = "session"
	SourceBearer        = "bearer"
	SourceIntrospection = "introspection"
	SourceForwarded     = "forwarded"
	SourceAppSession    = "app_session"
)

var sourceNames = []string{SourceSession, SourceBearer, SourceIntrospection, SourceForwarded, SourceAppSession}

// Config is the section "identity" of the configuration. Of the sources'
// sections only those named in Sources matter.
type Config struct {
	Sources       []string            `yaml:"sources" doc:"Who may say who is asking, in this order; the first that has a say decides: session (the login section), bearer, introspection, forwarded, app_session."`
	Bearer        []BearerConfig      `yaml:"bearer" doc:"Issuers whose JWTs are trusted, such as the provider behind an auth proxy."`
	Introspection IntrospectionConfig `yaml:"introspection" doc:"Opaque tokens that the provider is asked about (RFC 7662)."`
	Forwarded     ForwardedConfig     `yaml:"forwarded" doc:"Identity headers of an auth proxy in front, such as oauth2-proxy."`
	AppSession    AppSessionConfig    `yaml:"app_session" doc:"The app's own login: its who-am-I endpoint is asked with the browser's cookies."`
}

// DefaultConfig knows the sessions of our own login only.
func DefaultConfig() Config {
	return Config{
		Sources:       []string{SourceSession},
		Introspection: DefaultIntrospectionConfig(),
		Forwarded:     DefaultForwardedConfig(),
		AppSession:    DefaultAppSessionConfig(),
	}
}

// Uses reports whether a source is asked.
func (c Config) Uses(source string) bool { return slices.Contains(c.Sources, source) }

// Validate reports everything wrong with c and the sections of its sources.
func (c Config) Validate() error {
	var p setting.Problems
	if len(c.Sources) == 0 {
		p.Add("sources", "is empty", "list at least one of "+strings.Join(sourceNames, ", "))
	}
	for i, name := range c.Sources {
		path := fmt.Sprintf("sources[%d]", i)
		switch {
		case !slices.Contains(sourceNames, name):
			p.Add(path, "is not a known source", "write one of "+strings.Join(sourceNames, ", "))
		case slices.Contains(c.Sources[:i], name):
			p.Add(path, "is listed twice", "remove it: the first place decides")
		}
	}
	if c.Uses(SourceBearer) {
		p.Include("bearer", ValidateBearer(c.Bearer))
	} else if len(c.Bearer) > 0 {
		p.Add("bearer", "is not used", "add bearer to identity.sources, or remove this section")
	}
	for _, section := range []struct {
		name     string
		validate func() error
	}{
		{SourceIntrospection, c.Introspection.Validate},
		{SourceForwarded, c.Forwarded.Validate},
		{SourceAppSession, c.AppSession.Validate},
	} {
		if c.Uses(section.name) {
			p.Include(section.name, section.validate())
		}
	}
	return p.Err()
}
