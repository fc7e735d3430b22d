package upstream

import (
	"errors"

	"github.com/sony/gobreaker/v2"
)

// errExcluded tells the breaker that an exchange says nothing about Whisp's
// health: the caller gave up, or the fault could be one that a single browser
// provoked.
var errExcluded = errors.New("says nothing about whisp")

// newBreaker returns the circuit breaker before Whisp.
//
//	closed ── cfg.Failures failures in a row ──► open
//	open ── cfg.OpenFor later ──► half-open: one call goes out as a probe
//	half-open ── it succeeds ──► closed;  it fails ──► open
//
// What counts as a failure differs by who asks. For our own calls: no
// connection, no answer in time, and 5xx. For a browser's proxied call only: no
// connection. Anything a single browser could provoke at will (a route that
// is slow or answers 500) must not cut off everybody else. Answers below 500
// are successes: a refused password proves that Whisp is there.
func newBreaker(cfg BreakerConfig) *gobreaker.TwoStepCircuitBreaker[struct{}] {
	return gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name:        "whisp",
		MaxRequests: 1,
		Timeout:     cfg.OpenFor.D(),
		ReadyToTrip: func(c gobreaker.Counts) bool { return int(c.ConsecutiveFailures) >= cfg.Failures },
		IsExcluded:  func(err error) bool { return errors.Is(err, errExcluded) },
	})
}
