package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxPathBytes = 256
	maxPathSteps = 16
	maxPathIndex = 9999
)

// claimPath says where in a JSON document a value stands:
//
//	user.id                         member id of member user
//	accounts[0].id                  first element of an array
//	"https://acme.example/role"     a name with dots or brackets, as a JSON string
//	[0].user["e-mail.work"]         the same in brackets; a path may begin with one
//
// It has no wildcards, filters or negative indices: what a path finds is one
// value or nothing.
type claimPath []pathStep

// pathStep is a member's name or, if index is not negative, an array's element.
type pathStep struct {
	name  string
	index int
}

// parseClaimPath reads up to 256 bytes and 16 steps. Its errors are phrased to
// follow the name of a key.
func parseClaimPath(text string) (claimPath, error) {
	switch {
	case text == "":
		return nil, errors.New("is empty")
	case len(text) > maxPathBytes:
		return nil, fmt.Errorf("is longer than %d bytes", maxPathBytes)
	case !utf8.ValidString(text):
		return nil, errors.New("is not valid UTF-8")
	}
	var path claimPath
	for rest := text; rest != ""; {
		if len(path) == maxPathSteps {
			return nil, fmt.Errorf("has more than %d steps", maxPathSteps)
		}
		step, after, err := nextStep(rest, len(path) == 0)
		if err != nil {
			return nil, err
		}
		path, rest = append(path, step), after
	}
	return path, nil
}

// nextStep takes one step off the front of a path: "[…]", or a name, which a
// dot precedes unless it is the first.
func nextStep(rest string, first bool) (step pathStep, after string, err error) {
	if inner, ok := strings.CutPrefix(rest, "["); ok {
		if step, after, err = bracketed(inner); err != nil {
			return pathStep{}, "", err
		}
		if after, ok = strings.CutPrefix(after, "]"); !ok {
			return pathStep{}, "", errors.New("has a [ without its ]")
		}
		return step, after, nil
	}
	if !first {
		var ok bool
		if rest, ok = strings.CutPrefix(rest, "."); !ok {
			return pathStep{}, "", errors.New("has something other than . or [ after a step")
		}
	}
	if strings.HasPrefix(rest, `"`) {
		return quoted(rest)
	}
	end := strings.IndexFunc(rest, func(r rune) bool {
		return strings.ContainsRune(`.[]"`, r) || unicode.IsSpace(r) || unicode.IsControl(r)
	})
	if end < 0 {
		end = len(rest)
	}
	if end == 0 {
		return pathStep{}, "", errors.New("has an empty step, or a name that needs quotes")
	}
	return pathStep{name: rest[:end], index: -1}, rest[end:], nil
}

func bracketed(rest string) (step pathStep, after string, err error) {
	if strings.HasPrefix(rest, `"`) {
		return quoted(rest)
	}
	end := strings.IndexByte(rest, ']')
	if end < 0 {
		return pathStep{}, "", errors.New("has a [ without its ]")
	}
	index, err := strconv.ParseUint(rest[:end], 10, 16)
	if err != nil || index > maxPathIndex || rest[:end] != strconv.FormatUint(index, 10) {
		return pathStep{}, "", fmt.Errorf("has an index that is no number from 0 to %d", maxPathIndex)
	}
	return pathStep{index: int(index)}, rest[end:], nil
}

// quoted takes a JSON string off the front.
func quoted(rest string) (step pathStep, after string, err error) {
	for end := 1; end < len(rest); end++ {
		switch rest[end] {
		case '\\':
			end++
		case '"':
			var name string
			if json.Unmarshal([]byte(rest[:end+1]), &name) != nil {
				return pathStep{}, "", errors.New("has a quoted name that is no JSON string")
			}
			return pathStep{name: name, index: -1}, rest[end+1:], nil
		}
	}
	return pathStep{}, "", errors.New("has a quote without its end")
}

// find walks down document, which encoding/json decoded. A JSON null is found;
// a member of something that is no object, or an element beyond the end, is not.
func (p claimPath) find(document any) (any, bool) {
	for _, step := range p {
		if step.index >= 0 {
			array, ok := document.([]any)
			if !ok || step.index >= len(array) {
				return nil, false
			}
			document = array[step.index]
			continue
		}
		object, ok := document.(map[string]any)
		if !ok {
			return nil, false
		}
		if document, ok = object[step.name]; !ok {
			return nil, false
		}
	}
	return document, true
}
