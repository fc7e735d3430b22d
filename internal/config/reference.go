package config

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"strings"
)

const referenceHead = `# Configuration

<!-- Generated from the source: go generate ./internal/config -->

One YAML file, named by ` + "`--config`" + ` or ` + "`WHISP_BFF_CONFIG`" + `. [config.example.yaml](../config.example.yaml) is the same as this page as a
file to start from: its lines that are not comments are all that most sites need, and every other line shows a default.

` + "```sh" + `
whisp-bff validate --config config.yaml   # every mistake with its line and the fix; connects to nothing
whisp-bff check    --config config.yaml   # the same, and tries everything that the file names
whisp-bff config schema > config.schema.json   # JSON Schema, for completion and checking in an editor
` + "```" + `

An editor with the YAML language server completes and checks while one types if the file begins with
` + "`# yaml-language-server: $schema=./config.schema.json`" + `.

## How values are written

| kind | written like | |
|---|---|---|
| duration | ` + "`300ms` `20s` `5m` `12h` `1h30m` `30d`" + ` | always with a unit; a day is 24 hours |
| size | ` + "`512B` `64KiB` `1MiB` `10MB`" + ` | always with a unit; KiB is 1024 bytes, kB 1000 |
| URL | ` + "`https://app.example.com`" + ` | no user name, query or fragment in it |
| secret | ` + "`{file: /run/secrets/name}`" + ` | one line break at the end of the file is dropped |
| | ` + "`{env: NAME}`" + ` | an environment variable |
| | ` + "`{value: secret}`" + ` | for demos: the file gives it away |

The file is read strictly. A key that is not known, stands twice or has no value is an error; a list replaces the default
list as a whole; anchors, aliases and tags are refused, and so is ` + "`${NAME}`" + `, which nothing expands. Well-known placeholders
such as ` + "`changeme`" + ` are refused as secrets. All mistakes are reported at once, and whisp-bff does not start with one.

In the tables ` + "`a.b`" + ` is the key ` + "`b`" + ` in the mapping ` + "`a`" + `, and ` + "`a[].b`" + ` the key ` + "`b`" + ` of each element of the list ` + "`a`" + `.
**Bold** keys have no default and are needed by everybody who uses their section.

A running whisp-bff takes changes of this file and of the files it names by itself, but for keys marked *(restart)*:
see [operations.md](operations.md#reload).
`

// WriteReference writes docs/configuration.md.
func WriteReference(w io.Writer) error {
	var out bytes.Buffer
	out.WriteString(referenceHead)
	keys := Describe()
	out.WriteString("\n## At the top\n\n")
	tableHead(&out)
	for _, key := range keys {
		if !key.Section {
			row(&out, key, key.Path)
		}
	}
	for _, key := range keys {
		if !key.Section {
			continue
		}
		fmt.Fprintf(&out, "\n## %s\n\n%s\n", key.Name, markdown.Replace(sentence(key.Doc)))
		rows(&out, key)
	}
	_, err := w.Write(out.Bytes())
	return err
}

func tableHead(out *bytes.Buffer) { out.WriteString("| key | type | default | |\n|---|---|---|---|\n") }

// rows writes a section's table, and one more for each section in it that has an
// explanation of its own.
func rows(out *bytes.Buffer, section Key) {
	var own, plain []Key
	var flat func(keys []Key)
	flat = func(keys []Key) {
		for _, key := range keys {
			switch {
			case key.Section && key.Doc != "", !key.Section && len(key.Keys) > 0:
				own = append(own, key)
			case key.Section:
				flat(key.Keys)
			default:
				plain = append(plain, key)
			}
		}
	}
	flat(section.Keys)
	if len(plain) > 0 {
		out.WriteString("\n")
		tableHead(out)
	}
	for _, key := range plain {
		row(out, key, strings.TrimPrefix(key.Path, section.Path+"."))
	}
	for _, key := range own {
		fmt.Fprintf(out, "\n### %s\n\n%s", key.Path, markdown.Replace(sentence(key.Doc)))
		if !key.Section {
			out.WriteString(" A list; each element has:")
			key.Path += "[]"
		}
		out.WriteString("\n")
		rows(out, key)
	}
}

func row(out *bytes.Buffer, key Key, name string) {
	name = "`" + name + "`"
	if _, needed := minimum[key.Path]; needed && key.Path != "login.client_secret" || strings.HasSuffix(strings.TrimSuffix(key.Doc, "."), "; required") {
		name = "**" + name + "**"
	}
	shown := ""
	switch {
	case key.Default != "" && key.Default != `""` && key.Default != "[]" && key.Default != "{}":
		shown = "`" + strings.ReplaceAll(key.Default, "|", `\|`) + "`"
	case key.Example != "":
		shown = "e.g. `" + key.Example + "`"
	}
	text := sentence(key.Doc)
	if words, ok := choices[key.Path]; ok {
		text += oneOf(text, words)
	} else if words, ok := choices[key.Path+"[]"]; ok {
		text += oneOf(text, words)
	}
	if _, restart := NeedsRestart(key.Path); restart {
		name += " *(restart)*"
	}
	fmt.Fprintf(out, "| %s | %s | %s | %s |\n", name, key.Type, shown, markdown.Replace(text))
}

// markdown keeps what stands in a cell from being read as markup.
var markdown = strings.NewReplacer("|", `\|`, "<", "&lt;")

// oneOf lists the words that the explanation does not name already.
func oneOf(text string, words []string) string {
	var missing, all []string
	for _, word := range words {
		if !strings.Contains(text, word) {
			missing = append(missing, word)
		}
		all = append(all, "`"+cmp.Or(word, `""`)+"`")
	}
	if len(missing) == 0 || strings.Contains(text, " to ") && len(words) > 4 {
		return ""
	}
	return " One of " + strings.Join(all, ", ") + "."
}
