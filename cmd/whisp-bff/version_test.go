package main

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"
)

func TestVersion(t *testing.T) {
	t.Parallel()
	out, err := runCommand(t.Context(), "version", "--json")
	var info buildInfo
	if err != nil || json.Unmarshal([]byte(out), &info) != nil {
		t.Fatalf("%q, %v", out, err)
	}
	if info.Version == "" || info.Revision == "" || info.Go != runtime.Version() || info.Platform != runtime.GOOS+"/"+runtime.GOARCH {
		t.Errorf("got %+v", info)
	}
	changed := buildInfo{Version: "v1.2.3", Revision: "abc", Time: "2026-01-02T03:04:05Z", Modified: true, Go: "go1.26", Platform: "linux/amd64"}
	if want := "whisp-bff v1.2.3 (commit abc of 2026-01-02T03:04:05Z, with changes)\ngo1.26 linux/amd64"; changed.String() != want {
		t.Errorf("got %q, want %q", changed, want)
	}
}

// TestHelp: every command is in a group and has an example or says when it ends how.
func TestHelp(t *testing.T) {
	t.Parallel()
	out, err := runCommand(t.Context(), "--help")
	if err != nil || strings.Contains(out, "Additional") {
		t.Errorf("a command without a group: %v\n%s", err, out)
	}
	for _, want := range []string{"Setting up:", "Running:", "Exit status:", "WHISP_BFF_CONFIG", "completion"} {
		if !strings.Contains(out, want) {
			t.Errorf("help lacks %q", want)
		}
	}
	for _, line := range strings.Split(out, "\n") {
		if len(line) > 110 {
			t.Errorf("line is too wide for a terminal: %s", line)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if out, err := runCommand(t.Context(), "completion", shell); err != nil || !strings.Contains(out, "whisp-bff") {
			t.Errorf("completion for %s: %v", shell, err)
		}
	}
}
