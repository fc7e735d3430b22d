package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/whisp-bff/whisp-bff/internal/broker"
	"github.com/whisp-bff/whisp-bff/internal/store"
)

// countedInServer is what there is to say with a memory store.
const countedInServer = `store.kind is memory: links live in the running server, in its memory alone, and nothing
can be counted from here. A restart forgets them and the accounts stay, so no count
of links could show that a master secret is not needed: keep them all.
`

func newAccountsSecrets() *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "secrets",
		Short: "Count the accounts that need each master secret",
		Long: `Count the links in the store by the master secret that their accounts were made
with, to find out when an old one may leave account.master_secrets. Reads every
link, changes nothing, asks nobody but the store, and shows no secret.

What it counts is links. An account without one (released, or made before the store
was there or was lost) needs its secret as much, and cannot be counted. Run it while
no Redis Cluster is being resharded: links on the move are not seen.
Exit 0 if it counted, or 1.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := load(cmd, file)
			if err != nil {
				return err
			}
			if cfg.Store.Kind == store.KindMemory {
				fmt.Fprint(cmd.ErrOrStderr(), countedInServer)
				return errReported
			}
			work, err := openAccountWork(cmd.Context(), cfg, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			defer work.close()
			uses, err := work.accounts.CountBySecret(cmd.Context())
			if err != nil {
				return forOperators(err)
			}
			report := newSecretReport(uses)
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(report)
			}
			return report.print(cmd.OutOrStdout())
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// rotationAdvice says what a count means for one listed secret.
type rotationAdvice string

const (
	adviceNewest rotationAdvice = "newest" // new accounts are made with it
	adviceNeeded rotationAdvice = "needed" // links use it
	adviceUnsure rotationAdvice = "unsure" // no link uses it for certain, and some may
	adviceUnused rotationAdvice = "unused" // no link uses it
)

// secretReport is the JSON output; the table is made of it too.
type secretReport struct {
	Secrets    []secretLine `json:"secrets"`    // in the order of account.master_secrets
	Unlisted   int          `json:"unlisted"`   // links whose secret is not there
	Pending    int          `json:"pending"`    // accounts that were begun, with any of the secrets
	Unreadable int          `json:"unreadable"` // links that the seal keys do not open, or altered ones
}

type secretLine struct {
	Position int            `json:"position"`
	Links    int            `json:"links"`
	Advice   rotationAdvice `json:"advice"`
}

func newSecretReport(uses []broker.SecretUse) secretReport {
	var r secretReport
	for _, use := range uses {
		switch use.State {
		case broker.SecretListed:
			r.Secrets = append(r.Secrets, secretLine{Position: use.Position, Links: use.Links})
		case broker.SecretUnlisted:
			r.Unlisted = use.Links
		case broker.SecretPending:
			r.Pending = use.Links
		case broker.SecretUnreadable:
			r.Unreadable = use.Links
		}
	}
	for i := range r.Secrets {
		line := &r.Secrets[i]
		switch {
		case line.Position == 1:
			line.Advice = adviceNewest
		case line.Links > 0:
			line.Advice = adviceNeeded
		case r.Pending+r.Unreadable > 0:
			line.Advice = adviceUnsure
		default:
			line.Advice = adviceUnused
		}
	}
	return r
}

var inWords = map[rotationAdvice]string{
	adviceNewest: "newest: new accounts use it",
	adviceNeeded: "still needed",
	adviceUnsure: "used by no link for certain, but those below may need it: keep it",
	adviceUnused: "used by no link: may be removed once every account of people without a link is known",
}

// print writes the table, and below it what is not as it should be.
func (r secretReport) print(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "master secret\tlinks\tadvice")
	row := func(what string, links int, advice string) {
		fmt.Fprintf(table, "%s\t%s\t%s\n", what, thousands(links), advice)
	}
	unused := false
	for _, line := range r.Secrets {
		row(strconv.Itoa(line.Position), line.Links, inWords[line.Advice])
		unused = unused || line.Advice == adviceUnused
	}
	if r.Unlisted > 0 {
		row("not listed", r.Unlisted, "these people cannot sign in: put their secret back")
	}
	if r.Pending > 0 {
		row("pending", r.Pending, "made with any of them, if at all; settled at their next sign-in or import")
	}
	if r.Unreadable > 0 {
		row("unreadable", r.Unreadable, "made with any of them; altered, or store.seal_keys lacks a key")
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if unused {
		fmt.Fprint(out, `
This holds if every server runs with this list, in this order. People without a link may
have an account all the same: their link was released, or the account was made before
this store kept links, or it lost them. Take everybody through "accounts import" with
--resume=false first: accounts are found under the names that the claims give (renamed
ones are not), and count again. Keep a copy of a secret that you remove: without it
nobody can open an account made with it.
`)
	}
	return nil
}
