package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestHealthcheck asks a server that is alive and not ready, in the ways there are
// of saying where it is.
func TestHealthcheck(t *testing.T) {
	t.Parallel()
	admin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/healthz":
		case "/moved":
			http.Redirect(w, r, "/healthz", http.StatusFound)
		case "/hang":
			<-r.Context().Done()
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(admin.Close)
	address := admin.Listener.Addr().String()
	_, port, _ := strings.Cut(address, ":")
	config := func(text string) string {
		path := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := config("server:\n  admin_listen: " + address + "\n")
	for name, c := range map[string]struct {
		args []string
		want string // in the error; empty: well
	}{
		"alive":                  {[]string{"-c", good}, ""},
		"not ready":              {[]string{"-c", good, "--ready"}, address + "/readyz answers 503 service unavailable"},
		"every interface":        {[]string{"-c", config(`server: {admin_listen: ":` + port + `"}`)}, ""},
		"every IPv6 interface":   {[]string{"-c", config(`server: {admin_listen: "[::]:` + port + `"}`)}, ""},
		"a file with mistakes":   {[]string{"-c", config("whisp: {urk: x}\nserver: {admin_listen: \"" + address + "\"}\n")}, ""},
		"any free port":          {[]string{"-c", config("server: {admin_listen: \"127.0.0.1:0\"}")}, "give --url"},
		"not an address":         {[]string{"-c", config("server: {admin_listen: here}")}, "server.admin_listen is not host:port"},
		"by URL":                 {[]string{"--url", admin.URL + "/healthz", "-c", "/nowhere"}, ""},
		"no URL":                 {[]string{"--url", "ftp://host/x"}, "--url is not an http or https URL"},
		"a redirect":             {[]string{"--url", admin.URL + "/moved"}, "/moved answers 302 found"},
		"no answer":              {[]string{"--url", admin.URL + "/hang?token=hunter2", "--timeout", "100ms"}, address + "/hang does not answer within 100ms"},
		"nobody there":           {[]string{"--url", "http://127.0.0.1:1/healthz"}, "127.0.0.1:1/healthz cannot be asked"},
		"a secret in the URL":    {[]string{"--url", "http://x:hunter2@127.0.0.1:1/healthz?hunter2"}, "127.0.0.1:1/healthz cannot be asked"},
		"an argument of nothing": {[]string{"now"}, "unknown command"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := runCommand(t.Context(), append([]string{"healthcheck"}, c.args...)...)
			switch {
			case c.want == "" && (err != nil || out != ""):
				t.Errorf("says %q, %v", out, err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("ends with %v, want %q", err, c.want)
			case err != nil && strings.Contains(err.Error(), "hunter2"):
				t.Errorf("shows a secret: %v", err)
			}
		})
	}
}

// runCommand runs a command line in this process and returns all that it wrote.
func runCommand(ctx context.Context, args ...string) (string, error) {
	var out bytes.Buffer
	cmd := newCommand()
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	err := cmd.ExecuteContext(ctx)
	return out.String(), err
}
