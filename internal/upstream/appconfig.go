package upstream

import (
	"fmt"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// AppConfig is the section "app" of the configuration.
type AppConfig struct {
	URL            setting.URL      `yaml:"url" doc:"Base URL of the customer's app, such as http://127.0.0.1:3000; without a path; required."`
	CAFile         string           `yaml:"ca_file" doc:"PEM file with the certificate authorities to trust for url instead of the system's."`
	Timeouts       AppTimeouts      `yaml:"timeouts"`
	PreserveHost   bool             `yaml:"preserve_host" doc:"Send the browser's Host header to the app, which then builds links and checks origins as if it stood in front; false sends the host of url."`
	Flush          setting.Duration `yaml:"flush" doc:"How long bytes of an answer of known length may be held back; 0 leaves it to buffers of 4KiB; streams and server-sent events are never held back; up to 10s."`
	MaxConnections int              `yaml:"max_connections" doc:"Most connections to the app, streams and WebSockets counted; more requests wait; 0 is no limit."`
	StripHeaders   []string         `yaml:"strip_headers" doc:"Request headers that browsers may not send to the app, besides those always removed (X-Forwarded-*, X-Auth-Request-*, X-Real-Ip and the like); a trailing * stands for any ending."`
}

// AppTimeouts bound the phases of talking to the app.
type AppTimeouts struct {
	Dial           setting.Duration `yaml:"dial" doc:"Longest wait for a TCP connection to the app; 10ms to 1m."`
	TLSHandshake   setting.Duration `yaml:"tls_handshake" doc:"Longest TLS handshake with the app; 10ms to 1m."`
	ResponseHeader setting.Duration `yaml:"response_header" doc:"Longest wait for the app's answer to begin, after the request was sent; 0 is no limit; up to 1h."`
}

// DefaultAppConfig returns the defaults; url has none.
//
// preserve_host is true because frameworks compare Origin with Host, build
// absolute URLs from it and pick tenants by it. A dev server that insists on
// "localhost" needs it false, or the public name in its own list.
func DefaultAppConfig() AppConfig {
	return AppConfig{
		Timeouts: AppTimeouts{
			Dial:           setting.Duration(3 * time.Second),
			TLSHandshake:   setting.Duration(5 * time.Second),
			ResponseHeader: setting.Duration(time.Minute),
		},
		PreserveHost: true,
	}
}

// Validate reports everything that is wrong, with paths relative to the section.
func (c AppConfig) Validate() error {
	var p setting.Problems
	switch {
	case c.URL.Empty():
		p.Add("url", "is required", "write where your app listens, like http://127.0.0.1:3000")
	case c.URL.Path != "" && c.URL.Path != "/":
		p.Add("url", "has a path", "leave it out: links and cookies of an app that is moved to another path break")
	}
	bounds(&p, "timeouts.dial", c.Timeouts.Dial, 10*time.Millisecond, time.Minute)
	bounds(&p, "timeouts.tls_handshake", c.Timeouts.TLSHandshake, 10*time.Millisecond, time.Minute)
	bounds(&p, "timeouts.response_header", c.Timeouts.ResponseHeader, 0, time.Hour)
	bounds(&p, "flush", c.Flush, 0, 10*time.Second)
	between(&p, "max_connections", c.MaxConnections, 0, 1_000_000)
	for i, name := range c.StripHeaders {
		if !validStrip(name) {
			p.Add(fmt.Sprintf("strip_headers[%d]", i), "is not a header name", "write it like X-User or X-Webauth-*")
		}
	}
	return p.Err()
}
