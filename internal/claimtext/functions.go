package claimtext

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// functions by name; immutable. Those of text/template do what they do there.
var functions = map[string]func(arguments []any) (any, error){
	"not": func(a []any) (any, error) {
		if len(a) != 1 {
			return nil, errCount
		}
		return !truth(a[0]), nil
	},
	"eq":      equal,
	"ne":      notEqual,
	"lt":      compared(func(order int) bool { return order < 0 }),
	"le":      compared(func(order int) bool { return order <= 0 }),
	"gt":      compared(func(order int) bool { return order > 0 }),
	"ge":      compared(func(order int) bool { return order >= 0 }),
	"index":   index,
	"slice":   slice,
	"len":     length,
	"print":   func(a []any) (any, error) { return fmt.Sprint(a...), nil },
	"println": func(a []any) (any, error) { return fmt.Sprintln(a...), nil },
	"printf":  printf,

	"lower":     ofText(strings.ToLower),
	"upper":     ofText(strings.ToUpper),
	"trim":      ofText(strings.TrimSpace),
	"localpart": ofText(localPart),
}

// shortCircuit are the functions that stop at a value which is enough.
var shortCircuit = map[string]func(value any) bool{
	"and": func(value any) bool { return !truth(value) },
	"or":  truth,
}

var (
	errCount      = errors.New("wrong number of arguments")
	errComparison = errors.New("these cannot be compared")
	errRange      = errors.New("out of range")
)

func localPart(address string) string {
	local, _, _ := strings.Cut(address, "@")
	return local
}

// ofText is a function of one text.
func ofText(change func(string) string) func([]any) (any, error) {
	return func(a []any) (any, error) {
		if len(a) != 1 {
			return nil, errCount
		}
		text, ok := textOf(a[0])
		if !ok {
			return nil, fmt.Errorf("wants a text, got %s", describe(a[0]))
		}
		return change(text), nil
	}
}

func printf(a []any) (any, error) {
	if len(a) == 0 {
		return nil, errCount
	}
	format, ok := textOf(a[0])
	if !ok {
		return nil, fmt.Errorf("wants a text, got %s", describe(a[0]))
	}
	if err := checkWidths(format); err != nil {
		return nil, err
	}
	return fmt.Sprintf(format, a[1:]...), nil
}

// checkWidths refuses widths, which cost as much memory as they say.
func checkWidths(format string) error {
	for _, verb := range strings.Split(format, "%")[1:] {
		digits := 0
	scan:
		for _, r := range verb {
			switch {
			case r == '*':
				return errors.New("takes no * in its format")
			case r >= '0' && r <= '9':
				if digits++; digits > 3 {
					return ErrTooLong
				}
			case strings.ContainsRune("+-# .[]", r):
				digits = 0
			default:
				break scan
			}
		}
	}
	return nil
}

// equal reports whether the first argument is one of the others.
func equal(a []any) (any, error) {
	if len(a) < 2 {
		return nil, errCount
	}
	for _, other := range a[1:] {
		order, err := compare(a[0], other, true)
		if err != nil {
			return nil, err
		}
		if order == 0 {
			return true, nil
		}
	}
	return false, nil
}

func notEqual(a []any) (any, error) {
	if len(a) != 2 {
		return nil, errCount
	}
	order, err := compare(a[0], a[1], true)
	return order != 0, err
}

func compared(fits func(order int) bool) func([]any) (any, error) {
	return func(a []any) (any, error) {
		if len(a) != 2 {
			return nil, errCount
		}
		order, err := compare(a[0], a[1], false)
		return err == nil && fits(order), err
	}
}

// compare orders two values of one kind; with equality only, true, false and null
// have their equals, too.
func compare(a, b any, equality bool) (int, error) {
	if a, ok := a.(bool); ok && equality {
		if b, ok := b.(bool); ok {
			if a == b {
				return 0, nil
			}
			return 1, nil
		}
		return 0, errComparison
	}
	if equality && (a == nil || b == nil) {
		if a == nil && b == nil {
			return 0, nil
		}
		return 1, nil
	}
	intA, isIntA := intOf(a)
	intB, isIntB := intOf(b)
	if isIntA && isIntB {
		return cmp.Compare(intA, intB), nil
	}
	floatA, isFloatA := floatOf(a)
	floatB, isFloatB := floatOf(b)
	if isFloatA && isFloatB {
		return cmp.Compare(floatA, floatB), nil
	}
	textA, isTextA := textOf(a)
	textB, isTextB := textOf(b)
	if isTextA && isTextB {
		return cmp.Compare(textA, textB), nil
	}
	return 0, errComparison
}

// index goes into lists and objects, one step for each further argument. What an
// object has not is null.
func index(a []any) (any, error) {
	if len(a) == 0 {
		return nil, errCount
	}
	value := a[0]
	for _, key := range a[1:] {
		switch in := value.(type) {
		case []any:
			at, ok := intOf(key)
			if !ok || at < 0 || at >= len(in) {
				return nil, errRange
			}
			value = in[at]
		case map[string]any:
			name, ok := key.(string)
			if !ok {
				return nil, fmt.Errorf("wants a name, got %s", describe(key))
			}
			value = in[name]
		default:
			return nil, fmt.Errorf("nothing to index in %s", describe(value))
		}
	}
	return value, nil
}

// slice cuts a text (in bytes) or a list.
func slice(a []any) (any, error) {
	if len(a) == 0 || len(a) > 3 {
		return nil, errCount
	}
	size, err := lengthOf(a[0])
	if err != nil {
		return nil, err
	}
	bounds := [2]int{0, size}
	for i, argument := range a[1:] {
		at, ok := intOf(argument)
		if !ok || at < 0 || at > size {
			return nil, errRange
		}
		bounds[i] = at
	}
	if bounds[0] > bounds[1] {
		return nil, errRange
	}
	if text, ok := textOf(a[0]); ok {
		return text[bounds[0]:bounds[1]], nil
	}
	if list, ok := a[0].([]any); ok {
		return list[bounds[0]:bounds[1]], nil
	}
	return nil, fmt.Errorf("cannot cut %s", describe(a[0]))
}

func length(a []any) (any, error) {
	if len(a) != 1 {
		return nil, errCount
	}
	size, err := lengthOf(a[0])
	return size, err
}

func lengthOf(value any) (int, error) {
	switch v := value.(type) {
	case string:
		return len(v), nil
	case json.Number:
		return len(v), nil
	case []any:
		return len(v), nil
	case map[string]any:
		return len(v), nil
	}
	return 0, fmt.Errorf("%s has no length", describe(value))
}

// truth is what if asks: null, false, 0 and what is empty are not. A number
// among the claims is true, as it is for text/template, which takes it for a text.
func truth(value any) bool {
	switch v := value.(type) {
	case nil:
		return false
	case bool:
		return v
	case int:
		return v != 0
	case float64:
		return v != 0
	}
	size, err := lengthOf(value)
	return err != nil || size > 0
}

// elements are what range goes through: an object in the order of its keys, and the
// numbers below a number.
func elements(value any) (keys, items []any, err error) {
	switch v := value.(type) {
	case []any:
		for i := range v {
			keys = append(keys, i)
		}
		return keys, v, nil
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			keys, items = append(keys, name), append(items, v[name])
		}
		return keys, items, nil
	case int:
		for i := range min(v, MaxSteps+1) { // one more than there may be rounds
			keys = append(keys, i)
		}
		return keys, keys, nil
	case nil:
		return nil, nil, nil
	}
	return nil, nil, fmt.Errorf("cannot go through %s", describe(value))
}

func textOf(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	}
	return "", false
}

func intOf(value any) (int, bool) {
	switch v := value.(type) {
	case int:
		return v, true
	case json.Number:
		n, err := strconv.Atoi(v.String())
		return n, err == nil
	}
	return 0, false
}

func floatOf(value any) (float64, bool) {
	switch v := value.(type) {
	case float64:
		return v, true
	case int:
		return float64(v), true
	case json.Number:
		n, err := v.Float64()
		return n, err == nil
	}
	return 0, false
}

// describe names what JSON calls a value, and never shows it.
func describe(value any) string {
	switch value.(type) {
	case nil:
		return "null"
	case bool:
		return "true or false"
	case string:
		return "a text"
	case json.Number, int, float64:
		return "a number"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return "something else"
}
