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

// Groups of the command list.
const (
	groupServer = "server"
	groupSetUp  = "setup"
	groupOther  = "other"
)

func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "whisp-bff",
		Short: "The backend for browser apps that use Whisp",
		Long: `whisp-bff stands in front of a web app. It signs people in at your OpenID Connect
provider, makes each of them a Whisp user with an API key that no browser ever
sees, and carries the chat traffic.

Without a subcommand it serves, like "whisp-bff serve".

Environment:
  WHISP_BFF_CONFIG  configuration file, where --config is not given
  NO_COLOR          any value: no colours
  and every variable that a secret of the configuration names as {env: NAME}

Exit status: 0 all is well, 1 something is not, 2 "accounts import" left rows without
an account.`,
		Example: `  whisp-bff keygen --dir secrets              make the secrets a configuration needs
  whisp-bff check --config config.yaml        read it and try everything it names
  whisp-bff serve --config config.yaml
  whisp-bff accounts import people.csv --dry-run`,
		Version:       shortVersion(),
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	serve := newServe()
	root.Flags().AddFlagSet(serve.Flags())
	root.RunE = serve.RunE
	root.AddGroup(
		&cobra.Group{ID: groupSetUp, Title: "Setting up:"},
		&cobra.Group{ID: groupServer, Title: "Running:"},
		&cobra.Group{ID: groupOther, Title: "Other:"},
	)
	root.SetHelpCommandGroupID(groupOther)
	root.SetCompletionCommandGroupID(groupOther)
	inGroup(root, groupSetUp, newCheck(), newConfig(), newKeygen(), newValidate())
	inGroup(root, groupServer, serve, newHealthcheck(), newAccounts())
	inGroup(root, groupOther, newVersion())
	return root
}

func inGroup(root *cobra.Command, group string, commands ...*cobra.Command) {
	for _, cmd := range commands {
		cmd.GroupID = group
	}
	root.AddCommand(commands...)
}
