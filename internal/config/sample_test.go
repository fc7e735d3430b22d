package config

import (
	"io/fs"
	"testing/fstest"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// sample is a configuration with one field of every shape, so that the reader
// is tested without the sections' own rules.
type sample struct {
	PublicURL setting.URL   `yaml:"public_url" doc:"Where browsers reach us."`
	Login     sampleLogin   `yaml:"login" doc:"Signing in."`
	Whisp     sampleWhisp   `yaml:"whisp" doc:"The Whisp cluster."`
	Session   sampleSession `yaml:"session" doc:"Sessions."`
	Store     sampleStore   `yaml:"store" doc:"Where state is kept."`
}

type sampleLogin struct {
	Issuer       setting.URL    `yaml:"issuer" doc:"The provider."`
	ClientID     string         `yaml:"client_id" doc:"Our name at the provider."`
	ClientSecret setting.Secret `yaml:"client_secret" doc:"Our secret at the provider."`
	Scopes       []string       `yaml:"scopes" doc:"What to ask for."`
}

type sampleWhisp struct {
	URL     setting.URL      `yaml:"url" doc:"The cluster."`
	APIKeys []setting.Secret `yaml:"api_keys" doc:"Keys, the one to use first."`
	Retries int              `yaml:"retries" doc:"Retries; 0..2."`
	Ratio   float64          `yaml:"ratio" doc:"Share of failures; 0..1."`
	Port    *uint16          `yaml:"port" doc:"A port."`
}

type sampleSession struct {
	Idle    setting.Duration `yaml:"idle" doc:"Time without use; 1m..30d."`
	Size    setting.Size     `yaml:"size" doc:"Largest session."`
	Secure  bool             `yaml:"secure" doc:"Secure cookies."`
	Private string           `yaml:"-"`
}

type sampleStore struct {
	Routes []sampleRoute     `yaml:"routes" doc:"More routes."`
	Labels map[string]string `yaml:"labels" doc:"Labels of the operator's choice."`
	Redis  sampleRedis       `yaml:"redis" doc:"Redis."`
}

type sampleRoute struct {
	Method string `yaml:"method" doc:"The method."`
	Path   string `yaml:"path" doc:"The path."`
}

type sampleRedis struct {
	Address  string         `yaml:"address" doc:"host:port."`
	Password setting.Secret `yaml:"password" doc:"The password."`
}

func sampleDefaults() *sample {
	return &sample{
		Login:   sampleLogin{Scopes: []string{"openid"}},
		Whisp:   sampleWhisp{Retries: 2, Ratio: 0.5},
		Session: sampleSession{Idle: setting.Duration(12 * time.Hour), Size: 64 << 10, Secure: true},
	}
}

func (s *sample) validate() error {
	var p setting.Problems
	if s.PublicURL.Empty() {
		p.Add("public_url", "is required", "write the address that browsers use")
	}
	if s.Login.Issuer.Empty() {
		p.Add("login.issuer", "is required", "write the provider's issuer URL")
	}
	if s.Login.ClientID == "" {
		p.Add("login.client_id", "is required", "write the client's name at the provider")
	}
	if !s.Login.ClientSecret.Given() {
		p.Add("login.client_secret", "is required", secretForms)
	}
	if len(s.Whisp.APIKeys) == 0 {
		p.Add("whisp.api_keys", "is required", "list at least one key")
	}
	for i, key := range s.Whisp.APIKeys {
		if n := len(key.Text().Reveal()); n < 16 {
			p.Addf(element("whisp.api_keys", i), "is too short", "%d characters, at least 16 are expected", n)
		}
	}
	if s.Session.Idle.D() < time.Minute {
		p.Add("session.idle", "is below its minimum", "use 1m or more")
	}
	return p.Err()
}

// surroundings are the environment and the files of the samples.
func surroundings() (func(string) (string, bool), fstest.MapFS) {
	env := map[string]string{"OIDC_CLIENT_SECRET": "from-the-environment", "EMPTY": ""}
	files := fstest.MapFS{
		"etc/run/api-key":    {Data: []byte("0123456789abcdef0123\n"), Mode: 0o400},
		"etc/run/oidc":       {Data: []byte("oidc-secret-of-this-file\n"), Mode: 0o440},
		"etc/run/world":      {Data: []byte("readable-by-every-user\n"), Mode: 0o444},
		"etc/run/spaces":     {Data: []byte(" leading-white-space\n\n"), Mode: 0o400},
		"etc/run/windows":    {Data: []byte("written-on-windows\r\n"), Mode: 0o400},
		"etc/run/empty":      {Data: []byte("\n"), Mode: 0o400},
		"etc/run/template":   {Data: []byte("Change-Me\n"), Mode: 0o400},
		"etc/run/huge":       {Data: make([]byte, maxSecretSize+1), Mode: 0o400},
		"etc/run/some/child": {Data: []byte("x"), Mode: 0o400},
	}
	return func(name string) (string, bool) { value, ok := env[name]; return value, ok }, files
}

// opener serves files by names relative to the test's root.
func opener(files fs.FS) Open {
	return func(name string) (fs.File, error) {
		if name == "etc/run/forbidden" {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
		}
		return files.Open(name)
	}
}

func withConfig(files fstest.MapFS, text string) fstest.MapFS {
	files["etc/config.yaml"] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	return files
}

// read loads a sample from etc/config.yaml with the given text.
func read(text string) (*sample, result, error) {
	env, files := surroundings()
	s := sampleDefaults()
	res, err := load("etc/config.yaml", env, opener(withConfig(files, text)), s, s.validate)
	return s, res, err
}

// mapOpener serves files under the very names they have, absolute ones too.
func mapOpener(files fstest.MapFS) Open {
	return func(name string) (fs.File, error) {
		f, ok := files[name]
		if !ok {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		return fstest.MapFS{"file": f}.Open("file")
	}
}
