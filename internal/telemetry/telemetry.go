// Package telemetry sets up what operators see: structured logs and Prometheus
// metrics.
//
// Logs go to one writer as JSON lines, or as text on a terminal. Nothing here
// hides secrets: that is the work of secret.Text, which every secret is wrapped
// in, and of the rule that no request, header or query is ever logged whole.
//
// Metrics are registered by the packages that count; [NewRegistry] adds the Go
// runtime's, the process's and whisp_bff_build_info.
package telemetry

import (
	"io"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// Config is the section "log" of the configuration.
type Config struct {
	Level     string `yaml:"level" doc:"Least severe lines to write: debug, info, warn or error."`
	Format    string `yaml:"format" doc:"How lines look: json, text, or auto (text on a terminal, json elsewhere)."`
	AccessLog bool   `yaml:"access_log" doc:"Write one line for each request, without its query."`
}

// DefaultConfig logs at info, one line per request.
func DefaultConfig() Config { return Config{Level: "info", Format: "auto", AccessLog: true} }

// Validate reports everything wrong with c.
func (c Config) Validate() error {
	var p setting.Problems
	if _, err := c.level(); err != nil {
		p.Add("level", "is not a known level", "write debug, info, warn or error")
	}
	if c.Format != "json" && c.Format != "text" && c.Format != "auto" {
		p.Add("format", "is not a known format", "write json, text or auto")
	}
	return p.Err()
}

func (c Config) level() (slog.Level, error) {
	var level slog.Level
	err := level.UnmarshalText([]byte(c.Level))
	return level, err
}

// NewLogger returns a logger that writes to w. cfg must be valid.
func NewLogger(cfg Config, w io.Writer) *slog.Logger {
	logger, _ := NewAdjustableLogger(cfg, w)
	return logger
}

// Level is the least severe level that a logger writes, to be changed at any time.
type Level struct{ variable slog.LevelVar }

// Use takes the level of cfg, which must be valid, into use.
func (l *Level) Use(cfg Config) {
	level, _ := cfg.level()
	l.variable.Set(level)
}

// NewAdjustableLogger is [NewLogger], with the level to change.
func NewAdjustableLogger(cfg Config, w io.Writer) (*slog.Logger, *Level) {
	level := &Level{}
	level.Use(cfg)
	options := &slog.HandlerOptions{Level: &level.variable}
	if cfg.Format == "text" || (cfg.Format == "auto" && terminal(w)) {
		return slog.New(slog.NewTextHandler(w, options)), level
	}
	return slog.New(slog.NewJSONHandler(w, options)), level
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// NewRegistry returns a registry with the standard collectors.
func NewRegistry(version Version) *prometheus.Registry {
	r := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "whisp_bff_build_info", Help: "Always 1; the labels say what is running.",
		ConstLabels: prometheus.Labels{"version": version.Version, "revision": version.Revision, "go_version": runtime.Version()},
	})
	build.Set(1)
	r.MustRegister(build,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Version says what was built.
type Version struct{ Version, Revision, Time string }

// ReadVersion reads what the Go linker recorded. stamped, if not empty, is the
// release's name given at build time.
func ReadVersion(stamped string) Version {
	v := Version{Version: "devel", Revision: "unknown"}
	info, ok := debug.ReadBuildInfo()
	if ok {
		if info.Main.Version != "" && info.Main.Version != "(devel)" {
			v.Version = info.Main.Version
		}
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				v.Revision = s.Value
			case "vcs.time":
				v.Time = s.Value
			}
		}
	}
	if stamped != "" {
		v.Version = stamped
	}
	return v
}
