package config

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
)

//go:generate go test -run TestExampleIsCurrent -update .

// minimum holds the settings that have no default, with the values that the
// example gives them. They are its active lines, and all that anyone needs.
var minimum = map[string]string{ //nolint:gosec // G101 sees names of files
	"public_url":             "https://app.example.com",
	"app.url":                "http://127.0.0.1:3000",
	"login.issuer":           "https://login.example.com/realms/acme",
	"login.client_id":        "web",
	"login.client_secret":    "{file: /run/secrets/oidc-client-secret}",
	"whisp.url":              "https://acme.api.whispchat.com",
	"whisp.api_keys":         "\n    - {file: /run/secrets/whisp-api-key}",
	"account.master_secrets": "\n    - {file: /run/secrets/whisp-master-secret}",
}

const exampleHead = `# whisp-bff: every setting, what it does, and its default.
#
# The lines that are not comments are the minimum, and a complete configuration.
# Every other setting is commented out and shows its default. To change one,
# remove the "#" at the very start of its line, and that of its section's line
# above it where there is one.
#
#   durations   300ms, 20s, 5m, 12h, 30d     always with a unit
#   sizes       512B, 64KiB, 1MiB, 10MB      always with a unit
#   secrets     {file: /run/secrets/name}    one line break at its end is dropped
#               {env: NAME}                  an environment variable
#               {value: secret}              for a demo: whoever reads this file has it
#   ${NAME}     is not expanded anywhere, but refused
#
# A key that is not known, stands twice or has no value is an error: whisp-bff
# does not start, and prints every mistake with its line and the fix.
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
		writeKey(&out, key, 0)
	}
	_, err := w.Write(out.Bytes())
	return err
}

// writeKey writes one key: explanation first, indented like the key, then the
// key itself, after a "#" in the first column unless it is part of the minimum.
func writeKey(out *bytes.Buffer, key Key, depth int) {
	indent := strings.Repeat("  ", depth)
	wrap(out, indent+"# ", explanation(key))
	value, active := minimum[key.Path]
	switch {
	case key.Section:
		value = ""
		active = slices.ContainsFunc(key.Keys, func(k Key) bool { _, ok := minimum[k.Path]; return ok })
	case active:
	case key.Type == "secret":
		value = fmt.Sprintf("{file: /run/secrets/%s}", strings.NewReplacer(".", "-", "_", "-").Replace(key.Path))
	case key.Default == "":
		value = `""`
	default:
		value = key.Default
	}
	if value != "" && value[0] != '\n' {
		value = " " + value
	}
	if !active {
		out.WriteString("#")
	}
	fmt.Fprintf(out, "%s%s:%s\n", indent, key.Name, value)
	if key.Section {
		for i, inner := range key.Keys {
			if i > 0 {
				out.WriteString("\n")
			}
			writeKey(out, inner, depth+1)
		}
	}
}

// explanation is the doc sentence, and for a list of mappings its keys.
func explanation(key Key) string {
	text := sentence(key.Doc)
	if key.Type == "secret" {
		text += " No default."
	}
	if key.Section || len(key.Keys) == 0 {
		return text
	}
	text += " Each element has"
	for i, inner := range key.Keys {
		if i > 0 {
			text += ";"
		}
		text += " " + inner.Name + " (" + strings.TrimSuffix(inner.Doc, ".") + ")"
	}
	return text + "."
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
