//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A new user's walk, with the commands of docs/quickstart.md: an app, a provider
// and a Whisp that are there already; keygen; a configuration of fifteen lines;
// check, all green; serve; healthcheck; a login, and a chat.
func TestNewUsersWalk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yaml")
	around := start(t, "whisp-demo", tools.demo, "--around", filepath.Join(dir, "secrets"))
	lines := aroundLines(t, around)

	lines = append(lines, strings.Split(strings.TrimSpace(bff(t, dir, 0, "keygen", "whisp-master-secret")), "\n")...)
	if len(lines) > 15 {
		t.Errorf("%d lines, fifteen are promised:\n%s", len(lines), strings.Join(lines, "\n"))
	}
	if err := os.WriteFile(config, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := bff(t, dir, 0, "validate", "--config", config); !strings.Contains(said, "is valid") {
		t.Errorf("validate says %s", said)
	}
	allGreen(t, dir, config)
	bff(t, dir, 1, "healthcheck", "--config", config) // nobody is there yet

	st := &stack{origin: value(t, lines, "public_url"), bff: start(t, "whisp-bff", tools.bff, "serve", "--config", config)}
	address := regexp.MustCompile(`admin_listen: "([^"]+)"`).FindStringSubmatch(strings.Join(lines, "\n"))
	if address == nil {
		t.Fatal("the configuration has no admin_listen")
	}
	st.admin = "http://" + address[1]
	st.waitReady(t)
	bff(t, dir, 0, "healthcheck", "--config", config, "--ready")

	b := newBrowser(t, loadFailures)
	alice, bob := b.open(t, st, "alice", window{}), b.open(t, st, "bob", window{})
	alice.signIn(t, "alice")
	bob.signIn(t, "bob")
	alice.click(t, `[data-person="bob"]`)
	alice.sees(t, "#chat-title", "Bob Brown")
	alice.say(t, "Our first message")
	bob.click(t, "#chats .row")
	bob.sees(t, ".theirs .bubble", "Our first message")
}

// aroundLines are the configuration that whisp-demo prints, less its comments.
func aroundLines(t *testing.T, around *process) []string {
	t.Helper()
	var lines []string
	for {
		select {
		case line, open := <-around.lines:
			switch {
			case !open:
				t.Fatalf("whisp-demo ended: %v\n%s", around.err, around.log)
			case strings.HasPrefix(line, "# Ctrl-C"):
				return lines
			case !strings.HasPrefix(line, "#"):
				lines = append(lines, line)
			}
		case <-time.After(patience):
			t.Fatalf("whisp-demo printed no more than %q", lines)
		}
	}
}

// bff runs a command of whisp-bff and returns its standard output.
func bff(t *testing.T, dir string, exit int, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tools.bff, args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	status, complaints := 0, ""
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		status, complaints = failed.ExitCode(), string(failed.Stderr)
	} else if err != nil {
		t.Fatal(err)
	}
	if status != exit {
		t.Fatalf("whisp-bff %s ends with %d, not %d:\n%s%s", strings.Join(args, " "), status, exit, out, complaints)
	}
	return string(out)
}

// allGreen wants nothing of check that would have to be done.
func allGreen(t *testing.T, dir, config string) {
	t.Helper()
	table := bff(t, dir, 0, "check", "--config", config, "--timeout", "60s")
	t.Logf("check says\n%s", table)
	if strings.Contains(table, "✗") || strings.Contains(table, "\x1b") {
		t.Error("not all is green, or it is coloured without a terminal")
	}
	var report struct {
		OK     bool `json:"ok"`
		Checks []struct{ Name, Status, Detail string }
	}
	if err := json.Unmarshal([]byte(bff(t, dir, 0, "check", "--config", config, "--timeout", "60s", "--json")), &report); err != nil {
		t.Fatal(err)
	}
	green := map[string]bool{}
	for _, c := range report.Checks {
		green[c.Name] = c.Status == "ok"
		if c.Status == "warn" || c.Status == "fail" {
			t.Errorf("%s is %s: %s", c.Name, c.Status, c.Detail)
		}
	}
	for _, name := range []string{"configuration", "login.discovery", "login.keys", "login.client", "login.redirect_uri", "whisp.url", "whisp.api_keys[0]", "app.url"} {
		if !report.OK || !green[name] {
			t.Errorf("%s is not green", name)
		}
	}
}

// value is that of a key at the top.
func value(t *testing.T, lines []string, key string) string {
	t.Helper()
	for _, line := range lines {
		if value, ok := strings.CutPrefix(line, key+": "); ok {
			return value
		}
	}
	t.Fatalf("no %s", key)
	return ""
}
