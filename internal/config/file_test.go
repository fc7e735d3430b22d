package config

import (
	"bytes"
	"errors"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

const examplePath = "../../config.example.yaml"

func TestExampleIsCurrent(t *testing.T) {
	var want bytes.Buffer
	if err := WriteExample(&want); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(examplePath, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Error("config.example.yaml is stale; run: go generate ./internal/config")
	}
}

// exampleFiles has every secret file that the example names, active or not.
func exampleFiles(text string) fstest.MapFS {
	files := fstest.MapFS{"config.yaml": {Data: []byte(text)}}
	for i, name := range regexp.MustCompile(`/run/secrets/[a-z0-9-]+`).FindAllString(text, -1) {
		content := "a-secret-of-enough-length-for-everything-" + strings.Repeat("x", i)
		files[name] = &fstest.MapFile{Data: []byte(content), Mode: 0o400}
	}
	return files
}

func loadExample(t *testing.T, text string) *File {
	t.Helper()
	noEnv := func(string) (string, bool) { return "", false }
	f, err := Load("config.yaml", noEnv, mapOpener(exampleFiles(text)))
	if err != nil {
		t.Fatalf("does not load:\n%v\n%s", err, text)
	}
	return f
}

func TestExampleLoads(t *testing.T) {
	content, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	f := loadExample(t, string(content))
	if len(f.Warnings()) != 0 || len(f.SecretFiles()) != 3 {
		t.Errorf("warnings %v, secret files %v", f.Warnings(), f.SecretFiles())
	}
	lines := regexp.MustCompile(`(?m)^\s*[^\s#].*$`).FindAllString(string(content), -1)
	if len(lines) > 15 {
		t.Errorf("the minimum has %d lines, at most fifteen are promised:\n%s", len(lines), strings.Join(lines, "\n"))
	}
	if got := loadExample(t, strings.Join(lines, "\n")+"\n"); !reflect.DeepEqual(got.Server, f.Server) || got.PublicURL != f.PublicURL {
		t.Error("the minimum alone loads something else than the example")
	}
}

// TestExampleShowsDefaults removes every "#" in the first column from a line
// that is a setting: the result must load and be the same configuration.
func TestExampleShowsDefaults(t *testing.T) {
	content, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	_, settings, _ := strings.Cut(string(content), "\n\n") // behind the head
	full := loadExample(t, regexp.MustCompile(`(?m)^#(\s*[a-z_]+:)`).ReplaceAllString(settings, "$1"))
	plain := loadExample(t, string(content))
	for _, v := range []*File{full, plain} {
		v.secrets = nil
	}
	compare(t, "", reflect.ValueOf(*full), reflect.ValueOf(*plain))
}

// compare ignores secrets, and takes an empty list or mapping for none.
func compare(t *testing.T, path string, a, b reflect.Value) {
	t.Helper()
	if shapeOf(a.Type()) == section {
		for _, f := range fieldsOf(a.Type()) {
			compare(t, below(path, f.name), a.FieldByIndex(f.index), b.FieldByIndex(f.index))
		}
		return
	}
	switch {
	case shapeOf(a.Type()) == secretValue, shapeOf(a.Type()) == list && shapeOf(a.Type().Elem()) == secretValue:
	case (shapeOf(a.Type()) == list || shapeOf(a.Type()) == table) && a.Len() == 0 && b.Len() == 0:
	case !reflect.DeepEqual(a.Interface(), b.Interface()):
		t.Errorf("%s is %v when shown and %v by default", path, a.Interface(), b.Interface())
	}
}

// TestEveryKeyIsDescribed also finds types that YAML cannot fill.
func TestEveryKeyIsDescribed(t *testing.T) {
	for _, err := range checkType(reflect.TypeFor[File](), "") {
		t.Error(err)
	}
	content, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	var walk func(keys []Key)
	walk = func(keys []Key) {
		for _, key := range keys {
			if !strings.Contains(string(content), key.Name) {
				t.Errorf("config.example.yaml does not show %s", key.Path)
			}
			walk(key.Keys)
		}
	}
	walk(Describe())
}

func TestChecksAcrossSections(t *testing.T) {
	content, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, replacement, want string }{
		{"https://app.example.com", "http://app.example.com", "public_url is plain http"},
		{"https://app.example.com", "https://app.example.com/chat", "public_url has a path"},
		{"  url: http://127.0.0.1:3000", "  url: https://app.example.com:443", "app.url is the same as public_url"},
		{"secrets/whisp-master-secret", "secrets/whisp-api-key", "account.master_secrets[0] is the same as whisp.api_keys[0]"},
		{"public_url:", "#", "public_url is required"},
		{"https://app.example.com", "http://localhost:8080", ""},
	} {
		t.Run(c.want, func(t *testing.T) {
			text := strings.Replace(string(content), c.old, c.replacement, 1)
			noEnv := func(string) (string, bool) { return "", false }
			f, err := Load("config.yaml", noEnv, mapOpener(exampleFiles(text)))
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || f != nil):
				t.Errorf("got %v, %v", f, err)
			}
		})
	}
}

// TestDefaultsLackOnlyWhatIsRequired keeps the sections' defaults valid.
func TestDefaultsLackOnlyWhatIsRequired(t *testing.T) {
	for _, e := range setting.List(DefaultFile().Validate()) {
		if _, ok := minimum[e.Path]; !ok || e.Problem != "is required" {
			t.Errorf("the default is not valid: %v", e)
		}
	}
}

func TestSecretPathsAreRelativeToTheFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/key", []byte("k"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(minimal, "run/api-key", "key", 1)
	if err := os.WriteFile(dir+"/c.yaml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env, _ := surroundings()
	s := sampleDefaults()
	_, err := load(dir+"/c.yaml", env, Disk, s, func() error { return nil })
	if err != nil || s.Whisp.APIKeys[0].Text().Reveal() != "k" {
		t.Errorf("got %v", err)
	}
	if _, err := Disk(dir + "/none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file gives %v", err)
	}
}
