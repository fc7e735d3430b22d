package config

import (
	"cmp"
	"reflect"
	"regexp"
	"slices"
)

// decoder fills Go values from a tree. It goes on after a mistake, leaving the
// value as it was, so that one run finds all of them.
type decoder struct {
	*document
	schema  schema
	sources sources
}

// decode fills v, whose type has been checked, from n.
func (d *decoder) decode(n *node, v reflect.Value, path string) {
	if n.kind == broken {
		d.failed[path] = true
		return
	}
	want := shapeOf(v.Type())
	if n.kind == null {
		d.report(*n, path, "has no value", d.noValue(want))
		return
	}
	switch want {
	case section:
		d.section(n, v, path)
	case list:
		d.list(n, v, path)
	case table:
		d.table(n, v, path)
	case secretValue:
		d.secret(n, v, path)
	default:
		if n.kind != scalar {
			d.mismatch(n, want, path)
			return
		}
		d.scalar(n, v, want, path)
	}
}

func (d *decoder) noValue(want shape) string {
	switch want {
	case section:
		return "write its keys on the lines below it, indented, or remove it to use the defaults"
	case list:
		return "write its elements below it, or [] for none, or remove it to use the default"
	case secretValue:
		return secretForms
	}
	return "write one after the colon, or remove the line to use the default"
}

func (d *decoder) section(n *node, v reflect.Value, path string) {
	if n.kind != mapping {
		d.mismatch(n, section, path)
		return
	}
	fields := fieldsOf(v.Type())
	known := make([]string, len(fields))
	for i, f := range fields {
		known[i] = f.name
	}
	for _, e := range n.entries {
		at := node{line: e.line, column: e.column}
		key := below(path, e.name)
		i := slices.Index(known, e.name)
		if i < 0 {
			d.unknown(at, e, path, known)
			continue
		}
		d.places[key] = at
		if e.value.kind == null {
			e.value.line, e.value.column = e.line, e.column
		}
		d.decode(e.value, fields[i].value(v), key)
	}
}

// unknown reports a key. Its value is hidden unless the key is a near miss of
// one that holds no secret: it may be a secret under a misspelt name. A key
// that does not look like one is hidden as well.
func (d *decoder) unknown(at node, e entry, path string, known []string) {
	if !keyLike.MatchString(e.name) {
		d.hide(e.value)
		d.hideScalar(&node{line: e.line, column: e.column})
		d.report(at, path, "has a key here that is not known", "keys look like client_id")
		return
	}
	fix, meant := d.schema.suggest(path, e.name, known)
	isSecret, exists := d.schema.names[cmp.Or(meant, e.name)]
	if exists && !isSecret {
		d.hideSuspects(e.value)
	} else {
		d.hide(e.value)
	}
	if meant != "" {
		d.failed[below(path, meant)] = true
	}
	d.report(at, below(path, e.name), "is not a known key", fix)
}

var keyLike = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,39}$`)

func (d *decoder) list(n *node, v reflect.Value, path string) {
	if n.kind != sequence {
		if shapeOf(v.Type().Elem()) == secretValue {
			d.hideSecret(n)
			d.report(*n, path, "is "+n.noun()+", a list of secrets is expected", "write each as an element, like - {file: /run/secrets/name}")
			return
		}
		d.mismatch(n, list, path)
		return
	}
	items := reflect.MakeSlice(v.Type(), len(n.items), len(n.items))
	for i, item := range n.items {
		key := element(path, i)
		d.places[key] = *item
		d.decode(item, items.Index(i), key)
	}
	v.Set(items)
}

func (d *decoder) table(n *node, v reflect.Value, path string) {
	if n.kind != mapping {
		d.mismatch(n, table, path)
		return
	}
	entries := reflect.MakeMap(v.Type())
	for _, e := range n.entries {
		key := below(path, e.name)
		d.places[key] = node{line: e.line, column: e.column}
		value := reflect.New(v.Type().Elem()).Elem()
		d.decode(e.value, value, key)
		entries.SetMapIndex(reflect.ValueOf(e.name).Convert(v.Type().Key()), value)
	}
	v.Set(entries)
}

// mismatch reports a value of the wrong kind.
func (d *decoder) mismatch(n *node, want shape, path string) {
	d.hideSuspects(n)
	subject := "is " + n.noun()
	if path == "" {
		subject = "this file is " + n.noun()
	}
	fix := "write a single value after the colon"
	switch want {
	case section, table:
		fix = "write its keys on the lines below it, indented"
	case list:
		fix = `write each element on a line of its own, starting with "- "`
	}
	d.report(*n, path, subject+", "+want.noun()+" is expected", fix)
}

func (n *node) noun() string {
	switch {
	case n.kind == mapping:
		return "a mapping"
	case n.kind == sequence:
		return "a list"
	case n.style == number:
		return "a number"
	case n.style == boolean:
		return "true or false"
	}
	return "a text"
}
