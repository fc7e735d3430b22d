package claimtext

import (
	"errors"
	"fmt"
	"text/template/parse"
)

// errNull: a claim that is null says nothing.
var errNull = errors.New("is null")

// pipeline evaluates a pipeline and binds the variable it declares.
func (f *filling) pipeline(dot any, pipe *parse.PipeNode) (any, error) {
	value, err := f.evaluate(dot, pipe)
	if err != nil {
		return nil, err
	}
	for _, decl := range pipe.Decl {
		if err := f.bind(decl.Ident[0], value, pipe.IsAssign); err != nil {
			return nil, err
		}
	}
	return value, nil
}

// evaluate hands the value of each command to the next as its last argument.
func (f *filling) evaluate(dot any, pipe *parse.PipeNode) (value any, err error) {
	var piped []any
	for _, command := range pipe.Cmds {
		if f.steps++; f.steps > MaxSteps {
			return nil, ErrTooMuch
		}
		if value, err = f.command(dot, command, piped); err != nil {
			return nil, err
		}
		piped = []any{value}
	}
	return value, nil
}

// command is a call, or a value, which takes no arguments.
func (f *filling) command(dot any, command *parse.CommandNode, piped []any) (any, error) {
	if name, ok := command.Args[0].(*parse.IdentifierNode); ok {
		value, err := f.call(dot, name.Ident, command.Args[1:], piped)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", command, err)
		}
		return value, nil
	}
	if len(command.Args) > 1 || len(piped) > 0 {
		return nil, fmt.Errorf("%s takes no arguments", command.Args[0])
	}
	return f.argument(dot, command.Args[0])
}

// call evaluates the arguments, those of and and or only as far as needed.
func (f *filling) call(dot any, name string, nodes []parse.Node, piped []any) (any, error) {
	enough, short := shortCircuit[name]
	var arguments []any
	for _, node := range nodes {
		value, err := f.argument(dot, node)
		if err != nil {
			return nil, err
		}
		if short && enough(value) {
			return value, nil
		}
		arguments = append(arguments, value)
	}
	arguments = append(arguments, piped...)
	if !short {
		return f.paid(functions[name](arguments))
	}
	if len(arguments) == 0 {
		return nil, errors.New("wants at least one argument")
	}
	return arguments[len(arguments)-1], nil
}

// paid lets what a function made cost as many steps as it is long.
func (f *filling) paid(value any, err error) (any, error) {
	if text, ok := value.(string); ok && err == nil {
		if f.steps += len(text) / bytesPerStep; f.steps > MaxSteps || len(text) > maxText {
			return nil, ErrTooLong
		}
	}
	return value, err
}

func (f *filling) argument(dot any, node parse.Node) (any, error) {
	if f.steps++; f.steps > MaxSteps {
		return nil, ErrTooMuch
	}
	switch n := node.(type) {
	case *parse.DotNode:
		return dot, nil
	case *parse.FieldNode:
		return fields(dot, n.Ident)
	case *parse.VariableNode:
		for i := len(f.vars) - 1; i >= 0; i-- {
			if f.vars[i].name == n.Ident[0] {
				return fields(f.vars[i].value, n.Ident[1:])
			}
		}
		return nil, fmt.Errorf("undefined variable %s", n.Ident[0])
	case *parse.ChainNode:
		value, err := f.argument(dot, n.Node)
		if err != nil {
			return nil, err
		}
		return fields(value, n.Field)
	case *parse.PipeNode:
		return f.pipeline(dot, n)
	case *parse.IdentifierNode:
		return f.call(dot, n.Ident, nil, nil)
	case *parse.NilNode:
		return nil, nil
	case *parse.StringNode:
		return n.Text, nil
	case *parse.BoolNode:
		return n.True, nil
	case *parse.NumberNode:
		return constant(n)
	}
	return nil, fmt.Errorf("%s is not supported", node)
}

// constant is a number that the template says.
func constant(n *parse.NumberNode) (any, error) {
	switch {
	case n.IsInt:
		return int(n.Int64), nil
	case n.IsFloat:
		return n.Float64, nil
	}
	return nil, fmt.Errorf("%s is not supported", n)
}

// fields follows names into objects; each must be there.
func fields(value any, names []string) (any, error) {
	for _, name := range names {
		object, ok := value.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("no %s in %s", name, describe(value))
		}
		if value, ok = object[name]; !ok {
			return nil, fmt.Errorf("no %s", name)
		}
	}
	return value, nil
}
