package login_test

import (
	"crypto/rand"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/login"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

func validConfig() login.Config {
	cfg := login.DefaultConfig()
	cfg.Issuer = setting.MustURL("https://login.example.com/")
	cfg.ClientID = "web"
	return cfg
}

func TestConfigValidate(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*login.Config)
		paths  []string
	}{
		"good":                    {func(*login.Config) {}, nil},
		"nothing given":           {func(c *login.Config) { *c = login.DefaultConfig() }, []string{"client_id", "issuer"}},
		"http issuer":             {func(c *login.Config) { c.Issuer = setting.MustURL("http://login.example.com") }, []string{"issuer"}},
		"http issuer on loopback": {func(c *login.Config) { c.Issuer = setting.MustURL("http://127.0.0.1:9000") }, nil},
		"none":                    {func(c *login.Config) { c.SigningAlgorithms = []string{"RS256", "none"} }, []string{"signing_algorithms"}},
		"HS256":                   {func(c *login.Config) { c.SigningAlgorithms = []string{"HS256"} }, []string{"signing_algorithms"}},
		"no algorithm":            {func(c *login.Config) { c.SigningAlgorithms = nil }, []string{"signing_algorithms"}},
		"no openid":               {func(c *login.Config) { c.Scopes = []string{"profile"} }, []string{"scopes"}},
		"two scopes in one":       {func(c *login.Config) { c.Scopes = []string{"openid", "profile email"} }, []string{"scopes"}},
		"reserved parameter": {func(c *login.Config) {
			c.ExtraAuthorizeParams = map[string]string{"State": "x", "nonce": "x", "audience": "x"}
		}, []string{"extra_authorize_params.State", "extra_authorize_params.nonce"}},
		"prompt none":     {func(c *login.Config) { c.Prompt = "none" }, []string{"prompt"}},
		"odd client auth": {func(c *login.Config) { c.TokenEndpointAuth = "jwt" }, []string{"token_endpoint_auth"}},
		"foreign logout":  {func(c *login.Config) { c.PostLogoutPath = "//evil" }, []string{"post_logout_path"}},
		"times out of range": {func(c *login.Config) {
			c.Timeout, c.RefreshInterval, c.ClockLeeway, c.MaxAge = 0, 0, setting.Duration(time.Hour), setting.Duration(1<<62)
		}, []string{"clock_leeway", "max_age", "refresh_interval", "timeout"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := validConfig()
			tc.change(&cfg)
			var paths []string
			for _, e := range setting.List(cfg.Validate()) {
				paths = append(paths, e.Path)
				if e.Problem == "" || e.Fix == "" {
					t.Errorf("%s says neither what is wrong nor what to write", e.Path)
				}
			}
			if slices.Sort(paths); !slices.Equal(paths, tc.paths) {
				t.Errorf("problems at %q, want %q", paths, tc.paths)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	for name, change := range map[string]func(*login.Config, *login.Deps){
		"bad configuration": func(c *login.Config, _ *login.Deps) { c.ClientID = "" },
		"no state key":      func(_ *login.Config, d *login.Deps) { d.StateKeys = nil },
		"short state key":   func(_ *login.Config, d *login.Deps) { d.StateKeys = append(d.StateKeys, secret.New("short")) },
		"no Once":           func(_ *login.Config, d *login.Deps) { d.Once = nil },
		"http public URL":   func(_ *login.Config, d *login.Deps) { d.PublicURL = setting.MustURL("http://app.example.com") },
		"missing CA file":   func(c *login.Config, _ *login.Deps) { c.CAFile = "/does/not/exist.pem" },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := validConfig()
			deps := login.Deps{
				Logger: slog.New(slog.DiscardHandler), Clock: time.Now, Rand: rand.Reader, PublicURL: setting.MustURL("https://app.example.com"),
				StateKeys: []secret.Text{secret.New("0123456789abcdef0123456789abcdef")}, Once: &memoryOnce{seen: map[string]bool{}},
			}
			if _, err := login.New(cfg, deps); err != nil {
				t.Fatal(err)
			}
			change(&cfg, &deps)
			if _, err := login.New(cfg, deps); err == nil {
				t.Error("accepted")
			}
		})
	}
}
