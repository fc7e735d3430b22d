package config

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

//go:generate go test -run Test(Example|Schema|Reference)IsCurrent -update .

const exampleHead = `# yaml-language-server: $schema=./` + SchemaFile + `
# whisp-bff: every setting, what it does, and its default.
#
# The lines that are not comments are the minimum, and a complete configuration.
# Every other setting is commented out and shows its default, or an example
# where its explanation says that it is required or has none. To change one,
# remove the "#" at the very start of its line, and that of the lines it belongs
# to: its section's, and in a list the line with the "-" of the element.
#
#   durations   300ms, 20s, 5m, 12h, 30d  always with a unit
#   sizes       512B, 64KiB, 1MiB, 10MB   always with a unit
#   secrets     {file: /run/secrets/name} one line break at its end is dropped
#               {env: NAME}               an environment variable
#               {value: secret}           for demos: this file gives it away
#   ${NAME}     is not expanded anywhere, but refused
#
# A key that is not known, stands twice or has no value is an error: whisp-bff
# does not start, and prints every mistake with its line and the fix. Editors
# with the YAML language server do so while one types: the first line names the
# schema, which "whisp-bff config schema" prints.
#
# A running whisp-bff takes changes of this file, and of the files it names, by
# itself, but for keys marked (restart).
#
# This file is generated from the source: go generate ./internal/config
`

// width is where explanations wrap.
const width = 80

// WriteExample writes config.example.yaml: valid YAML whose active lines are the
// minimum and whose commented lines are all other settings.
func WriteExample(w io.Writer) error {
	var out bytes.Buffer
	out.WriteString(exampleHead)
	for _, key := range Describe() {
		out.WriteString("\n")
		if key.Section {
			title := "# ---- " + key.Name + " "
			out.WriteString(title + strings.Repeat("-", width-len(title)) + "\n")
		}
		writeKey(&out, key, "")
	}
	_, err := w.Write(out.Bytes())
	return err
}

// writeKey writes one key: explanation first, indented like the key, then the
// key itself, after a "#" in the first column unless it is part of the minimum.
// lead is what stands before the key: its indentation, in which a "- " may
// start a list's element.
func writeKey(out *bytes.Buffer, key Key, lead string) {
	indent := strings.Repeat(" ", len(lead))
	wrap(out, indent+"# ", explanation(key))
	start := lead + key.Name + ":"
	if !isActive(key) {
		start = "#" + start
	}
	switch {
	case key.Section:
		out.WriteString(start + "\n")
		for i, inner := range key.Keys {
			separate(out, i)
			writeKey(out, inner, indent+"  ")
		}
	case len(key.Keys) > 0:
		out.WriteString(start + "\n")
		next := indent + "  - "
		for i, inner := range tellingFirst(key.Keys) {
			separate(out, i)
			writeKey(out, inner, next)
			next = indent + "    "
		}
	default:
		writeValue(out, start, key)
	}
}

func separate(out *bytes.Buffer, i int) {
	if i > 0 {
		out.WriteString("\n")
	}
}

func isActive(key Key) bool {
	if key.Section {
		return slices.ContainsFunc(key.Keys, isActive)
	}
	_, ok := minimum[key.Path]
	return ok
}

// tellingFirst is the order of an element's keys: its first line can not be
// left out, so one that is needed is there.
func tellingFirst(keys []Key) []Key {
	return slices.SortedStableFunc(slices.Values(keys), func(a, b Key) int {
		return cmp.Compare(min(len(b.Example), 1), min(len(a.Example), 1))
	})
}

// writeValue writes a key and its value, and one that is too wide for a line as
// one line for each of its parts.
func writeValue(out *bytes.Buffer, start string, key Key) {
	value, active := minimum[key.Path]
	switch {
	case active:
	case key.Example != "":
		value = key.Example
	case key.Type == "secret":
		value = fmt.Sprintf("{file: /run/secrets/%s}", secretName.Replace(key.Path))
	case key.Default == "":
		value = `""`
	default:
		value = key.Default
	}
	if strings.HasPrefix(value, "\n") {
		out.WriteString(start + value + "\n")
		return
	}
	if line := start + " " + value; len(line) <= width || len(key.parts) == 0 {
		out.WriteString(line + "\n")
		return
	}
	out.WriteString(start + "\n")
	mark := start[:strings.Index(start, key.Name)] + "  "
	if strings.HasPrefix(key.Default, "[") {
		mark += "- "
	}
	for _, part := range key.parts {
		out.WriteString(mark + part + "\n")
	}
}

var secretName = strings.NewReplacer(".", "-", "_", "-", "[]", "")

// explanation is the doc sentence, and what a value that is shown is if it is
// no default.
func explanation(key Key) string {
	text := sentence(key.Doc)
	_, active := minimum[key.Path]
	switch {
	case key.Type == "secret":
		text += " No default."
	case active:
	case !key.Section && len(key.Keys) > 0:
		text += " None by default; an element with everything it can have:"
	case key.Example != "" && !strings.Contains(key.Doc, "required") && !strings.Contains(key.Path, "[]"):
		text += " None by default; an example:"
	}
	if _, restart := NeedsRestart(key.Path); restart && !key.Section {
		text = "(restart) " + text
	}
	return text
}

// sentence starts with a capital and ends with a full stop, whichever way the
// doc tag was written.
func sentence(doc string) string {
	if doc == "" {
		return ""
	}
	if first, _, _ := strings.Cut(doc, " "); first == strings.ToLower(first) && !strings.ContainsAny(first, "_:") {
		doc = strings.ToUpper(doc[:1]) + doc[1:]
	}
	return strings.TrimSuffix(doc, ".") + "."
}

// wrap writes text as comment lines of at most width columns.
func wrap(out *bytes.Buffer, prefix, text string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(prefix)+len(line)+1+len(word) > width {
			out.WriteString(prefix + line + "\n")
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	if line != "" {
		out.WriteString(prefix + line + "\n")
	}
}
