package config

import (
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

const minimal = `public_url: https://app.example.com
login:
  issuer: https://login.example.com/realms/acme
  client_id: web
  client_secret: {env: OIDC_CLIENT_SECRET}
whisp:
  url: https://acme.api.whispchat.com
  api_keys:
    - {file: run/api-key}
`

func TestMinimalConfigurationOverDefaults(t *testing.T) {
	s, res, err := read(minimal)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.PublicURL.String(); got != "https://app.example.com" {
		t.Errorf("public_url is %s", got)
	}
	if got := s.Login.ClientSecret.Text().Reveal(); got != "from-the-environment" {
		t.Errorf("the secret from the environment is %q", got)
	}
	if got := s.Whisp.APIKeys[0].Text().Reveal(); got != "0123456789abcdef0123" {
		t.Errorf("the secret from the file is %q", got)
	}
	if s.Session != sampleDefaults().Session || s.Whisp.Retries != 2 || !slices.Equal(s.Login.Scopes, []string{"openid"}) {
		t.Errorf("defaults were lost: %+v", s)
	}
	if len(res.warnings) != 0 || !slices.Equal(res.secrets, []string{"etc/run/api-key"}) {
		t.Errorf("warnings %v, secret files %v", res.warnings, res.secrets)
	}
}

func TestValuesOfEveryShape(t *testing.T) {
	s, _, err := read(minimal + `  retries: 0
  ratio: 0.25
  port: 8443
session:
  idle: 30d
  size: 1MiB
  secure: false
store:
  routes:
    - {method: GET, path: /a}
    - method: POST
      path: "/b"
  labels: {team: chat, "quoted key": 'it''s'}
  redis:
    address: |
      127.0.0.1:6379
    password:
      value: >-
        folded
        secret
`)
	if err != nil {
		t.Fatal(err)
	}
	if s.Whisp.Retries != 0 || s.Whisp.Ratio != 0.25 || s.Whisp.Port == nil || *s.Whisp.Port != 8443 {
		t.Errorf("numbers: %+v", s.Whisp)
	}
	if s.Session.Idle.D() != 720*time.Hour || s.Session.Size.Bytes() != 1<<20 || s.Session.Secure {
		t.Errorf("session: %+v", s.Session)
	}
	if want := []sampleRoute{{"GET", "/a"}, {"POST", "/b"}}; !slices.Equal(s.Store.Routes, want) {
		t.Errorf("routes: %+v", s.Store.Routes)
	}
	if want := map[string]string{"team": "chat", "quoted key": "it's"}; !reflect.DeepEqual(s.Store.Labels, want) {
		t.Errorf("labels: %+v", s.Store.Labels)
	}
	if s.Store.Redis.Address != "127.0.0.1:6379\n" || s.Store.Redis.Password.Text().Reveal() != "folded secret" {
		t.Errorf("block scalars: %q %q", s.Store.Redis.Address, s.Store.Redis.Password.Text().Reveal())
	}
}

func TestAcceptedForms(t *testing.T) {
	for name, text := range map[string]string{
		"byte order mark":   "\ufeff" + minimal,
		"windows lines":     strings.ReplaceAll(minimal, "\n", "\r\n"),
		"document markers":  "---\n" + minimal + "...\n",
		"comments":          "# first\n" + strings.ReplaceAll(minimal, "web\n", "web # ours\n\n"),
		"number for a text": strings.ReplaceAll(minimal, "client_id: web", "client_id: 0815"),
		"empty list":        strings.ReplaceAll(minimal, "client_id: web", "client_id: web\n  scopes: []"),
		"flow style":        strings.ReplaceAll(minimal, "  api_keys:\n    - {file: run/api-key}", "  api_keys: [{file: run/api-key}]"),
		"dollar":            strings.ReplaceAll(minimal, "client_id: web", "client_id: a$b{c}"),
		"go template":       strings.ReplaceAll(minimal, "client_id: web", "client_id: \"{{.name}}\""),
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := read(text); err != nil {
				t.Error(err)
			}
		})
	}
	s, _, _ := read(strings.ReplaceAll(minimal, "client_id: web", "client_id: 0815"))
	if s.Login.ClientID != "0815" {
		t.Errorf("client_id is %q, the leading zero is part of it", s.Login.ClientID)
	}
}

func TestSecretFiles(t *testing.T) {
	for _, c := range []struct{ file, value, warning string }{
		{"run/oidc", "oidc-secret-of-this-file", ""},
		{"run/windows", "written-on-windows", ""},
		{"run/world", "readable-by-every-user", "etc/config.yaml:5:25: login.client_secret names the file run/world, which every user of this machine can read: its mode is 0444; make it 0440 or 0400\n" +
			"   5 |   client_secret: {file: run/world}\n     |                         ^"},
		{"run/spaces", " leading-white-space\n", "etc/config.yaml:5:25: login.client_secret names the file run/spaces, whose content starts or ends with white space: only one line break at the end is dropped; the rest counts as part of the secret\n" +
			"   5 |   client_secret: {file: run/spaces}\n     |                         ^"},
	} {
		t.Run(c.file, func(t *testing.T) {
			s, res, err := read(strings.Replace(minimal, "{env: OIDC_CLIENT_SECRET}", "{file: "+c.file+"}", 1))
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Login.ClientSecret.Text().Reveal(); got != c.value {
				t.Errorf("the secret is %q, want %q", got, c.value)
			}
			if got := res.warnings.Error(); got != c.warning {
				t.Errorf("warns:\n%s\nwant:\n%s", got, c.warning)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"size":       {strings.Repeat("# comment\n", 110_000), "etc/config.yaml: is larger than 1 MiB: a configuration has a few kilobytes; is this the right file?"},
		"keys":       {keys(20_000), "etc/config.yaml: has too many keys and values: a configuration has a few hundred; is this the right file?"},
		"nul":        {"a: \x00\n", "etc/config.yaml: has NUL bytes: save the file as UTF-8 text"},
		"deep":       {deep(40), "is nested too deeply"},
		"many edits": {"a" + strings.Repeat("z", 70) + ": 1\n", "has a key here that is not known"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := read(c.text) // and comes to an end
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func keys(n int) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, "a%d: b\n", i)
	}
	return out.String()
}

func deep(n int) string {
	var out strings.Builder
	for i := range n {
		out.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return out.String()
}

func TestFileThatCannotBeRead(t *testing.T) {
	open := func(name string) (fs.File, error) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	_, err := load("etc/none.yaml", nil, open, sampleDefaults(), func() error { return nil })
	if err == nil || err.Error() != "etc/none.yaml: cannot be read: file does not exist" {
		t.Errorf("got %v", err)
	}
	if one, ok := errors.AsType[*Error](err); !ok || one.File != "etc/none.yaml" {
		t.Errorf("%T does not hold an *Error", err)
	}
}

// TestValidateThatRepeatsASecret is the second net: the words of a section's
// own Validate are searched for secrets that stand in the file.
func TestValidateThatRepeatsASecret(t *testing.T) {
	env, files := surroundings()
	text := strings.Replace(minimal, "{env: OIDC_CLIENT_SECRET}", "{value: marker-in-a-message}", 1)
	s := sampleDefaults()
	_, err := load("etc/config.yaml", env, opener(withConfig(files, text)), s, func() error {
		return fmt.Errorf("login.client_secret %s is weak", s.Login.ClientSecret.Text().Reveal())
	})
	if want := "etc/config.yaml: login.client_secret [redacted] is weak"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
