package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/whisp-bff/whisp-bff/internal/telemetry"
)

// buildInfo is what "version --json" prints. Keys are only ever added.
type buildInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision"` // of the commit, "unknown" if it was not recorded
	Time     string `json:"time"`     // of the commit, RFC 3339; may be empty
	Modified bool   `json:"modified"` // built from a tree with changes that are not in the commit
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func readBuildInfo() buildInfo {
	v := telemetry.ReadVersion(version)
	info := buildInfo{
		Version: v.Version, Revision: v.Revision, Time: v.Time,
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	if recorded, ok := debug.ReadBuildInfo(); ok {
		for _, s := range recorded.Settings {
			if s.Key == "vcs.modified" {
				info.Modified = s.Value == "true"
			}
		}
	}
	return info
}

func (b buildInfo) String() string {
	commit := "commit " + b.Revision
	if b.Time != "" {
		commit += " of " + b.Time
	}
	if b.Modified {
		commit += ", with changes"
	}
	return fmt.Sprintf("whisp-bff %s (%s)\n%s %s", b.Version, commit, b.Go, b.Platform)
}

func newVersion() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Say what was built, from which commit and with which Go",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			info := readBuildInfo()
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(info)
			}
			fmt.Fprintln(cmd.OutOrStdout(), info)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object, for machines")
	return cmd
}

// shortVersion is one line, for --version.
func shortVersion() string {
	first, _, _ := strings.Cut(readBuildInfo().String(), "\n")
	return cmp.Or(strings.TrimPrefix(first, "whisp-bff "), "devel")
}
