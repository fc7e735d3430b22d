package identity

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestASourceThatIsBuiltAgainGoesOnCounting(t *testing.T) {
	registry := prometheus.NewRegistry()
	counter := func() *prometheus.CounterVec {
		return register(registry, prometheus.NewCounterVec(prometheus.CounterOpts{Name: "x_total", Help: "X."}, []string{"of"}))
	}
	counter().WithLabelValues("a").Inc()
	counter().WithLabelValues("a").Inc()
	if got := testutil.ToFloat64(counter().WithLabelValues("a")); got != 2 {
		t.Errorf("counted %v", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("another kind of metric took the name")
		}
	}()
	register(registry, prometheus.NewCounterVec(prometheus.CounterOpts{Name: "x_total", Help: "X."}, []string{"other"}))
}
