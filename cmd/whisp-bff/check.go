package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/whisp-bff/whisp-bff/internal/config"
	"github.com/whisp-bff/whisp-bff/internal/doctor"
)

func newCheck() *cobra.Command {
	var file string
	var asJSON bool
	timeout := 5 * time.Second
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Read the configuration and try everything that it names",
		Long: `Read the configuration as serve would, and try what it names: the identity
provider with its keys, clock, client and redirect URI; other identity sources;
Whisp and each API key; the app; Redis; certificates, addresses, cookies. Nothing is
changed anywhere: no account is made, nobody is logged in.

  ✓  works
  ·  worth knowing, or could not be verified
  !  works, and should be changed
  ✗  people will meet it

What is made up on purpose must be refused (an API key, a client secret, a token);
where it is not, the real one counts as not verified. The provider and Whisp may log
these as failed attempts.

Exit 0, or 1 if there is a ✗. No secret is ever printed. With --json, an object:
{"ok": bool, "checks": [{"name", "status": "ok"|"info"|"warn"|"fail", "detail",
"advice"}]}; names are stable, keys are only ever added.`,
		Example: `  whisp-bff check --config config.yaml
  whisp-bff check --json | jq -r '.checks[] | select(.status == "fail") | .name'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if timeout < 100*time.Millisecond || timeout > 5*time.Minute {
				return errors.New("--timeout is out of range: write a duration from 100ms to 5m")
			}
			report := examine(cmd.Context(), file, timeout)
			if err := printReport(cmd.OutOrStdout(), report, asJSON); err != nil {
				return err
			}
			if !report.OK {
				return errReported
			}
			return nil
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object, for machines")
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "longest time for each check; they run at the same time")
	return cmd
}

// examine reads the configuration; if it is wrong, that is all there is to report.
func examine(ctx context.Context, file string, timeout time.Duration) doctor.Report {
	cfg, err := newSource(file).load()
	if err != nil {
		return doctor.NewReport(mistakes(err))
	}
	return doctor.Examine(ctx, cfg, doctor.Deps{
		Clock: time.Now, Rand: rand.Reader, Logger: slog.New(slog.DiscardHandler), Timeout: timeout,
		Resolve: net.DefaultResolver.LookupHost, OwnCookies: ownCookies,
	})
}

// mistakes are the configuration's, each a finding.
func mistakes(err error) []doctor.Finding {
	var found []doctor.Finding
	all, ok := errors.AsType[config.Errors](err)
	if !ok {
		return []doctor.Finding{{Name: "configuration", Status: doctor.Fail, Detail: err.Error()}}
	}
	for _, one := range all {
		place := one.File
		if one.Line > 0 {
			place += fmt.Sprintf(":%d:%d", one.Line, one.Column)
		}
		found = append(found, doctor.Finding{
			Name: "configuration", Status: doctor.Fail,
			Detail: place + ": " + strings.TrimSpace(one.Key+" "+one.Problem), Advice: one.Fix,
		})
	}
	return found
}

func printReport(out io.Writer, report doctor.Report, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		return encoder.Encode(report)
	}
	_, err := io.WriteString(out, reportTable(report, colourful(out)))
	return err
}

// colourful: a terminal, and nobody who asked for none (no-color.org).
func colourful(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// marks are the first column, and the colour of it.
var marks = map[doctor.Status]struct{ mark, colour string }{
	doctor.OK: {"✓", "32"}, doctor.Info: {"·", "36"}, doctor.Warn: {"!", "33"}, doctor.Fail: {"✗", "31"},
}

// reportTable has one line for each finding, the advice below it, and the sum.
func reportTable(report doctor.Report, colour bool) string {
	paint := func(code, text string) string {
		if !colour {
			return text
		}
		return "\x1b[" + code + "m" + text + "\x1b[0m"
	}
	width := 0
	for _, f := range report.Findings {
		width = max(width, utf8.RuneCountInString(f.Name))
	}
	var table strings.Builder
	count := map[doctor.Status]int{}
	for _, f := range report.Findings {
		count[f.Status]++
		mark := marks[f.Status]
		fmt.Fprintf(&table, "%s %-*s  %s\n", paint(mark.colour, mark.mark), width, f.Name, onTerminal(f.Detail))
		if f.Advice != "" {
			fmt.Fprintf(&table, "  %s\n", paint("2", strings.Repeat(" ", width)+"  → "+onTerminal(f.Advice)))
		}
	}
	var sums []string
	for _, status := range []doctor.Status{doctor.OK, doctor.Info, doctor.Warn, doctor.Fail} {
		if count[status] > 0 {
			sums = append(sums, paint(marks[status].colour, fmt.Sprintf("%d %s", count[status], marks[status].mark)))
		}
	}
	fmt.Fprintf(&table, "\n%s\n", strings.Join(sums, "  "))
	return table.String()
}

// onTerminal leaves nothing that a terminal would act upon.
func onTerminal(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return utf8.RuneError
		}
		return r
	}, text)
}
