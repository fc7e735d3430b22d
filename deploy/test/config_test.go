package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// settings is what the tests look at in a configuration file.
type settings struct {
	Server struct {
		Listen          string `json:"listen"`
		AdminListen     string `json:"admin_listen"`
		ShutdownDelay   string `json:"shutdown_delay"`
		ShutdownTimeout string `json:"shutdown_timeout"`
	} `json:"server"`
	App   struct{ URL string } `json:"app"`
	Store struct {
		Kind  string
		Redis struct {
			Addresses []string
			Username  string
			DB        int
			TLS       struct{ Enabled bool }
		}
	} `json:"store"`
}

func configOf(t *testing.T, all objects, name string) (string, settings) {
	t.Helper()
	text := one[*corev1.ConfigMap](t, all, "ConfigMap/"+name).Data["config.yaml"]
	var parsed settings
	if err := yaml.Unmarshal([]byte(text), &parsed); err != nil {
		t.Fatal(err)
	}
	return text, parsed
}

// TestChartDefaultsAreTheProducts: the times that the chart adds up where config
// has none are those that whisp-bff takes.
func TestChartDefaultsAreTheProducts(t *testing.T) {
	example, err := os.ReadFile(filepath.Join(repository, "config.example.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	template, err := os.ReadFile(filepath.Join(chartDir, "templates/_config.tpl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"drain", "shutdown_timeout"} {
		product := regexp.MustCompile(`(?m)^#  ` + key + `: (\S+)$`).FindStringSubmatch(string(example))
		chart := regexp.MustCompile(`"` + key + `" "([^"]+)"`).FindStringSubmatch(string(template))
		if product == nil || chart == nil || product[1] != chart[1] {
			t.Errorf("%s: whisp-bff has %q, the chart %q", key, product, chart)
		}
	}
}

func TestChartRedisURL(t *testing.T) {
	all, _ := rendered(t, "redis")
	_, config := configOf(t, all, "chat-whisp-bff")
	redis := config.Store.Redis
	if config.Store.Kind != "redis" || !slices.Equal(redis.Addresses, []string{"redis.data.svc.cluster.local:6380"}) ||
		redis.Username != "whisp-bff" || redis.DB != 3 || !redis.TLS.Enabled {
		t.Errorf("%+v", config.Store)
	}
	all, _ = rendered(t, "everything")
	if _, config = configOf(t, all, "chat-front"); !slices.Equal(config.Store.Redis.Addresses, []string{"redis.data.svc.cluster.local:6379"}) || config.Store.Redis.TLS.Enabled {
		t.Errorf("without a port: %+v", config.Store)
	}
}

// TestChartConfigWins: what stands in config is neither replaced by what the
// chart computes nor mixed with it.
func TestChartConfigWins(t *testing.T) {
	all, _ := rendered(t, "sentinel")
	text, _ := configOf(t, all, "chat-whisp-bff")
	var rendered map[string]any
	if err := yaml.Unmarshal([]byte(text), &rendered); err != nil {
		t.Fatal(err)
	}
	given := readValues(t, "values/sentinel.yaml")["config"].(map[string]any)
	for name, section := range given {
		section, ok := section.(map[string]any)
		if !ok {
			continue
		}
		for key, want := range section {
			if got := rendered[name].(map[string]any)[key]; !reflect.DeepEqual(got, want) {
				t.Errorf("%s.%s is %v, config has %v", name, key, got, want)
			}
		}
	}
	if got := rendered["server"].(map[string]any)["admin_listen"]; got != ":9090" {
		t.Errorf("beside other keys of server, admin_listen is %v", got)
	}
}

// TestChartConfigurationIsValid: whisp-bff itself has the last word.
func TestChartConfigurationIsValid(t *testing.T) {
	for _, path := range valueFiles(t) {
		all, _ := rendered(t, strings.TrimSuffix(filepath.Base(path), ".yaml"))
		for name, object := range all {
			if config, ok := object.(*corev1.ConfigMap); ok {
				t.Run(filepath.Base(path), func(t *testing.T) { validate(t, config.Data["config.yaml"], "/run/secrets/whisp-bff/") })
			}
			if secret, ok := object.(*corev1.Secret); ok {
				checkSecretComplete(t, all, name, secret)
			}
		}
	}
}

// checkSecretComplete: the configuration names no file that the Secret lacks.
func checkSecretComplete(t *testing.T, all objects, name string, secret *corev1.Secret) {
	t.Helper()
	text, _ := configOf(t, all, secret.Name)
	for file := range secretFiles(text, "/run/secrets/whisp-bff/") {
		if secret.StringData[file] == "" {
			t.Errorf("%s has no %s", name, file)
		}
	}
}

// secretFiles yields the names of files below dir in a configuration.
func secretFiles(config, dir string) map[string]bool {
	found := map[string]bool{}
	for _, part := range strings.Split(config, dir)[1:] {
		found[strings.TrimRight(strings.FieldsFunc(part, func(r rune) bool { return strings.ContainsRune(" \n}\"'", r) })[0], "/")] = true
	}
	return found
}

// secretVariable finds secrets that come from the environment.
var secretVariable = regexp.MustCompile(`\benv: ([A-Z_]+)`)

// validate runs `whisp-bff validate` over a configuration whose secrets lie
// below dir, or in the environment; it makes them.
func validate(t *testing.T, config, dir string) {
	t.Helper()
	files := secretFiles(config, dir)
	if len(files) == 0 {
		t.Errorf("the configuration names no secret below %s:\n%s", dir, config)
	}
	here := t.TempDir()
	for name := range files {
		// Long enough for each, and each its own.
		if err := os.WriteFile(filepath.Join(here, name), []byte(strings.Repeat(name+"-", 8)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(here, "config.yaml")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(config, dir, here+"/")), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(binary(t), "validate", "--config", path)
	command.Env = os.Environ()
	for _, found := range secretVariable.FindAllStringSubmatch(config, -1) {
		command.Env = append(command.Env, found[1]+"="+strings.Repeat(found[1]+"-", 8))
	}
	out, err := command.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "is valid") {
		t.Errorf("%v\n%s\nof\n%s", err, out, config)
	}
}
