package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"

	"github.com/whisp-bff/whisp-bff/internal/broker"
	"github.com/whisp-bff/whisp-bff/internal/config"
)

// dryRow is what a row maps to: a line of what --dry-run prints.
type dryRow struct {
	Line    int    `json:"line"`
	Issuer  string `json:"issuer"`
	Subject string `json:"subject"`
	// Usernames and Emails in the order in which they would be tried.
	Usernames []string `json:"usernames,omitempty"`
	Emails    []string `json:"emails,omitempty"`
	FirstName string   `json:"firstName,omitempty"`
	SurName   string   `json:"surName,omitempty"`
	// Shared: an earlier row has the same first user name.
	Shared bool   `json:"shared,omitempty"`
	Error  string `json:"error,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// dryRun prints what each row would become. Nobody is asked, so whether a name is
// free at Whisp is not known; that two rows of the file want the same one is. It
// remembers 8 bytes for each name.
func dryRun(out, report io.Writer, cfg *config.File, name string, rows importRows) error {
	mapping, err := broker.NewMapping(cfg.Account)
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(out)
	seed, seen := maphash.MakeSeed(), map[uint64]struct{}{}
	var good, bad, shared int
	for {
		row, err := rows.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		line := dryRow{Line: row.line, Issuer: row.issuer, Subject: row.subject}
		if row.problem != nil {
			bad++
			line.Error, line.Detail = "row_invalid", fmt.Sprintf("column %d: %s", row.problem.column, row.problem.text)
			fmt.Fprintf(report, "%s:%d:%d: %s\n", name, row.line, row.problem.column, row.problem.text)
		} else {
			good++
			line.take(mapping.Profile(row.id))
			hash := maphash.String(seed, line.Usernames[0])
			if _, line.Shared = seen[hash]; line.Shared {
				shared++
			}
			seen[hash] = struct{}{}
		}
		if err := encoder.Encode(line); err != nil {
			return err
		}
	}
	fmt.Fprintf(report, "%s rows: %s good, %s cannot be read, %s want a user name that an earlier row wants",
		thousands(good+bad), thousands(good), thousands(bad), thousands(shared))
	switch {
	case shared > 0 && cfg.Account.OnConflict == broker.Fail:
		fmt.Fprint(report, " and would fail with account_conflict")
	case shared > 0:
		fmt.Fprint(report, " and would get a suffix")
	}
	fmt.Fprintln(report, ". Nothing was asked or written.")
	if bad > 0 {
		return exitRowsFailed
	}
	return nil
}

func (d *dryRow) take(p broker.Profile) {
	d.Usernames, d.Emails, d.FirstName, d.SurName = p.Usernames, []string{p.Email}, p.FirstName, p.SurName
	if p.FallbackEmail != p.Email {
		d.Emails = append(d.Emails, p.FallbackEmail)
	}
}
