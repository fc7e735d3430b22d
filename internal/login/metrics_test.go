package login_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// answering is a provider that only ever does one thing.
type answering func(*http.Request) (*http.Response, error)

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) { return a(r) }

func status(code int) answering {
	return func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: code, Body: http.NoBody, Request: r}, nil
	}
}

func TestMetricsTellHowTheProviderAnswers(t *testing.T) {
	for want, provider := range map[string]answering{
		"ok":          status(http.StatusOK), // with a body that is no metadata
		"refused":     status(http.StatusNotFound),
		"failed":      status(http.StatusServiceUnavailable),
		"unreachable": func(*http.Request) (*http.Response, error) { return nil, errors.New("no route to host") },
		"cancelled":   func(*http.Request) (*http.Response, error) { return nil, context.Canceled },
	} {
		t.Run(want, func(t *testing.T) {
			registry := prometheus.NewRegistry()
			d := newDesk(t, func(s *setup) { s.deps.Metrics, s.deps.Transport = registry, provider })
			if _, err := d.Begin(t.Context(), "/", d.jar()); err == nil {
				t.Error("a login began")
			}
			if got := metricValue(t, registry, "whisp_bff_login_provider_requests_total", want); got != 1 {
				t.Errorf("outcome %s was counted %v times, want 1", want, got)
			}
			if got := metricValue(t, registry, "whisp_bff_login_provider_ready", ""); got != 0 {
				t.Errorf("ready is %v, want 0", got)
			}
		})
	}
}

func TestMetricsTellThatTheProviderIsThere(t *testing.T) {
	registry := prometheus.NewRegistry()
	d := newDesk(t, func(s *setup) { s.deps.Metrics = registry })
	d.begin("/")
	if got := metricValue(t, registry, "whisp_bff_login_provider_ready", ""); got != 1 {
		t.Errorf("ready is %v, want 1", got)
	}
	// A relying party made with a new configuration goes on counting.
	newDesk(t, func(s *setup) { s.deps.Metrics = registry }).begin("/")
	if got := metricValue(t, registry, "whisp_bff_login_provider_requests_total", "ok"); got != 2 {
		t.Errorf("counted %v requests, want 2", got)
	}
}

// metricValue reads one series; label is the value of its only label, or empty.
func metricValue(t *testing.T, registry *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if label == "" || m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}
