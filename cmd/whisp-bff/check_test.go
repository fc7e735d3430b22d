package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/whisp-bff/whisp-bff/internal/doctor"
	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

func TestReportTable(t *testing.T) {
	t.Parallel()
	report := doctor.NewReport([]doctor.Finding{
		{Name: "app.url", Status: doctor.OK, Detail: "answers 200 at /"},
		{Name: "store", Status: doctor.Info, Detail: "in memory", Advice: "for more use Redis"},
		{Name: "login.redirect_uri", Status: doctor.Fail, Detail: "status 400 \x1b[2J\u009b", Advice: "register it"},
		{Name: "x", Status: doctor.Warn, Detail: "odd", Advice: "look"},
	})
	want := `✓ app.url             answers 200 at /
· store               in memory
                      → for more use Redis
✗ login.redirect_uri  status 400 ` + "\ufffd[2J\ufffd" + `
                      → register it
! x                   odd
                      → look

1 ✓  1 ·  1 !  1 ✗
`
	if got := reportTable(report, false); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	coloured := reportTable(report, true)
	if !strings.Contains(coloured, "\x1b[32m✓\x1b[0m app.url  ") || strings.Contains(coloured, "[2J\x1b") || strings.Contains(coloured, "\x1b[2J") {
		t.Errorf("in colour it is %q", coloured)
	}
	if report.OK {
		t.Error("a report with a fail is ok")
	}
}

// TestCheckReportsMistakes: a wrong configuration is all there is to report, and
// nothing is asked.
func TestCheckReportsMistakes(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.yaml")
	text := strings.ReplaceAll(configFor("http://127.0.0.1:1", ""), "client_id", "clientid")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := runCommand(t.Context(), "check", "-c", path)
	want := "✗ configuration  " + path + ":3:44: login.clientid is not a known key\n                 → did you mean client_id?\n\n1 ✗\n"
	if !errors.Is(err, errReported) || out != want {
		t.Errorf("%v, %s", err, out)
	}
	out, err = runCommand(t.Context(), "check", "-c", path, "--json")
	var report struct {
		OK     *bool
		Checks []map[string]string
	}
	if json.Unmarshal([]byte(out), &report) != nil || !errors.Is(err, errReported) || report.OK == nil || *report.OK || len(report.Checks) != 1 {
		t.Fatalf("%v, %s", err, out)
	}
	if c := report.Checks[0]; c["name"] != "configuration" || c["status"] != "fail" || c["advice"] != "did you mean client_id?" || len(c) != 4 {
		t.Errorf("got %v", c)
	}
}

// TestCheckShowsNoSecret: of a configuration whose peers are missing and whose
// secrets are in it.
func TestCheckShowsNoSecret(t *testing.T) {
	t.Parallel()
	whisp, url := startWhisp(t, whispsim.Config{})
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(configFor(url, `server: {listen: "127.0.0.1:0", admin_listen: "127.0.0.1:0"}`)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := runCommand(t.Context(), "check", "-c", path, "--timeout", "20s")
	if !errors.Is(err, errReported) || strings.Contains(out, "never-to-be-seen") {
		t.Errorf("%v, %s", err, out)
	}
	for _, want := range []string{"✗ login.discovery", "✗ app.url", "✓ whisp.api_keys[0]", "→ register http://127.0.0.1:8080/auth/callback"} {
		if !strings.Contains(out, want) {
			t.Errorf("lacks %q:\n%s", want, out)
		}
	}
	if len(whisp.Users()) != 0 {
		t.Error("an account was made")
	}
	if _, err := runCommand(t.Context(), "check", "-c", path, "--timeout", "1ms"); err == nil || !strings.Contains(err.Error(), "--timeout is out of range") {
		t.Errorf("got %v", err)
	}
}
