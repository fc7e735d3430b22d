package main

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

const testKey = "wk-test-key-never-to-be-seen"

// startWhisp serves a Whisp that keeps no records.
func startWhisp(t testing.TB, cfg whispsim.Config) (whisp *whispsim.Server, url string) {
	t.Helper()
	cfg.APIKeys = []secret.Text{secret.New(testKey)}
	if cfg.RecordLimit == 0 {
		cfg.RecordLimit = -1
	}
	whisp = whispsim.New(cfg)
	listener := httptest.NewServer(whisp)
	t.Cleanup(func() { whisp.Close(); listener.Close() })
	return whisp, listener.URL
}

// configFor is a whole configuration, of which the app and the provider do not
// exist. more goes to its end.
func configFor(whispURL, more string) string {
	return fmt.Sprintf(`public_url: http://127.0.0.1:8080
app: {url: "http://127.0.0.1:9"}
login: {issuer: "http://127.0.0.1:9/none", client_id: web}
whisp:
  url: %s
  api_keys: [{value: %s}]
  breaker: {open_for: 100ms}
account:
  master_secrets: [{value: master-secret-of-more-than-32-bytes-never-to-be-seen}]
%s`, whispURL, testKey, more)
}

// TestAccountsCommands runs sessions at a terminal: testdata/accounts/*.txt. Each
// has a Whisp of its own, with config.yaml for it, and wrongkey.yaml with a key that
// it refuses.
func TestAccountsCommands(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/accounts",
		Setup: func(env *testscript.Env) error {
			whisp, url := startWhisp(t, whispsim.Config{})
			whisp.AddUser("taken", "taken@example.com", secret.New("Somebody-else-1"))
			config := configFor(url, "")
			return errors.Join(
				os.WriteFile(filepath.Join(env.WorkDir, "config.yaml"), []byte(config), 0o600),
				os.WriteFile(filepath.Join(env.WorkDir, "wrongkey.yaml"), []byte(strings.ReplaceAll(config, testKey, "another-key")), 0o600))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// exits STATUS COMMAND… checks the exit status exactly.
			"exits": func(ts *testscript.TestScript, _ bool, args []string) {
				err := ts.Exec(args[1], args[2:]...)
				status := "0"
				if err != nil {
					status = strings.TrimPrefix(err.Error(), "exit status ")
				}
				if status != args[0] {
					ts.Fatalf("exit status %s, want %s", status, args[0])
				}
			},
		},
		RequireExplicitExec: true,
	})
}
