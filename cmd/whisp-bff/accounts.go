package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/whisp-bff/whisp-bff/internal/broker"
	"github.com/whisp-bff/whisp-bff/internal/config"
	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/session"
	"github.com/whisp-bff/whisp-bff/internal/store"
	"github.com/whisp-bff/whisp-bff/internal/telemetry"
)

// exitCode ends the process with a status of its own; everything about it has
// been printed.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit status %d", int(c)) }

// exitRowsFailed: the import went through, and some rows have no account.
const exitRowsFailed exitCode = 2

func newAccounts() *cobra.Command {
	accounts := &cobra.Command{
		Use:   "accounts",
		Short: "Make, look up and release people's Whisp accounts",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	accounts.AddCommand(newAccountsImport(), newAccountsShow(), newAccountsRelease(), newAccountsSecrets())
	return accounts
}

func newAccountsShow() *cobra.Command {
	return newLinkCommand(&cobra.Command{
		Use:   "show --issuer URL --subject ID",
		Short: "Say which Whisp account a person is linked to",
		Long: `Say which Whisp account a person is linked to, as JSON. Only the store is asked.
Exit 0, or 1 if there is no link.`,
	}, func(cmd *cobra.Command, accounts *broker.Broker, id identity.Identity) error {
		account, ok, err := accounts.Find(cmd.Context(), id)
		if err != nil {
			return err
		}
		if !ok {
			return errors.New("no account is linked to this identity; issuer and subject must be exactly the token's iss and sub")
		}
		return json.NewEncoder(cmd.OutOrStdout()).Encode(struct {
			UserID   string `json:"userId"`
			Username string `json:"username"`
		}{account.UserID, account.Username})
	})
}

func newAccountsRelease() *cobra.Command {
	return newLinkCommand(&cobra.Command{
		Use:   "release --issuer URL --subject ID",
		Short: "Forget which Whisp account a person is linked to",
		Long: `Forget which Whisp account a person is linked to: what to do when sign-ins end
with account_lost and the account is known to be gone from Whisp. The next sign-in
looks for the account again and makes a new one if there is none. The account
itself is not touched.`,
	}, func(cmd *cobra.Command, accounts *broker.Broker, id identity.Identity) error {
		if err := accounts.Release(cmd.Context(), id); err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout(), "released")
		return nil
	})
}

// newLinkCommand completes a command about one identity's link in the store.
func newLinkCommand(cmd *cobra.Command, do func(*cobra.Command, *broker.Broker, identity.Identity) error) *cobra.Command {
	var file, issuer, subject string
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		id, _, err := identity.Listed(issuer, subject, nil)
		if err != nil {
			return fmt.Errorf("--%w", err)
		}
		cfg, err := load(cmd, file)
		if err != nil {
			return err
		}
		if cfg.Store.Kind == store.KindMemory {
			fmt.Fprint(cmd.ErrOrStderr(), linksInServer(cfg))
			return errReported
		}
		work, err := openAccountWork(cmd.Context(), cfg, cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		defer work.close()
		return forOperators(do(cmd, work.accounts, id))
	}
	configFlag(cmd, &file)
	cmd.Flags().StringVar(&issuer, "issuer", "", "the provider's issuer, exactly as in its tokens")
	cmd.Flags().StringVar(&subject, "subject", "", "the person's sub at the provider")
	return cmd
}

// linksInServer says where the links are when no other process can see them.
func linksInServer(cfg *config.File) string {
	host, port, _ := net.SplitHostPort(cfg.Server.AdminListen) // Validate has split it
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	text := fmt.Sprintf(`store.kind is memory: links live in the running server and nowhere else. Ask it:

  curl -G http://%s/admin/accounts -H "Authorization: Bearer $ADMIN_TOKEN" \
    --data-urlencode issuer=… --data-urlencode subject=…

With -X DELETE the link is released.
`, net.JoinHostPort(host, port))
	if !cfg.Server.AdminToken.Given() {
		text += "The server needs server.admin_token for that, which is not set.\n"
	}
	return text
}

// accountWork is what makes accounts in this process: no listener, no login, no
// app.
type accountWork struct {
	accounts *broker.Broker
	close    func()
}

// openAccountWork connects to the store, which must answer. A memory store is
// this process's own: what it forgets is derived again.
func openAccountWork(ctx context.Context, cfg *config.File, log io.Writer) (accountWork, error) {
	own := *cfg
	own.Log.Level = "error" // people watch; what happens to each row is told otherwise
	if own.Store.Kind == store.KindMemory {
		own.Store.MaxEntries = 1000 // links are looked at once
	}
	p := &process{
		cfg: &own, logger: telemetry.NewLogger(own.Log, log), clock: time.Now,
		registry: telemetry.NewRegistry(telemetry.ReadVersion(version)),
	}
	links, err := store.Open(ctx, own.Store, p.clock, store.Deps{Logger: p.logger})
	if err != nil {
		return accountWork{}, err
	}
	closeStore := func() { _ = links.Close() } // nothing is kept back in it
	if err := links.Ready(ctx); err != nil {
		closeStore()
		return accountWork{}, fmt.Errorf("the store does not answer: %w", err)
	}
	whisp, err := p.whisp()
	if err != nil {
		closeStore()
		return accountWork{}, err
	}
	// Nobody signs in here, so nobody asks who still holds a session.
	accounts, err := p.broker(whisp.client, links, session.Holders{})
	if err != nil {
		whisp.endpoint.Close()
		closeStore()
		return accountWork{}, err
	}
	return accountWork{accounts, func() {
		accounts.Wait()
		whisp.endpoint.Close()
		closeStore()
	}}, nil
}

// advice tells operators what codes mean that the catalogue explains to the people
// concerned.
var advice = map[string]string{
	"row_invalid":       "the row is not what the file should have; mend it",
	"account_conflict":  "the user name belongs to another account; account.on_conflict: suffix would make a free one",
	"account_invalid":   "Whisp refuses what the claims map to; try --dry-run to see it",
	"account_lost":      "the linked account was renamed or deleted behind our back; release it if it is gone",
	"whisp_key_refused": "Whisp accepts none of the keys in whisp.api_keys",
	"whisp_unreachable": "no connection to Whisp at whisp.url",
	"whisp_timeout":     "Whisp does not answer in time",
	"whisp_failed":      "Whisp answers with faults of its own",
	"whisp_bad_answer":  "whatever answers at whisp.url does not answer like Whisp",
	"store_unavailable": "the store does not answer",
}

// explain puts a problem into words for operators.
func explain(p *problem.Problem) string {
	if text, ok := advice[p.Code]; ok {
		return text
	}
	return p.Title
}

// forOperators adds what a problem means to its code and cause.
func forOperators(err error) error {
	if p, ok := errors.AsType[*problem.Problem](err); ok {
		return fmt.Errorf("%s (%w)", explain(p), p)
	}
	return err
}
