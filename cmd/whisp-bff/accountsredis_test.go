package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

// startRedis returns the address of a redis-server of this test's own.
func startRedis(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	_, port, _ := net.SplitHostPort(address)
	server := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", "")
	if err := server.Start(); err != nil {
		t.Fatalf("this test runs a real Redis (make test installs it): %v", err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait() // killed
	})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
			return address
		}
		if time.Now().After(deadline) {
			t.Fatalf("redis-server does not answer: %v", err)
		}
	}
}

// command runs whisp-bff in dir.
func command(t *testing.T, dir string, args ...string) (stdout, stderr string, exit int) {
	t.Helper()
	var out, complaints bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "whisp-bff", args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &complaints
	if err := cmd.Run(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			t.Fatal(err)
		}
	}
	return out.String(), complaints.String(), cmd.ProcessState.ExitCode()
}

// With Redis the import leaves links that the server, and show and release, see;
// and a new person costs three calls.
func TestAccountsInRedis(t *testing.T) {
	t.Parallel()
	whisp, url := startWhisp(t, whispsim.Config{})
	dir := t.TempDir()
	configWith := func(redis string) string {
		return configFor(url, fmt.Sprintf("store:\n  kind: redis\n  redis: {addresses: [%q]}\n  seal_keys: [{value: seal-key-of-more-than-32-bytes-never-to-be-seen}]\n", redis))
	}
	for name, text := range map[string]string{
		"config.yaml": configWith(startRedis(t)),
		"nobody.yaml": configWith("127.0.0.1:1"),
		"people.csv":  "issuer,subject,nickname\nhttps://l.example,1,ann\nhttps://l.example,2,bob\nhttps://l.example,3,carl\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ann := []string{"-c", "config.yaml", "--issuer", "https://l.example", "--subject", "1"}

	if _, stderr, exit := command(t, dir, append([]string{"accounts", "show"}, ann...)...); exit != 1 || !strings.Contains(stderr, "no account is linked") {
		t.Errorf("before: exit %d, %s", exit, stderr)
	}
	if _, stderr, exit := command(t, dir, "accounts", "import", "people.csv", "-c", "config.yaml", "--rate", "0"); exit != 0 || !strings.Contains(stderr, "3 rows: 3 made") {
		t.Fatalf("import: exit %d, %s", exit, stderr)
	}
	for operation, want := range map[string]int{"registerUser": 3, "signIn": 3, "logout": 3} {
		if calls := whisp.Calls(operation); calls != want {
			t.Errorf("%s: %d calls, want %d", operation, calls, want)
		}
	}
	var shown struct{ UserID, Username string }
	stdout, stderr, exit := command(t, dir, append([]string{"accounts", "show"}, ann...)...)
	if err := json.Unmarshal([]byte(stdout), &shown); err != nil || exit != 0 || shown.Username != "ann" || shown.UserID == "" {
		t.Errorf("show: exit %d, %s%s", exit, stdout, stderr)
	}
	if stdout, stderr, exit := command(t, dir, append([]string{"accounts", "release"}, ann...)...); exit != 0 || stdout != "released\n" {
		t.Errorf("release: exit %d, %s%s", exit, stdout, stderr)
	}
	if _, stderr, exit := command(t, dir, append([]string{"accounts", "show"}, ann...)...); exit != 1 || !strings.Contains(stderr, "no account is linked") {
		t.Errorf("after: exit %d, %s", exit, stderr)
	}
	// Released and imported again, it is the same account.
	if _, stderr, exit := command(t, dir, "accounts", "import", "people.csv", "-c", "config.yaml", "--rate", "0", "--resume=false"); exit != 0 || !strings.Contains(stderr, "3 rows: 0 made, 3 found") {
		t.Errorf("again: exit %d, %s", exit, stderr)
	}
	if users := whisp.Users(); len(users) != 3 {
		t.Errorf("Whisp has %d accounts", len(users))
	}
	if _, stderr, exit := command(t, dir, "accounts", "show", "-c", "nobody.yaml", "--issuer", "i", "--subject", "1"); exit != 1 || !strings.Contains(stderr, "the store does not answer") {
		t.Errorf("without Redis: exit %d, %s", exit, stderr)
	}
}
