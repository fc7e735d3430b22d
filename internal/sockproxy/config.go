package sockproxy

import (
	"time"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// Config is the section "realtime" of the configuration.
type Config struct {
	AllowMissingOrigin bool             `yaml:"allow_missing_origin" doc:"Accept realtime requests without Origin and Sec-Fetch-Site, which only clients that are not browsers send; leave it off unless you have such clients."`
	TicketLife         setting.Duration `yaml:"ticket_life" doc:"How long a realtime ticket can be used after it was fetched; Whisp's own limit is 20s; 1s to 1m."`
	MaxTunnels         int              `yaml:"max_tunnels" doc:"Most sockets of this process, and most SockJS sessions; those still opening count; 0 is no limit."`
	MaxTunnelsPerUser  int              `yaml:"max_tunnels_per_user" doc:"Most sockets, and most SockJS sessions, of one person on this process; 0 is no limit."`
	ConnectionRate     int              `yaml:"connection_rate" doc:"How many sockets and SockJS sessions a second one client address may begin once connection_burst is used up, refused ones included; an IPv6 /64 counts as one; 0 is no limit, up to 100000. Behind a proxy set server.trusted_proxies, or all clients are one address."`
	ConnectionBurst    int              `yaml:"connection_burst" doc:"How many one client address may begin at once: everybody behind one address after an outage, for instance; 1 to 1000000."`
	MaxMessage         setting.Size     `yaml:"max_message" doc:"Largest WebSocket message in either direction, and twice this the largest SockJS body; a larger one closes the socket with 1009; 0B is no limit."`
	MaxFrameRate       int              `yaml:"max_frame_rate" doc:"Most WebSocket frames per second from one client, averaged over a second or more, and at most twice as many at once; beyond, the socket is closed with 1008; 0 is no limit."`
	HandshakeTimeout   setting.Duration `yaml:"handshake_timeout" doc:"Longest time to open a socket to Whisp, connection and TLS included; 100ms to 1m."`
	IdleTimeout        setting.Duration `yaml:"idle_timeout" doc:"A socket on which neither side sent anything, heart-beats included, for this long is closed; 1s up; 0s is never."`
	WriteTimeout       setting.Duration `yaml:"write_timeout" doc:"A peer that takes longer than this to accept one buffer (32 KiB) is cut; 1s to 10m."`
	Drain              setting.Duration `yaml:"drain" doc:"At shutdown the sockets are closed spread evenly over this time; 0s to 10m."`
	TouchInterval      setting.Duration `yaml:"touch_interval" doc:"How often a socket whose client sends anything keeps its session from being idle, at the longest; 1s to 1h."`
	CheckInterval      setting.Duration `yaml:"check_interval" doc:"How often it is looked up, at the longest, whether the session of an open socket still lives, without using it: what finds the sessions whose end was not announced; 1s to 1h."`
}

// DefaultConfig suits a container of half a GiB and the Whisp SDK, whose
// heart-beats come every 10 s.
func DefaultConfig() Config {
	return Config{
		TicketLife:        setting.Duration(20 * time.Second),
		MaxTunnels:        20_000,
		MaxTunnelsPerUser: 50,
		ConnectionRate:    100,
		ConnectionBurst:   10_000,
		MaxMessage:        setting.Size(1 << 20),
		MaxFrameRate:      5_000,
		HandshakeTimeout:  setting.Duration(10 * time.Second),
		IdleTimeout:       setting.Duration(2 * time.Minute),
		WriteTimeout:      setting.Duration(30 * time.Second),
		Drain:             setting.Duration(20 * time.Second),
		TouchInterval:     setting.Duration(time.Minute),
		CheckInterval:     setting.Duration(time.Minute),
	}
}

// Validate reports everything wrong with c, with paths relative to the section.
func (c Config) Validate() error {
	var p setting.Problems
	between := func(path string, value setting.Duration, low, high time.Duration) {
		if value.D() < low || value.D() > high {
			p.Addf(path, "is out of range", "write a duration from %s to %s", setting.Duration(low), setting.Duration(high))
		}
	}
	between("ticket_life", c.TicketLife, time.Second, time.Minute)
	between("handshake_timeout", c.HandshakeTimeout, 100*time.Millisecond, time.Minute)
	if c.IdleTimeout != 0 {
		between("idle_timeout", c.IdleTimeout, time.Second, 24*time.Hour)
	}
	between("write_timeout", c.WriteTimeout, time.Second, 10*time.Minute)
	between("drain", c.Drain, 0, 10*time.Minute)
	between("touch_interval", c.TouchInterval, time.Second, time.Hour)
	between("check_interval", c.CheckInterval, time.Second, time.Hour)
	if c.ConnectionRate < 0 || c.ConnectionRate > 100_000 {
		p.Add("connection_rate", "is out of range", "write a number from 0, which is no limit, to 100000")
	}
	if c.ConnectionBurst < 1 || c.ConnectionBurst > 1_000_000 {
		p.Add("connection_burst", "is out of range", "write a number from 1 to 1000000")
	}
	for _, number := range []struct {
		path  string
		value int64
	}{
		{"max_tunnels", int64(c.MaxTunnels)},
		{"max_tunnels_per_user", int64(c.MaxTunnelsPerUser)},
		{"max_message", c.MaxMessage.Bytes()},
		{"max_frame_rate", int64(c.MaxFrameRate)},
	} {
		if number.value < 0 {
			p.Add(number.path, "is negative", "write a positive number, or 0 for no limit")
		}
	}
	return p.Err()
}
