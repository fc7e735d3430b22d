package upstream

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

func TestMetricsHaveBoundedLabels(t *testing.T) {
	cfg := whispConfig("https://whisp.test")
	deps := whispDeps(t, cfg)
	registry := prometheus.NewRegistry()
	deps.Metrics = NewMetrics(registry, deps.Endpoint)
	whisp, err := NewWhisp(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	status := 200
	whisp.transport = roundTrip(func(*http.Request) (*http.Response, error) {
		if status == 0 {
			return nil, errors.New("secret-detail")
		}
		return reply(status, `{"id":"1","username":"alice"}`), nil
	})
	for _, status = range []int{200, 201, 301, 401, 403, 404, 418, 0, 599} {
		_, _ = whisp.User(t.Context(), secret.New("a.b.c"))
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series, names := 0, ""
	for _, family := range families {
		names += family.GetName() + " "
		for _, metric := range family.GetMetric() {
			series++
			for _, label := range metric.GetLabel() {
				if strings.Contains(label.GetValue(), "secret") || strings.Contains(label.GetValue(), "alice") {
					t.Errorf("label %v", label)
				}
			}
		}
	}
	if names != "whisp_bff_whisp_breaker_state whisp_bff_whisp_call_duration_seconds whisp_bff_whisp_calls_total whisp_bff_whisp_key_position whisp_bff_whisp_key_refused_total " || series > 13 {
		t.Errorf("%d series of %s", series, names)
	}
}
