package server

import (
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the RED metrics of the public listener. Labels come from fixed
// sets: route names, status codes, problem codes.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	problems *prometheus.CounterVec
	// known spares the hot path the label look-up.
	known sync.Map // routeStatus -> counted
}

type routeStatus struct {
	route  string
	status int
}

type counted struct {
	requests prometheus.Counter
	duration prometheus.Observer
}

func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "whisp_bff_http_requests_total", Help: "Requests to the public listener by route and status; 499 is a client that left.",
		}, []string{"route", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "whisp_bff_http_request_duration_seconds", Help: "Time from the end of the request's headers to the end of the answer.",
			Buckets: []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route"}),
		problems: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "whisp_bff_problems_total", Help: "Error answers of our own by their code.",
		}, []string{"route", "code"}),
	}
	registry.MustRegister(m.requests, m.duration, m.problems)
	return m
}

func (m *metrics) count(x *exchange, took time.Duration) {
	key := routeStatus{x.route, x.status}
	found, ok := m.known.Load(key)
	if !ok {
		status := x.status
		if status < 100 || status > 599 {
			status = 0 // whatever an app invents must not become a label each
		}
		found, _ = m.known.LoadOrStore(key, counted{
			m.requests.WithLabelValues(x.route, strconv.Itoa(status)),
			m.duration.WithLabelValues(x.route),
		})
	}
	c := found.(counted) //nolint:errcheck // known holds nothing else
	c.requests.Inc()
	if x.status != http.StatusSwitchingProtocols { // a socket's life is no latency
		c.duration.Observe(took.Seconds())
	}
	if x.cause != nil {
		m.problems.WithLabelValues(x.route, x.cause.Code).Inc()
	}
}

// observe counts and logs a finished request. The query never appears: it may
// hold a ticket or a code. Nor do header values or anything a client can choose
// freely, except the path for the app's own routes.
func (s *Site) observe(x *exchange) {
	took := s.deps.Clock().Sub(x.started)
	if x.status == 0 {
		x.status = 499 // nothing was sent: the client left, or the connection was broken on purpose
	}
	s.metrics.count(x, took)
	level := slog.LevelInfo
	if x.cause != nil && x.cause.Status >= http.StatusInternalServerError {
		level = slog.LevelWarn
	}
	ctx := x.r.Context()
	if (!s.parts.AccessLog && level < slog.LevelWarn) || !s.deps.Logger.Enabled(ctx, level) {
		return
	}
	attributes := make([]slog.Attr, 0, 12)
	attributes = append(attributes,
		slog.String("request_id", x.id),
		slog.String("method", clip(x.r.Method, 16)),
		slog.String("route", x.route),
		slog.Int("status", x.status),
		slog.Int64("bytes", x.bytes),
		slog.Float64("ms", float64(took.Microseconds())/1000),
		slog.String("client", x.client))
	if x.route == routeApp {
		attributes = append(attributes, slog.String("path", clip(x.r.URL.Path, 256)))
	}
	if x.source != "" {
		attributes = append(attributes, slog.String("identity_source", x.source))
	}
	if who := x.identified(); who != "" {
		attributes = append(attributes, slog.String("identity", who))
	}
	if x.cause != nil {
		attributes = append(attributes, slog.String("code", x.cause.Code))
		if cause := x.cause.Unwrap(); cause != nil {
			attributes = append(attributes, slog.String("cause", clip(cause.Error(), 500)))
		}
	}
	s.deps.Logger.LogAttrs(ctx, level, "request", attributes...)
}

func clip(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return text[:limit] + "…"
}
