package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/whisp-bff/whisp-bff/internal/config"
)

// newConfig prints what there is to know about the configuration; nothing is read.
func newConfig() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the configuration's JSON Schema, example or reference",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, page := range []struct {
		use, short, long, example string
		write                     func(io.Writer) error
	}{
		{
			"schema", "Print the JSON Schema of the configuration file, for editors",
			`Print the JSON Schema (draft-07) of the configuration file. An editor with the YAML
language server completes keys, shows what they do and marks mistakes if the file
begins with the line

  # yaml-language-server: $schema=./` + config.SchemaFile + `

What depends on other keys, and what a secret holds, only "validate" knows.`,
			"  whisp-bff config schema > " + config.SchemaFile, config.WriteSchema,
		},
		{
			"example", "Print a configuration with every setting, explained",
			`Print a whole configuration: the minimum, and every other setting in a comment,
explained and with its default.`,
			"  whisp-bff config example > config.yaml", config.WriteExample,
		},
		{
			"reference", "Print the reference of the configuration as Markdown",
			"Print every key with its type, default and meaning, as Markdown.",
			"  whisp-bff config reference | less", config.WriteReference,
		},
	} {
		cmd.AddCommand(&cobra.Command{
			Use: page.use, Short: page.short, Long: page.long, Example: page.example, Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return page.write(cmd.OutOrStdout()) },
		})
	}
	return cmd
}
