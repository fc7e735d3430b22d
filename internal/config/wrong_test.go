package config

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the expected messages and the generated files")

const cut = "=== says ===\n"

// TestWrongConfigurations reads testdata/wrong: a configuration, a line that
// cuts, and every message it must produce, exactly. No case may show a secret;
// wherever one stands in them it has the word marker in it.
func TestWrongConfigurations(t *testing.T) {
	names, err := filepath.Glob("testdata/wrong/*.txt")
	if err != nil || len(names) < 40 {
		t.Fatalf("found %d cases, at least 40 are expected: %v", len(names), err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			content, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			text, want, found := strings.Cut(string(content), cut)
			if !found && !*update {
				t.Fatalf("%s has no line %q", name, cut)
			}
			_, _, err = read(text)
			if err == nil {
				t.Fatal("was accepted")
			}
			got := err.Error() + "\n"
			if strings.Contains(got, "marker") {
				t.Errorf("shows a secret:\n%s", got)
			}
			if *update {
				if err := os.WriteFile(name, []byte(text+cut+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}
