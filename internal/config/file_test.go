package config

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

const examplePath = "../../config.example.yaml"

func TestExampleIsCurrent(t *testing.T) { current(t, examplePath, WriteExample) }

// current compares a generated file with what would be generated now, or writes it.
func current(t *testing.T, path string, write func(io.Writer) error) {
	t.Helper()
	var want bytes.Buffer
	if err := write(&want); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%s is stale; run: go generate ./internal/config", filepath.Base(path))
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

// everythingShown is the example with everything that it shows: everythingText removes every "#" in the first column from a line that is a
// setting, and makes use of every section, so that each one's Validate looks at
// what is shown. Only secrets that exclude another one stay comments.
func everythingShown(t *testing.T) *File { return loadExample(t, everythingText(t)) }

func everythingText(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	_, settings, _ := strings.Cut(string(content), "\n\n") // behind the head
	settings = regexp.MustCompile(`(?m)^#(\s*(?:- )?(?:[A-Za-z_-]+:|"))`).ReplaceAllString(settings, "$1")
	settings = strings.Replace(settings, "sources: [session]", "sources: [session, bearer, introspection, forwarded, app_session]", 1)
	settings = strings.Replace(settings, "kind: memory", "kind: redis", 1)
	exclusive := []string{"    private_key:", "    sentinel_password:"}
	for _, key := range exclusive {
		settings = strings.Replace(settings, key, "#"+key, 1)
	}
	if left := regexp.MustCompile(`(?m)^#.*[:\]}"]$`).FindAllString(settings, -1); len(left) != len(exclusive) {
		t.Errorf("these look like settings and were not tried: %q", left)
	}
	return settings
}

// TestExampleShowsDefaults: what is shown is valid, and where it is not one of
// the samples, it is the default.
func TestExampleShowsDefaults(t *testing.T) {
	shown, plain := everythingShown(t), DefaultFile()
	shown.Identity.Sources, shown.Store.Kind = plain.Identity.Sources, plain.Store.Kind
	compare(t, "", reflect.ValueOf(*shown), reflect.ValueOf(*plain))
}

// compare ignores secrets, and takes an empty list or mapping for none. Of a
// list of sections the one element that is shown is compared with the element's
// own defaults.
func compare(t *testing.T, path string, shown, plain reflect.Value) {
	t.Helper()
	kind := shapeOf(shown.Type())
	_, needed := minimum[path]
	_, sampled := samples[path]
	switch {
	case needed || sampled:
		if shown.IsZero() {
			t.Errorf("the example of %s is nothing", path)
		}
	case kind == section:
		for _, f := range fieldsOf(shown.Type()) {
			compare(t, below(path, f.name), shown.FieldByIndex(f.index), plain.FieldByIndex(f.index))
		}
	case kind == secretValue, kind == list && shapeOf(shown.Type().Elem()) == secretValue:
	case kind == list && shapeOf(shown.Type().Elem()) == section:
		if shown.Len() != 1 || plain.Len() != 0 {
			t.Errorf("%s has %d elements when shown and %d by default", path, shown.Len(), plain.Len())
			return
		}
		compare(t, path+"[]", shown.Index(0), elementDefaults(shown.Type().Elem()))
	case (kind == list || kind == table) && shown.Len() == 0 && plain.Len() == 0:
	case !reflect.DeepEqual(shown.Interface(), plain.Interface()):
		t.Errorf("%s is %v when shown and %v by default", path, shown.Interface(), plain.Interface())
	}
}

// TestSamplesAreWhereTheyAreNeeded finds a required key that the example leaves
// empty, and a sample that no key has any more.
func TestSamplesAreWhereTheyAreNeeded(t *testing.T) {
	unused := maps.Clone(samples)
	required := regexp.MustCompile(`required\.?$`)
	var walk func(keys []Key)
	walk = func(keys []Key) {
		for _, key := range keys {
			_, active := minimum[key.Path]
			empty := key.Default == "" || key.Default == `""` || key.Default == "[]"
			if required.MatchString(key.Doc) && empty && !active && key.Example == "" && key.Type != "secret" {
				if !strings.Contains(key.Doc, "this or") && !strings.Contains(key.Doc, "required there") {
					t.Errorf("%s is required: give it a sample", key.Path)
				}
			}
			if len(key.Keys) > 0 && !key.Section && !slices.ContainsFunc(key.Keys, func(k Key) bool { return k.Example != "" }) {
				t.Errorf("%s has elements: give the telling keys of one a sample", key.Path)
			}
			if key.Default == "{}" && key.Example == "" {
				t.Errorf("%s is a mapping of names: give it a sample", key.Path)
			}
			delete(unused, key.Path)
			walk(key.Keys)
		}
	}
	walk(Describe())
	for path := range unused {
		t.Errorf("there is no key %s", path)
	}
}

func TestExampleIsReadable(t *testing.T) {
	var out bytes.Buffer
	if err := WriteExample(&out); err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(out.String(), "\n") {
		if len(line) > width {
			t.Errorf("line %d is %d wide: %s", i+1, len(line), line)
		}
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
