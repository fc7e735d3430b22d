package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// around runs everything but whisp-bff until ctx ends: for a first walk with a
// whisp-bff that one configures and starts oneself.
func around(ctx context.Context, s *stack, dir string, stdout io.Writer) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	paths := map[string]string{}
	for name, value := range map[string]secret.Text{"oidc-client-secret": s.settings.ClientSecret, "whisp-api-key": s.settings.APIKey} {
		paths[name] = filepath.Join(dir, name)
		if err := os.WriteFile(paths[name], []byte(value.Reveal()+"\n"), 0o600); err != nil {
			return fmt.Errorf("write what the provider and Whisp would give you: %w", err)
		}
	}
	fmt.Fprintf(stdout, aroundText, s.publicURL, s.settings.AppURL, s.settings.Issuer, s.settings.ClientID,
		paths["oidc-client-secret"], s.settings.WhispURL, paths["whisp-api-key"], s.settings.Listen, s.settings.AdminListen)
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.failed:
		return err
	}
}

const aroundText = `# An app, a provider and a Whisp are running. This is a configuration for them, less
# the secrets that "whisp-bff keygen whisp-master-secret" makes and prints lines for:
public_url: %s
app:
  url: %s
login:
  issuer: %s
  client_id: %s
  client_secret: {file: %q}
whisp:
  url: %s
  api_keys:
    - {file: %q}
server: {listen: %q, admin_listen: %q}
# Ctrl-C stops them.
`
