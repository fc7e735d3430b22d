package config

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"reflect"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// result is what reading a file gave beside the values.
type result struct {
	warnings Errors
	secrets  []string // files that were named, absolute or relative to the working directory
}

// load reads the file over the defaults that into, a pointer to a struct, has
// already, and then validates. The error is of type [Errors].
func load(path string, env func(string) (string, bool), open Open, into any, validate func() error) (result, error) {
	target := reflect.ValueOf(into).Elem()
	schema := schemaOf(target.Type())
	text, err := readFile(open, path)
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // the byte order mark some editors write
	doc := newDocument(path, string(text), schema.names)
	if err != nil {
		doc.report(node{}, "", "cannot be read", cause(err))
		return result{}, doc.problems
	}
	var res result
	if root, ok := doc.parse(text); ok {
		d := &decoder{document: doc, schema: schema, sources: sources{
			env: env, open: open, dir: filepath.Dir(path), files: &res.secrets,
		}}
		d.decode(root, target, "")
		if !doc.failed[""] {
			doc.validated(validate())
		}
	}
	doc.hideText()
	doc.finish()
	res.warnings = doc.warnings
	if len(doc.problems) > 0 {
		return result{warnings: doc.warnings}, doc.problems
	}
	return res, nil
}

// validated takes over what Validate found, with places, and without what was
// reported while reading.
func (d *document) validated(err error) {
	for _, found := range setting.List(err) {
		if d.reported(found.Path) {
			continue
		}
		at := d.place(found.Path)
		d.problems = append(d.problems, &Error{
			File: d.file, Line: at.line, Column: at.column,
			Key: found.Path, Problem: found.Problem, Fix: found.Fix,
		})
	}
}

func readFile(open Open, path string) ([]byte, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // opened for reading: nothing can be lost
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, errors.New("it is a directory")
	}
	return io.ReadAll(io.LimitReader(f, maxFileSize+1))
}
