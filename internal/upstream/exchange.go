package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/problem"
)

// maxAnswer bounds every body that is read into memory.
const maxAnswer = 64 << 10

// call is one thing to ask Whisp.
type call struct {
	via       string // "client": ours; "proxy": a browser's
	operation string
	// build makes the request, anew for each attempt.
	build func(context.Context) (*http.Request, error)
	// headerOnly: status and header tell everything, a broken body is no failure.
	headerOnly bool
}

// answer is what came back, its body read and bounded.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// failure is an attempt that gave no answer to work with.
type failure struct {
	err       *problem.Problem
	cancelled error // the caller's own cancellation, instead of err
	status    int   // 0: no answer arrived
	connected bool  // a connection was there, so the request may have been processed
	late      bool  // our own time ran out, for whatever was waited
	given     bool  // Retry-After was given
	broken    bool  // the circuit breaker is open, nothing was tried
}

// exchanger performs single attempts whose answers are read into memory.
type exchanger struct {
	endpoint  *Endpoint
	transport http.RoundTripper
	clock     func() time.Time
	metrics   *Metrics
	openFor   time.Duration
}

func newExchanger(cfg WhispConfig, deps WhispDeps, pool http.RoundTripper) exchanger {
	return exchanger{
		endpoint:  deps.Endpoint,
		transport: pool,
		clock:     deps.Clock,
		metrics:   deps.Metrics,
		openFor:   cfg.Breaker.OpenFor.D(),
	}
}

// ask performs one attempt: breaker, exchange, bounded body, metric. Exactly
// one of its results is meaningful: failure is nil if an answer below 500 other
// than 429 came.
func (x *exchanger) ask(ctx context.Context, c call) (answer, *failure) {
	done, err := x.endpoint.breaker.Allow()
	if err != nil {
		x.metrics.calls.WithLabelValues(c.via, c.operation, "breaker_open").Inc()
		return answer{}, &failure{err: problem.WhispUnreachable().Because(err).After(x.openFor), broken: true}
	}
	report := errExcluded // should this panic
	defer func() { done(report) }()

	start := x.clock()
	a, f := x.exchange(ctx, c)
	x.metrics.observe(c.via, c.operation, f.outcome(a), x.clock().Sub(start))
	report = f.health(c.via)
	return a, f
}

// outcome names the result for a metric.
func (f *failure) outcome(a answer) string {
	switch {
	case f == nil:
		return outcome(a.status)
	case f.cancelled != nil:
		return "cancelled"
	case f.status != 0 && f.err.Code != "whisp_bad_answer":
		return outcome(f.status)
	default:
		return outcomeOf(f.err)
	}
}

// health is what the breaker is told: see [newBreaker].
func (f *failure) health(via string) error {
	switch {
	case f == nil, f.status != 0 && f.status < 500:
		return nil
	case f.cancelled != nil, via == "proxy" && (f.connected || f.late):
		return errExcluded
	default:
		return f.err
	}
}

// exchange sends the request and reads the answer.
func (x *exchanger) exchange(ctx context.Context, c call) (answer, *failure) {
	var connected atomic.Bool
	request, err := c.build(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	}))
	if err != nil {
		return answer{}, &failure{err: problem.Internal().Because(err), cancelled: ctx.Err(), connected: true}
	}
	response, err := x.transport.RoundTrip(request)
	if err != nil {
		return answer{}, noAnswer(ctx, err, connected.Load())
	}
	defer func() { _ = response.Body.Close() }()
	body, err := readBounded(response.Body, maxAnswer)
	a := answer{status: response.StatusCode, header: response.Header, body: body}
	if f := badStatus(a, x.clock()); f != nil {
		return a, f
	}
	switch {
	case err == nil, c.headerOnly:
		return a, nil
	case errors.Is(err, errTooLong):
		return a, &failure{err: problem.WhispBadAnswer().Because(err), status: a.status, connected: true}
	default:
		return a, noAnswer(ctx, err, true)
	}
}

// noAnswer classifies a transport error. Errors of net/http's transport name
// addresses, never URLs or headers, and so may be a logged cause.
func noAnswer(ctx context.Context, err error, connected bool) *failure {
	if errors.Is(ctx.Err(), context.Canceled) {
		return &failure{cancelled: ctx.Err(), connected: connected}
	}
	return &failure{err: transportProblem(ctx, err), connected: connected, late: ctx.Err() != nil}
}

func transportProblem(ctx context.Context, err error) *problem.Problem {
	timeout, ok := errors.AsType[net.Error](err)
	if ok && timeout.Timeout() || ctx.Err() != nil {
		return problem.WhispTimeout().Because(err)
	}
	return problem.WhispUnreachable().Because(err)
}

// badStatus turns 429 and 5xx into a failure.
func badStatus(a answer, now time.Time) *failure {
	if a.status != http.StatusTooManyRequests && a.status < 500 {
		return nil
	}
	p := problem.WhispFailed()
	if a.status == http.StatusTooManyRequests {
		p = problem.WhispRateLimited()
	}
	wait, given := retryAfter(a.header, now)
	return &failure{
		err:       p.Because(fmt.Errorf("status %d", a.status)).After(wait),
		status:    a.status,
		connected: true,
		given:     given,
	}
}

var errTooLong = errors.New("body longer than allowed")

// readBounded reads at most limit bytes; more is errTooLong.
func readBounded(body io.Reader, limit int64) ([]byte, error) {
	read, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err == nil && int64(len(read)) > limit {
		return read[:limit], errTooLong
	}
	return read, err
}
