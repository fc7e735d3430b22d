package main

import (
	"fmt"
	"os"

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
realtime.drain, requests finished, exit 0. A second signal ends it at once.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := load(cmd, file)
			if err != nil {
				return err
			}
			keepHeapFloor()
			return run(cmd.Context(), cfg, reader(file), telemetry.NewLogger(cfg.Log, os.Stderr))
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

// reader returns a function that reads the configuration, now and again later.
func reader(file string) func() (*config.File, error) {
	return func() (*config.File, error) { return config.Load(file, os.LookupEnv, config.Disk) }
}

// load reads the configuration. Mistakes are printed whole, not as one line.
func load(cmd *cobra.Command, file string) (*config.File, error) {
	cfg, err := reader(file)()
	if err != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), err)
		return nil, errReported
	}
	if warnings := cfg.Warnings(); len(warnings) > 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), warnings)
	}
	return cfg, nil
}
