package telemetry_test

import (
	"bytes"
	"strings"
	"testing"

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
