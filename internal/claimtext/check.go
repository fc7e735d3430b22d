package claimtext

import (
	"errors"
	"fmt"
	"text/template/parse"
)

// checkList refuses at the start what the parser takes and Fill never could: a
// template that fails for everybody would silently give way to the next one.
func checkList(list *parse.ListNode) error {
	if list == nil {
		return nil
	}
	for _, node := range list.Nodes {
		var err error
		switch n := node.(type) {
		case *parse.TemplateNode:
			err = errors.New("template is not supported")
		case *parse.ActionNode:
			err = checkPipe(n.Pipe)
		case *parse.IfNode:
			err = checkBranch(n.BranchNode)
		case *parse.WithNode:
			err = checkBranch(n.BranchNode)
		case *parse.RangeNode:
			err = checkBranch(n.BranchNode)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func checkBranch(n parse.BranchNode) error {
	return errors.Join(checkPipe(n.Pipe), checkList(n.List), checkList(n.ElseList))
}

func checkPipe(pipe *parse.PipeNode) error {
	for _, command := range pipe.Cmds {
		if command.Args[0].Type() == parse.NodeNil {
			return errors.New("nil is not a command")
		}
		for _, argument := range command.Args {
			if err := checkArgument(argument); err != nil {
				return err
			}
		}
		if err := checkFormat(command); err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
	}
	return nil
}

func checkArgument(node parse.Node) error {
	switch n := node.(type) {
	case *parse.PipeNode:
		return checkPipe(n)
	case *parse.ChainNode:
		return checkArgument(n.Node)
	case *parse.NumberNode:
		_, err := constant(n)
		return err
	}
	return nil
}

// checkFormat looks at the format of a printf that is written out.
func checkFormat(command *parse.CommandNode) error {
	if name, ok := command.Args[0].(*parse.IdentifierNode); !ok || name.Ident != "printf" || len(command.Args) < 2 {
		return nil
	}
	if format, ok := command.Args[1].(*parse.StringNode); ok {
		return checkWidths(format.Text)
	}
	return nil
}
