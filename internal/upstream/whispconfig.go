package upstream

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// WhispConfig is the section "whisp" of the configuration.
type WhispConfig struct {
	URL             setting.URL      `yaml:"url" doc:"Base URL of the Whisp cluster, such as https://acme.api.whispchat.com; required."`
	AllowHTTP       bool             `yaml:"allow_http" doc:"Accept a plain http url that is not loopback, which shows the API key to the network between."`
	APIKeys         []setting.Secret `yaml:"api_keys" doc:"API keys in order of preference: the first that Whisp accepts is used; 1 to 8."`
	KeyRetry        setting.Duration `yaml:"key_retry" doc:"How long an API key that Whisp refuses is set aside before it is tried again; 5s to 1h."`
	CAFile          string           `yaml:"ca_file" doc:"PEM file with the certificate authorities to trust for url instead of the system's."`
	Timeouts        WhispTimeouts    `yaml:"timeouts"`
	Retries         int              `yaml:"retries" doc:"How often a call of ours that may be repeated is repeated; 0 to 2."`
	MaxRetryWait    setting.Duration `yaml:"max_retry_wait" doc:"Longest wait before a repetition; a longer Retry-After is handed to the client instead; up to 30s."`
	Breaker         BreakerConfig    `yaml:"breaker"`
	MaxConnections  int              `yaml:"max_connections" doc:"Most connections to Whisp for browsers' REST calls, and as many for our own; sockets are not counted; more calls wait; 0 is no limit."`
	MaxBody         setting.Size     `yaml:"max_body" doc:"Largest body of a browser's REST call; 1KiB to 64MiB."`
	RefreshPatience setting.Duration `yaml:"refresh_patience" doc:"How long a browser's token refresh is repeated inside before it fails, which logs the user out of the chat; up to 1m."`
	ExtraRoutes     []ExtraRoute     `yaml:"extra_routes" doc:"Whisp routes that may pass besides the documented ones; registerUser and signin can not be added."`
}

// WhispTimeouts bound the phases of talking to Whisp.
type WhispTimeouts struct {
	Dial           setting.Duration `yaml:"dial" doc:"Longest wait for a TCP connection to Whisp; 10ms to 1m."`
	TLSHandshake   setting.Duration `yaml:"tls_handshake" doc:"Longest TLS handshake with Whisp; 10ms to 1m."`
	ResponseHeader setting.Duration `yaml:"response_header" doc:"Longest wait for the first byte of an answer of Whisp; 10ms to 5m."`
	Total          setting.Duration `yaml:"total" doc:"Longest time for one call of ours to Whisp, its repetitions included; 10ms to 5m."`
	Proxied        setting.Duration `yaml:"proxied" doc:"Longest time for one REST call of a browser, its slow connection included; 1s to 1h."`
}

// BreakerConfig tunes the circuit breaker before Whisp.
type BreakerConfig struct {
	Failures int              `yaml:"failures" doc:"Failures in a row after which Whisp is left alone for a while; 1 to 1000."`
	OpenFor  setting.Duration `yaml:"open_for" doc:"How long Whisp is left alone before one call tries again; 100ms to 5m."`
}

// ExtraRoute is one more route of Whisp's REST API that may pass.
type ExtraRoute struct {
	Method string `yaml:"method" doc:"GET, POST, PUT, PATCH or DELETE; required."`
	Path   string `yaml:"path" doc:"Path below /api, such as /api/chat/pin/{chatId}; {name} stands for one segment; required."`
}

// DefaultWhispConfig returns the defaults; url and api_keys have none.
func DefaultWhispConfig() WhispConfig {
	return WhispConfig{
		Timeouts: WhispTimeouts{
			Dial:           setting.Duration(3 * time.Second),
			TLSHandshake:   setting.Duration(5 * time.Second),
			ResponseHeader: setting.Duration(10 * time.Second),
			Total:          setting.Duration(15 * time.Second),
			Proxied:        setting.Duration(2 * time.Minute),
		},
		KeyRetry:        setting.Duration(time.Minute),
		Retries:         2,
		MaxRetryWait:    setting.Duration(2 * time.Second),
		Breaker:         BreakerConfig{Failures: 10, OpenFor: setting.Duration(5 * time.Second)},
		MaxConnections:  256,
		MaxBody:         setting.Size(1 << 20),
		RefreshPatience: setting.Duration(8 * time.Second),
	}
}

// Validate reports everything that is wrong, with paths relative to the
// section. It opens no file and asks no network.
func (c WhispConfig) Validate() error {
	var p setting.Problems
	switch {
	case c.URL.Empty():
		p.Add("url", "is required", "write the base URL of your Whisp cluster, like https://acme.api.whispchat.com")
	case c.URL.Scheme == "http" && !c.URL.Loopback() && !c.AllowHTTP:
		p.Add("url", "is plain http", "use https, or set allow_http if the network between is trusted with the API key")
	case !CanonicalPath(strings.TrimSuffix(c.URL.EscapedPath(), "/") + "/api"):
		p.Add("url", "has a path that is not canonical", "leave the path out")
	}
	c.validateKeys(&p)
	bounds(&p, "key_retry", c.KeyRetry, 5*time.Second, time.Hour)
	bounds(&p, "timeouts.dial", c.Timeouts.Dial, 10*time.Millisecond, time.Minute)
	bounds(&p, "timeouts.tls_handshake", c.Timeouts.TLSHandshake, 10*time.Millisecond, time.Minute)
	bounds(&p, "timeouts.response_header", c.Timeouts.ResponseHeader, 10*time.Millisecond, 5*time.Minute)
	bounds(&p, "timeouts.total", c.Timeouts.Total, 10*time.Millisecond, 5*time.Minute)
	bounds(&p, "timeouts.proxied", c.Timeouts.Proxied, time.Second, time.Hour)
	bounds(&p, "max_retry_wait", c.MaxRetryWait, 0, 30*time.Second)
	bounds(&p, "breaker.open_for", c.Breaker.OpenFor, 100*time.Millisecond, 5*time.Minute)
	bounds(&p, "refresh_patience", c.RefreshPatience, 0, time.Minute)
	between(&p, "retries", c.Retries, 0, 2)
	between(&p, "breaker.failures", c.Breaker.Failures, 1, 1000)
	between(&p, "max_connections", c.MaxConnections, 0, 1_000_000)
	if c.MaxBody < 1<<10 || c.MaxBody > 64<<20 {
		p.Add("max_body", "is out of range", "write a size from 1KiB to 64MiB")
	}
	for i, extra := range c.ExtraRoutes {
		extra.validate(&p, fmt.Sprintf("extra_routes[%d]", i))
	}
	return p.Err()
}

func (c WhispConfig) validateKeys(p *setting.Problems) {
	if len(c.APIKeys) == 0 {
		p.Add("api_keys", "is required", "list at least one key, like - {file: /run/secrets/whisp-api-key}")
	}
	if len(c.APIKeys) > 8 {
		p.Add("api_keys", "has more than 8 entries", "keep the keys that are in use")
	}
	for i, key := range c.APIKeys {
		path := fmt.Sprintf("api_keys[%d]", i)
		switch text := key.Text(); {
		case !key.Given():
			p.Add(path, "is empty", "give one of value, env or file")
		case !text.Empty() && !validKey(text.Reveal()):
			p.Add(path, "has white space or characters that cannot stand in a header", "check that the source holds the key and nothing else")
		}
	}
}

// validKey accepts visible ASCII: what every HTTP stack carries unchanged.
func validKey(key string) bool {
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return false
		}
	}
	return len(key) <= 4096
}

func (e ExtraRoute) validate(p *setting.Problems, at string) {
	switch e.Method {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
	default:
		p.Add(at+".method", "is not a method that can be added", "write GET, POST, PUT, PATCH or DELETE")
	}
	plain := strings.NewReplacer("{", "", "}", "").Replace(e.Path)
	switch {
	case !strings.HasPrefix(e.Path, "/api/") || !CanonicalPath(plain) || !validTemplate(e.Path):
		p.Add(at+".path", "is not a canonical path below /api", "write it like /api/chat/pin/{chatId}")
	case needsKey(e.Path):
		p.Add(at+".path", "is a route that needs the API key", "registerUser and signin never pass; browsers sign in with POST /auth/whisp/sign-in")
	case strings.HasPrefix(strings.ToLower(e.Path), "/api/wsconnect"):
		p.Add(at+".path", "is the realtime endpoint", "leave it out, it passes already")
	}
}

func bounds(p *setting.Problems, path string, value setting.Duration, low, high time.Duration) {
	if value.D() < low || value.D() > high {
		p.Addf(path, "is out of range", "write a duration from %s to %s", setting.Duration(low), setting.Duration(high))
	}
}

func between(p *setting.Problems, path string, value, low, high int) {
	if value < low || value > high {
		p.Addf(path, "is out of range", "write a number from %d to %d", low, high)
	}
}
