package broker_test

import (
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/whisp-bff/whisp-bff/internal/broker"
	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

func TestProfile(t *testing.T) {
	tests := map[string]struct {
		claims          map[string]any
		username, email string // a trailing * matches anything
	}{
		"plain":                   {map[string]any{"preferred_username": "alice", "email": "a@example.com"}, "alice", "a@example.com"},
		"no claims at all":        {nil, "user-*", "*@users.invalid"},
		"only an e-mail":          {map[string]any{"email": "alice.b@example.com"}, "alice.b", "alice.b@example.com"},
		"unverified e-mail":       {map[string]any{"preferred_username": "alice", "email": "boss@example.com", "email_verified": false}, "alice", "*@users.invalid"},
		"name with spaces":        {map[string]any{"name": "  Ada   King "}, "Ada-King", "*@users.invalid"},
		"too short, next in line": {map[string]any{"preferred_username": "al", "nickname": "alice"}, "alice", "*@users.invalid"},
		"claim of another type":   {map[string]any{"preferred_username": map[string]any{"x": 1}, "nickname": "alice", "email": 17.0}, "mapx1", "*@users.invalid"},
		"template in a claim":     {map[string]any{"preferred_username": "{{.email}}{{printf `%d` 1}}"}, ".emailprintf-d-1", "*@users.invalid"},
		"NUL and bidi override":   {map[string]any{"preferred_username": "al\x00ice\u202egnp"}, "alicegnp", "*@users.invalid"},
		"emoji only":              {map[string]any{"preferred_username": "🎉🎉🎉🎉"}, "user-*", "*@users.invalid"},
		"invalid UTF-8":           {map[string]any{"preferred_username": "al\xffice"}, "alice", "*@users.invalid"},
		"full width letters":      {map[string]any{"preferred_username": "ＡＬＩＣＥ"}, "ALICE", "*@users.invalid"},
		"megabyte":                {map[string]any{"preferred_username": strings.Repeat("a", 1<<20), "nickname": "alice"}, "alice", "*@users.invalid"},
		"two at signs":            {map[string]any{"preferred_username": "alice", "email": "a@evil@corp.example"}, "alice", "*@users.invalid"},
		"e-mail with a name":      {map[string]any{"preferred_username": "alice", "email": "Boss <boss@example.com>"}, "alice", "*@users.invalid"},
		"e-mail with line break":  {map[string]any{"preferred_username": "alice", "email": "a@example.com\r\nBcc: x@y.z"}, "alice", "*@users.invalid"},
	}
	mapping, err := broker.NewMapping(broker.DefaultAccountConfig())
	must(t, err)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := mapping.Profile(identity.Identity{Issuer: "https://idp", Subject: "1", Claims: tt.claims})
			if !matches(tt.username, p.Usernames[0]) || !matches(tt.email, p.Email) {
				t.Errorf("got %q, %q; want %q, %q", p.Usernames, p.Email, tt.username, tt.email)
			}
		})
	}
}

func matches(pattern, got string) bool {
	quoted := strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `[a-z0-9]+`)
	return regexp.MustCompile("^" + quoted + "$").MatchString(got)
}

func FuzzProfile(f *testing.F) {
	mapping, err := broker.NewMapping(broker.DefaultAccountConfig())
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{"alice", "", "{{.", "\u202e\u0000", strings.Repeat("ä", 60), strings.Repeat("𝒳", 60), "a---------------------------------------------------b"} {
		f.Add(seed, seed+"@example.com")
	}
	f.Fuzz(func(t *testing.T, name, email string) {
		p := mapping.Profile(identity.Identity{Issuer: "i", Subject: "s", Claims: map[string]any{
			"preferred_username": name, "email": email, "given_name": name, "family_name": name,
		}})
		for _, username := range p.Usernames {
			if n := len(utf16.Encode([]rune(username))); n < 3 || n > 50 || !utf8.ValidString(username) {
				t.Errorf("user name %q of %d UTF-16 units", username, n)
			}
			if strings.ContainsFunc(username, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.IsSpace(r) }) {
				t.Errorf("user name %q has characters nobody sees", username)
			}
		}
		if strings.Count(p.Email, "@") != 1 || strings.ContainsAny(p.Email, "\r\n <>\"") {
			t.Errorf("e-mail %q", p.Email)
		}
	})
}

func TestDerivedCredential(t *testing.T) {
	id := person("1", "alice")
	password, err := broker.PasswordForTest(masterA, id)
	must(t, err)
	for _, class := range []string{`[A-Z]`, `[a-z]`, `[0-9]`, `[^A-Za-z0-9]`, `^.{32,64}$`} {
		if !regexp.MustCompile(class).MatchString(password) {
			t.Errorf("no match for %s: a strict policy would refuse it", class)
		}
	}
	// The accounts of every customer hang on this: it must never change.
	if want := "Wb1-" + goldenCredential; password != want {
		t.Errorf("derivation changed: %q", password)
	}
	if other, _ := broker.PasswordForTest(masterB, id); other == password {
		t.Error("another master secret gives the same password")
	}
	id.Claims = nil
	if same, _ := broker.PasswordForTest(masterA, id); same != password {
		t.Error("claims change the password")
	}
}

func TestAccountConfigValidate(t *testing.T) {
	good := broker.DefaultAccountConfig()
	good.MasterSecrets = []setting.Secret{setting.SecretValue(masterA)}
	for name, tt := range map[string]struct {
		change func(*broker.AccountConfig)
		path   string
	}{
		"good":           {func(*broker.AccountConfig) {}, ""},
		"no secret":      {func(c *broker.AccountConfig) { c.MasterSecrets = nil }, "master_secrets"},
		"short secret":   {func(c *broker.AccountConfig) { c.MasterSecrets = []setting.Secret{setting.SecretValue("short")} }, "master_secrets[0]"},
		"bad template":   {func(c *broker.AccountConfig) { c.Username = []string{"ok", "{{.x"} }, "username[1]"},
		"bad conflict":   {func(c *broker.AccountConfig) { c.OnConflict = "merge" }, "on_conflict"},
		"bad domain":     {func(c *broker.AccountConfig) { c.EmailDomain = "no domain" }, "email_domain"},
		"unknown helper": {func(c *broker.AccountConfig) { c.Email = []string{"{{env `PATH`}}"} }, "email[0]"},
	} {
		c := good
		tt.change(&c)
		list := setting.List(c.Validate())
		switch {
		case tt.path == "" && len(list) != 0:
			t.Errorf("%s: %v", name, list)
		case tt.path != "" && (len(list) != 1 || list[0].Path != tt.path || list[0].Fix == ""):
			t.Errorf("%s: %v", name, list)
		}
	}
}

// goldenCredential is HKDF-SHA-256 as documented at master.password, computed
// once with another implementation (see TestDerivedCredential).
const goldenCredential = "9ucYO700s3FU5V_1zoLyTRswicLOutUh"
