package main

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/whisp-bff/whisp-bff/internal/config"
	"github.com/whisp-bff/whisp-bff/internal/secret"
)

func TestKeyFilesAreReadAgainWhenTheyChange(t *testing.T) {
	folder := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("key", "first-api-key-0001")
	write("master", "master-secret-of-more-than-32-bytes-0001")
	write("config.yaml", `public_url: http://localhost:8080
app: {url: "http://127.0.0.1:1"}
login: {issuer: "http://127.0.0.1:2", client_id: web}
whisp:
  url: http://127.0.0.1:3
  api_keys: [{file: key}]
account:
  master_secrets: [{file: master}]
`)
	load := func() (*config.File, error) {
		return config.Load(filepath.Join(folder, "config.yaml"), os.LookupEnv, config.Disk)
	}
	cfg, err := load()
	if err != nil {
		t.Fatal(err)
	}
	var used []string
	var refuse error
	var logs bytes.Buffer
	k := newKeyFiles(cfg, load, func(keys []secret.Text) error {
		if refuse == nil {
			used = append(used, keys[0].Reveal())
		}
		return refuse
	}, slog.New(slog.NewTextHandler(&logs, nil)))

	for _, step := range []struct {
		name string
		do   func()
		used string // what was taken into use, in order
		log  string
	}{
		{"nothing changed", func() {}, "", ""},
		{"a new key", func() { write("key", "second-api-key-0002\n") }, "second-api-key-0002", "API keys read again"},
		{"nothing changed again", func() {}, "second-api-key-0002", ""},
		{"half-written", func() { write("key", "") }, "second-api-key-0002", "not valid"},
		{"a swapped symlink", func() {
			write("data-2", "third-api-key-0003")
			if err := errors.Join(os.Remove(filepath.Join(folder, "key")), os.Symlink("data-2", filepath.Join(folder, "key"))); err != nil {
				t.Fatal(err)
			}
		}, "second-api-key-0002 third-api-key-0003", "API keys read again"},
		{"refused", func() { refuse = errors.New("no"); write("data-2", "fourth-api-key-0004") }, "second-api-key-0002 third-api-key-0003", "old ones stay"},
	} {
		logs.Reset()
		step.do()
		k.look(t.Context())
		if got := strings.Join(used, " "); got != step.used || !strings.Contains(logs.String(), step.log) || step.log == "" && logs.Len() > 0 {
			t.Errorf("%s: used %q, log %s", step.name, got, logs.String())
		}
		if strings.Contains(logs.String(), "api-key-000") {
			t.Errorf("%s: a key is in the log: %s", step.name, logs.String())
		}
	}
}
