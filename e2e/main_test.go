//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// tools are the programs the tests run, found or built once.
var tools struct {
	node, chromium, nginx, redis string
	bff, demo                    string // built by build
}

// modules are what the scripts import, and nothing that only those need.
var modules = []string{
	"oidc-provider",                         // provider.mjs
	"playwright-core",                       // browser.mjs
	"sockjs-client", "@stomp/stompjs", "ws", // socket.mjs, sdk.mjs, lab
	"express",                                       // app_*.mjs
	"@auth/express",                                 // app_authjs.mjs
	"express-openid-connect",                        // app_openid.mjs
	"express-session", "passport", "passport-local", // app_passport.mjs
}

// leastNode is the oldest major version of node that the modules work with.
const leastNode = 20

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
		errs = append(errs, fmt.Errorf("node is missing: install the package nodejs, or node %d or newer from nodejs.org", leastNode))
	} else if err := checkNode(); err != nil {
		errs = append(errs, err)
	}
	if tools.chromium = findChromium(); tools.chromium == "" {
		errs = append(errs, errors.New("no Chromium: install the package chromium, or name one in $CHROMIUM"))
	}
	if tools.nginx = findNginx(); tools.nginx == "" {
		errs = append(errs, errors.New("nginx is missing: install the package nginx-light"))
	}
	if tools.redis, err = exec.LookPath("redis-server"); err != nil {
		errs = append(errs, errors.New("redis-server is missing: install the package redis-server"))
	}
	var missing []string
	for _, module := range modules {
		if _, err := os.Stat(filepath.Join("node_modules", filepath.FromSlash(module), "package.json")); err != nil {
			missing = append(missing, module)
		}
	}
	if len(missing) > 0 {
		errs = append(errs, fmt.Errorf("npm modules are missing (%s): run `npm ci --prefix e2e --ignore-scripts`", strings.Join(missing, ", ")))
	}
	if len(errs) > 0 {
		errs = append(errs, errors.New("or run `make setup`, which installs all of it"))
	}
	return errors.Join(errs...)
}

func checkNode() error {
	version, err := exec.Command(tools.node, "--version").Output()
	if err != nil {
		return fmt.Errorf("%s does not run: %w", tools.node, err)
	}
	major, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(string(version)), "v"), ".")
	if number, err := strconv.Atoi(major); err != nil || number < leastNode {
		return fmt.Errorf("%s is version %s: install node %d or newer", tools.node, strings.TrimSpace(string(version)), leastNode)
	}
	return nil
}

// findNginx also looks where Debian has it, which is not on everybody's PATH.
func findNginx() string {
	for _, name := range []string{"nginx", "/usr/sbin/nginx"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
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
	cmd := exec.Command("go", "build", "-race", "-tags", "nomsgpack", "-o", dir+string(filepath.Separator),
		"github.com/whisp-bff/whisp-bff/cmd/whisp-bff", "github.com/whisp-bff/whisp-bff/cmd/whisp-demo")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the binaries: %w\n%s", err, out)
	}
	return nil
}
