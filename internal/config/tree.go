package config

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// node is a YAML value reduced to what a configuration may contain. The
// parser's own tree has twenty kinds of node; everything not listed here has
// been reported, and stands as broken, when a tree exists.
type node struct {
	kind         kind
	line, column int
	text         string // of a scalar, as written and unquoted
	source       string // of a scalar, as it stands in the file, quotes included
	style        style
	items        []*node
	entries      []entry
}

type entry struct {
	name         string
	line, column int // of the key
	value        *node
}

type kind uint8

const (
	broken kind = iota // reported already
	null
	scalar
	sequence
	mapping
)

type style uint8

const (
	plain   style = iota // text
	number               // unquoted 12, 0x1f or 1.5
	boolean              // unquoted true or false
	quoted
	block // | or >
)

// maxDepth is several times what any section needs.
const maxDepth = 32

// build reduces a parsed document, reporting what a configuration must not
// contain.
func build(tree ast.Node, path string, report reporter, depth int) *node {
	at := position(tree.GetToken())
	if depth > maxDepth {
		report(at, path, "is nested too deeply", "no setting needs more than a few levels; check the indentation")
		return &at
	}
	switch n := tree.(type) {
	case *ast.MappingNode:
		return buildMapping(n, at, path, report, depth)
	case *ast.MappingValueNode:
		return buildMapping(&ast.MappingNode{BaseNode: n.BaseNode, Start: n.Start, Values: []*ast.MappingValueNode{n}}, at, path, report, depth)
	case *ast.SequenceNode:
		at.kind = sequence
		for i, item := range n.Values {
			at.items = append(at.items, build(item, element(path, i), report, depth+1))
		}
	case *ast.AnchorNode:
		report(at, path, "has an anchor, which is not read", "write the value out wherever it is needed")
	case *ast.AliasNode:
		report(at, path, "is an alias, which is not read", "write the value out")
	case *ast.TagNode:
		report(at, path, "has a tag, which is not read", "remove it; quotes make a text of a number")
	case *ast.LiteralNode:
		at.kind, at.style = scalar, block
		at.text, at.source = n.Value.Value, n.Value.GetToken().Origin
	case ast.ScalarNode:
		buildScalar(n, &at)
	default:
		report(at, path, "is YAML that a configuration does not use", "write plain keys, lists and values")
	}
	return &at
}

func buildMapping(n *ast.MappingNode, at node, path string, report reporter, depth int) *node {
	at.kind = mapping
	if len(n.Values) > 0 && !n.IsFlowStyle {
		first := position(n.Values[0].Key.GetToken()) // the library says where the colon is
		at.line, at.column = first.line, first.column
	}
	seen := map[string]int{}
	for _, pair := range n.Values {
		key := position(pair.Key.GetToken())
		name, ok := keyName(pair.Key)
		switch {
		case pair.Key.IsMergeKey():
			report(key, path, "has a merge key, which is not read", "write the settings out")
			continue
		case !ok:
			report(key, path, "is not a plain key", "write it like client_id: web")
			continue
		case seen[name] > 0:
			report(key, below(path, name), "stands twice here", fmt.Sprintf("first on line %d; remove one of them", seen[name]))
			continue
		}
		seen[name] = key.line
		value := &node{kind: null, line: key.line, column: key.column}
		if pair.Value != nil {
			value = build(pair.Value, below(path, name), report, depth+1)
		}
		at.entries = append(at.entries, entry{name: name, line: key.line, column: key.column, value: value})
	}
	return &at
}

func buildScalar(n ast.ScalarNode, at *node) {
	tok := n.GetToken()
	at.kind, at.text, at.source = scalar, tok.Value, strings.TrimSpace(tok.Origin)
	switch tok.Type {
	case token.SingleQuoteType, token.DoubleQuoteType:
		at.style = quoted
		return
	}
	switch n.(type) {
	case *ast.NullNode:
		at.kind = null
	case *ast.BoolNode:
		at.style = boolean
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		at.style = number
	}
}

func keyName(key ast.MapKeyNode) (string, bool) {
	scalar, ok := key.(ast.ScalarNode)
	if !ok || scalar.GetToken() == nil {
		return "", false
	}
	switch key.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.LiteralNode:
		return "", false
	}
	return scalar.GetToken().Value, true
}

func position(tok *token.Token) node {
	if tok == nil || tok.Position == nil {
		return node{line: 1, column: 1}
	}
	return node{line: max(tok.Position.Line, 1), column: max(tok.Position.Column, 1)}
}
