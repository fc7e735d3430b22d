package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// Somebody has decided for every key whether it needs a restart.
func TestEveryKeyIsReloadableOrNot(t *testing.T) {
	used := map[string]bool{}
	leaves(reflect.ValueOf(DefaultFile()).Elem(), "", func(path string, _ reflect.Value) {
		for at := path; at != ""; at = at[:max(strings.LastIndexByte(at, '.'), 0)] {
			if _, listed := reloads[at]; listed {
				used[at] = true
				return
			}
		}
		t.Errorf("%s: say in reloads whether it needs a restart", path)
	})
	for key := range reloads {
		if !used[key] {
			t.Errorf("%s stands in reloads, but decides nothing", key)
		}
	}
	if _, restart := NeedsRestart("nothing.such"); !restart {
		t.Error("a key that nobody has decided about is taken at once")
	}
	if _, restart := NeedsRestart("identity.bearer[].issuer"); restart {
		t.Error("a key of an element is not like its list")
	}
}

func secrets(values ...string) (list []setting.Secret) {
	for _, value := range values {
		list = append(list, setting.SecretValue(value))
	}
	return list
}

func TestChangedNamesEveryKindOfKey(t *testing.T) {
	before := DefaultFile()
	before.Whisp.APIKeys = secrets("key-one")
	for want, change := range map[string]func(*File){
		"":                                    func(*File) {},
		"public_url":                          func(f *File) { f.PublicURL = setting.MustURL("https://other.example.com") },
		"whisp.api_keys":                      func(f *File) { f.Whisp.APIKeys = secrets("key-one", "key-two") },
		"whisp.timeouts.dial":                 func(f *File) { f.Whisp.Timeouts.Dial++ },
		"login.client_secret":                 func(f *File) { f.Login.ClientSecret = setting.SecretValue("x") },
		"login.extra_authorize_params":        func(f *File) { f.Login.ExtraAuthorizeParams = map[string]string{"hd": "a"} },
		"identity.bearer":                     func(f *File) { f.Identity.Bearer = []identity.BearerConfig{{Issuer: "x"}} },
		"identity.app_session.secret_headers": func(f *File) { f.Identity.AppSession.SecretHeaders = map[string]setting.Secret{"X": secrets("y")[0]} },
		"account.username log.level":          func(f *File) { f.Account.Username, f.Log.Level = []string{"{{.sub}}"}, "debug" },
		"server.allowed_origins":              func(f *File) { f.Server.AllowedOrigins = []setting.URL{setting.MustURL("https://a.example")} },
	} {
		after := DefaultFile()
		after.Whisp.APIKeys = secrets("key-one")
		change(after)
		if got := strings.Join(Changed(before, after), " "); got != want {
			t.Errorf("changed %q, want %q", got, want)
		}
		if got := Changed(after, after); got != nil {
			t.Errorf("changed %v from itself", got)
		}
		secretOnly := want == "whisp.api_keys" || want == "login.client_secret"
		if moved := after.Hash() != before.Hash(); want != "" && !secretOnly && !moved || (want == "" || want == "login.client_secret") && moved {
			t.Errorf("%q: the hash has changed: %v", want, moved)
		}
	}
	other := DefaultFile()
	other.Whisp.APIKeys = []setting.Secret{{File: "somewhere"}}
	other.Whisp.APIKeys[0].Resolve(setting.SecretValue("key-one").Text())
	if got := Changed(before, other); got != nil {
		t.Errorf("a secret that only moved is a change: %v", got)
	}
	if other.Whisp.APIKeys[0].Resolve(setting.SecretValue("key-two").Text()); other.Hash() != before.Hash() {
		t.Error("a secret is in the hash")
	}
}

func TestAdoptKeepsWhatNeedsARestart(t *testing.T) {
	running, next := DefaultFile(), DefaultFile()
	next.PublicURL = setting.MustURL("https://other.example.com")
	next.Log.Level, next.Log.Format = "debug", "text"
	next.Realtime.MaxTunnels, next.Realtime.TicketLife = 7, 1
	next.Account.SelfService.DeleteUser, next.Account.EmailDomain = "deny", "other.invalid"
	adopted := running.Adopt(next)
	if got, want := Changed(running, adopted), []string{"account.self_service.delete_user", "realtime.max_tunnels", "log.level"}; !slices.Equal(got, want) {
		t.Errorf("adopted %v, want %v", got, want)
	}
	if got, want := Changed(adopted, next), []string{"public_url", "account.email_domain", "realtime.ticket_life", "log.format"}; !slices.Equal(got, want) {
		t.Errorf("left out %v, want %v", got, want)
	}
	if next.Log.Format != "text" || running.Log.Level != "info" {
		t.Error("adopting changed its arguments")
	}
}

func TestNamedFilesAreFoundByTheirKeys(t *testing.T) {
	f := DefaultFile()
	f.App.CAFile, f.Whisp.CAFile, f.Login.CAFile, f.Store.Redis.TLS.CAFile = "app", "whisp", "login", "redis"
	f.Identity.Introspection.CAFile, f.Identity.AppSession.CAFile = "introspection", "session"
	f.Identity.Bearer = []identity.BearerConfig{{CAFile: "bearer"}, {PublicKeys: []string{"one", "two"}}}
	f.Login.ClientSecret.File = "a secret is none of them"
	want := map[string][]string{
		"app.ca_file": {"app"}, "whisp.ca_file": {"whisp"}, "login.ca_file": {"login"}, "store.redis.tls.ca_file": {"redis"},
		"identity.introspection.ca_file": {"introspection"}, "identity.app_session.ca_file": {"session"},
		"identity.bearer": {"bearer", "one", "two"},
	}
	if got := f.NamedFiles(); !maps.EqualFunc(got, want, func(a, b []string) bool { slices.Sort(a); slices.Sort(b); return slices.Equal(a, b) }) {
		t.Errorf("named %v, want %v", got, want)
	}
}
