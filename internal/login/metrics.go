package login

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what is said to the provider: metadata, keys, tokens, userinfo.
// outcome is a closed set: ok, refused (4xx), failed (5xx), unreachable, cancelled.
type metrics struct {
	requests *prometheus.CounterVec
	duration prometheus.Histogram
	ready    prometheus.Gauge
}

// newMetrics registers with registerer, which may be nil. What an earlier
// relying party of the process registered is used again.
func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "whisp_bff_login_provider_requests_total",
			Help: "Requests to the identity provider by outcome: ok, refused (4xx), failed (5xx), unreachable, cancelled.",
		}, []string{"outcome"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "whisp_bff_login_provider_request_duration_seconds",
			Help:    "Time to the header of the identity provider's answer.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		ready: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "whisp_bff_login_provider_ready",
			Help: "1 once the identity provider was discovered. 0: nobody can log in, and /readyz says so.",
		}),
	}
	if registerer == nil {
		return m, nil
	}
	var errs [3]error
	m.requests, errs[0] = register(registerer, m.requests)
	m.duration, errs[1] = register(registerer, m.duration)
	m.ready, errs[2] = register(registerer, m.ready)
	return m, errors.Join(errs[:]...)
}

func register[C prometheus.Collector](registerer prometheus.Registerer, collector C) (C, error) {
	err := registerer.Register(collector)
	if before, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if same, ok := before.ExistingCollector.(C); ok {
			return same, nil
		}
	}
	return collector, err
}

// observedTransport counts requests on their way to the provider.
type observedTransport struct {
	next    http.RoundTripper
	metrics *metrics
	clock   func() time.Time
}

func (t observedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	began := t.clock()
	response, err := t.next.RoundTrip(r)
	t.metrics.duration.Observe(t.clock().Sub(began).Seconds())
	t.metrics.requests.WithLabelValues(outcome(response, err)).Inc()
	return response, err
}

func outcome(response *http.Response, err error) string {
	switch {
	case errors.Is(err, context.Canceled):
		return "cancelled" // the browser left
	case err != nil:
		return "unreachable"
	case response.StatusCode >= http.StatusInternalServerError:
		return "failed"
	case response.StatusCode >= http.StatusBadRequest:
		return "refused"
	}
	return "ok"
}
