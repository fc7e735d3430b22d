package doctor_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/whisp-bff/whisp-bff/internal/doctor"
	"github.com/whisp-bff/whisp-bff/internal/oidcsim"
)

// A world in which everything is right has no finding that asks for anything, in
// an order that does not change.
func TestAllIsWell(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startRedis("--appendonly", "yes")
	want := []string{
		"configuration", "public_url", "public_url.dns", "server.listen", "server.admin_listen",
		"login.discovery", "login.pkce", "login.keys", "login.client", "login.redirect_uri", "login.clock",
		"whisp.url", "whisp.realtime", "whisp.clock", "whisp.api_keys[0]", "app.url",
		"store.redis", "store.redis.latency", "store.redis.rights", "store.redis.settings",
	}
	for range 2 {
		report := w.examine()
		var names []string
		for _, f := range report.Findings {
			names = append(names, f.Name)
			if f.Status != doctor.OK && f.Name != "store.redis.latency" { // a busy machine is slow
				t.Errorf("%s is %s: %s", f.Name, f.Status, f.Detail)
			}
		}
		if got := strings.Join(names, " "); !report.OK || got != strings.Join(want, " ") {
			t.Errorf("ok is %v, found %s", report.OK, got)
		}
	}
	if n := w.whisp.Calls("registerUser"); n != 4 { // a made-up key and the real one, twice
		t.Errorf("%d calls of registerUser", n)
	}
	if people := w.whisp.Users(); len(people) != 0 {
		t.Errorf("accounts were made: %v", people)
	}
	if n := w.provider.Requests(oidcsim.Token); n != 4 {
		t.Errorf("%d token requests", n)
	}
}

// A public client, an app's own login, and memory: what is not used is not asked.
func TestOnlyWhatIsUsedIsAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.app.set(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if cookie, err := r.Cookie("sid"); r.URL.Path == "/me" && (err != nil || !strings.HasPrefix(cookie.Value, "check-")) {
			t.Errorf("asked with %v", r.Header["Cookie"])
		}
		answers(http.StatusUnauthorized, "{}").ServeHTTP(rw, r)
	}))
	w.add(`identity: {sources: [app_session], app_session: {url: /me, cookies: ["sid*"], issuer: x, subject: id}}`)
	report := w.examine()
	if !report.OK || strings.Contains(lines(report), "login.") || !strings.Contains(lines(report), "ok   identity.app_session: ") {
		t.Errorf("found:\n%s", lines(report))
	}
	if n := w.provider.Requests(oidcsim.Discovery); n != 0 {
		t.Error("a provider was asked that nobody uses")
	}
}
