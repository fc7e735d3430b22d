package config

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

const (
	schemaPath    = "../../" + SchemaFile
	referencePath = "../../docs/configuration.md"
)

func TestSchemaIsCurrent(t *testing.T) { current(t, schemaPath, WriteSchema) }

func TestReferenceIsCurrent(t *testing.T) { current(t, referencePath, WriteReference) }

// TestReferenceHasEveryKey: nothing is lost between the tables.
func TestReferenceHasEveryKey(t *testing.T) {
	content, err := os.ReadFile(referencePath)
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| (?:\\*\\*)?`").FindAll(content, -1)
	leaves := 0
	var walk func(keys []Key)
	walk = func(keys []Key) {
		for _, key := range keys {
			if len(key.Keys) > 0 {
				walk(key.Keys)
				continue
			}
			leaves++
			if !bytes.Contains(content, []byte(key.Name+"`")) {
				t.Errorf("lacks %s", key.Path)
			}
		}
	}
	walk(Describe())
	if len(rows) != leaves {
		t.Errorf("%d rows, %d keys", len(rows), leaves)
	}
}

// compiled is the committed schema.
func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	file, err := os.Open(schemaPath)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	document, err := jsonschema.UnmarshalJSON(file)
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("config", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("config")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// held holds a YAML text against the schema, as an editor does.
func held(t *testing.T, schema *jsonschema.Schema, text string) error {
	t.Helper()
	var tree any
	if err := yaml.Unmarshal([]byte(text), &tree); err != nil {
		t.Fatalf("is no YAML: %v", err)
	}
	encoded, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(document)
}

// rightFiles are whole configurations that load: the example, with and without
// everything shown, and testdata/right.
func rightFiles(t *testing.T) map[string]string {
	t.Helper()
	content, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{"config.example.yaml": string(content), "everything shown": everythingText(t)}
	names, err := filepath.Glob("testdata/right/*.yaml")
	if err != nil || len(names) < 5 {
		t.Fatalf("%d right configurations: %v", len(names), err)
	}
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		texts[filepath.Base(name)] = string(content)
	}
	return texts
}

// TestSchemaAcceptsWhatLoads: an editor must not mark what whisp-bff reads.
func TestSchemaAcceptsWhatLoads(t *testing.T) {
	schema := compiled(t)
	for name, text := range rightFiles(t) {
		t.Run(name, func(t *testing.T) {
			loadExample(t, text)
			if err := held(t, schema, text); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestExampleNamesItsSchema: where the editor looks is where the schema is.
func TestExampleNamesItsSchema(t *testing.T) {
	content, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(content), "\n")
	named, ok := strings.CutPrefix(first, "# yaml-language-server: $schema=")
	if !ok {
		t.Fatalf("the first line is %q", first)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(examplePath), named)); err != nil {
		t.Error(err)
	}
}
