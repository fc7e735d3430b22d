package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// Changed lists the keys in which two configurations differ, in the order of the
// example: of secrets the values, wherever they come from. A list is one key.
func Changed(before, after *File) []string {
	old := map[string]reflect.Value{}
	leaves(reflect.ValueOf(before).Elem(), "", func(path string, v reflect.Value) { old[path] = v })
	var changed []string
	leaves(reflect.ValueOf(after).Elem(), "", func(path string, v reflect.Value) {
		if !same(old[path], v) {
			changed = append(changed, path)
		}
	})
	return changed
}

// NamedFiles are the files, other than secrets, whose contents belong to the
// configuration, by key: certificate authorities and public keys. The parts read
// them.
func (f *File) NamedFiles() map[string][]string {
	files := map[string][]string{}
	leaves(reflect.ValueOf(f).Elem(), "", func(path string, v reflect.Value) {
		collect(v, path[strings.LastIndexByte(path, '.')+1:], func(name string) { files[path] = append(files[path], name) })
	})
	return files
}

// collect finds the file names in a value whose key has that name.
func collect(v reflect.Value, name string, found func(string)) {
	switch shapeOf(v.Type()) {
	case section:
		for _, f := range fieldsOf(v.Type()) {
			if at := v.FieldByIndex(f.index); !f.pointer {
				collect(at, f.name, found)
			}
		}
	case list:
		for i := range v.Len() {
			collect(v.Index(i), strings.TrimSuffix(name, "s"), found)
		}
	case stringValue:
		if strings.HasSuffix(name, "_file") && v.String() != "" {
			found(v.String())
		}
	}
}

// Hash names what the file says: 12 hexadecimal digits that are the same on every
// replica with the same configuration. Secrets do not take part, so that nobody
// can try them out on a log.
func (f *File) Hash() string {
	sum := sha256.New()
	leaves(reflect.ValueOf(f).Elem(), "", func(path string, v reflect.Value) {
		_, _ = fmt.Fprintf(sum, "\x00%s\x00", path)
		write(sum, v)
	})
	return hex.EncodeToString(sum.Sum(nil))[:12]
}

// leaves calls each for every key that is no section, with its value.
func leaves(v reflect.Value, path string, each func(path string, v reflect.Value)) {
	for _, f := range fieldsOf(v.Type()) {
		at := v.FieldByIndex(f.index)
		if shapeOf(f.typ) == section && !f.pointer {
			leaves(at, below(path, f.name), each)
			continue
		}
		each(below(path, f.name), at)
	}
}

// same compares two values of one type, secrets by what they hold.
func same(a, b reflect.Value) bool {
	switch shapeOf(a.Type()) {
	case secretValue:
		return textOf(a).Text().Equal(textOf(b).Text())
	case section:
		for _, f := range fieldsOf(a.Type()) {
			if !same(a.FieldByIndex(f.index), b.FieldByIndex(f.index)) {
				return false
			}
		}
		return true
	case list:
		if a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !same(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case table:
		if a.Len() != b.Len() {
			return false
		}
		for key, value := range a.Seq2() {
			if other := b.MapIndex(key); !other.IsValid() || !same(value, other) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

// write puts a value into a hash, secrets left out.
func write(sum hash.Hash, v reflect.Value) {
	switch shapeOf(v.Type()) {
	case secretValue:
	case section:
		for _, f := range fieldsOf(v.Type()) {
			_, _ = fmt.Fprintf(sum, "\x01%s\x01", f.name)
			write(sum, v.FieldByIndex(f.index))
		}
	case list:
		for i := range v.Len() {
			_, _ = fmt.Fprintf(sum, "\x02")
			write(sum, v.Index(i))
		}
	case table:
		keys := map[string]reflect.Value{}
		for key, value := range v.Seq2() {
			keys[key.String()] = value
		}
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			_, _ = fmt.Fprintf(sum, "\x03%s\x03", key)
			write(sum, keys[key])
		}
	case unsupported: // a pointer
		if !v.IsNil() {
			write(sum, v.Elem())
		}
	default:
		_, _ = fmt.Fprintf(sum, "%q", flow(v))
	}
}

func textOf(v reflect.Value) setting.Secret {
	return v.Interface().(setting.Secret) //nolint:errcheck,forcetypeassert // shapeOf has looked
}
