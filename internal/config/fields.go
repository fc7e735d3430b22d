package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// shape is how a Go type stands in YAML.
type shape uint8

const (
	unsupported shape = iota
	section           // struct: a mapping with known keys
	list              // slice
	table             // map[string]T: a mapping with keys of the operator's choice
	secretValue       // setting.Secret
	textual           // encoding.TextUnmarshaler
	stringValue
	boolValue
	intValue
	uintValue
	floatValue
)

var (
	secretType = reflect.TypeFor[setting.Secret]()
	textType   = reflect.TypeFor[encoding.TextUnmarshaler]()
)

func shapeOf(t reflect.Type) shape {
	switch {
	case t == secretType:
		return secretValue
	case reflect.PointerTo(t).Implements(textType):
		return textual
	}
	switch t.Kind() {
	case reflect.Struct:
		return section
	case reflect.Slice:
		return list
	case reflect.Map:
		if t.Key().Kind() == reflect.String {
			return table
		}
	case reflect.String:
		return stringValue
	case reflect.Bool:
		return boolValue
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return intValue
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return uintValue
	case reflect.Float32, reflect.Float64:
		return floatValue
	}
	return unsupported
}

// noun says what a shape expects, for "is a list: <noun> is expected here".
func (s shape) noun() string {
	switch s {
	case section, table:
		return "a mapping with keys of its own"
	case list:
		return "a list"
	case secretValue:
		return "a secret"
	case boolValue:
		return "true or false"
	case intValue, uintValue:
		return "a whole number"
	case floatValue:
		return "a number"
	default:
		return "a text"
	}
}

// field is one key of a section.
type field struct {
	name, doc string
	index     []int
	typ       reflect.Type // pointers removed
	pointer   bool
}

// fieldsOf lists the keys of a section type in their order. Exported fields
// without a yaml name, and those named "-", are not part of the configuration;
// a field tagged ",inline" gives its keys to the section around it.
func fieldsOf(t reflect.Type) []field {
	var fields []field
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if !f.IsExported() || name == "-" {
			continue
		}
		if options == "inline" {
			for _, inner := range fieldsOf(f.Type) {
				inner.index = append([]int{i}, inner.index...)
				fields = append(fields, inner)
			}
			continue
		}
		if name == "" {
			continue
		}
		one := field{name: name, doc: f.Tag.Get("doc"), index: []int{i}, typ: f.Type}
		if one.typ.Kind() == reflect.Pointer {
			one.typ, one.pointer = one.typ.Elem(), true
		}
		fields = append(fields, one)
	}
	return fields
}

// value is the field in v, allocated if it is a nil pointer.
func (f field) value(v reflect.Value) reflect.Value {
	at := v.FieldByIndex(f.index)
	if !f.pointer {
		return at
	}
	if at.IsNil() {
		at.Set(reflect.New(f.typ))
	}
	return at.Elem()
}

// schema is what there is to know about keys without looking at a file.
type schema struct {
	names keyNames
	// owners are the sections that have a key of this name, in order.
	owners map[string][]string
}

func schemaOf(t reflect.Type) schema {
	s := schema{names: keyNames{}, owners: map[string][]string{}}
	s.add(t, "")
	return s
}

func (s schema) add(t reflect.Type, path string) {
	for _, f := range fieldsOf(t) {
		s.owners[f.name] = append(s.owners[f.name], path)
		inner := f.typ
		for inner.Kind() == reflect.Pointer || shapeOf(inner) == list || shapeOf(inner) == table {
			inner = inner.Elem()
		}
		s.names[f.name] = s.names[f.name] || shapeOf(inner) == secretValue
		if shapeOf(inner) == section {
			s.add(inner, below(path, f.name))
		}
	}
}

// checkType returns what makes a type unfit for a configuration: a field
// without documentation or of a kind that has no form in YAML.
func checkType(t reflect.Type, path string) []error {
	var errs []error
	for _, f := range fieldsOf(t) {
		key := below(path, f.name)
		if f.doc == "" && shapeOf(f.typ) != section { // a nested section is explained by its keys
			errs = append(errs, fmt.Errorf("%s has no doc tag", key))
		}
		inner := f.typ
		for shapeOf(inner) == list || shapeOf(inner) == table || inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		switch shapeOf(inner) {
		case unsupported:
			errs = append(errs, fmt.Errorf("%s has type %s, which YAML cannot fill", key, inner))
		case section:
			errs = append(errs, checkType(inner, key)...)
		}
	}
	return errs
}
