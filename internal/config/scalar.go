package config

import (
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

// scalar fills a single value. Its style counts: a quoted "5" is a text and
// never a number. The other way round, an unquoted 0123 is taken literally
// where a text is expected, since nothing is lost.
func (d *decoder) scalar(n *node, v reflect.Value, want shape, path string) {
	if variable := expansion.FindString(n.text); variable != "" {
		d.report(*n, path, "contains ${…}, which is not expanded", "write the value out; only secrets can come from the environment, as {env: NAME}")
		return
	}
	switch want {
	case textual:
		d.text(n, v, path)
	case stringValue:
		if n.style == boolean {
			d.report(*n, path, "is "+n.text+", a text is expected", `put it into quotes if you mean the word`)
			return
		}
		v.SetString(n.text)
	case boolValue:
		d.boolean(n, v, path)
	case intValue, uintValue, floatValue:
		d.number(n, v, want, path)
	}
}

// expansion is what a shell or a template would replace.
var expansion = regexp.MustCompile(`\$\{[^}]*\}`)

func (d *decoder) text(n *node, v reflect.Value, path string) {
	into, ok := v.Addr().Interface().(encoding.TextUnmarshaler)
	if !ok {
		panic("config: " + v.Type().String() + " is no encoding.TextUnmarshaler, though shapeOf says so")
	}
	err := into.UnmarshalText([]byte(n.text))
	if err == nil {
		return
	}
	// Types of setting phrase their errors to follow the key: "has no unit; write 5s".
	problem, fix, _ := strings.Cut(err.Error(), "; ")
	if !strings.HasPrefix(problem, "is ") && !strings.HasPrefix(problem, "has ") && !strings.HasPrefix(problem, "does ") {
		problem = "is wrong: " + problem
	}
	if strings.Contains(n.text, "\n") || len(n.text) > longestLine || d.names.pattern().MatchString(n.text) {
		// Too much was swallowed, by a missing quote for instance, to repeat it.
		problem, fix = "does not fit", "is a quote missing?"
	}
	d.report(*n, path, problem, fix)
}

func (d *decoder) boolean(n *node, v reflect.Value, path string) {
	value, err := strconv.ParseBool(strings.ToLower(n.text))
	switch {
	case n.style == boolean && err == nil:
		v.SetBool(value)
	case n.style == quoted && err == nil && len(n.text) > 1:
		d.report(*n, path, "is a text in quotes, true or false is expected", "remove the quotes")
	default:
		d.report(*n, path, "is "+n.noun()+", true or false is expected", "write true or false")
	}
}

func (d *decoder) number(n *node, v reflect.Value, want shape, path string) {
	if n.style != number {
		fix := "write digits"
		if n.style == quoted && digits.MatchString(n.text) {
			fix = "remove the quotes"
		}
		d.report(*n, path, "is "+n.noun()+", "+want.noun()+" is expected", fix)
		return
	}
	if want != floatValue && !digits.MatchString(n.text) || strings.HasPrefix(strings.TrimPrefix(n.text, "-"), "0") && len(n.text) > 1 && want != floatValue {
		d.report(*n, path, "is not a whole number in plain decimal digits", "write it like 100")
		return
	}
	var err error
	switch want {
	case intValue:
		var value int64
		if value, err = strconv.ParseInt(n.text, 10, v.Type().Bits()); err == nil {
			v.SetInt(value)
		}
	case uintValue:
		var value uint64
		if value, err = strconv.ParseUint(n.text, 10, v.Type().Bits()); err == nil {
			v.SetUint(value)
		}
	case floatValue:
		var value float64
		if value, err = strconv.ParseFloat(n.text, v.Type().Bits()); err == nil && plainFloat.MatchString(n.text) {
			v.SetFloat(value)
			return
		}
		d.report(*n, path, "is not a plain number", "write it like 0.25")
		return
	}
	if err != nil {
		d.report(*n, path, "is out of range", "write a number "+limits(v.Type(), want))
	}
}

// limits are those of the Go type; a Validate usually has narrower ones.
func limits(t reflect.Type, want shape) string {
	if want == uintValue {
		return fmt.Sprintf("from 0 to %d", ^uint64(0)>>(64-t.Bits()))
	}
	return fmt.Sprintf("from %d to %d", int64(-1)<<(t.Bits()-1), ^uint64(0)>>(65-t.Bits()))
}

var (
	digits     = regexp.MustCompile(`^-?[0-9]+$`)
	plainFloat = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?$`)
)
