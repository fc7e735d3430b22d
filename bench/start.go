//go:build linux

package main

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// Targets.
const (
	startTarget   = 100 * time.Millisecond
	idleRSSTarget = 25 << 20
	sizeTarget    = 25_000_000
	settle        = 3 * time.Second
)

// measureStart prints what a fresh whisp-bff is like: how soon it is ready, how
// little it needs, how big the file is.
func measureStart(ctx context.Context, l *lab, p plan, out *report) error {
	for _, b := range l.binaries {
		if err := l.measureStartOf(ctx, b, p, out); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) measureStartOf(ctx context.Context, b candidate, p plan, out *report) error {
	s, err := l.newSite(b, siteOptions{})
	if err != nil {
		return err
	}
	// Once untimed: the file is in the page cache and the provider is warm.
	took := make([]time.Duration, 0, p.starts)
	for i := range p.starts + 1 {
		t, process, err := s.timeStart(ctx)
		if err != nil {
			return err
		}
		if i > 0 {
			took = append(took, t)
		}
		if i < p.starts {
			process.stop()
			continue
		}
		l.stops = append(l.stops, process.stop)
		if err := sleep(ctx, settle); err != nil {
			return err
		}
		out.line("")
		half := median(took, func(t time.Duration) time.Duration { return t })
		out.line("%-34s %9s", "A fresh "+b.name, "")
		out.line("  %-32s %9s  best %s of %d  %s", "exec to ready, provider warm", millis(half), millis(best(took)), len(took),
			out.target("start to ready", half < startTarget, "< 100 ms"))
		idle := process.rss()
		out.line("  %-32s %9s  after %s  %s", "RSS, idle", mib(idle), settle, out.target("idle RSS", idle < idleRSSTarget, "< 25 MiB"))
		process.stop()
	}
	return b.measureSize(out)
}

// timeStart starts whisp-bff and waits for the first 200 of /readyz.
func (s *site) timeStart(ctx context.Context) (time.Duration, *process, error) {
	started := time.Now()
	p, err := s.exec()
	if err != nil {
		return 0, nil, err
	}
	err = p.until(ctx, 250*time.Microsecond, func() bool {
		// Cheaper than a whole HTTP request while nobody listens.
		conn, err := net.Dial("tcp", s.admin.String()) //nolint:noctx // loopback
		if err != nil {
			return false
		}
		_ = conn.Close()
		return s.ready(ctx)
	})
	took := time.Since(started)
	if err != nil {
		p.stop()
		return 0, nil, err
	}
	return took, p, nil
}

func (b candidate) measureSize(out *report) error {
	info, err := os.Stat(b.path)
	if err != nil {
		return err
	}
	note := "stripped"
	if stripped, err := isStripped(b.path); err != nil {
		return err
	} else if !stripped {
		note = "NOT stripped, which make build does"
	}
	out.line("  %-32s %7.1f MB  %s  %s", "binary", float64(info.Size())/1e6, note,
		out.target("binary size", info.Size() < sizeTarget, "< 25 MB"))
	return nil
}

func isStripped(path string) (bool, error) {
	file, err := elf.Open(path)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	defer func() { _ = file.Close() }()
	_, err = file.Symbols()
	return errors.Is(err, elf.ErrNoSymbols), nil
}

func best(of []time.Duration) time.Duration {
	least := of[0]
	for _, d := range of {
		least = min(least, d)
	}
	return least
}

func millis(d time.Duration) string { return fmt.Sprintf("%.1f ms", d.Seconds()*1e3) }

// sleep waits, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
