package identity

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestClaimPath(t *testing.T) {
	const document = `{"user": {"id": "u1", "e-mail": "a@example.com", "nothing": null, "": "empty"},
		"accounts": [{"id": 7}, {"id": 8}], "a.b": {"c]": "odd"}, "q\"": "quote", "0": "zero", "naïve": "utf"}`
	var decoded any
	if err := json.Unmarshal([]byte(document), &decoded); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]any{
		"user.id":             "u1",
		"user.e-mail":         "a@example.com",
		"user.nothing":        nil,
		`user.""`:             "empty",
		"accounts[1].id":      8.0,
		`accounts[0]["id"]`:   7.0,
		`"a.b"."c]"`:          "odd",
		`["a.b"]["c]"]`:       "odd",
		`"q\""`:               "quote",
		"0":                   "zero",
		"naïve":               "utf",
		`["\u0075ser"].id`:    "u1",
		"user.id.deeper":      notFound{},
		"user.missing":        notFound{},
		"accounts[2]":         notFound{},
		"accounts.id":         notFound{},
		"user[0]":             notFound{},
		"user.nothing.member": notFound{},
	} {
		path, err := parseClaimPath(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		var got any = notFound{}
		if value, ok := path.find(decoded); ok {
			got = value
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s finds %v, want %v", text, got, want)
		}
	}
}

type notFound struct{}

func TestClaimPathRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                           "is empty",
		".":                          "empty step",
		"user.":                      "",
		".user":                      "empty step",
		"user..id":                   "empty step",
		"user id":                    "other than",
		"user]":                      "other than",
		"user[":                      "without its ]",
		"user[]":                     "no number",
		"user[-1]":                   "no number",
		"user[01]":                   "no number",
		"user[+1]":                   "no number",
		"user[10000]":                "no number",
		"user[*]":                    "no number",
		`user["id"`:                  "without its ]",
		`user["id]`:                  "without its end",
		`"user`:                      "without its end",
		`"\x"`:                       "no JSON string",
		`user"id"`:                   "other than",
		"user\x00id":                 "other than",
		"\xff":                       "not valid UTF-8",
		strings.Repeat("a", 257):     "longer than",
		strings.Repeat("a.", 17)[1:]: "",
	} {
		if path, err := parseClaimPath(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %v, %v, want an error with %q", text, path, err, want)
		}
	}
}

// FuzzClaimPath: whatever an operator writes, a path is refused or finds one
// value; and its steps written in brackets find the same.
func FuzzClaimPath(f *testing.F) {
	for _, seed := range []string{"user.id", "accounts[0].id", `"a.b"["c"]`, `["\u0075"]`, "[1][2]", "a[", `"\`} {
		f.Add(seed, `{"user":{"id":"u"},"accounts":[{"id":1}],"a.b":{"c":null}}`)
	}
	f.Fuzz(func(t *testing.T, text, document string) {
		path, err := parseClaimPath(text)
		if err != nil {
			return
		}
		var again strings.Builder
		for _, step := range path {
			var name []byte
			if step.index >= 0 {
				name, _ = json.Marshal(step.index)
			} else if name, err = json.Marshal(step.name); err != nil {
				t.Fatal(err)
			}
			again.WriteString("[" + string(name) + "]")
		}
		if again.Len() <= maxPathBytes {
			if second, err := parseClaimPath(again.String()); err != nil || !reflect.DeepEqual(path, second) {
				t.Fatalf("%q is %v, but %q is %v, %v", text, path, again.String(), second, err)
			}
		}
		var decoded any
		if json.Unmarshal([]byte(document), &decoded) == nil {
			path.find(decoded)
		}
	})
}
