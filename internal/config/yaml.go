package config

import (
	"bytes"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	maxFileSize = 1 << 20
	// maxTokens bounds the work of the parser, which compares the keys of a
	// mapping with each other. The complete example has about 1,000.
	maxTokens = 30_000
	// maxOpen bounds its recursion: brackets open at once, or list dashes in a row.
	maxOpen = 2 * maxDepth
)

// parse turns the text into a tree, or reports why it cannot be one.
func (d *document) parse(text []byte) (root *node, ok bool) {
	if !d.readable(text) {
		return nil, false
	}
	tokens := lexer.Tokenize(strings.Join(d.lines, "\n"))
	if !d.bounded(tokens) {
		return nil, false
	}
	tree, err := parseTokens(tokens)
	if err != nil {
		d.syntax(err)
		return nil, false
	}
	body, ok := d.single(tree)
	if !ok {
		return nil, false
	}
	return build(body, "", d.report, 0), true
}

// readable checks the text before YAML comes into play.
func (d *document) readable(text []byte) bool {
	switch {
	case len(text) > maxFileSize:
		d.report(node{}, "", "is larger than 1 MiB", "a configuration has a few kilobytes; is this the right file?")
	case !utf8.Valid(text):
		line := 1 + bytes.Count(text[:invalidByte(text)], []byte("\n"))
		d.blind = true
		d.report(node{line: line, column: 1}, "", "has bytes that are not UTF-8 on this line", "save the file as UTF-8")
	case bytes.IndexByte(text, 0) >= 0:
		d.report(node{}, "", "has NUL bytes", "save the file as UTF-8 text")
	default:
		return true
	}
	return false
}

func invalidByte(text []byte) int {
	at := 0
	for at < len(text) {
		r, size := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && size <= 1 {
			break
		}
		at += size
	}
	return at
}

// bounded refuses what would make the parser slow or deep.
func (d *document) bounded(tokens token.Tokens) bool {
	if len(tokens) > maxTokens {
		d.report(node{}, "", "has too many keys and values", "a configuration has a few hundred; is this the right file?")
		return false
	}
	brackets, row := 0, 0
	for _, t := range tokens {
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			brackets++
		case token.SequenceEndType, token.MappingEndType:
			brackets--
		}
		switch t.Type {
		case token.SequenceEntryType, token.MappingKeyType, token.TagType, token.AnchorType:
			row++
		default:
			row = 0
		}
		if brackets > maxOpen || row > maxOpen {
			d.blind = true
			d.report(position(t), "", "is nested too deeply", "no setting needs more than a few levels")
			return false
		}
	}
	return true
}

// parseTokens calls the parser, which is known to panic on some malformed
// input; for a configuration that is one more way of not being YAML.
func parseTokens(tokens token.Tokens) (tree *ast.File, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("the text is malformed")
		}
	}()
	// Duplicate keys are found in build, together with everything else.
	return parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
}

// syntaxError is what the parser's errors have in common.
type syntaxError interface {
	GetToken() *token.Token
	GetMessage() string
}

func (d *document) syntax(err error) {
	d.blind = true
	at, message := node{}, "the text is malformed"
	if syntax, ok := errors.AsType[interface {
		error
		syntaxError
	}](err); ok {
		message = syntax.GetMessage()
		if t := syntax.GetToken(); t != nil {
			at = position(t)
		}
	}
	if tab, ok := d.tab(at.line); ok && strings.Contains(message, "\t") {
		d.report(tab, "", "has a tab in the indentation", "YAML wants spaces there")
		return
	}
	fix := "check quotes, colons and indentation"
	for _, hint := range hints {
		if strings.Contains(message, hint.message) {
			message, fix = hint.problem, hint.fix
		}
	}
	d.report(at, "", "is not valid YAML here", message+"; "+fix)
}

// hints say in other words what the parser means.
var hints = []struct{ message, problem, fix string }{
	{"end character of double-quoted", "a double quote is opened and not closed", `close it with "`},
	{"end character of single-quoted", "a single quote is opened and not closed", "close it with '"},
	{"sequence end token", "a list is opened with [ and not closed", "close it with ]"},
	{"flow mapping end token", "a mapping is opened with { and not closed", "close it with }"},
	{"mapping value is not allowed", "a second colon stands where a value is expected", "put the value into quotes, or check the indentation of the next line"},
	{"value is not allowed in this context", "the indentation does not fit the lines above", "keys of one section start in the same column"},
	{"is a reserved character", "a value starts with a character that YAML reserves", "put the value into quotes"},
	{"unexpected directive", "a value starts with a character that YAML reserves", "put the value into quotes"},
	{"unknown escape character", "a backslash in double quotes starts an unknown escape", `write \\ for a backslash, or use single quotes`},
	{"invalid key", "a key is not plain text", "write it like client_id: web"},
}

// tab finds the first tab in an indentation, from shortly before the line the
// parser names, whose count is off by one at times.
func (d *document) tab(from int) (node, bool) {
	for number := max(from-1, 1); number <= len(d.lines); number++ {
		line := d.lines[number-1]
		indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
		if i := strings.IndexByte(indent, '\t'); i >= 0 && len(indent) < len(line) {
			return node{line: number, column: i + 1}, true
		}
	}
	return node{}, false
}

// single returns the body of the one document there is.
func (d *document) single(tree *ast.File) (ast.Node, bool) {
	var docs []*ast.DocumentNode
	for _, doc := range tree.Docs {
		if _, directive := doc.Body.(*ast.DirectiveNode); directive || doc.Body == nil {
			continue
		}
		docs = append(docs, doc)
	}
	switch len(docs) {
	case 0:
		d.report(node{}, "", "is empty", "start with the active lines of config.example.yaml")
		return nil, false
	case 1:
		return docs[0].Body, true
	}
	d.report(position(docs[1].Start), "", "has a second document here", "one file is one configuration; remove the --- line and what does not belong")
	return nil, false
}
