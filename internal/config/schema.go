package config

import (
	"bytes"
	"encoding"
	"encoding/json"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// SchemaFile is the name under which the JSON Schema lies beside
// config.example.yaml.
const SchemaFile = "config.schema.json"

// jsonSchema is what we use of JSON Schema draft-07, the newest that the YAML
// language server of editors knows in full. There, what stands beside $ref is
// ignored, hence AllOf.
type jsonSchema struct {
	Schema      string                `json:"$schema,omitempty"`
	Title       string                `json:"title,omitempty"`
	Ref         string                `json:"$ref,omitempty"`
	AllOf       []jsonSchema          `json:"allOf,omitempty"`
	Description string                `json:"description,omitempty"`
	Type        any                   `json:"type,omitempty"` // a name or a list of them
	Enum        []string              `json:"enum,omitempty"`
	Default     any                   `json:"default,omitempty"`
	Pattern     string                `json:"pattern,omitempty"`
	MinLength   int                   `json:"minLength,omitempty"`
	Not         *jsonSchema           `json:"not,omitempty"`
	Minimum     *int64                `json:"minimum,omitempty"`
	Maximum     *int64                `json:"maximum,omitempty"`
	Items       *jsonSchema           `json:"items,omitempty"`
	Properties  properties            `json:"properties,omitempty"`
	Additional  any                   `json:"additionalProperties,omitempty"` // *jsonSchema or false
	Required    []string              `json:"required,omitempty"`
	MinProps    int                   `json:"minProperties,omitempty"`
	MaxProps    int                   `json:"maxProperties,omitempty"`
	Definitions map[string]jsonSchema `json:"definitions,omitempty"`
}

// properties keep the order of the sections.
type properties []property

type property struct {
	name   string
	schema jsonSchema
}

// MarshalJSON implements [json.Marshaler].
func (p properties) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	for i, one := range p {
		out.WriteByte("{,"[min(i, 1)])
		name, err := json.Marshal(one.name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(one.schema)
		if err != nil {
			return nil, err
		}
		out.Write(name)
		out.WriteByte(':')
		out.Write(value)
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// WriteSchema writes the JSON Schema of the configuration file, for editors. It
// refuses unknown keys, wrong types and units, and unknown words; what only a
// Validate knows, or what depends on another key, passes. Whatever Load accepts,
// the schema accepts.
func WriteSchema(w io.Writer) error {
	root := schemaOfSection(reflect.ValueOf(DefaultFile()).Elem(), "")
	root.Schema = "http://json-schema.org/draft-07/schema#"
	root.Title = "Configuration of whisp-bff"
	root.Description = "Generated from the source: go generate ./internal/config"
	root.Definitions = definitions()
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(root); err != nil {
		return err
	}
	_, err := w.Write(out.Bytes())
	return err
}

// definitions are the value types. A text may be written as a number, since
// nothing is lost; "0" is the one duration without a unit.
func definitions() map[string]jsonSchema {
	var zero int64
	textual := []string{"string", "number"}
	expanded := &jsonSchema{Type: "string", Pattern: expansion.String()}
	return map[string]jsonSchema{
		"text": {Type: textual, Not: expanded},
		"duration": {
			Type: []string{"string", "integer"}, Minimum: &zero, Maximum: &zero,
			Pattern: `^\s*(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+|([0-9]+(\.[0-9]*)?|\.[0-9]+)d)\s*$`,
		},
		"size": {Type: "string", Pattern: `^\s*[0-9]+(\.[0-9]*)?\s*(KiB|MiB|GiB|kB|KB|MB|GB|B)\s*$`},
		"url":  {Type: "string", Pattern: `^\s*([hH][tT][tT][pP][sS]?://[^\s]+\s*)?$`, Not: expanded},
		"secret": {
			Type: "object", Additional: false, MinProps: 1, MaxProps: 1,
			Properties: properties{
				{"file", jsonSchema{Type: textual, MinLength: 1, Not: expanded, Description: "A file that holds the secret; one line break at its end is dropped. A relative name starts at the directory of the configuration."}},
				{"env", jsonSchema{Type: "string", Pattern: variableName.String(), Description: "An environment variable that holds the secret."}},
				{"value", jsonSchema{Type: textual, MinLength: 1, Not: expanded, Description: "The secret itself, for demos: this file gives it away."}},
			},
		},
	}
}

func schemaOfSection(v reflect.Value, path string) jsonSchema {
	s := jsonSchema{Type: "object", Additional: false}
	for _, f := range fieldsOf(v.Type()) {
		key := below(path, f.name)
		s.Properties = append(s.Properties, property{f.name, schemaOfField(f, v.FieldByIndex(f.index), key)})
		if needed(f, key) {
			s.Required = append(s.Required, f.name)
		}
	}
	return s
}

// needed tells what cannot be left out, whatever the rest of the file says: the
// minimum but for the login, which not everybody has, and what every element of a
// list needs.
func needed(f field, path string) bool {
	if strings.Contains(path, "[]") {
		return slices.ContainsFunc([]string{"; required", "; required."}, func(end string) bool { return strings.HasSuffix(f.doc, end) })
	}
	for key := range minimum {
		if (key == path || inside(key, path)) && key != "login" && !inside(key, "login") {
			return true
		}
	}
	return false
}

func schemaOfField(f field, value reflect.Value, path string) jsonSchema {
	if f.pointer {
		if value.IsNil() {
			value = reflect.Zero(f.typ)
		} else {
			value = value.Elem()
		}
	}
	s := schemaOfType(f.typ, value, path)
	s.Description = sentence(f.doc)
	s.Default = defaultOf(f, value)
	return s
}

func schemaOfType(t reflect.Type, value reflect.Value, path string) jsonSchema {
	switch shapeOf(t) {
	case section:
		if !value.IsValid() {
			value = reflect.Zero(t)
		}
		return schemaOfSection(value, path)
	case list:
		inner := reflect.Value{}
		if shapeOf(t.Elem()) == section {
			inner = elementDefaults(t.Elem())
		}
		items := schemaOfType(t.Elem(), inner, path+"[]")
		return jsonSchema{Type: "array", Items: &items}
	case table:
		values := schemaOfType(t.Elem(), reflect.Value{}, path+"{}")
		return jsonSchema{Type: "object", Additional: &values}
	case boolValue:
		return jsonSchema{Type: "boolean"}
	case intValue, uintValue:
		low, high := wholeNumbers(path)
		return jsonSchema{Type: "integer", Minimum: low, Maximum: high}
	case floatValue:
		return jsonSchema{Type: "number"}
	}
	if words, ok := choices[path]; ok {
		return jsonSchema{Type: "string", Enum: words}
	}
	return jsonSchema{AllOf: []jsonSchema{{Ref: "#/definitions/" + definitionOf(t)}}}
}

func definitionOf(t reflect.Type) string {
	switch t {
	case secretType:
		return "secret"
	case reflect.TypeFor[setting.Duration]():
		return "duration"
	case reflect.TypeFor[setting.Size]():
		return "size"
	case reflect.TypeFor[setting.URL]():
		return "url"
	}
	return "text"
}

func wholeNumbers(path string) (low, high *int64) {
	bounds, ok := ranges[path]
	if !ok {
		return nil, nil
	}
	low = &bounds.low
	if bounds.high != 0 {
		high = &bounds.high
	}
	return low, high
}

// defaultOf is nil where there is nothing to show.
func defaultOf(f field, value reflect.Value) any {
	shape := shapeOf(f.typ)
	switch {
	case shape == section, shape == secretValue, !value.IsValid():
		return nil
	case shape == list && (value.Len() == 0 || shapeOf(f.typ.Elem()) == section || shapeOf(f.typ.Elem()) == secretValue), shape == table && value.Len() == 0:
		return nil
	case shape == textual:
		text, ok := value.Interface().(encoding.TextMarshaler)
		if !ok {
			return nil
		}
		if out, err := text.MarshalText(); err == nil && len(out) > 0 {
			return string(out)
		}
		return nil
	case shape == stringValue && value.Len() == 0:
		return nil
	case shape == boolValue:
		return value.Bool()
	}
	return value.Interface()
}
