package identity

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// yamlBlock is a block of YAML in a page.
var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// documented decodes every YAML block of a page, strictly, on top of the defaults.
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
