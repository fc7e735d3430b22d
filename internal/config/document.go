package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// document is one file being read: its lines, what was found wrong, and what
// must not be shown of it. Problems are collected with bare positions; their
// source lines are filled in by finish, when every secret's place is known.
type document struct {
	file     string
	lines    []string
	names    keyNames
	problems Errors
	warnings Errors
	// places has the position of every key and list element that was read.
	places map[string]node
	// failed has the paths that were reported already, so that a Validate
	// which sees a zero value there does not report them again.
	failed map[string]bool
	masks  []mask
	hidden []string // secret texts, longest first when rendering
	shown  []string // texts that look like secrets and are not
	// blind is set when the text could not be parsed: then no line is shown
	// that is not known to be harmless.
	blind bool
}

// reporter notes one problem of the value or key at a place.
type reporter func(at node, path, problem, fix string)

func newDocument(file string, text string, names keyNames) *document {
	return &document{
		file: file, names: names,
		lines:  strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n"),
		places: map[string]node{}, failed: map[string]bool{},
	}
}

func (d *document) report(at node, path, problem, fix string) {
	d.failed[path] = true
	d.problems = append(d.problems, &Error{
		File: d.file, Line: at.line, Column: at.column, Key: path, Problem: problem, Fix: fix,
	})
}

func (d *document) warn(at node, path, problem, fix string) {
	d.warnings = append(d.warnings, &Error{
		File: d.file, Line: at.line, Column: at.column, Key: path, Problem: problem, Fix: fix,
	})
}

// reported tells whether a problem at the path would only repeat one that was
// found while reading: at the path itself, above it, or in an element below.
func (d *document) reported(path string) bool {
	for failed := range d.failed {
		if failed == path || inside(path, failed) || strings.Contains(path, ".") && inside(failed, path) {
			return true
		}
	}
	return false
}

// place finds where to point for a path: its own key, or the nearest key above
// it that the file has. The zero node means nowhere.
func (d *document) place(path string) node {
	for path != "" {
		if at, ok := d.places[path]; ok {
			return at
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return node{}
}

// finish puts the problems in the order of the file, those without a place
// last, and fills in their lines.
func (d *document) finish() {
	for _, list := range []Errors{d.problems, d.warnings} {
		slices.SortStableFunc(list, func(a, b *Error) int {
			return cmp.Or(cmp.Compare(min(a.Line, 1), min(b.Line, 1))*-1, cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
		})
		for _, e := range list {
			d.fill(e)
		}
	}
}

// below is the path of a key in a mapping, element that of a list's item.
func below(parent, key string) string {
	if parent == "" {
		return key
	}
	return parent + "." + key
}

func element(parent string, i int) string { return parent + "[" + strconv.Itoa(i) + "]" }

// inside tells whether path lies strictly below parent.
func inside(path, parent string) bool {
	rest, ok := strings.CutPrefix(path, parent)
	return ok && parent != "" && rest != "" && (rest[0] == '.' || rest[0] == '[')
}
