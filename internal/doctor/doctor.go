// Package doctor tries everything that a configuration names, and says in plain
// words what works, what does not and what to do: it is "whisp-bff check".
//
// [Examine] runs one check for each part of the configuration, all at the same
// time and each within a time limit, and returns what they found in a fixed
// order. A check asks through the part's own client, so that what it sees is what
// serving would see: the same certificates, time limits and rules. It changes
// nothing anywhere: no account is made, nobody is logged in, values in Redis are
// gone after seconds.
//
// A [Finding] is one of four: ok; info, nothing is wrong and something is worth
// knowing, such as what could not be verified; warn, it works and should be
// changed; fail, people will meet it. Only fail makes the report not ok.
//
// Where a yes alone proves nothing, the opposite is tried as well: a made-up API
// key, client secret, token or cookie must be refused, or else the real one counts
// as not verified.
//
// No finding contains a secret or a query. Of what a peer wrote there is a status,
// an error code, an issuer or a server's version, and in an error that nobody
// foresaw at most what a library quotes, cut short.
package doctor

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/config"
)

// Status says how bad a finding is.
type Status string

// The four of them.
const (
	OK   Status = "ok"
	Info Status = "info"
	Warn Status = "warn"
	Fail Status = "fail"
)

// Finding is what was found out about one thing.
type Finding struct {
	// Name is that of the setting it is about, or of what was tried; it stays the
	// same from release to release.
	Name   string `json:"name"`
	Status Status `json:"status"`
	// Detail says what was found, in a few words.
	Detail string `json:"detail"`
	// Advice is one sentence: what to do. Empty where there is nothing to do.
	Advice string `json:"advice,omitempty"`
}

// Report is what [Examine] returns.
type Report struct {
	// OK: no finding is a fail.
	OK       bool      `json:"ok"`
	Findings []Finding `json:"checks"`
}

// NewReport is the report of findings.
func NewReport(findings []Finding) Report {
	r := Report{OK: true, Findings: findings}
	for _, f := range findings {
		r.OK = r.OK && f.Status != Fail
	}
	return r
}

// Deps are what an examination needs besides the configuration; all are required.
type Deps struct {
	Clock func() time.Time
	// Rand makes the credentials that must be refused.
	Rand   io.Reader
	Logger *slog.Logger
	// Timeout bounds each check.
	Timeout time.Duration
	// Resolve looks a host name up.
	Resolve func(ctx context.Context, host string) ([]string, error)
	// OwnCookies are never sent to the app.
	OwnCookies []string
}

// examination is one run.
type examination struct {
	cfg  *config.File
	deps Deps
}

// Examine tries what cfg, which must be valid, names. It returns within
// deps.Timeout and a little.
func Examine(ctx context.Context, cfg *config.File, deps Deps) Report {
	e := &examination{cfg, deps}
	checks := []func(context.Context) []Finding{
		e.configuration, e.publicURL, e.listeners, e.files,
		e.login, e.identity, e.whisp, e.app, e.store,
	}
	found := make([][]Finding, len(checks))
	var wg sync.WaitGroup
	for i, check := range checks {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, deps.Timeout)
			defer cancel()
			found[i] = check(ctx)
		})
	}
	wg.Wait()
	var all []Finding
	for _, some := range found {
		all = append(all, some...)
	}
	return NewReport(all)
}
