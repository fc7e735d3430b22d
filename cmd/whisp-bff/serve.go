package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/whisp-bff/whisp-bff/internal/config"
	"github.com/whisp-bff/whisp-bff/internal/telemetry"
)

const defaultConfigFile = "/etc/whisp-bff/config.yaml"

func newServe() *cobra.Command {
	var file string
	serve := &cobra.Command{
		Use:   "serve",
		Short: "Serve (the default)",
		Long: `Serve until SIGTERM or SIGINT. Then: not ready, sockets closed spread over
realtime.drain, requests finished, exit 0. A second signal ends it at once.

The configuration and the files it names are looked at every few seconds, and at
SIGHUP: what changed is taken into use, all of it or nothing, and no socket is
dropped for it. "validate" says beforehand whether a file would be taken.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			hangups := make(chan os.Signal, 1)
			signal.Notify(hangups, syscall.SIGHUP) // before anything else: by default it ends the process
			defer signal.Stop(hangups)
			source := newSource(file)
			cfg, err := report(cmd, source.load)
			if err != nil {
				return err
			}
			keepHeapFloor()
			logger, level := telemetry.NewAdjustableLogger(cfg.Log, os.Stderr)
			return run(cmd.Context(), start{cfg: cfg, source: source, hangups: hangups, logger: logger, level: level})
		},
	}
	configFlag(serve, &file)
	return serve
}

func newValidate() *cobra.Command {
	var file string
	validate := &cobra.Command{
		Use:   "validate",
		Short: "Read the configuration, report every mistake in it, and exit",
		Long: `Read the configuration as serve would, secrets included, and report every
mistake with its line and the fix. Nothing is connected to. Exit 0 or 1.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := load(cmd, file); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is valid\n", file)
			return nil
		},
	}
	configFlag(validate, &file)
	return validate
}

func configFlag(cmd *cobra.Command, file *string) {
	path := defaultConfigFile
	if fromEnv := os.Getenv("WHISP_BFF_CONFIG"); fromEnv != "" {
		path = fromEnv
	}
	cmd.Flags().StringVarP(file, "config", "c", path, "configuration file (or WHISP_BFF_CONFIG)")
}

// load reads the configuration for a command that ends.
func load(cmd *cobra.Command, file string) (*config.File, error) {
	return report(cmd, newSource(file).load)
}

// report reads the configuration. Mistakes are printed whole, not as one line.
func report(cmd *cobra.Command, load func() (*config.File, error)) (*config.File, error) {
	cfg, err := load()
	if err != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), err)
		return nil, errReported
	}
	if warnings := cfg.Warnings(); len(warnings) > 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), warnings)
	}
	return cfg, nil
}
