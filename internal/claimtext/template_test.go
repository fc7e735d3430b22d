package claimtext_test

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"text/template"

	"github.com/whisp-bff/whisp-bff/internal/claimtext"
)

// alice's claims, as JSON has them.
func alice(t testing.TB) map[string]any {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(`{
		"preferred_username": "Alice", "given_name": "Alice", "family_name": "O'Neil <x>", "email": "alice.oneil@example.com",
		"email_verified": true, "locked": false, "nickname": "", "middle_name": null,
		"employee_number": 1234567890123, "grade": 7, "salary": 1.5,
		"groups": ["staff", "chess", "admins"], "none": [], "address": {"locality": "Köln", "lines": ["Dom", "1"]},
		"template": "{{.email}}"
	}`))
	decoder.UseNumber()
	var claims map[string]any
	if err := decoder.Decode(&claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

// original is what text/template gives.
func original(text string, claims map[string]any) (string, error) {
	localPart := func(address string) string {
		local, _, _ := strings.Cut(address, "@")
		return local
	}
	parsed, err := template.New("t").Option("missingkey=error").Funcs(template.FuncMap{
		"lower": strings.ToLower, "upper": strings.ToUpper, "trim": strings.TrimSpace, "localpart": localPart,
	}).Parse(text)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	err = parsed.Execute(&out, claims)
	return out.String(), err
}

func fill(text string, claims map[string]any) (string, error) {
	parsed, err := claimtext.Parse("t", text)
	if err != nil {
		return "", err
	}
	return parsed.Fill(claims)
}

// sameAsOriginal are templates that text/template fills, too, with the same.
var sameAsOriginal = map[string]string{
	`plain`:                          `plain`,
	`{{.preferred_username}}`:        `Alice`,
	`{{localpart .email}}`:           `alice.oneil`,
	`{{.email | localpart | upper}}`: `ALICE.ONEIL`,
	`{{.given_name}}.{{.family_name | lower | trim}}`:                                                          `Alice.o'neil <x>`,
	`{{/* a comment */}}{{- "x" -}}  {{.grade}}`:                                                               `x7`,
	`{{.employee_number}}/{{.salary}}/{{.email_verified}}`:                                                     `1234567890123/1.5/true`,
	`{{.address.locality}} {{index .address "locality"}} {{index .address.lines 0}}`:                           `Köln Köln Dom`,
	`{{$.grade}}{{with .address}}{{.locality}}{{$.grade}}{{end}}`:                                              `7Köln7`,
	`{{if .nickname}}a{{else if .locked}}b{{else}}c{{end}}`:                                                    `c`,
	`{{with .nickname}}{{.}}{{else with .given_name}}{{.}}{{else}}none{{end}}`:                                 `Alice`,
	`{{if and .email_verified (not .locked) (eq .given_name "Bob" "Alice")}}yes{{end}}`:                        `yes`,
	`{{or .nickname .middle_name .given_name}}`:                                                                `Alice`,
	`{{and .given_name .nickname}}|`:                                                                           `|`,
	`{{range .groups}}[{{.}}]{{end}}`:                                                                          `[staff][chess][admins]`,
	`{{range $i, $g := .groups}}{{if eq $g "chess"}}{{continue}}{{end}}{{$i}}{{$g}}{{end}}`:                    `0staff2admins`,
	`{{range .groups}}{{if eq . "chess"}}{{break}}{{end}}{{.}}{{end}}`:                                         `staff`,
	`{{range $k, $v := .address}}{{$k}};{{end}}{{range .none}}x{{else}}empty{{end}}`:                           `lines;locality;empty`,
	`{{$x := "a"}}{{if true}}{{$x = "b"}}{{$x := "c"}}{{$x}}{{end}}{{$x}}`:                                     `cb`,
	`{{len .groups}}{{len .given_name}}{{len .address}}`:                                                       `352`,
	`{{slice .given_name 1 3}}{{slice .given_name 4}}{{slice .groups 1}}`:                                      `lie[chess admins]`,
	`{{printf "%s-%v-%q-%05d" .given_name .grade .nickname 42}}`:                                               `Alice-7-""-00042`,
	`{{print "a" 1 2 "b"}}{{println .grade}}`:                                                                  "a1 2b7\n",
	`{{if lt 1 2}}{{if ge 2.5 2.5}}{{if ne .given_name "Bob"}}{{if le "a" "b"}}ok{{end}}{{end}}{{end}}{{end}}`: `ok`,
	`{{if ne .given_name nil}}some{{end}}{{if eq nil .given_name}}none{{end}}{{print nil}}`:                    `some<nil>`,
	`{{range 3}}x{{end}}{{range $i := 2}}{{$i}}{{end}}`:                                                        `xxx01`,
	`{{.template}}`: `{{.email}}`,
	`{{(index .groups 1)}}{{(.address).locality}}`: `chessKöln`,
	`{{.groups}}{{.address}}`:                      `[staff chess admins]map[lines:[Dom 1] locality:Köln]`,
}

func TestFillsAsTextTemplateDoes(t *testing.T) {
	claims := alice(t)
	before, _ := json.Marshal(claims)
	for text, want := range sameAsOriginal {
		got, err := fill(text, claims)
		if err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", text, got, err, want)
		}
		if theirs, err := original(text, claims); err != nil || theirs != want {
			t.Errorf("%s: text/template gives %q, %v", text, theirs, err)
		}
	}
	if after, _ := json.Marshal(claims); string(after) != string(before) {
		t.Error("the claims were changed")
	}
}

// Where text/template fails or says "<no value>", and a chain of templates is
// better served otherwise.
func TestFillsBetter(t *testing.T) {
	for text, want := range map[string]string{
		`{{lower .employee_number}}`:                            `1234567890123`,
		`{{if eq .grade 7}}seven{{end}}`:                        `seven`,
		`{{if lt .grade 10}}low{{end}}`:                         `low`,
		`{{if and (gt .salary 1) (eq .salary 1.5)}}rich{{end}}`: `rich`,
		`{{if eq .middle_name .grade}}{{else}}no{{end}}`:        `no`,
	} {
		if got, err := fill(text, alice(t)); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestFillFails(t *testing.T) {
	for text, want := range map[string]string{
		`{{.nothing}}`:                                               "no nothing",
		`{{.middle_name}}`:                                           "is null",
		`{{.middle_name.x}}`:                                         "no x in null",
		`{{.given_name.x}}`:                                          "no x in a text",
		`{{.groups.x}}`:                                              "no x in a list",
		`{{index .groups 3}}`:                                        "out of range",
		`{{index .groups -1}}`:                                       "out of range",
		`{{index .address "nothing"}}`:                               "is null",
		`{{index .address 1}}`:                                       "wants a name",
		`{{index .given_name 0}}`:                                    "nothing to index in a text",
		`{{slice .given_name 3 1}}`:                                  "out of range",
		`{{slice .given_name 9}}`:                                    "out of range",
		`{{lower .groups}}`:                                          "wants a text, got a list",
		`{{lower .given_name .email}}`:                               "wrong number of arguments",
		`{{eq .groups .groups}}`:                                     "cannot be compared",
		`{{eq .email_verified "true"}}`:                              "cannot be compared",
		`{{lt .email_verified .locked}}`:                             "cannot be compared",
		`{{.given_name .email}}`:                                     "takes no arguments",
		`{{range .given_name}}x{{end}}`:                              "cannot go through a text",
		`{{range $i, $e := 2}}x{{end}}`:                              "one variable",
		`{{len .grade | len}}`:                                       "has no length",
		`{{with "%9999d"}}{{printf . 1}}{{end}}`:                     "too long",
		`{{with "%*d"}}{{printf . 9999 1}}{{end}}`:                   "takes no *",
		`{{range .groups}}{{printf "%999s%999s%999s" . . .}}{{end}}`: "too long",
		`{{range $.groups}}{{range $.groups}}{{range $.groups}}{{range $.groups}}{{range $.groups}}{{range $.groups}}{{range $.groups}}{{range $.groups}}{{range $.groups}}{{end}}{{end}}{{end}}{{end}}{{end}}{{end}}{{end}}{{end}}{{end}}`: "too many steps",
	} {
		got, err := fill(text, alice(t))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v; want an error with %q", text, got, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "oneil") {
			t.Errorf("%s: a claim is in the error: %v", text, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`{{.x`:                             "unclosed action",
		`{{env "PATH"}}`:                   `function "env" not defined`,
		`{{call .x}}`:                      `function "call" not defined`,
		`{{html .x}}`:                      `function "html" not defined`,
		`{{define "a"}}{{end}}x`:           "not supported",
		`{{template "t"}}`:                 "not supported",
		`{{if .x}}{{template "t"}}{{end}}`: "not supported",
		`{{printf "%9999d" .grade}}`:       "too long",
		`{{if (print (printf "%*d" 9 1)).x}}{{end}}`: "takes no *",
		`{{if nil}}{{end}}`:                          "nil is not a command",
		`{{1i}}`:                                     "is not supported",
		`{{range .groups}}{{len 1i}}{{end}}`:         "is not supported",
		`{{break}}`:                                  "outside {{range}}",
		`{{$y}}`:                                     "undefined variable",
	} {
		if _, err := claimtext.Parse("t", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", text, err, want)
		}
	}
}

// A long list costs no more than its bound.
func TestLongLists(t *testing.T) {
	claims := alice(t)
	long := make([]any, 30_000)
	for i := range long {
		long[i] = "x"
	}
	claims["long"] = long
	if got, err := fill(`{{range .long}}{{end}}`, claims); !errors.Is(err, claimtext.ErrTooMuch) {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := fill(`{{$x := "a"}}{{range .long}}{{$x = print $x $x}}{{end}}{{len $x}}`, claims); !errors.Is(err, claimtext.ErrTooLong) {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := fill(`{{range 1000000000000}}{{end}}`, claims); !errors.Is(err, claimtext.ErrTooMuch) {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := fill(`{{range .long}}{{.}}{{break}}{{end}}{{len .long}}`, claims); err != nil || got != "x30000" {
		t.Errorf("%q, %v", got, err)
	}
}

// Whatever we fill, text/template fills with the same, unless it makes less of
// numbers and null.
func FuzzFill(f *testing.F) {
	for _, text := range append(slices.Sorted(maps.Keys(sameAsOriginal)), `{{or .middle_name 1}}`, `{{printf "%s" .grade}}`) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "range") && (len(text) > 300 || strings.ContainsAny(text, "0123456789")) {
			return // text/template knows no bound
		}
		claims := alice(t)
		got, err := fill(text, claims)
		if err != nil {
			return
		}
		want, err := original(text, claims)
		numbers := strings.ContainsAny(text, "0123456789") || strings.Contains(text, "grade") || strings.Contains(text, "salary") || strings.Contains(text, "employee_number")
		if (err != nil && !numbers && !strings.Contains(text, "middle_name")) || (err == nil && got != want && !numbers) {
			t.Errorf("%q: %q, text/template %q, %v", text, got, want, err)
		}
	})
}
