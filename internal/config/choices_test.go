package config

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/whisp-bff/whisp-bff/internal/access"
	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/setting"
	"github.com/whisp-bff/whisp-bff/internal/upstream"
)

// refusal is what Validate says about a key itself once it has the value that set
// gives it; nil if nothing.
func refusal(t *testing.T, path string, set func(reflect.Value)) *setting.Error {
	t.Helper()
	f := DefaultFile()
	f.Identity.Sources = []string{"session", "bearer", "introspection", "forwarded", "app_session"}
	f.Identity.Bearer = []identity.BearerConfig{identity.DefaultBearerConfig()}
	f.Access.Rules = []access.Rule{{Path: "/x"}}
	f.Whisp.ExtraRoutes = []upstream.ExtraRoute{{}}
	v := reflect.ValueOf(f).Elem()
	for name := range strings.SplitSeq(strings.ReplaceAll(path, "[]", ".[]"), ".") {
		if name == "[]" {
			if v.Len() == 0 || v.Type().Elem().Kind() == reflect.String {
				v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			}
			v = v.Index(0)
			continue
		}
		fields := fieldsOf(v.Type())
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
		if i < 0 {
			t.Fatalf("there is no key %s", path)
		}
		v = fields[i].value(v)
	}
	set(v)
	at := strings.ReplaceAll(path, "[]", "[0]")
	for _, e := range setting.List(f.Validate()) {
		if e.Path == at || e.Path == strings.TrimSuffix(at, "[0]") {
			return e
		}
	}
	return nil
}

// notAboutIt are refusals of a word that say nothing about the word itself.
var notAboutIt = regexp.MustCompile(`has its own way|does not go with|no scope|lacks`)

// TestChoicesAreValidates: every word is accepted, others are not, and no word is
// missing that the advice of a refusal names.
func TestChoicesAreValidates(t *testing.T) {
	for path, words := range choices {
		t.Run(path, func(t *testing.T) {
			try := func(word string) *setting.Error {
				e := refusal(t, path, func(v reflect.Value) { v.SetString(word) })
				if e != nil && notAboutIt.MatchString(e.Problem) {
					return nil
				}
				return e
			}
			for _, word := range words {
				if e := try(word); e != nil && (!strings.HasPrefix(word, "HS") || !strings.Contains(path, "bearer")) {
					t.Errorf("%q is refused: %v", word, e)
				}
			}
			e := try("bogus")
			if e == nil {
				t.Fatal("anything is accepted")
			}
			for _, word := range regexp.MustCompile(`[A-Za-z0-9_]+`).FindAllString(e.Fix, -1) {
				if !slices.Contains(words, word) && try(word) == nil {
					t.Errorf("lacks %q, which Validate accepts", word)
				}
			}
		})
	}
}

// TestRangesAreValidates also finds a whole number that has no range.
func TestRangesAreValidates(t *testing.T) {
	found := 0
	var walk func(typ reflect.Type, path string)
	walk = func(typ reflect.Type, path string) {
		for _, f := range fieldsOf(typ) {
			key, inner := below(path, f.name), f.typ
			if shapeOf(inner) == list {
				key, inner = key+"[]", inner.Elem()
			}
			switch shapeOf(inner) {
			case section:
				walk(inner, key)
			case intValue, uintValue:
				found++
				checkRange(t, key)
			}
		}
	}
	walk(reflect.TypeFor[File](), "")
	if found != len(ranges) {
		t.Errorf("%d whole numbers, %d ranges", found, len(ranges))
	}
}

func checkRange(t *testing.T, path string) {
	t.Helper()
	r, ok := ranges[path]
	if !ok {
		t.Errorf("%s has no range", path)
		return
	}
	for number, good := range map[int64]bool{r.low: true, r.low - 1: false, max(r.high, r.low): true, r.high + 1: r.high == 0} {
		e := refusal(t, path, func(v reflect.Value) { v.SetInt(number) })
		if (e == nil) != good {
			t.Errorf("%s: %d gives %v", path, number, e)
		}
	}
}
