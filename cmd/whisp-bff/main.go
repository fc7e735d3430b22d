// Command whisp-bff is the backend that a web app needs to use Whisp: it signs
// people in, keeps the API key, and carries the chat traffic.
//
// Without a subcommand it serves.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/whisp-bff/whisp-bff/internal/telemetry"
)

// version is the release's name, set by the linker (-X main.version=…).
var version string

func main() {
	// A second signal ends the process the hard way: stop() gives the default
	// behaviour back as soon as the first one arrived.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	err := newCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		if code, ok := errors.AsType[exitCode](err); ok {
			os.Exit(int(code))
		}
		if !errors.Is(err, errReported) {
			fmt.Fprintln(os.Stderr, "whisp-bff:", err)
		}
		os.Exit(1)
	}
}

// errReported is an error that the person has already read all about.
var errReported = errors.New("reported")

func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "whisp-bff",
		Short: "The backend for browser apps that use Whisp",
		Long: `whisp-bff stands in front of a web app. It signs people in at your OpenID Connect
provider, makes each of them a Whisp user with an API key that no browser ever
sees, and carries the chat traffic.

Without a subcommand it serves, like "whisp-bff serve".`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	serve := newServe()
	root.Flags().AddFlagSet(serve.Flags())
	root.RunE = serve.RunE
	root.AddCommand(serve, newValidate(), newAccounts(), newVersion())
	return root
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Say what was built from which commit",
		Args:  cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			v := telemetry.ReadVersion(version)
			fmt.Fprintf(cmd.OutOrStdout(), "whisp-bff %s (commit %s %s)\n", v.Version, v.Revision, v.Time)
		},
	}
}
