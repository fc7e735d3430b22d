package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/broker"
	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/upstream"
)

// listOf is a source of n people.
func listOf(t *testing.T, n int) importRows {
	t.Helper()
	var text strings.Builder
	text.WriteString("subject\n")
	for i := range n {
		fmt.Fprintf(&text, "p%d\n", i)
	}
	rows, err := newImportRows("x.csv", "https://l.example", strings.NewReader(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// fakeAccounts answers for each call of each subject; nil is success.
type fakeAccounts struct {
	answer func(subject string, call int) error

	mu    sync.Mutex
	calls map[string]int
}

func (f *fakeAccounts) Ensure(ctx context.Context, id identity.Identity) (broker.Account, error) {
	if err := ctx.Err(); err != nil {
		return broker.Account{}, err
	}
	f.mu.Lock()
	if f.calls == nil {
		f.calls = map[string]int{}
	}
	f.calls[id.Subject]++
	call := f.calls[id.Subject]
	f.mu.Unlock()
	if f.answer != nil {
		if err := f.answer(id.Subject, call); err != nil {
			return broker.Account{}, err
		}
	}
	return broker.Account{UserID: "id-" + id.Subject, Username: id.Subject, Created: call == 1}, nil
}

func newTestImporter(t *testing.T, rows importRows, accounts ensurer, limit perSecond, workers int) (*importer, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "results")
	results, err := openResults(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = results.file.Close() })
	return &importer{
		source: rows, results: results, accounts: accounts, shown: newProgress(io.Discard, time.Now, 100, limit),
		pace: newPacer(limit, time.Now), workers: workers, attempts: importAttempts, firstBackoff: importBackoff,
	}, path
}

// outcomes reads a results file: subject -> error code, or "" for an account.
func outcomes(t *testing.T, path string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for line := range strings.Lines(string(text)) {
		all[field(line, "subject")] = field(line, "error")
	}
	return all
}

func field(line, name string) string {
	_, rest, _ := strings.Cut(line, `"`+name+`":"`)
	value, _, _ := strings.Cut(rest, `"`)
	return value
}

func TestImportKeepsToTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		i, path := newTestImporter(t, listOf(t, 101), &fakeAccounts{}, 20, 8)
		if err := i.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 5*time.Second || took > 5500*time.Millisecond {
			t.Errorf("101 people at 20/s took %s, want 5 s", took)
		}
		if got := outcomes(t, path); len(got) != 101 {
			t.Errorf("%d results", len(got))
		}
	})
}

// When Whisp asks for patience, everybody has some, and nobody fails for it.
func TestImportHonoursRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var refusedAt time.Time
		accounts := &fakeAccounts{answer: func(subject string, call int) error {
			mu.Lock()
			defer mu.Unlock()
			if subject == "p10" && call == 1 {
				refusedAt = time.Now()
				return problem.WhispRateLimited().After(30 * time.Second)
			}
			if !refusedAt.IsZero() && time.Since(refusedAt) > 0 && time.Since(refusedAt) < 30*time.Second {
				t.Errorf("%s was sent %s after Whisp asked for 30 s", subject, time.Since(refusedAt))
			}
			return nil
		}}
		i, path := newTestImporter(t, listOf(t, 40), accounts, 1, 8)
		if err := i.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		for subject, code := range outcomes(t, path) {
			if code != "" {
				t.Errorf("%s: %s", subject, code)
			}
		}
	})
}

// One row that always fails has that as its result; the others go on.
func TestImportRowFails(t *testing.T) {
	invalid := problem.AccountInvalid().Because(&upstream.InvalidError{Message: "username: has an incorrect format"})
	for name, test := range map[string]struct {
		err   error
		code  string
		calls int
	}{
		"conflict":       {problem.AccountConflict(), "account_conflict", 1},
		"lost":           {problem.AccountLost(), "account_lost", 1},
		"invalid":        {invalid, "account_invalid", 1},
		"ours":           {errors.New("unexpected"), "internal", 1},
		"Whisp chokes":   {problem.WhispFailed(), "whisp_failed", importAttempts},
		"no good answer": {fmt.Errorf("register: %w", problem.WhispBadAnswer()), "whisp_bad_answer", importAttempts},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				accounts := &fakeAccounts{answer: func(subject string, _ int) error {
					if subject == "p3" {
						return test.err
					}
					return nil
				}}
				i, path := newTestImporter(t, listOf(t, 200), accounts, 2, 2)
				if err := i.run(t.Context()); err != nil {
					t.Fatal(err)
				}
				got := outcomes(t, path)
				if len(got) != 200 || got["p3"] != test.code || accounts.calls["p3"] != test.calls {
					t.Errorf("%d results; p3: %q after %d calls, want %q after %d", len(got), got["p3"], accounts.calls["p3"], test.code, test.calls)
				}
				delete(got, "p3")
				for subject, code := range got {
					if code != "" {
						t.Errorf("%s: %s", subject, code)
					}
				}
				if name == "invalid" {
					if text, _ := os.ReadFile(path); !strings.Contains(string(text), "incorrect format") {
						t.Error("what Whisp said is not in the results")
					}
				}
			})
		})
	}
}

// With Whisp down, or the key refused, the import stops; it marks no row as failed
// that could be made later.
func TestImportStops(t *testing.T) {
	for name, test := range map[string]struct {
		err          error
		code         string
		least, most  time.Duration // the waits have full jitter: the least is only more than none
		callsPerFail int
	}{
		"down":        {problem.WhispUnreachable(), "whisp_unreachable", 3 * time.Second, 5 * time.Minute, importAttempts},
		"store down":  {problem.StoreUnavailable(), "store_unavailable", 3 * time.Second, 5 * time.Minute, importAttempts},
		"key refused": {problem.WhispKeyRefused().After(time.Second), "whisp_key_refused", 0, time.Second, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				accounts := &fakeAccounts{answer: func(subject string, _ int) error {
					if len(subject) < 3 { // p0 to p9
						return nil
					}
					return test.err
				}}
				began := time.Now()
				i, path := newTestImporter(t, listOf(t, 1000), accounts, 0, 4)
				err := i.run(t.Context())
				if p := problem.From(err); p.Code != test.code {
					t.Errorf("stopped because of %v, want %s", err, test.code)
				}
				if took := time.Since(began); took < test.least || took > test.most {
					t.Errorf("stopped after %s", took)
				}
				got := outcomes(t, path)
				if len(got) > 10 || len(got) < 10 && test.callsPerFail > 1 {
					t.Errorf("%d results, want those of the 10 that worked: %v", len(got), got)
				}
				for subject, code := range got {
					if code != "" {
						t.Errorf("%s is marked as failed: %s", subject, code)
					}
				}
				for subject, calls := range accounts.calls {
					if calls > test.callsPerFail {
						t.Errorf("%s was tried %d times", subject, calls)
					}
				}
			})
		})
	}
}

// Ctrl-C: nobody new goes to Whisp, who is there is finished and noted.
func TestImportInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, interrupt := context.WithCancel(t.Context())
		accounts := &fakeAccounts{answer: func(string, int) error {
			time.Sleep(10 * time.Second) // of the bubble
			return nil
		}}
		i, path := newTestImporter(t, listOf(t, 1000), accounts, 0, 8)
		time.AfterFunc(15*time.Second, interrupt)
		if err := i.run(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("ended with %v", err)
		}
		if got := outcomes(t, path); len(got) != 16 || len(accounts.calls) != 16 {
			t.Errorf("%d sent, %d noted, want 16", len(accounts.calls), len(got))
		}
	})
}

// A results file that cannot be written stops the import: unnoted work is
// repeated work.
func TestImportCannotWriteResults(t *testing.T) {
	accounts := &fakeAccounts{}
	i, _ := newTestImporter(t, listOf(t, 100_000), accounts, 0, 4)
	_ = i.results.file.Close()
	if err := i.run(t.Context()); err == nil || !strings.Contains(err.Error(), "results file") {
		t.Errorf("ended with %v", err)
	}
	if len(accounts.calls) > 50_000 {
		t.Errorf("%d people were sent all the same", len(accounts.calls))
	}
}

func TestImportResumes(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "results")
	before := `{"line":2,"issuer":"https://l.example","subject":"p0","userId":"u","username":"n","created":true}
{"line":3,"issuer":"https://l.example","subject":"p1","error":"account_conflict"}
{"line":4,"issuer":"https://other.example","subject":"p2","userId":"u","username":"n","created":false}
`
	for name, torn := range map[string]string{
		"whole": "", "torn": `{"line":5,"issuer":"https://l.example","subject":"p3","userId":"u`, "torn early": `{"li`, "no newline": `{"line":5,"issuer":"https://l.example","subject":"p3","userId":"u","username":"n"}`,
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(before+torn), 0o600); err != nil {
				t.Fatal(err)
			}
			accounts := &fakeAccounts{}
			i, _ := newTestImporter(t, listOf(t, 5), accounts, 0, 2)
			_ = i.results.file.Close()
			var err error
			if i.results, err = openResults(path); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = i.results.file.Close() }()
			if err := i.run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if accounts.calls["p0"] != 0 || len(accounts.calls) != 4 {
				t.Errorf("sent %v, want all but p0", accounts.calls)
			}
			text, _ := os.ReadFile(path)
			if !strings.HasPrefix(string(text), before) || strings.Count(string(text), "\n") != 3+4 {
				t.Errorf("results are now\n%s", text)
			}
		})
	}
	for name, text := range map[string]string{"a list": "a\nb\n", "its end": before + "hello", "JSON": "{\"a\":1}\n", "no line break": "hello"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openResults(path); err == nil {
			t.Errorf("%s: taken for results", name)
		}
		if kept, _ := os.ReadFile(path); string(kept) != text {
			t.Errorf("%s: changed to %q", name, kept)
		}
	}
}

func TestPerSecond(t *testing.T) {
	for text, want := range map[string]perSecond{"20/s": 20, "600/m": 10, "3600/h": 1, "5": 5, "0": 0, "0.5/s": 0.5} {
		var got perSecond
		if err := got.Set(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "fast", "-1/s", "20/d", "20 /s", "1e9", "NaN/s", "Inf"} {
		var got perSecond
		if err := got.Set(text); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}

func TestBackoff(t *testing.T) {
	for attempt := range 40 {
		bound := min(importBackoff<<min(attempt, 10), 30*time.Second)
		if wait := backoff(importBackoff, attempt); wait < 0 || wait > bound {
			t.Errorf("attempt %d waits %s, at most %s", attempt, wait, bound)
		}
	}
}

func TestProgress(t *testing.T) {
	now := time.Unix(0, 0)
	var out bytes.Buffer
	p := newProgress(&out, func() time.Time { return now }, 200_000, 20)
	yes, no := true, false
	for range 1000 {
		p.skip(10)
	}
	now = now.Add(time.Minute) // reading the results is not counted
	p.skip(10)
	for i := range 4000 {
		now = now.Add(50 * time.Millisecond)
		r := importResult{Line: i + 2, Created: &yes, UserID: "u", size: 20}
		switch {
		case i%100 == 1:
			r = importResult{Line: i + 2, Error: "account_conflict", Detail: "taken", size: 20}
		case i%2 == 0:
			r.Created = &no
		}
		p.result(r)
	}
	p.tick()
	lines := slices.Collect(strings.Lines(out.String()))
	if len(lines) != shownFailures+2 {
		t.Fatalf("%d lines:\n%s", len(lines), out.String())
	}
	if lines[0] != "line 3: account_conflict: taken\n" || !strings.Contains(lines[shownFailures], "results file only") {
		t.Errorf("failures:\n%s", out.String())
	}
	// 109,990 of 200,000 bytes are left, 5,500 rows of 20 bytes at 20/s.
	if want := " 45 %  5,001 rows  20.0/s  ETA 4m35s  40 failed\n"; lines[shownFailures+1] != want {
		t.Errorf("line %q, want %q", lines[shownFailures+1], want)
	}
	p.terminal = true
	out.Reset()
	p.tick()
	if want := "\r\x1b[K[=========           ]  45 %"; !strings.HasPrefix(out.String(), want) || len(out.String()) > 84 {
		t.Errorf("bar %q", out.String())
	}
	_, _ = p.Write([]byte("log line\n"))
	if !strings.Contains(out.String(), "\r\x1b[Klog line\n\r\x1b[K[====") {
		t.Errorf("a log line disturbs the bar: %q", out.String())
	}
	out.Reset()
	p.clear()
	p.summary("there")
	for _, want := range []string{
		"5,001 rows: 1,960 made, 2,000 found, 40 failed, 1,001 done before; 3m20s, 20.0/s (limit 20/s)\n",
		"40 × account_conflict: the user name belongs", "(lines 3, 103, 203, 303, 403, 503, 603, 703 and more)", "Results: there\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("summary has no %q:\n%s", want, out.String())
		}
	}
}
