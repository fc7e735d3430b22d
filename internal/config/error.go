package config

import (
	"fmt"
	"strings"
	"unicode"
)

// Error is one thing wrong with a configuration, and where. Its text never
// contains a secret.
type Error struct {
	// File as it was given to Load.
	File string
	// Line and Column count from 1, columns in characters. Both are 0 if the
	// problem has no place, such as a section that is missing altogether.
	Line, Column int
	// Key is the full path, such as "whisp.api_keys[1]"; it may be empty.
	Key string
	// Problem in a few words, Fix what to write instead.
	Problem, Fix string
	// Source is the offending line with secrets masked; empty without a place.
	Source string

	caret int // column in Source
}

// Error renders file:line:column, the message, and the line with a caret.
func (e *Error) Error() string {
	var out strings.Builder
	out.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&out, ":%d:%d", e.Line, e.Column)
	}
	out.WriteString(": ")
	out.WriteString(strings.TrimSpace(e.Key + " " + e.Problem))
	if e.Fix != "" {
		out.WriteString(": " + e.Fix)
	}
	if e.Source != "" {
		number := fmt.Sprintf("%4d", e.Line)
		fmt.Fprintf(&out, "\n%s | %s", number, e.Source)
		fmt.Fprintf(&out, "\n%s | %s^", strings.Repeat(" ", len(number)), padding(e.Source, e.caret))
	}
	return out.String()
}

// Errors is what Load returns: everything wrong, in the order of the file.
type Errors []*Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find a single [Error].
func (e Errors) Unwrap() []error {
	list := make([]error, len(e))
	for i, one := range e {
		list[i] = one
	}
	return list
}

// padding is the white space that puts a caret under the column, keeping tabs
// so that it lines up in any terminal.
func padding(line string, column int) string {
	var out strings.Builder
	for i, r := range []rune(line) {
		if i >= column-1 {
			break
		}
		if r == '\t' {
			out.WriteRune('\t')
			continue
		}
		out.WriteByte(' ')
	}
	return out.String()
}

// printable replaces what a terminal would act upon.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}
