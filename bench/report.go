//go:build linux

package main

import (
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// report is what a run prints. It remembers which targets were missed.
type report struct {
	to     io.Writer
	missed []string
	met    int
}

func (r *report) line(format string, values ...any) { fmt.Fprintf(r.to, format+"\n", values...) }

func (r *report) title(l *lab, opts options) {
	length := "full run"
	switch {
	case opts.soak > 0:
		length = "soak alone, " + opts.soak.String()
	case opts.short:
		length = "short run"
	}
	for _, b := range l.binaries {
		version, err := command(b.path, "version")
		if err != nil {
			version = "version unknown"
		}
		if version, _, _ = strings.Cut(version, "\n"); len(l.binaries) > 1 {
			version = fmt.Sprintf("%s is %s: %s", b.name, b.path, version)
		}
		r.line("%s", version)
	}
	r.line("beside %s (one worker), %s", l.nginxVersion(), length)
	r.line("%s, %d CPUs, %s; %s", time.Now().Format("2006-01-02 15:04"), runtime.NumCPU(), runtime.Version(), kernel())
	r.line("Ratios are to nginx in the same round, the median of all rounds. Machine load now: %s", load())
}

// target returns the mark for a figure that must be at least, or at most, so
// much, and counts it.
func (r *report) target(what string, met bool, target string) string {
	if met {
		r.met++
		return "✓ " + target
	}
	r.missed = append(r.missed, what+" ("+target+")")
	return "✗ " + target
}

func (r *report) verdict() {
	r.line("")
	switch {
	case r.met+len(r.missed) == 0:
		r.line("Nothing here has a target.")
		return
	case len(r.missed) == 0:
		r.line("All %d targets met.", r.met)
		return
	}
	r.line("%d targets met, %d missed: %s", r.met, len(r.missed), strings.Join(r.missed, "; "))
}

// table prints a comparison; the first contender is what ratios are to.
func (r *report) table(title string, contenders []contender, samples [][]sample) {
	r.line("")
	r.line("%-34s %7s %6s %8s %7s %8s %8s %7s %7s", title, "per s", "ratio", "CPU each", "ratio", "p50", "p99", "RSS", "allocs")
	for i, c := range contenders {
		of := samples[i]
		faster := ratio(of, samples[0], rate)
		allocs, mark := "", ""
		if c.mallocs != nil {
			allocs = fmt.Sprintf("%.0f", median(of, allocsEach))
		}
		if c.target > 0 {
			mark = r.target(title+": "+c.name, faster >= c.target, fmt.Sprintf("≥ %.2g", c.target))
		}
		r.line("  %-32s %7.0f %6.2f %8s %7.2f %8s %8s %7s %7s  %s", c.name, median(of, rate), faster,
			micros(median(of, cpuEach)), ratio(of, samples[0], perCPUSecond),
			micros(median(of, halfWithin)), micros(median(of, mostWithin)), mib(c.process.rss()), allocs, mark)
	}
}

func micros(d time.Duration) string {
	if d >= 10*time.Millisecond {
		return fmt.Sprintf("%.1f ms", d.Seconds()*1e3)
	}
	return fmt.Sprintf("%.0f µs", d.Seconds()*1e6)
}

func mib(bytes int64) string { return fmt.Sprintf("%.1f M", float64(bytes)/(1<<20)) }

// command returns what a program prints.
func command(name string, args ...string) (string, error) {
	said, err := exec.Command(name, args...).CombinedOutput() //nolint:noctx // they print and end
	return string(said), err
}
