package sockproxy

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/whisp-bff/whisp-bff/internal/problem"
)

// metrics of realtime. Labels are closed sets: reasons, problem codes,
// transports, directions.
type metrics struct {
	opened   prometheus.Counter
	endings  map[reason]prometheus.Counter
	up, down prometheus.Counter
	requests map[transport]prometheus.Counter
	refusals *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, counts func() usage) (*metrics, error) {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "whisp_bff", Subsystem: "realtime", Name: name, Help: help}
	}
	gauge := func(name, help string, value func(usage) int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts(name, help)), func() float64 { return float64(value(counts())) })
	}
	m := &metrics{
		opened:   prometheus.NewCounter(opts("tunnels_opened_total", "Sockets opened.")),
		refusals: prometheus.NewCounterVec(opts("refused_total", "Handshakes and SockJS requests answered with a problem, by its code."), []string{"code"}),
		endings:  map[reason]prometheus.Counter{},
		requests: map[transport]prometheus.Counter{},
	}
	closed := prometheus.NewCounterVec(opts("tunnels_closed_total", "Sockets closed, by what ended them first."), []string{"reason"})
	for _, why := range reasons {
		m.endings[why] = closed.WithLabelValues(string(why))
	}
	transferred := prometheus.NewCounterVec(opts("tunnel_bytes_total", "Bytes carried by sockets: up is to Whisp."), []string{"direction"})
	m.up, m.down = transferred.WithLabelValues("up"), transferred.WithLabelValues("down")
	requests := prometheus.NewCounterVec(opts("sockjs_requests_total", "SockJS requests passed on, by transport."), []string{"transport"})
	for t := range methods {
		if !t.upgrades() {
			m.requests[t] = requests.WithLabelValues(string(t))
		}
	}
	for _, collector := range []prometheus.Collector{
		gauge("tunnels", "Sockets open or opening.", func(u usage) int { return u.tunnels }),
		gauge("sockjs_sessions", "SockJS sessions admitted.", func(u usage) int { return u.socks }),
		m.opened, m.refusals, closed, transferred, requests,
	} {
		if err := reg.Register(collector); err != nil {
			return nil, fmt.Errorf("register realtime metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) closed(why reason)    { m.endings[why].Inc() }
func (m *metrics) request(t transport)  { m.requests[t].Inc() }
func (m *metrics) refused(err error)    { m.refusals.WithLabelValues(problem.From(err).Code).Inc() }
func (m *metrics) bytes(up, down int64) { m.up.Add(float64(up)); m.down.Add(float64(down)) }
