package setting

import (
	"errors"
	"fmt"
	"strings"
)

// Error is one thing wrong with a configuration. It never contains a secret.
type Error struct {
	// Path of the key as written in YAML, such as "login.client_id" or
	// "whisp.api_keys[1]". Relative to the Config that reports it until
	// internal/config prefixes it.
	Path string
	// Problem in a few words: "is required".
	Problem string
	// Fix says what to write instead.
	Fix string
}

func (e *Error) Error() string {
	text := strings.TrimSpace(e.Path + " " + e.Problem)
	if e.Fix != "" {
		text += ": " + e.Fix
	}
	return text
}

// Problems collects errors, so that one run of Validate reports all of them.
// The zero value is ready to use.
type Problems struct{ list []*Error }

// Add notes one problem.
func (p *Problems) Add(path, problem, fix string) {
	p.list = append(p.list, &Error{Path: path, Problem: problem, Fix: fix})
}

// Addf is Add with a formatted fix.
func (p *Problems) Addf(path, problem, fix string, args ...any) {
	p.Add(path, problem, fmt.Sprintf(fix, args...))
}

// Include takes over what a nested Validate returned, under the given path.
// Errors that are not of this package are kept with their text.
func (p *Problems) Include(path string, err error) {
	for _, e := range List(err) {
		p.list = append(p.list, &Error{Path: join(path, e.Path), Problem: e.Problem, Fix: e.Fix})
	}
}

// Err returns nil, or an error that [List] takes apart again.
func (p *Problems) Err() error {
	if len(p.list) == 0 {
		return nil
	}
	errs := make([]error, len(p.list))
	for i, e := range p.list {
		errs[i] = e
	}
	return errors.Join(errs...)
}

// List returns the single problems of what a Validate returned.
func List(err error) []*Error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []*Error
		for _, e := range joined.Unwrap() {
			all = append(all, List(e)...)
		}
		return all
	}
	if one, ok := err.(*Error); ok { //nolint:errorlint // this is the walk down the wrappers
		return []*Error{one}
	}
	if _, holds := errors.AsType[*Error](err); holds {
		return List(errors.Unwrap(err)) // a wrapper around one or many
	}
	return []*Error{{Problem: err.Error()}}
}

func join(parent, child string) string {
	switch {
	case parent == "":
		return child
	case child == "", strings.HasPrefix(child, "["):
		return parent + child
	default:
		return parent + "." + child
	}
}
