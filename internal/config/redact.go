package config

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// mask hides part of a line, in characters from 1; to 0 means to its end.
type mask struct{ line, from, to int }

// keyNames are the keys of all sections, true for those that hold secrets.
type keyNames map[string]bool

// shortestHidden is the length from which a secret is also searched for in
// messages. Shorter ones are words that may stand there for good reasons, and
// are masked at their place only.
const shortestHidden = 8

// longestLine is how much of a source line is shown.
const longestLine = 160

// hide masks a value and everything in it, but for keys that are known.
func (d *document) hide(n *node) {
	switch n.kind {
	case scalar:
		d.hideScalar(n)
	case broken:
		d.masks = append(d.masks, mask{line: n.line, from: n.column})
	}
	for _, item := range n.items {
		d.hide(item)
	}
	for _, e := range n.entries {
		if _, known := d.names[e.name]; !known {
			d.hideScalar(e.key())
		}
		d.hide(e.value)
	}
}

// hideSecret masks what stands where a secret should: everything but the keys
// value, env and file and the names that the last two give.
func (d *document) hideSecret(n *node) {
	switch n.kind {
	case mapping:
		for _, e := range n.entries {
			if !isSource(e.name) {
				d.hideScalar(e.key())
			}
			if e.name == "value" || !isSource(e.name) || e.value.kind != scalar {
				d.hide(e.value)
			}
		}
	case sequence:
		for _, item := range n.items {
			d.hideSecret(item)
		}
	default:
		d.hide(n)
	}
}

// hideSuspects masks only what may be a secret: the values of secrets' keys
// and of unknown ones. It is for values that stand in a wrong place.
func (d *document) hideSuspects(n *node) {
	for _, item := range n.items {
		d.hideSuspects(item)
	}
	for _, e := range n.entries {
		if isSecret, known := d.names[e.name]; known && !isSecret {
			d.hideSuspects(e.value)
			continue
		}
		d.hide(&node{entries: []entry{e}})
	}
}

func (e entry) key() *node {
	return &node{line: e.line, column: e.column, text: e.name, source: e.name}
}

func (d *document) hideScalar(n *node) {
	if len(n.text) >= shortestHidden {
		d.hidden = append(d.hidden, n.text)
	}
	m := mask{line: n.line, from: n.column}
	more := strings.Count(n.source, "\n") // lines after the first
	if line, ok := d.line(n.line); ok && more == 0 && n.style != block {
		rest := string(line[min(n.column-1, len(line)):])
		if n.source != "" && strings.HasPrefix(rest, n.source) {
			m.to = n.column + len([]rune(n.source))
		}
	}
	d.masks = append(d.masks, m)
	for i := range more {
		d.masks = append(d.masks, mask{line: n.line + 1 + i, from: 1})
	}
}

// hideText finds secrets by the look of the lines, for files that cannot be
// parsed and as a second net for messages.
func (d *document) hideText() {
	pattern := d.names.pattern()
	for _, line := range d.lines {
		match := pattern.FindStringSubmatch(line)
		if match == nil {
			continue
		}
		rest := strings.TrimSpace(sourceName.ReplaceAllString(match[1], ""))
		if !strings.ContainsAny(rest, `"'`) {
			rest, _, _ = strings.Cut(rest, " #")
		}
		d.hidden = append(d.hidden, rest, strings.Trim(rest, `"'{}[] `))
		d.hidden = append(d.hidden, strings.FieldsFunc(rest, func(r rune) bool { return strings.ContainsRune(" \t{}[],\"'", r) })...)
	}
	d.hidden = slices.DeleteFunc(d.hidden, func(text string) bool {
		return len(text) < shortestHidden || slices.ContainsFunc(d.shown, func(shown string) bool { return strings.Contains(shown, text) })
	})
	slices.SortFunc(d.hidden, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
}

// pattern matches a line that gives one of the secrets; its group is what
// follows the colon.
func (k keyNames) pattern() *regexp.Regexp {
	names := []string{"value"}
	for name, isSecret := range k {
		if isSecret {
			names = append(names, regexp.QuoteMeta(name))
		}
	}
	slices.Sort(names)
	return regexp.MustCompile(`(?i)(?:^|[^\pL\pN])(?:` + strings.Join(names, "|") + `)["']?\s*:(.*)`)
}

// fill sets an error's source line, masked, and scrubs its words.
func (d *document) fill(e *Error) {
	e.Problem, e.Fix, e.Key = d.scrub(e.Problem), d.scrub(e.Fix), d.scrub(e.Key)
	line, ok := d.line(e.Line)
	if !ok {
		return
	}
	if d.blind {
		e.Source, e.caret = d.blindLine(string(line), e.Column)
	} else {
		e.Source, e.caret = d.masked(line, e.Line, e.Column)
	}
	e.Source = userInfo.ReplaceAllString(e.Source, "://"+secret.Redacted+"@")
	e.Source = d.scrub(urlQuery.ReplaceAllString(e.Source, "${1}"+secret.Redacted))
	if shown := []rune(e.Source); len(shown) > longestLine {
		e.Source = string(shown[:longestLine]) + "…"
	}
	e.Source = strings.TrimRight(printable(e.Source), " \t")
	e.caret = min(e.caret, len([]rune(e.Source))+1)
}

// userInfo is the name and password of a URL.
var userInfo = regexp.MustCompile(`://[^/\s"']*@`)

// urlQuery is the query or fragment of a URL, where people put keys.
var urlQuery = regexp.MustCompile(`(://[^\s"'?#]*[?#])[^\s"',}\]]+`)

func (d *document) scrub(text string) string {
	for _, hidden := range d.hidden {
		text = strings.ReplaceAll(text, hidden, secret.Redacted)
	}
	return printable(text)
}

// masked replaces the hidden parts of a line and moves the caret along.
func (d *document) masked(line []rune, number, column int) (string, int) {
	var out strings.Builder
	at, caret := 1, column // the next character to copy
	for _, m := range d.masksOf(number, len(line)) {
		out.WriteString(string(line[at-1 : m.from-1]))
		if column >= m.from {
			caret = len([]rune(out.String())) + 1
		}
		out.WriteString(secret.Redacted)
		if column >= m.to {
			caret = len([]rune(out.String())) + 1 + column - m.to
		}
		at = m.to
	}
	out.WriteString(string(line[at-1:]))
	return out.String(), caret
}

// masksOf are the masks of a line in order, none empty, none touching another.
func (d *document) masksOf(number, length int) []mask {
	var list []mask
	for _, m := range d.masks {
		if m.to == 0 || m.to > length+1 {
			m.to = length + 1
		}
		if m.line == number && m.from < m.to {
			list = append(list, m)
		}
	}
	slices.SortFunc(list, func(a, b mask) int { return cmp.Compare(a.from, b.from) })
	merged := list[:0]
	for _, m := range list {
		if last := len(merged) - 1; last >= 0 && m.from <= merged[last].to {
			merged[last].to = max(merged[last].to, m.to)
			continue
		}
		merged = append(merged, m)
	}
	return merged
}

// blindLine shows a line of a file that is not YAML: as it is if it starts
// with a known key and names no secret, else only its indentation.
func (d *document) blindLine(line string, column int) (string, int) {
	key := plainKey.FindStringSubmatch(line) // always matches
	isSecret, known := d.names[key[1]]
	if known && !isSecret && !d.names.pattern().MatchString(line) || onlyBrackets.MatchString(line) {
		return line, column
	}
	if strings.TrimSpace(key[2]) == "" {
		return line, column
	}
	shown := strings.TrimSuffix(line, key[2])
	return shown + secret.Redacted, min(column, len([]rune(shown))+1)
}

var (
	plainKey     = regexp.MustCompile(`^\s*(?:- )?(?:([a-z_]+):(?:\s+|$))?(.*)$`)
	onlyBrackets = regexp.MustCompile(`^[\s\[\]{}]*$`)
	sourceName   = regexp.MustCompile(`\b(?:env|file)\s*:\s*(?:"[^"]*"|'[^']*'|[^,{}\s]*)`)
)

func (d *document) line(number int) ([]rune, bool) {
	if number < 1 || number > len(d.lines) {
		return nil, false
	}
	return []rune(d.lines[number-1]), true
}
