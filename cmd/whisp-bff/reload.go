package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/whisp-bff/whisp-bff/internal/config"
)

// lookInterval is how often the files of the configuration are looked at. A
// change is taken when two looks in a row found it the same, since a file that is
// not replaced but written over is half there for a moment.
const lookInterval = 2 * time.Second

// Outcomes of a reload, for the metric.
const (
	outcomeApplied   = "applied"
	outcomeUnchanged = "unchanged"
	outcomeRefused   = "refused"
)

// reloader takes changes of the configuration into use while the process runs.
//
//	look ── changed, and settled ──┐
//	SIGHUP ────────────────────────┴─► read all ─► valid? ─► adopt ─► in use
//	                                                 │ no      │ no
//	                                                 └─────────┴──► log why; nothing has changed
//
// Keys that need a restart keep the value they started with; the others are
// applied beside them if both are valid together. A refused file is tried again
// when any file changes, or at SIGHUP.
//
// It has one goroutine, so reloads never overlap.
type reloader struct {
	source  *source
	hangups <-chan os.Signal
	adopt   func(context.Context, *config.File, changes) error
	log     *slog.Logger
	clock   func() time.Time
	metrics reloadMetrics

	running *config.File
	// named is what the named files of each key held when it was taken into use.
	named map[string]string
	// unsettled is what the last look found, if that differs from what was read.
	unsettled contents
	// pending are the keys whose change waits for a restart.
	pending []string
}

type reloadMetrics struct {
	success, successTime, pending prometheus.Gauge
	reloads                       *prometheus.CounterVec
}

func newReloader(started start, adopt func(context.Context, *config.File, changes) error, p *process) *reloader {
	r := &reloader{
		source: started.source, hangups: started.hangups, adopt: adopt, log: p.logger, clock: p.clock,
		running: started.cfg, named: named(started.cfg, started.source.read),
		metrics: reloadMetrics{
			success: prometheus.NewGauge(prometheus.GaugeOpts{
				Name: "whisp_bff_config_last_reload_success",
				Help: "1 if the configuration, as its files are, was read and is in use; 0 if it was refused and an older one is in use.",
			}),
			successTime: prometheus.NewGauge(prometheus.GaugeOpts{
				Name: "whisp_bff_config_last_reload_success_timestamp_seconds",
				Help: "When the configuration was last read with success, in Unix time.",
			}),
			pending: prometheus.NewGauge(prometheus.GaugeOpts{
				Name: "whisp_bff_config_restart_pending",
				Help: "Keys of the configuration whose change waits for a restart; the log names them.",
			}),
			reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
				Name: "whisp_bff_config_reloads_total",
				Help: "Readings of the configuration since the start by outcome: applied, unchanged, refused.",
			}, []string{"outcome"}),
		},
	}
	p.registry.MustRegister(r.metrics.success, r.metrics.successTime, r.metrics.pending, r.metrics.reloads)
	for _, outcome := range []string{outcomeApplied, outcomeUnchanged, outcomeRefused} {
		r.metrics.reloads.WithLabelValues(outcome)
	}
	r.metrics.success.Set(1)
	r.metrics.successTime.Set(float64(r.clock().Unix()))
	return r
}

// run watches until ctx ends.
func (r *reloader) run(ctx context.Context) {
	r.log.InfoContext(ctx, "configuration in use", "file", r.source.file, "hash", r.running.Hash())
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			r.look(ctx)
		case <-r.hangups:
			r.reload(ctx)
		}
	}
}

// look reloads if a file changed and has settled.
func (r *reloader) look(ctx context.Context) {
	now := r.source.now()
	switch {
	case now.same(r.source.read):
		r.unsettled = nil
	case !now.same(r.unsettled):
		r.unsettled = now
	default:
		r.reload(ctx)
	}
}

// reload reads everything and takes what changed into use.
func (r *reloader) reload(ctx context.Context) {
	r.unsettled = nil
	began := r.clock()
	next, err := r.source.load()
	if !r.source.now().same(r.source.read) {
		// Half of what was read may be of before and half of after. The next look
		// sees that the files differ from what was read.
		r.log.WarnContext(ctx, "files of the configuration change while they are read; trying again in a moment")
		return
	}
	if err != nil {
		r.refuse(ctx, err)
		return
	}
	held := named(next, r.source.read)
	adopted := r.running.Adopt(next)
	waiting := differences(adopted, next, r.named, held, true)
	if err := adopted.Validate(); err != nil {
		r.refuse(ctx, fmt.Errorf("not valid before a restart has taken %s: %w", strings.Join(waiting, ", "), err))
		return
	}
	changed := changes(differences(r.running, adopted, r.named, held, false))
	if len(changed) > 0 {
		if err := r.adopt(ctx, adopted, changed); err != nil {
			r.refuse(ctx, err)
			return
		}
	}
	r.running = adopted
	for key := range held {
		if _, restart := config.NeedsRestart(key); !restart {
			r.named[key] = held[key]
		}
	}
	r.applied(ctx, changed, began)
	r.wait(ctx, waiting)
	for _, warning := range next.Warnings() {
		r.log.WarnContext(ctx, "configuration", "warning", firstLine(warning))
	}
}

func (r *reloader) applied(ctx context.Context, changed changes, began time.Time) {
	r.metrics.success.Set(1)
	r.metrics.successTime.Set(float64(r.clock().Unix()))
	if len(changed) == 0 {
		r.metrics.reloads.WithLabelValues(outcomeUnchanged).Inc()
		r.log.InfoContext(ctx, "configuration read again: nothing to change", "hash", r.running.Hash())
		return
	}
	r.metrics.reloads.WithLabelValues(outcomeApplied).Inc()
	r.log.InfoContext(ctx, "configuration reloaded", "changed", []string(changed), "hash", r.running.Hash(), "took", r.clock().Sub(began).Round(time.Millisecond))
}

// wait tells which keys wait for a restart, once, and when none does any more.
func (r *reloader) wait(ctx context.Context, waiting []string) {
	r.metrics.pending.Set(float64(len(waiting)))
	if slices.Equal(waiting, r.pending) {
		return
	}
	r.pending = waiting
	if len(waiting) == 0 {
		r.log.InfoContext(ctx, "nothing of the configuration waits for a restart any more")
		return
	}
	reasons := make([]string, len(waiting))
	for i, key := range waiting {
		why, _ := config.NeedsRestart(key)
		reasons[i] = key + ": " + why
	}
	r.log.WarnContext(ctx, "restart to take changes of the configuration that a running process cannot; their old values stay until then", "keys", waiting, "reasons", reasons)
}

// refuse logs what is wrong with the files, one text for each mistake.
func (r *reloader) refuse(ctx context.Context, err error) {
	r.metrics.success.Set(0)
	r.metrics.reloads.WithLabelValues(outcomeRefused).Inc()
	var problems []string
	if mistakes, ok := errors.AsType[config.Errors](err); ok {
		for _, mistake := range mistakes {
			problems = append(problems, firstLine(mistake))
		}
	} else {
		problems = strings.Split(err.Error(), "\n")
	}
	r.log.ErrorContext(ctx, "configuration refused; what was in use stays", "file", r.source.file, "problems", problems)
}

// firstLine leaves out the line of the file and the caret below it.
func firstLine(mistake *config.Error) string {
	line, _, _ := strings.Cut(mistake.Error(), "\n")
	return line
}

// named says what the named files of each key hold: their digests.
func named(cfg *config.File, read contents) map[string]string {
	all := map[string]string{}
	for key, names := range cfg.NamedFiles() {
		for _, name := range names {
			one := read[name]
			all[key] += string(one[:])
		}
	}
	return all
}

// differences are the keys that are not the same in two configurations, or whose
// files do not hold the same, if they need a restart or if they need none.
func differences(before, after *config.File, held, holds map[string]string, restart bool) []string {
	keys := config.Changed(before, after)
	for _, key := range slices.Sorted(maps.Keys(holds)) {
		if _, needs := config.NeedsRestart(key); needs == restart && holds[key] != held[key] && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}
