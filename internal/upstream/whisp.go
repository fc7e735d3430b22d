package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// ErrUnauthorized means that Whisp answered 401: the credentials, the refresh
// token or the JWT were refused. At sign-in a revoked API key can look just the
// same as long as there is only one: [Whisp.ProbeKey] tells the two apart.
var ErrUnauthorized = errors.New("whisp refuses the credentials")

// InvalidError means that Whisp answered 400: a field is malformed, or the user
// name or e-mail address is taken.
type InvalidError struct {
	// Message is what Whisp said, at most 200 bytes of it. It may quote user
	// data: never show it to a client, never branch on it.
	Message string
}

func (e *InvalidError) Error() string { return "whisp refuses the request as invalid" }

// Whisp is the client that holds the API keys. It is safe for concurrent use.
//
// Every method ends within timeouts.total, repetitions included. Errors are
// [ErrUnauthorized], [*InvalidError], context.Canceled (the caller's own), or
// wrap a problem of internal/problem, with RetryAfter where Whisp gave one or
// the circuit breaker is open.
//
// It repeats a failed attempt (no answer, 429, 5xx) at most cfg.Retries times
// with full jitter, where that is safe, and honours Retry-After up to
// max_retry_wait. It never follows redirects and never keeps cookies.
//
// The API key in use is the most preferred one that Whisp accepts. One that it
// refuses is set aside for key_retry and then probed; with all set aside, calls
// that need one fail at once with WhispKeyRefused.
type Whisp struct {
	exchanger
	keys   keys
	random io.Reader
	pace   atomic.Pointer[pace]
}

// pace is how long and how often Whisp is asked.
type pace struct {
	total   time.Duration
	maxWait time.Duration
	retries int
}

func newPace(cfg WhispConfig) *pace {
	return &pace{total: cfg.Timeouts.Total.D(), maxWait: cfg.MaxRetryWait.D(), retries: cfg.Retries}
}

// WhispDeps are what [NewWhisp] and [NewWhispProxy] need besides configuration.
type WhispDeps struct {
	Endpoint *Endpoint
	Logger   *slog.Logger
	Clock    func() time.Time
	// Rand is read for jitter; it must be safe for concurrent use, as
	// crypto/rand.Reader is.
	Rand    io.Reader
	Metrics *Metrics
}

// NewWhisp returns the client. cfg must have passed Validate, its secrets must
// be resolved: an empty API key is an error.
func NewWhisp(cfg WhispConfig, deps WhispDeps) (*Whisp, error) {
	w := &Whisp{
		exchanger: newExchanger(cfg, deps, deps.Endpoint.ownTransport()),
		keys:      keys{clock: deps.Clock, logger: deps.Logger, metrics: deps.Metrics},
		random:    deps.Rand,
	}
	use, err := w.Prepare(cfg)
	if err != nil {
		return nil, err
	}
	use()
	return w, nil
}

// Prepare returns a function that takes api_keys (as [Whisp.SetKeys] does),
// key_retry, timeouts.total, retries and max_retry_wait into use for every call
// that begins afterwards. An error means that a key is unusable.
func (w *Whisp) Prepare(cfg WhispConfig) (use func(), err error) {
	texts := make([]secret.Text, len(cfg.APIKeys))
	for i, key := range cfg.APIKeys {
		texts[i] = key.Text()
	}
	if err := checkKeys(texts); err != nil {
		return nil, err
	}
	return func() {
		w.keys.setRetry(cfg.KeyRetry.D())
		w.keys.set(texts)
		w.pace.Store(newPace(cfg))
	}, nil
}

// ours is a call of our own.
type ours struct {
	operation    string
	method, path string
	bearer       secret.Text
	keyed        bool // carries an API key
	body         any  // encoded as JSON; nil: none
	repeat       func(failure) bool
	headerOnly   bool
}

// do performs a call with repetitions. The answer's status is one that the
// operation must interpret: neither 429 nor 5xx nor, for keyed calls, refused.
func (w *Whisp) do(ctx context.Context, o ours) (answer, error) {
	pace := w.pace.Load()
	ctx, cancel := context.WithTimeout(ctx, pace.total)
	defer cancel()
	for attempt := 0; ; attempt++ {
		a, f := w.once(ctx, o)
		if f == nil {
			return a, nil
		}
		if f.cancelled != nil {
			return a, fmt.Errorf("%s: %w", o.operation, f.cancelled)
		}
		failed := fmt.Errorf("%s: %w", o.operation, f.err)
		wait, ok := w.wait(pace, *f, attempt)
		if !ok || !o.repeat(*f) || !pause(ctx, wait, w.clock()) {
			return a, failed
		}
	}
}

// wait returns how long to wait before the next attempt, or false if there is
// to be none: enough were made, the breaker is open, the answer was bad rather
// than missing, or Whisp asks for more patience than we have.
func (w *Whisp) wait(pace *pace, f failure, attempt int) (time.Duration, bool) {
	if attempt >= pace.retries || f.broken || !f.transient() || f.err.RetryAfter > pace.maxWait {
		return 0, false
	}
	return f.err.RetryAfter + backoff(w.random, attempt, pace.maxWait), true
}

// once is one attempt.
func (w *Whisp) once(ctx context.Context, o ours) (answer, *failure) {
	if o.keyed {
		return w.withKey(ctx, o)
	}
	return w.ask(ctx, w.call(o, secret.Text{}))
}

func (w *Whisp) call(o ours, key secret.Text) call {
	build := func(ctx context.Context) (*http.Request, error) { return w.request(ctx, o, key) }
	return call{via: "client", operation: o.operation, build: build, headerOnly: o.headerOnly}
}

func (w *Whisp) request(ctx context.Context, o ours, key secret.Text) (*http.Request, error) {
	var body io.Reader
	if o.body != nil {
		encoded, err := json.Marshal(o.body)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", o.operation, err)
		}
		body = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, o.method, w.endpoint.URL(o.path, "").String(), body)
	if err != nil {
		return nil, fmt.Errorf("build %s: %w", o.operation, err)
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "whisp-bff")
	if o.body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if !o.bearer.Empty() {
		request.Header.Set("Authorization", "Bearer "+o.bearer.Reveal())
	}
	if o.keyed {
		request.Header.Set("X-Api-Key", key.Reveal())
	}
	return request, nil
}
