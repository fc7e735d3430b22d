//go:build linux

package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
)

// writeProfiles writes profiles of whisp-bff to dir, CPU and allocations for each
// kind of load: read them with go tool pprof.
func writeProfiles(ctx context.Context, l *lab, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // nothing secret is in a profile
		return err
	}
	for _, kind := range []struct {
		name      string
		accessLog bool
		of        func(*lineup) contender
	}{
		{"proxied", false, func(p *lineup) contender { return p.proxied(0)[1] }},
		{"sign-in", false, func(p *lineup) contender { return p.signIn(0)[1] }},
		{"sign-in-logged", true, func(p *lineup) contender { return p.signIn(0)[1] }},
	} {
		lined, err := l.newLineup(ctx, siteOptions{pprof: true, accessLog: kind.accessLog})
		if err != nil {
			return err
		}
		if err := l.profile(ctx, lined.bffs[0].site, kind.of(lined), filepath.Join(dir, kind.name)); err != nil {
			return fmt.Errorf("%s: %w", kind.name, err)
		}
		lined.stop()
	}
	return nil
}

const profileSeconds = 8

// profile keeps c busy while its CPU profile is taken, then asks for its heap's.
func (l *lab) profile(ctx context.Context, s *site, c contender, path string) error {
	warm, err := l.turn(ctx, c, 5*warmUp)
	if err != nil {
		return err
	}
	admin := "http://" + s.admin.String() + "/debug/pprof/"
	s.client.Timeout = 0
	done := make(chan error, 1)
	go func() {
		done <- s.save(ctx, fmt.Sprintf("%sprofile?seconds=%d", admin, profileSeconds), path+".cpu.pprof")
	}()
	busy, err := l.turn(ctx, c, int(warm.rate*(profileSeconds+1)))
	if profileErr := <-done; profileErr != nil {
		return profileErr
	}
	if err != nil {
		return err
	}
	fmt.Printf("%s: %.0f requests/s while profiled, CPU %s and %.1f allocations per request\n", path, busy.rate, busy.cpu, busy.allocs)
	return s.save(ctx, admin+"allocs", path+".allocs.pprof")
}

func (s *site) save(ctx context.Context, url, path string) error {
	answer, err := s.get(ctx, url)
	if err != nil {
		return err
	}
	if answer.code != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, answer.status)
	}
	return os.WriteFile(path, []byte(answer.body), 0o600)
}
