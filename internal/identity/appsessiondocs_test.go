package identity

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// yamlBlock is a block of YAML in a page.
var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// ourBlock begins with a section of ours.
var ourBlock = regexp.MustCompile(`^(identity|app_session|forwarded):`)

// documented decodes every YAML block of ours on a page, strictly, on top of the defaults.
func documented(t *testing.T, page string, use func(block string, app AppSessionConfig, forwarded ForwardedConfig)) {
	t.Helper()
	text, err := os.ReadFile("../../docs/identity/" + page)
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range yamlBlock.FindAllSubmatch(text, -1) {
		var whole struct {
			Identity struct {
				Sources    []string         `yaml:"sources"`
				AppSession AppSessionConfig `yaml:"app_session"`
				Forwarded  ForwardedConfig  `yaml:"forwarded"`
			} `yaml:"identity"`
		}
		whole.Identity.AppSession, whole.Identity.Forwarded = DefaultAppSessionConfig(), DefaultForwardedConfig()
		text := string(block[1])
		if !ourBlock.MatchString(text) {
			continue // another program's
		}
		if !strings.HasPrefix(text, "identity:") { // an excerpt
			text = "identity:\n  " + strings.ReplaceAll(text, "\n", "\n  ")
		}
		if err := yaml.UnmarshalWithOptions([]byte(text), &whole, yaml.Strict()); err != nil {
			t.Errorf("%s: %v\n%s", page, err, text)
			continue
		}
		use(text, whole.Identity.AppSession, whole.Identity.Forwarded)
	}
}

// TestDocumentedAppSessions: every recipe is a valid configuration.
func TestDocumentedAppSessions(t *testing.T) {
	recipes := 0
	documented(t, "app-session.md", func(block string, app AppSessionConfig, _ ForwardedConfig) {
		recipes++
		if err := app.Validate(); err != nil {
			t.Errorf("%v in\n%s", setting.List(err), block)
		}
	})
	if recipes != 8 {
		t.Errorf("%d blocks of YAML, want the example and seven recipes", recipes)
	}
}

// TestDocumentedForwarded: every configuration of whisp-bff on the page is valid,
// once its secrets are read.
func TestDocumentedForwarded(t *testing.T) {
	blocks := 0
	documented(t, "forwarded.md", func(block string, _ AppSessionConfig, forwarded ForwardedConfig) {
		blocks++
		for i := range forwarded.Secrets {
			forwarded.Secrets[i].Resolve(secret.New(peerSecret))
		}
		if err := forwarded.Validate(); err != nil {
			t.Errorf("%v in\n%s", setting.List(err), block)
		}
	})
	if blocks != 2 {
		t.Errorf("%d blocks of YAML for whisp-bff, want two", blocks)
	}
}
