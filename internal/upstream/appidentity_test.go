package upstream

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// security.md 21, 22: what we say about the caller arrives, whatever the
// browser says under the same names or lists in Connection.
func TestAppLearnsWhoAsksFromUsOnly(t *testing.T) {
	var seen http.Header
	back := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r.Header }))
	t.Cleanup(back.Close)
	cfg := DefaultAppConfig()
	cfg.URL = setting.MustURL(back.URL)
	app, err := NewApp(cfg, AppDeps{
		Logger: slog.New(slog.DiscardHandler), PublicURL: setting.MustURL("https://app.example.com"),
		ClientAddress: func(*http.Request) string { return "" }, Fail: fail,
		StripHeaders: []string{"X-User-Id", "X-Forwarded-User"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(app.Close)
	who := http.Header{"X-User-Id": {"alice"}, "X-Forwarded-User": {"alice"}}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/known" {
			app.ServeAs(w, r, who)
			return
		}
		app.ServeAs(w, r, nil)
	}))
	t.Cleanup(front.Close)

	for path, want := range map[string]string{"/known": "alice", "/unknown": ""} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, front.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header = http.Header{
			"Connection": {"X-User-Id, X-Forwarded-User"}, "X-User-Id": {"mallory"}, "X_user_id": {"mallory"}, "X-Forwarded-User": {"mallory"},
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		for name := range seen {
			if strings.EqualFold(name, "X_User_Id") {
				t.Errorf("%s: the app sees %s", path, name)
			}
		}
		if seen.Get("X-User-Id") != want || seen.Get("X-Forwarded-User") != want {
			t.Errorf("%s: the app sees %v", path, seen)
		}
	}
}
