package whispsim

import (
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// Config says what kind of Whisp to simulate. The zero value is a strict Whisp
// with the timings of the real one, to which no API key belongs.
type Config struct {
	// APIKeys are valid for registerUser and signin until revoked.
	APIKeys []secret.Text

	JWTLife     time.Duration // whole seconds, at least 1 s; default 5 min
	TicketLife  time.Duration // default 20 s
	RefreshLife time.Duration // default 7 days

	// BareJWT sends the Authorization response header without "Bearer ", as
	// some versions of Whisp do.
	BareJWT bool
	// KeyRefusedStatus answers a wrong or revoked API key; default 401. The
	// real status is not documented, 403 is the other candidate.
	KeyRefusedStatus int
	// LaxPasswords accepts any password of 8 bytes and more. Otherwise it
	// takes 8..72 bytes (bcrypt's limit) with a lower and an upper case
	// letter, a digit and a special character.
	LaxPasswords bool
	// UniqueEmail refuses a second account with the same e-mail address.
	UniqueEmail bool
	// MaxUsers is the plan's limit on accounts; 0 means none. Beyond it
	// registerUser answers MaxUsersStatus, default 429.
	MaxUsers       int
	MaxUsersStatus int

	// HeartBeatSend and HeartBeatReceive are STOMP's; default 10 s each,
	// negative switches off.
	HeartBeatSend    time.Duration
	HeartBeatReceive time.Duration

	SockJSHeartBeat       time.Duration // default 25 s
	SockJSDisconnectDelay time.Duration // life of a session nobody polls; default 5 s
	SockJSStreamLimit     int           // bytes per streaming answer; default 128 KiB
	SockJSClientURL       string        // script the iframe page loads

	// Node, if set, is told in the header X-Sim-Node of every answer.
	Node string
	// BalancerCookie, if set, is set on every answer as AWS's balancer does
	// (AWSALB and AWSALBCORS for the name "AWSALB").
	BalancerCookie string

	// History is the number of messages kept per chat; default 10,000.
	History int
	// RecordLimit is the number of requests kept for Requests; default 4096,
	// negative keeps none.
	RecordLimit int
	// Bench serves GET /bench/1k and keeps no records.
	Bench bool

	Clock  func() time.Time // default the wall clock
	Rand   io.Reader        // default crypto/rand; read under a lock
	Logger *slog.Logger     // default none
}

// withDefaults fills what was left zero.
func (c Config) withDefaults() Config {
	setDefault(&c.JWTLife, 5*time.Minute)
	setDefault(&c.TicketLife, 20*time.Second)
	setDefault(&c.RefreshLife, 7*24*time.Hour)
	setDefault(&c.KeyRefusedStatus, http.StatusUnauthorized)
	setDefault(&c.MaxUsersStatus, http.StatusTooManyRequests)
	setDefault(&c.HeartBeatSend, 10*time.Second)
	setDefault(&c.HeartBeatReceive, 10*time.Second)
	setDefault(&c.History, 10_000)
	setDefault(&c.RecordLimit, 4096)
	c.HeartBeatSend = max(c.HeartBeatSend, 0)
	c.HeartBeatReceive = max(c.HeartBeatReceive, 0)
	if c.Bench {
		c.RecordLimit = -1
	}
	if c.Clock == nil {
		c.Clock = time.Now //nolint:forbidigo // a test double: most callers want the wall clock and should not have to say so
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
