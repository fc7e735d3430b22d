package upstream

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/whisp-bff/whisp-bff/internal/problem"
)

// Metrics counts what is said to Whisp. Every label value comes from a fixed
// list of this package: via is "client" or "proxy", operation one of the
// documented operations or "extra", outcome one of some ten words.
type Metrics struct {
	calls    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	refusals prometheus.Counter
	position prometheus.Gauge
}

// NewMetrics registers the metrics of one endpoint. registerer may be nil: then
// nothing is exposed. It panics if they are registered already, as they must be
// made once per process and shared by [Whisp] and [WhispProxy].
func NewMetrics(registerer prometheus.Registerer, endpoint *Endpoint) *Metrics {
	m := &Metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "whisp_bff_whisp_calls_total",
			Help: "Calls to Whisp, each repetition counted, by who asked, operation and outcome.",
		}, []string{"via", "operation", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "whisp_bff_whisp_call_duration_seconds",
			Help:    "Time to the header of Whisp's answer (via proxy) or to its end (via client).",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"via", "operation"}),
		refusals: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "whisp_bff_whisp_key_refused_total",
			Help: "How often an API key was set aside because Whisp refuses it. Anything but zero needs an operator.",
		}),
		position: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "whisp_bff_whisp_key_position",
			Help: "Position in whisp.api_keys of the API key in use, from 1. Zero: Whisp refuses every key, nobody can sign in.",
		}),
	}
	if registerer != nil {
		registerer.MustRegister(m.calls, m.duration, m.refusals, m.position, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "whisp_bff_whisp_breaker_state",
			Help: "Circuit breaker before Whisp: 0 closed, 1 half-open, 2 open.",
		}, func() float64 { return float64(endpoint.breaker.State()) }))
	}
	return m
}

func (m *Metrics) observe(via, operation, outcome string, took time.Duration) {
	m.calls.WithLabelValues(via, operation, outcome).Inc()
	m.duration.WithLabelValues(via, operation).Observe(took.Seconds())
}

// outcome names a status for a metric.
func outcome(status int) string {
	switch {
	case status < 300:
		return "ok"
	case status == 400:
		return "invalid"
	case status == 401:
		return "unauthorized"
	case status == 403:
		return "forbidden"
	case status == 404:
		return "not_found"
	case status == 429:
		return "rate_limited"
	case status >= 500:
		return "failed"
	default:
		return "other"
	}
}

// outcomeOf names an error for a metric.
func outcomeOf(err error) string {
	if errors.Is(err, context.Canceled) {
		return "cancelled"
	}
	switch problem.From(err).Code {
	case "whisp_timeout":
		return "timeout"
	case "whisp_unreachable":
		return "unreachable"
	case "whisp_bad_answer":
		return "bad_answer"
	case "body_too_large":
		return "too_large"
	default:
		return "other"
	}
}
