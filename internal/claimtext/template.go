package claimtext

import (
	"errors"
	"fmt"
	"strings"
	"text/template/parse"
)

// Errors of Fill, besides those that say what a template does not find in the
// claims.
var (
	ErrTooLong = errors.New("output too long")
	ErrTooMuch = errors.New("too many steps")
)

// Template is a parsed text. It may be used concurrently.
type Template struct{ root *parse.ListNode }

// Parse parses a template. Its errors name name, the line and what is wrong.
func Parse(name, text string) (*Template, error) {
	known := make(map[string]any, len(functions)+len(shortCircuit))
	for function := range functions {
		known[function] = true
	}
	for function := range shortCircuit {
		known[function] = true
	}
	trees, err := parse.Parse(name, text, "", "", known)
	if err != nil {
		return nil, err
	}
	root := &parse.ListNode{}
	for tree := range trees {
		if tree != name {
			return nil, fmt.Errorf("template: %s: define and block are not supported", name)
		}
		root = trees[tree].Root
	}
	if err := checkList(root); err != nil {
		return nil, fmt.Errorf("template: %s: %w", name, err)
	}
	return &Template{root}, nil
}

// Fill returns the template's text for claims, which it does not change.
func (t *Template) Fill(claims map[string]any) (string, error) {
	f := &filling{vars: []variable{{"$", claims}}}
	if err := f.list(claims, t.root); err != nil {
		return "", err
	}
	return f.out.String(), nil
}

// filling is one Fill.
type filling struct {
	out   strings.Builder
	vars  []variable // the innermost last
	steps int
}

type variable struct {
	name  string
	value any
}

// Ways out of a round of a range, as errors; the parser has them nowhere else.
var (
	errBreak    = errors.New("break")
	errContinue = errors.New("continue")
)

func (f *filling) list(dot any, list *parse.ListNode) error {
	if list == nil {
		return nil
	}
	for _, node := range list.Nodes {
		if err := f.node(dot, node); err != nil {
			return err
		}
	}
	return nil
}

func (f *filling) node(dot any, node parse.Node) error {
	if f.steps++; f.steps > MaxSteps {
		return ErrTooMuch
	}
	switch n := node.(type) {
	case *parse.TextNode:
		return f.write(string(n.Text))
	case *parse.ActionNode:
		value, err := f.pipeline(dot, n.Pipe)
		if err != nil || len(n.Pipe.Decl) > 0 {
			return err
		}
		return f.print(value)
	case *parse.IfNode:
		return f.branch(dot, n.BranchNode, func(any) any { return dot })
	case *parse.WithNode:
		return f.branch(dot, n.BranchNode, func(value any) any { return value })
	case *parse.RangeNode:
		return f.loop(dot, n)
	case *parse.BreakNode:
		return errBreak
	case *parse.ContinueNode:
		return errContinue
	case *parse.CommentNode:
		return nil
	}
	return fmt.Errorf("%s is not supported", node)
}

// branch is if and with, which differ in what the dot is inside.
func (f *filling) branch(dot any, n parse.BranchNode, inside func(value any) any) error {
	defer f.forget(len(f.vars))
	value, err := f.pipeline(dot, n.Pipe)
	if err != nil {
		return err
	}
	if truth(value) {
		return f.list(inside(value), n.List)
	}
	return f.list(dot, n.ElseList)
}

// forget ends the scope of variables.
func (f *filling) forget(kept int) { f.vars = f.vars[:kept] }

func (f *filling) loop(dot any, n *parse.RangeNode) error {
	defer f.forget(len(f.vars))
	value, err := f.evaluate(dot, n.Pipe)
	if err != nil {
		return err
	}
	if _, number := value.(int); number && len(n.Pipe.Decl) > 1 {
		return fmt.Errorf("range over %s: takes one variable", n.Pipe)
	}
	keys, items, err := elements(value)
	if err != nil {
		return fmt.Errorf("range over %s: %w", n.Pipe, err)
	}
	if len(items) == 0 {
		return f.list(dot, n.ElseList)
	}
	outside := len(f.vars)
	for i, item := range items {
		if f.steps++; f.steps > MaxSteps {
			return ErrTooMuch
		}
		f.forget(outside)
		if err := f.bindRound(n.Pipe, keys[i], item); err != nil {
			return err
		}
		switch err := f.list(item, n.List); {
		case errors.Is(err, errBreak):
			return nil
		case err != nil && !errors.Is(err, errContinue):
			return err
		}
	}
	return nil
}

// bindRound sets the variables of one round: the item, or key and item.
func (f *filling) bindRound(pipe *parse.PipeNode, key, item any) error {
	values := []any{item}
	if len(pipe.Decl) > 1 {
		values = []any{key, item}
	}
	for i, decl := range pipe.Decl {
		if err := f.bind(decl.Ident[0], values[i], pipe.IsAssign); err != nil {
			return err
		}
	}
	return nil
}

// bind declares a variable, or assigns to one that is declared.
func (f *filling) bind(name string, value any, assign bool) error {
	if !assign {
		f.vars = append(f.vars, variable{name, value})
		return nil
	}
	for i := len(f.vars) - 1; i >= 0; i-- {
		if f.vars[i].name == name {
			f.vars[i].value = value
			return nil
		}
	}
	return fmt.Errorf("undefined variable %s", name)
}

func (f *filling) print(value any) error {
	if value == nil {
		return errNull
	}
	text, ok := value.(string)
	if !ok {
		text = fmt.Sprint(value)
	}
	return f.write(text)
}

func (f *filling) write(text string) error {
	if f.out.Len()+len(text) > MaxOutput {
		return ErrTooLong
	}
	f.out.WriteString(text)
	return nil
}
