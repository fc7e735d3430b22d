package main

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

//go:embed config.yaml.tmpl
var configText string

// settings fill the configuration whisp-bff runs with.
type settings struct {
	PublicURL, Listen, AdminListen string
	AppURL, Issuer, WhispURL       string
	ClientID                       string
	ClientSecret                   secret.Text
	APIKey                         secret.Text
	MasterSecret                   secret.Text
	Verbose                        bool
}

// write makes the configuration file in dir, readable by its owner only: the
// secrets are in it.
func (s settings) write(dir string) (string, error) {
	path := filepath.Join(dir, "config.yaml")
	text, err := s.yaml(secret.Text.Reveal)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("write the configuration: %w", err)
	}
	return path, nil
}

// redacted is the configuration as it may be shown.
func (s settings) redacted() (string, error) { return s.yaml(secret.Text.String) }

func (s settings) yaml(show func(secret.Text) string) (string, error) {
	t, err := template.New("config").Funcs(template.FuncMap{"secret": show}).Parse(configText)
	if err != nil {
		return "", fmt.Errorf("parse the configuration template: %w", err)
	}
	var out strings.Builder
	if err := t.Execute(&out, s); err != nil {
		return "", fmt.Errorf("fill the configuration template: %w", err)
	}
	return out.String(), nil
}
