package sockproxy

import (
	"sync/atomic"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// limits are the configuration as of now. Whoever needs several fields loads it
// once; nobody writes to what was loaded.
type limits struct{ atomic.Pointer[Config] }

// SetLimits changes the configuration while sockets are open; none is dropped for
// it. cfg must be valid. It may be called at any time, from any goroutine.
//
//   - For everything open, within a second: max_frame_rate, idle_timeout,
//     write_timeout, touch_interval, check_interval. A shorter limit that a socket already broke
//     ends it as if it had always been that.
//   - For what is opened from now on: allow_missing_origin, max_tunnels,
//     max_tunnels_per_user, connection_rate, connection_burst, max_message, handshake_timeout. A limit below what is
//     open closes nothing, and refuses until enough has closed by itself.
//   - For the next [Proxy.Drain]: drain.
//   - Not at all, since it belongs to tickets that are out: ticket_life.
//
// What the kernel was told of a socket (TCP_USER_TIMEOUT, from write_timeout) stays.
func (p *Proxy) SetLimits(cfg Config) {
	cfg.TicketLife = p.cfg.Load().TicketLife
	p.cfg.Store(&cfg)
}

// SetAllowedOrigins changes who may open sockets besides PublicURL's own origin,
// from now on. Sockets that are open stay.
func (p *Proxy) SetAllowedOrigins(others []setting.URL) {
	next := newOrigins(p.public, others)
	p.origins.Store(&next)
}
