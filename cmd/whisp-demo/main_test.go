package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/goccy/go-yaml"
	"go.uber.org/goleak"
)

// The test binary is the whisp-bff of these tests, too: with this variable set
// it only answers /readyz, or dies, as the value says.
const actAsBFF = "WHISP_DEMO_TEST_BFF"

func TestMain(m *testing.M) {
	if behaviour := os.Getenv(actAsBFF); behaviour != "" {
		os.Exit(fakeBFF(behaviour))
	}
	goleak.VerifyTestMain(m)
}

func fakeBFF(behaviour string) int {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	text, err := os.ReadFile(os.Args[3]) // serve --config FILE
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var config struct {
		Server struct {
			AdminListen string `yaml:"admin_listen"`
		}
	}
	if err := yaml.Unmarshal(text, &config); err != nil || behaviour == "refuse" {
		fmt.Fprintln(os.Stderr, "this configuration is refused", err)
		return 1
	}
	ready := make(chan struct{})
	var once sync.Once
	go func() {
		fmt.Fprintln(os.Stderr, http.ListenAndServe(config.Server.AdminListen, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			once.Do(func() { close(ready) })
		})))
	}()
	if behaviour == "die" {
		<-ready
		fmt.Fprintln(os.Stderr, "something terrible happened")
		return 3
	}
	<-stop
	return 0
}

// runDemo runs the command with this test binary as whisp-bff. stopAt ends it,
// as Ctrl-C does, once that text was printed.
func runDemo(t *testing.T, behaviour, stopAt string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	t.Setenv(actAsBFF, behaviour)
	t.Setenv("TMPDIR", t.TempDir())
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &stopper{text: stopAt, stop: cancel}
	var errs bytes.Buffer
	code = run(ctx, append([]string{"--bff", self}, args...), out, &errs)
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	return code, out.String(), errs.String()
}

// stopper calls stop once text was written.
type stopper struct {
	bytes.Buffer
	text string
	stop func()
}

func (s *stopper) Write(p []byte) (int, error) {
	n, err := s.Buffer.Write(p)
	if s.text != "" && strings.Contains(s.String(), s.text) {
		s.stop()
	}
	return n, err
}

func TestRunsUntilStopped(t *testing.T) {
	code, stdout, stderr := runDemo(t, "serve", "Ctrl-C")
	if code != 0 || stderr != "" {
		t.Errorf("ended with %d: %s", code, stderr)
	}
	for _, want := range []string{"http://localhost:", "alice, bob, carol, dave", "client_secret: {value: [redacted]}", "Stopping"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is not in\n%s", want, stdout)
		}
	}
	if strings.Contains(stdout, "\x1b[") {
		t.Error("colours, though this is no terminal")
	}
}

func TestSaysThatWhispBFFDied(t *testing.T) {
	for behaviour, want := range map[string]string{"die": "something terrible happened", "refuse": "this configuration is refused"} {
		code, _, stderr := runDemo(t, behaviour, "")
		if code != 1 || !strings.Contains(stderr, "whisp-bff ended by itself") || !strings.Contains(stderr, want) {
			t.Errorf("%s: ended with %d: %s", behaviour, code, stderr)
		}
	}
}

func TestWrongCommandLines(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--help"}, 0, "-jwt-life"},
		{[]string{"--port", "70000"}, 2, "--port must be 0..65535"},
		{[]string{"--jwt-life", "5ms"}, 2, "--jwt-life must be at least 1s"},
		{[]string{"now"}, 2, `unexpected argument "now"`},
		{[]string{"--bff", "/nowhere/whisp-bff"}, 1, "make build"},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), c.args, &stdout, &stderr); code != c.code || !strings.Contains(stderr.String(), c.want) {
			t.Errorf("%v ends with %d: %s", c.args, code, stderr.String())
		}
	}
}

func TestConfigurationFileIsPrivate(t *testing.T) {
	file, err := settings{ClientSecret: randomSecret()}.write(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v, want 0600", info, err)
	}
}

func TestRedactedConfigurationHasNoSecret(t *testing.T) {
	s := settings{ClientSecret: randomSecret(), APIKey: randomSecret(), MasterSecret: randomSecret()}
	shown, err := s.redacted()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(shown, "[redacted]") != 3 {
		t.Errorf("not three secrets redacted:\n%s", shown)
	}
}
