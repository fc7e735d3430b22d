package main

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/whisp-bff/whisp-bff/internal/config"
)

// keygenIn runs keygen and returns standard output and standard error.
func keygenIn(t *testing.T, args ...string) (out, notes string, err error) {
	t.Helper()
	var outBuffer, notesBuffer bytes.Buffer
	cmd := newCommand()
	cmd.SetArgs(append([]string{"keygen"}, args...))
	cmd.SetOut(&outBuffer)
	cmd.SetErr(&notesBuffer)
	err = cmd.ExecuteContext(t.Context())
	return outBuffer.String(), notesBuffer.String(), err
}

// A configuration made of what keygen prints loads, whichever way it was printed,
// and its secrets are fresh.
func TestKeygenMakesWhatTheConfigurationReads(t *testing.T) {
	t.Parallel()
	const rest = `public_url: https://app.example.com
app: {url: "http://127.0.0.1:3000"}
login: {issuer: "https://login.example.com", client_id: web}
whisp: {url: "https://acme.api.whispchat.com", api_keys: [{value: wk-1}]}
`
	seen := map[string]bool{}
	for name, args := range map[string][]string{
		"files": {"--dir", "KEYS"}, "a path with a space": {"--dir", "KEYS dir: x"}, "stdout": {"--stdout"}, "env": {"--format", "env"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for i, arg := range args {
				args[i] = strings.Replace(arg, "KEYS", filepath.Join(dir, "keys"), 1)
			}
			out, notes, err := keygenIn(t, args...)
			if err != nil {
				t.Fatal(err)
			}
			env := map[string]string{}
			lines := out
			if name == "env" {
				lines = notes
				for line := range strings.Lines(out) {
					key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
					env[key] = value
				}
			}
			path := filepath.Join(dir, "config.yaml")
			if err := os.WriteFile(path, []byte(rest+lines), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := config.Load(path, func(n string) (string, bool) { v, ok := env[n]; return v, ok }, config.Disk)
			if err != nil {
				t.Fatalf("%v\n%s", err, lines)
			}
			if len(cfg.Warnings()) > 0 {
				t.Error(cfg.Warnings())
			}
			for _, text := range []string{
				cfg.Account.MasterSecrets[0].Text().Reveal(), cfg.Store.SealKeys[0].Text().Reveal(), cfg.Server.AdminToken.Text().Reveal(),
			} {
				if raw, err := base64.StdEncoding.DecodeString(text); err != nil || len(raw) != secretSize || seen[text] {
					t.Errorf("a secret is no fresh base64 of %d bytes: %v", secretSize, err)
				}
				seen[text] = true
			}
		})
	}
}

// Files are their owner's only, no secret is printed, and none is overwritten.
func TestKeygenFiles(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "secrets")
	out, notes, err := keygenIn(t, "--dir", dir, "whisp-master-secret", "auth-proxy-secret")
	if err != nil {
		t.Fatal(err)
	}
	if want := "account:\n  master_secrets:\n    - {file: " + dir + "/whisp-master-secret}\n" +
		"identity:\n  forwarded:\n    secrets:\n      - {file: " + dir + "/auth-proxy-secret}\n"; out != want {
		t.Errorf("printed %s", out)
	}
	content := map[string]string{}
	for _, name := range []string{"whisp-master-secret", "auth-proxy-secret"} {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%v, %v", info, err)
		}
		text, err := os.ReadFile(path)
		if err != nil || strings.Contains(out+notes, strings.TrimSpace(string(text))) {
			t.Errorf("%v, or the secret is printed", err)
		}
		content[name] = string(text)
	}
	_, _, err = keygenIn(t, "--dir", dir, "store-seal-key", "auth-proxy-secret")
	if err == nil || !strings.Contains(err.Error(), "auth-proxy-secret exists") {
		t.Errorf("got %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("%d files after a refusal, %v", len(entries), err)
	}
	for name, want := range content {
		if text, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(text) != want {
			t.Errorf("%s was changed: %v", name, err)
		}
	}
}

func TestKeygenForKubernetes(t *testing.T) {
	t.Parallel()
	out, notes, err := keygenIn(t, "--format", "kubernetes-secret", "--name", "chat")
	want := regexp.MustCompile(`^apiVersion: v1
kind: Secret
metadata:
  name: chat
type: Opaque
stringData:
  whisp-master-secret: [A-Za-z0-9+/]{64}
  store-seal-key: [A-Za-z0-9+/]{64}
  server-admin-token: [A-Za-z0-9+/]{64}
$`)
	if err != nil || !want.MatchString(out) || !strings.Contains(notes, "admin_token: {file: /run/secrets/server-admin-token}") {
		t.Errorf("%v\n%s\n%s", err, out, notes)
	}
}

func TestKeygenRefuses(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		`"master" is no secret`: {"master"},
		"--format is not known": {"--format", "json"},
		"--name is no name":     {"--format", "kubernetes-secret", "--name", "x\n  y: z"},
	} {
		out, _, err := keygenIn(t, append(args, "--dir", filepath.Join(t.TempDir(), "x"))...)
		if err == nil || !strings.Contains(err.Error(), want) || out != "" {
			t.Errorf("%v: %v, %q", args, err, out)
		}
	}
}
