package config

import (
	"reflect"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// InlineSecrets are the keys of secrets that stand in the file itself, as
// {value: …}.
func (f *File) InlineSecrets() []string {
	var found []string
	var walk func(v reflect.Value, path string)
	walk = func(v reflect.Value, path string) {
		switch shapeOf(v.Type()) {
		case section:
			for _, f := range fieldsOf(v.Type()) {
				if at := v.FieldByIndex(f.index); !f.pointer {
					walk(at, below(path, f.name))
				}
			}
		case list:
			for i := range v.Len() {
				walk(v.Index(i), element(path, i))
			}
		case table:
			for name, value := range v.Seq2() {
				walk(value, below(path, name.String()))
			}
		case secretValue:
			if s, ok := v.Interface().(setting.Secret); ok && !s.Value.Empty() {
				found = append(found, path)
			}
		}
	}
	walk(reflect.ValueOf(f).Elem(), "")
	return found
}
