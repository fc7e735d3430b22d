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
	cuts     map[reason]prometheus.Counter // of SockJS over HTTP
}

func newMetrics(reg prometheus.Registerer, counts func() census, addresses func() int) (*metrics, error) {
	m := &metrics{
		opened: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "whisp_bff_realtime_tunnels_opened_total", Help: "Sockets opened.",
		}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "whisp_bff_realtime_refused_total", Help: "Handshakes and SockJS requests answered with a problem, by its code.",
		}, []string{"code"}),
		endings:  map[reason]prometheus.Counter{},
		requests: map[transport]prometheus.Counter{},
		cuts:     map[reason]prometheus.Counter{},
	}
	closed := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "whisp_bff_realtime_tunnels_closed_total", Help: "Sockets closed, by what ended them first.",
	}, []string{"reason"})
	for _, why := range reasons {
		m.endings[why] = closed.WithLabelValues(string(why))
	}
	cut := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "whisp_bff_realtime_sockjs_ended_total", Help: "SockJS sessions ended by us, and requests of theirs cut for being slow or idle, by reason.",
	}, []string{"reason"})
	for _, why := range []reason{sessionEnded, sessionExpired, drained, slowClient, idleTimeout} {
		m.cuts[why] = cut.WithLabelValues(string(why))
	}
	transferred := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "whisp_bff_realtime_tunnel_bytes_total", Help: "Bytes carried by sockets: up is to Whisp.",
	}, []string{"direction"})
	m.up, m.down = transferred.WithLabelValues("up"), transferred.WithLabelValues("down")
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "whisp_bff_realtime_sockjs_requests_total", Help: "SockJS requests passed on, by transport.",
	}, []string{"transport"})
	for t := range methods {
		if !t.upgrades() {
			m.requests[t] = requests.WithLabelValues(string(t))
		}
	}
	collectors := append(gauges(counts, addresses), m.opened, m.refusals, closed, cut, transferred, requests)
	for _, collector := range collectors {
		if err := reg.Register(collector); err != nil {
			return nil, fmt.Errorf("register realtime metrics: %w", err)
		}
	}
	return m, nil
}

// gauges are read when somebody looks.
func gauges(counts func() census, addresses func() int) []prometheus.Collector {
	return []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "whisp_bff_realtime_tunnels", Help: "Sockets open or opening.",
		}, func() float64 { return float64(counts().tunnels) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "whisp_bff_realtime_sockjs_sessions", Help: "SockJS sessions admitted.",
		}, func() float64 { return float64(counts().socks) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "whisp_bff_realtime_tunnels_limit", Help: "realtime.max_tunnels: most sockets, and most SockJS sessions, of this process; 0 is no limit.",
		}, func() float64 { return float64(counts().limit) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "whisp_bff_realtime_addresses", Help: "Client addresses that began sockets or SockJS sessions lately; at most 65,536 are kept.",
		}, func() float64 { return float64(addresses()) }),
	}
}

func (m *metrics) closed(why reason)    { m.endings[why].Inc() }
func (m *metrics) sockCut(why reason)   { m.cuts[why].Inc() }
func (m *metrics) request(t transport)  { m.requests[t].Inc() }
func (m *metrics) refused(err error)    { m.refusals.WithLabelValues(problem.From(err).Code).Inc() }
func (m *metrics) bytes(up, down int64) { m.up.Add(float64(up)); m.down.Add(float64(down)) }
