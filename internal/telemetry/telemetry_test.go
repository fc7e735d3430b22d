package telemetry_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/whisp-bff/whisp-bff/internal/telemetry"
)

func TestTheLevelOfALoggerCanBeChanged(t *testing.T) {
	var out bytes.Buffer
	cfg := telemetry.Config{Level: "warn", Format: "text"}
	logger, level := telemetry.NewAdjustableLogger(cfg, &out)
	derived := logger.With("part", "x")
	derived.Info("too quiet")
	cfg.Level = "debug"
	level.Use(cfg)
	derived.Debug("heard")
	cfg.Level = "error"
	level.Use(cfg)
	derived.Warn("quiet again")
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "heard") {
		t.Errorf("logged %q", got)
	}
}

func TestAPartThatIsBuiltAgainGoesOnCounting(t *testing.T) {
	registry := prometheus.NewRegistry()
	counter := func() *prometheus.CounterVec {
		return telemetry.Register(registry, prometheus.NewCounterVec(prometheus.CounterOpts{Name: "x_total", Help: "X."}, []string{"of"}))
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
	telemetry.Register(registry, prometheus.NewCounterVec(prometheus.CounterOpts{Name: "x_total", Help: "X."}, []string{"other"}))
}
