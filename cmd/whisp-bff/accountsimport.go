package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/whisp-bff/whisp-bff/internal/broker"
	"github.com/whisp-bff/whisp-bff/internal/config"
	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/upstream"
)

// importOptions are the flags of the import.
type importOptions struct {
	config, results, issuer string
	rate                    perSecond
	concurrency             int
	dryRun, resume          bool
}

const maxImportConcurrency = 64

func newAccountsImport() *cobra.Command {
	options := importOptions{rate: 20}
	cmd := &cobra.Command{
		Use:   "import FILE.csv|FILE.jsonl",
		Short: "Make Whisp accounts for a list of people",
		Long: `Make Whisp accounts for people who may never have signed in, so that others can
start a chat with them. The file has an issuer and a subject for each, exactly as
the provider's tokens will say, and the claims that names and addresses are made
from: CSV with a header, or one JSON object in each line.

It talks to Whisp itself, with the API key and master secrets of the configuration;
neither the server nor the provider nor the app need be running. What became of
each row goes to the results file. Run the same command again after an
interruption: rows that have an account are skipped, others are tried again.

Exit 0 if every row has an account, 2 if some have none, 1 if it did not get to the
end. See docs/accounts-import.md.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runImport(cmd, args[0], options) },
	}
	configFlag(cmd, &options.config)
	flags := cmd.Flags()
	flags.Var(&options.rate, "rate", "how many people to take to Whisp, such as `20/s` or 600/m; 0 is no limit; each takes 3 to 5 calls")
	flags.IntVar(&options.concurrency, "concurrency", 8, "how many people are with Whisp at a time; 1 to 64")
	flags.BoolVar(&options.dryRun, "dry-run", false, "read the file and print what each row maps to; ask and write nothing")
	flags.StringVar(&options.results, "results", "", "where results are appended (default FILE.results.jsonl)")
	flags.BoolVar(&options.resume, "resume", true, "skip rows that have an account according to the results")
	flags.StringVar(&options.issuer, "issuer", "", "issuer of rows that name none")
	return cmd
}

func runImport(cmd *cobra.Command, name string, options importOptions) error {
	if options.concurrency < 1 || options.concurrency > maxImportConcurrency {
		return fmt.Errorf("--concurrency is out of range: write a number from 1 to %d", maxImportConcurrency)
	}
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // opened for reading
	info, err := file.Stat()
	if err != nil {
		return err
	}
	rows, err := newImportRows(name, options.issuer, file)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	cfg, err := load(cmd, options.config)
	if err != nil {
		return err
	}
	if options.dryRun {
		return dryRun(cmd.OutOrStdout(), cmd.ErrOrStderr(), cfg, name, rows)
	}
	if options.results == "" {
		options.results = name + ".results.jsonl"
	}
	return importAccounts(cmd.Context(), cmd.ErrOrStderr(), cfg, importSource{name, info.Size(), rows}, options)
}

// importSource is a file that is being read.
type importSource struct {
	name string
	size int64
	rows importRows
}

// importAccounts builds the parts, runs the import, and says how it ended.
func importAccounts(ctx context.Context, out io.Writer, cfg *config.File, source importSource, options importOptions) error {
	results, err := openResults(options.results)
	if err != nil {
		return fmt.Errorf("%s: %w", options.results, err)
	}
	defer func() { _ = results.file.Close() }() // every batch was synced
	if !options.resume {
		results.done = doneSet{}
	}
	shown := newProgress(out, time.Now, source.size, options.rate)
	work, err := openAccountWork(ctx, cfg, shown)
	if err != nil {
		return err
	}
	defer work.close()

	i := &importer{
		source: source.rows, results: results, accounts: work.accounts, shown: shown,
		pace: newPacer(options.rate, time.Now), workers: options.concurrency,
		attempts: importAttempts, firstBackoff: importBackoff,
	}
	stopShowing := shown.start()
	err = i.run(ctx)
	stopShowing()
	shown.summary(options.results)
	switch {
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(out, "Interrupted. Whoever was with Whisp is finished and noted; run the same command again to go on.")
		return errReported
	case err != nil:
		fmt.Fprintf(out, "Stopped: %v.\nRun the same command again to go on from here.\n", forOperators(err))
		return errReported
	case shown.failedRows() > 0:
		fmt.Fprintln(out, "Run the same command again to try those rows once more.")
		return exitRowsFailed
	}
	return nil
}

const (
	// importAttempts is how often one row is tried while Whisp or the store has
	// trouble; with importBackoff that is about a minute and a half.
	importAttempts = 10
	importBackoff  = 500 * time.Millisecond
)

// ensurer makes accounts: [broker.Broker].
type ensurer interface {
	Ensure(ctx context.Context, id identity.Identity) (broker.Account, error)
}

// importer takes rows from a source, a few at a time, to Whisp and their results
// to the results file.
//
//	source ── skip if done ──► workers ── Ensure, repeated while there is trouble ──► results file
//
// At any time it holds one row for each worker, however long the file is, and 15
// bytes for each person who was done before.
type importer struct {
	source   importRows
	results  *resultLog
	accounts ensurer
	shown    *progress
	pace     *pacer
	workers  int

	attempts     int
	firstBackoff time.Duration

	successes atomic.Int64
}

// run returns nil at the end of the source, context.Canceled if ctx was, or what
// stopped it. What was under way is finished and noted in any case.
func (i *importer) run(ctx context.Context) error {
	feed, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	rows := make(chan importRow)
	results := make(chan importResult)
	go func() {
		defer close(rows)
		if err := i.read(feed, rows); err != nil {
			stop(err)
		}
	}()
	go func() {
		defer close(results)
		var workers sync.WaitGroup
		for range i.workers {
			workers.Go(func() {
				for row := range rows {
					if result, done := i.one(feed, row, stop); done {
						result.size = row.size
						i.shown.result(result)
						results <- result
					}
				}
			})
		}
		workers.Wait()
	}()
	if err := i.results.write(results, stop); err != nil {
		return err
	}
	return context.Cause(feed)
}

// read hands rows on until the source or feed ends.
func (i *importer) read(feed context.Context, rows chan<- importRow) error {
	for feed.Err() == nil {
		row, err := i.source.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if row.problem == nil && i.results.done.has(row.id) {
			i.shown.skip(row.size)
			continue
		}
		select {
		case rows <- row:
		case <-feed.Done():
		}
	}
	return nil
}

// one takes a row to Whisp. done is false if that was given up: the row has no
// result and is the next run's.
//
// A fault that lasts for all attempts is the row's own if others succeeded during
// the second half of them; if nobody did, Whisp is down, and to go on would only
// mark one row after the other as failed.
func (i *importer) one(feed context.Context, row importRow, stop func(error)) (result importResult, done bool) {
	result = importResult{Line: row.line, Issuer: row.issuer, Subject: row.subject}
	if row.problem != nil {
		result.Error, result.Detail = "row_invalid", fmt.Sprintf("column %d: %s", row.problem.column, row.problem.text)
		return result, true
	}
	var before int64
	for attempt := 0; ; attempt++ {
		if attempt == i.attempts/2 { // by now, what succeeded before Whisp went down is over
			before = i.successes.Load()
		}
		if i.pace.wait(feed) != nil {
			return result, false
		}
		// What is under way is finished: the broker bounds it in time.
		account, err := i.accounts.Ensure(context.WithoutCancel(feed), row.id)
		if err == nil {
			i.successes.Add(1)
			result.UserID, result.Username, result.Created = account.UserID, account.Username, &account.Created
			return result, true
		}
		p := problem.From(err)
		switch {
		case p.Code == problem.WhispKeyRefused().Code:
			stop(err)
			return result, false
		case transient(p) && attempt+1 < i.attempts:
			if i.patience(feed, p, attempt) != nil {
				return result, false
			}
			continue
		case transient(p) && i.successes.Load() == before:
			stop(err)
			return result, false
		}
		result.Error, result.Detail = p.Code, detail(p)
		return result, true
	}
}

// patience waits before a row's next attempt. What Whisp asks for everybody waits
// for; the rest is the row's own, in case the fault is.
func (i *importer) patience(feed context.Context, p *problem.Problem, attempt int) error {
	own := backoff(i.firstBackoff, attempt)
	if p.RetryAfter > 0 {
		i.pace.hold(p.RetryAfter)
	}
	if wait := p.RetryAfter + own; wait > 5*time.Second {
		i.shown.waiting(wait, p)
	}
	return sleep(feed, own)
}

// transient problems are not the row's: the next attempt may go better.
func transient(p *problem.Problem) bool {
	switch p.Code {
	case "whisp_unreachable", "whisp_timeout", "whisp_failed", "whisp_rate_limited", "whisp_bad_answer", "store_unavailable":
		return true
	}
	return false
}

// detail is what Whisp said about a refused account, or the cause of a problem.
func detail(p *problem.Problem) string {
	if refused, ok := errors.AsType[*upstream.InvalidError](p); ok && refused.Message != "" {
		return refused.Message
	}
	if cause := p.Unwrap(); cause != nil {
		return cause.Error()
	}
	return ""
}
