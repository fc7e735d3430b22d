//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// tools are the programs the tests run, found or built once.
var tools struct {
	node, chromium string
	bff, demo      string // built by build
}

func TestMain(m *testing.M) {
	os.Exit(runAll(m))
}

func runAll(m *testing.M) int {
	bin, err := os.MkdirTemp("", "whisp-bff-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(bin) }()
	if err := errors.Join(findTools(), build(bin), os.MkdirAll("screenshots", 0o755)); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	return m.Run()
}

// findTools fails with the way to get what is missing.
func findTools() error {
	var errs []error
	var err error
	if tools.node, err = exec.LookPath("node"); err != nil {
		errs = append(errs, errors.New("node is missing: install node 20 or newer"))
	}
	if tools.chromium = findChromium(); tools.chromium == "" {
		errs = append(errs, errors.New("no Chromium: install the package chromium, or name one in $CHROMIUM"))
	}
	for _, module := range []string{"oidc-provider", "playwright-core", "sockjs-client", "@stomp/stompjs", "ws"} {
		if _, err := os.Stat(filepath.Join("node_modules", module, "package.json")); err != nil {
			errs = append(errs, fmt.Errorf("the module %s is missing: run `npm ci --prefix e2e --ignore-scripts`", module))
			break
		}
	}
	return errors.Join(errs...)
}

func findChromium() string {
	for _, name := range []string{os.Getenv("CHROMIUM"), "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); name != "" && err == nil {
			return path
		}
	}
	return ""
}

// build makes the binaries under test, with the race detector: what it finds
// ends the process with status 66, which the stack's end reports.
func build(dir string) error {
	tools.bff, tools.demo = filepath.Join(dir, "whisp-bff"), filepath.Join(dir, "whisp-demo")
	cmd := exec.Command("go", "build", "-race", "-o", dir+string(filepath.Separator),
		"github.com/whisp-bff/whisp-bff/cmd/whisp-bff", "github.com/whisp-bff/whisp-bff/cmd/whisp-demo")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the binaries: %w\n%s", err, out)
	}
	return nil
}
