package config

import (
	"github.com/whisp-bff/whisp-bff/internal/access"
	"github.com/whisp-bff/whisp-bff/internal/broker"
	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/login"
	"github.com/whisp-bff/whisp-bff/internal/server"
	"github.com/whisp-bff/whisp-bff/internal/session"
	"github.com/whisp-bff/whisp-bff/internal/setting"
	"github.com/whisp-bff/whisp-bff/internal/sockproxy"
	"github.com/whisp-bff/whisp-bff/internal/store"
	"github.com/whisp-bff/whisp-bff/internal/telemetry"
	"github.com/whisp-bff/whisp-bff/internal/upstream"
)

// File is the whole configuration, one field for each part of whisp-bff. The
// parts get theirs from main and never see this type.
type File struct {
	PublicURL setting.URL          `yaml:"public_url" doc:"The address people type: scheme and host of whisp-bff as browsers see it. Cookies, redirects and origin checks follow from it. https, or http on localhost."`
	App       upstream.AppConfig   `yaml:"app" doc:"Your web app. It gets every request that is not for whisp-bff itself."`
	Login     login.Config         `yaml:"login" doc:"Signing in at your OpenID Connect provider. Register <public_url>/auth/callback there as redirect URI."`
	Identity  identity.Config      `yaml:"identity" doc:"Who may say who is asking. With a login of your own in the app or in a proxy, take it as it is: see docs/identity."`
	Access    access.Config        `yaml:"access" doc:"Who may have which of the app's paths, and what the app is told about who asks."`
	Whisp     upstream.WhispConfig `yaml:"whisp" doc:"Your Whisp cluster and the keys for it. No browser ever sees a key."`
	Account   broker.AccountConfig `yaml:"account" doc:"How a person of your provider becomes a Whisp user. The key is always issuer and subject; what follows only decides what colleagues see."`
	Tokens    broker.TokenConfig   `yaml:"tokens" doc:"What of a person's Whisp tokens their browser gets to see."`
	Session   session.Config       `yaml:"session" doc:"How long a sign-in lasts. The first limit that is reached ends it, with its Whisp access and its sockets."`
	Realtime  sockproxy.Config     `yaml:"realtime" doc:"Chat connections: WebSockets and every SockJS transport. A client that exceeds a limit is cut and reconnects."`
	Server    server.Config        `yaml:"server" doc:"The listeners, who stands in front of them, and how the process ends."`
	Store     store.Config         `yaml:"store" doc:"Where sessions and links between people and accounts are kept."`
	Log       telemetry.Config     `yaml:"log" doc:"What is written to standard error. No key, token, cookie or query string ever is."`

	warnings Errors
	secrets  []string
}

// DefaultFile has the default of every setting that has one. It does not
// validate as it is: some settings have none.
func DefaultFile() *File {
	return &File{
		App:      upstream.DefaultAppConfig(),
		Login:    login.DefaultConfig(),
		Identity: identity.DefaultConfig(),
		Access:   access.DefaultConfig(),
		Whisp:    upstream.DefaultWhispConfig(),
		Account:  broker.DefaultAccountConfig(),
		Tokens:   broker.DefaultTokenConfig(),
		Session:  session.DefaultConfig(),
		Realtime: sockproxy.DefaultConfig(),
		Server:   server.DefaultConfig(),
		Store:    store.DefaultConfig(),
		Log:      telemetry.DefaultConfig(),
	}
}

// Load reads the file at path. env is consulted for secrets that name an
// environment variable, open for the file itself and for those that name a
// file; main passes os.LookupEnv and [Disk].
//
// The error is of type [Errors] and holds everything that is wrong. The File is
// nil then: a configuration with a mistake is not used in part.
func Load(path string, env func(string) (string, bool), open Open) (*File, error) {
	f := DefaultFile()
	res, err := load(path, env, open, f, f.Validate)
	if err != nil {
		return nil, err
	}
	f.warnings, f.secrets = res.warnings, res.secrets
	return f, nil
}

// Warnings are what is allowed but was probably not meant, such as a secret
// file that every user of the machine can read.
func (f *File) Warnings() Errors { return f.warnings }

// SecretFiles are the files that secrets were read from, for a reload to watch.
func (f *File) SecretFiles() []string { return f.secrets }

// Validate reports everything wrong in any section and between sections, as
// [setting.List] takes apart. It reads no file and asks no network.
func (f *File) Validate() error {
	var p setting.Problems
	for _, part := range []struct {
		name   string
		config interface{ Validate() error }
	}{
		{"app", f.App}, {"identity", f.Identity}, {"access", f.Access}, {"whisp", f.Whisp}, {"account", f.Account}, {"tokens", f.Tokens},
		{"session", f.Session}, {"realtime", f.Realtime}, {"server", f.Server}, {"store", f.Store}, {"log", f.Log},
	} {
		p.Include(part.name, part.config.Validate())
	}
	// Whoever brings a login of their own configures none here.
	if f.Identity.Uses(identity.SourceSession) {
		p.Include("login", f.Login.Validate())
	}
	for _, check := range checks {
		check(f, &p)
	}
	return p.Err()
}
