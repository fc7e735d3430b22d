package config

import (
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// Key describes one key of the configuration.
type Key struct {
	// Path from the top, such as "whisp.timeouts.dial". The keys of a list's
	// elements have "[]" in theirs: "whisp.extra_routes[].method".
	Path string
	Name string
	// Doc is what it does and its range.
	Doc string
	// Type in the words of the reference: "duration", "list of secrets".
	Type string
	// Default as YAML on one line; empty for a section, and for a secret,
	// which never has one.
	Default string
	// Example as YAML on one line, for what has no default to show; empty for
	// most keys.
	Example string
	// Section tells that the value is a mapping with the keys in Keys; a list
	// of mappings has Keys too.
	Section bool
	Keys    []Key

	parts []string // of Default: the elements of a list, the entries of a mapping
}

// Describe lists every key with its default, in the order of the example.
func Describe() []Key { return describe(reflect.ValueOf(DefaultFile()).Elem(), "") }

func describe(v reflect.Value, path string) []Key {
	fields := fieldsOf(v.Type())
	keys := make([]Key, len(fields))
	for i, f := range fields {
		keys[i] = describeField(f, v.FieldByIndex(f.index), below(path, f.name))
	}
	return keys
}

func describeField(f field, value reflect.Value, path string) Key {
	if f.pointer {
		value = value.Elem() // invalid for nil, which means no default
	}
	key := Key{Path: path, Name: f.name, Doc: f.doc, Type: typeName(f.typ), Example: samples[path]}
	switch shapeOf(f.typ) {
	case section:
		if !value.IsValid() {
			value = reflect.Zero(f.typ)
		}
		key.Section, key.Keys = true, describe(value, path)
	case list:
		if shapeOf(f.typ.Elem()) == section {
			key.Keys = describe(elementDefaults(f.typ.Elem()), path+"[]")
		}
		key.Default, key.parts = flow(value), parts(value)
	case table:
		key.Default, key.parts = flow(value), parts(value)
	case secretValue:
	default:
		if value.IsValid() {
			key.Default = flow(value)
		}
	}
	return key
}

// typeName is the type in plain words.
func typeName(t reflect.Type) string {
	switch shapeOf(t) {
	case section:
		return "section"
	case list:
		return "list of " + plural(typeName(t.Elem()))
	case table:
		return "mapping of names to " + plural(typeName(t.Elem()))
	case secretValue:
		return "secret"
	case boolValue:
		return "true or false"
	case intValue, uintValue:
		return "whole number"
	case floatValue:
		return "number"
	}
	switch t {
	case reflect.TypeFor[setting.Duration]():
		return "duration"
	case reflect.TypeFor[setting.Size]():
		return "size"
	case reflect.TypeFor[setting.URL]():
		return "URL"
	}
	return "text"
}

func plural(name string) string {
	if name == "section" {
		return "mappings"
	}
	return name + "s"
}

// flow writes a default as YAML on one line.
func flow(v reflect.Value) string {
	if text, ok := v.Interface().(encoding.TextMarshaler); ok && shapeOf(v.Type()) == textual {
		out, err := text.MarshalText()
		if err != nil {
			return ""
		}
		return quote(string(out))
	}
	switch shapeOf(v.Type()) {
	case stringValue:
		return quote(v.String())
	case list:
		return "[" + strings.Join(parts(v), ", ") + "]"
	case table:
		return "{" + strings.Join(parts(v), ", ") + "}"
	}
	return fmt.Sprint(v.Interface())
}

// parts are the elements of a list, or the entries of a mapping by name.
func parts(v reflect.Value) []string {
	var all []string
	if shapeOf(v.Type()) == list {
		for _, item := range v.Seq2() {
			all = append(all, flow(item))
		}
		return all
	}
	for name, value := range v.Seq2() {
		all = append(all, quote(name.String())+": "+flow(value))
	}
	slices.Sort(all)
	return all
}

// quote quotes a text where YAML would read it as something else.
func quote(text string) string {
	if unquoted.MatchString(text) && text != "true" && text != "false" && text != "null" {
		return text
	}
	return strconv.Quote(text)
}

var unquoted = regexp.MustCompile(`^(?:[A-Za-z/][A-Za-z0-9_./+-]*|[0-9]+[a-zA-Z][a-zA-Z0-9]*|https?://[A-Za-z0-9_./:-]+)$`)
