package server

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// Config is the section "server" of the configuration.
type Config struct {
	Listen            string           `yaml:"listen" doc:"Address of the public listener, host:port; an empty host means every interface."`
	AdminListen       string           `yaml:"admin_listen" doc:"Address of the admin listener (/healthz, /readyz, /metrics), host:port; keep it off the internet."`
	AdminToken        setting.Secret   `yaml:"admin_token" doc:"Bearer token of the admin API (/admin/… on the admin listener: make, look up and release accounts, see and end sessions), at least 32 bytes; without one there is no such API."`
	ExtraHosts        []string         `yaml:"extra_hosts" doc:"Host headers served besides public_url's own, host or host:port; any other host is answered 421."`
	AllowedOrigins    []setting.URL    `yaml:"allowed_origins" doc:"Origins besides public_url's own whose pages may use the session: CORS with credentials, and sockets. Only origins of the same site get the cookie (SameSite=Lax)."`
	TrustedProxies    []string         `yaml:"trusted_proxies" doc:"Addresses or CIDR ranges of reverse proxies in front of whisp-bff: only they may say who the client is (X-Forwarded-For) and name a request (X-Request-Id)."`
	MaxHeader         setting.Size     `yaml:"max_header" doc:"Largest request line and headers together, answered 431 beyond; 4KiB to 1MiB."`
	ReadHeaderTimeout setting.Duration `yaml:"read_header_timeout" doc:"Time a client has to send its headers; 1s to 1m."`
	KeepAlive         setting.Duration `yaml:"keep_alive" doc:"How long an idle client connection stays open; longer than the idle timeout of a load balancer in front; 1s to 1h."`
	ShutdownDelay     setting.Duration `yaml:"shutdown_delay" doc:"At SIGTERM, time between not being ready and refusing connections, for load balancers to notice: requests are answered meanwhile, each on the last use of its connection. 0s to 5m."`
	ShutdownTimeout   setting.Duration `yaml:"shutdown_timeout" doc:"At SIGTERM, time for requests under way to finish, counted after shutdown_delay and realtime.drain; 1s to 10m."`
	Pprof             bool             `yaml:"pprof" doc:"Serve Go's profiles under /debug/pprof on the admin listener."`
}

// DefaultConfig listens on every interface, and for administration on loopback.
func DefaultConfig() Config {
	return Config{
		Listen:            ":8080",
		AdminListen:       "127.0.0.1:9090",
		MaxHeader:         64 << 10,
		ReadHeaderTimeout: setting.Duration(10 * time.Second),
		KeepAlive:         setting.Duration(2 * time.Minute),
		ShutdownTimeout:   setting.Duration(15 * time.Second),
	}
}

// Validate reports everything wrong with c.
func (c Config) Validate() error {
	var p setting.Problems
	for _, listener := range []struct{ path, address string }{{"listen", c.Listen}, {"admin_listen", c.AdminListen}} {
		if _, port, err := net.SplitHostPort(listener.address); err != nil || port == "" {
			p.Add(listener.path, "is not host:port", "write it like 127.0.0.1:8080, or :8080 for every interface")
		}
	}
	if c.Listen == c.AdminListen && !strings.HasSuffix(c.Listen, ":0") {
		p.Add("admin_listen", "is the same as listen", "give it a port of its own, which browsers cannot reach")
	}
	if length := len(c.AdminToken.Text().Reveal()); length > 0 && length < minAdminToken {
		p.Addf("admin_token", "is too short", "it has %d bytes; use at least %d, such as the output of: openssl rand -base64 32", length, minAdminToken)
	}
	for i, proxy := range c.TrustedProxies {
		if _, err := parsePrefix(proxy); err != nil {
			p.Add(fmt.Sprintf("trusted_proxies[%d]", i), "is not an address or CIDR range", "write it like 10.0.0.0/8 or 192.0.2.7")
		}
	}
	for i, host := range c.ExtraHosts {
		if host == "" || strings.ContainsAny(host, "/ @?#*") {
			p.Add(fmt.Sprintf("extra_hosts[%d]", i), "is not a host", "write it like app.internal or app.internal:8080")
		}
	}
	for i, origin := range c.AllowedOrigins {
		if origin.Empty() || (origin.Path != "" && origin.Path != "/") {
			p.Add(fmt.Sprintf("allowed_origins[%d]", i), "is not an origin", "write scheme and host only, like https://shop.example.com")
		}
	}
	if c.MaxHeader < 4<<10 || c.MaxHeader > 1<<20 {
		p.Add("max_header", "is out of range", "write a size from 4KiB to 1MiB")
	}
	for _, d := range []struct {
		path      string
		value     setting.Duration
		low, high time.Duration
	}{
		{"read_header_timeout", c.ReadHeaderTimeout, time.Second, time.Minute},
		{"keep_alive", c.KeepAlive, time.Second, time.Hour},
		{"shutdown_delay", c.ShutdownDelay, 0, 5 * time.Minute},
		{"shutdown_timeout", c.ShutdownTimeout, time.Second, 10 * time.Minute},
	} {
		if d.value.D() < d.low || d.value.D() > d.high {
			p.Addf(d.path, "is out of range", "write a duration from %s to %s", setting.Duration(d.low), setting.Duration(d.high))
		}
	}
	return p.Err()
}

// minAdminToken is 256 bits: nobody guesses it, however fast they try.
const minAdminToken = 32

func parsePrefix(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		return netip.ParsePrefix(text)
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(address, address.BitLen()), nil
}
