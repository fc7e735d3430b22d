package config

import (
	"strings"
	"testing"
)

// FuzzLoadShowsNoSecret puts a secret into a file of arbitrary text, in every
// shape in which people write one, and looks for it in what comes back.
func FuzzLoadShowsNoSecret(f *testing.F) {
	for shape := range shapes {
		f.Add("public_url: https://app.example.com\n", uint8(shape), whispSection)
		f.Add("", uint8(shape), "  clientid: web\nsession: 5\n")
		f.Add("login: {\n", uint8(shape), "}\n")
		f.Add("public_url: \"x\n", uint8(shape), "\"\n")
		f.Add("a: &a [*a]\n", uint8(shape), "<<: *a\n\tb: c\n")
		f.Add("store: |\n", uint8(shape), "  client_id: [\n")
		f.Add("? ", uint8(shape), "- - - x\n...\n%YAML 2\n")
	}
	f.Fuzz(func(t *testing.T, before string, shape uint8, after string) {
		if strings.Contains(before+after, marker) {
			t.Skip("the marker is a secret only where we put it")
		}
		text := before + "\nlogin:\n  issuer: https://login.example.com\n" + shapes[int(shape)%len(shapes)] + "\n" + after
		s, res, err := read(text)
		shown := res.warnings.Error()
		if err != nil {
			shown += err.Error()
		} else if s.PublicURL.Empty() {
			t.Error("was accepted without public_url")
		}
		if strings.Contains(shown, marker) {
			t.Errorf("shows the secret in\n%s\nas\n%s", text, shown)
		}
	})
}

// marker looks like a key; it is long enough to be searched for in messages.
const marker = "MARKER7f3aTOKEN"

const whispSection = "whisp:\n  url: https://acme.api.whispchat.com\n  api_keys:\n    - {file: run/api-key}\n"

var shapes = []string{
	"  client_secret: " + marker,
	"  client_secret: \"" + marker + "\"",
	"  client_secret: '" + marker + "' # the secret",
	"  client_secret: \"" + marker,
	"  client_secret: [" + marker + "]",
	"  client_secret: [" + marker,
	"  client_secret: {" + marker + "}",
	"  client_secret: {" + marker + ": 1, x: y}",
	"  client_secret: {value: " + marker + "}",
	"  client_secret: {value: \"" + marker + "${X}\"}",
	"  client_secret: {value: " + marker + ", env: " + "NOT_SET" + "}",
	"  client_secret: {value: " + marker,
	"  client_secret: {vlaue: " + marker + "}",
	"  client_secret: {value: [" + marker + "]}",
	"  client_secret: {value: {a: " + marker + "}}",
	"  client_secret:\n    value: " + marker,
	"  client_secret:\n    value: |\n      " + marker + "\n      " + marker,
	"  client_secret: >-\n    " + marker + "\n    more",
	"  client_secret:\n    " + marker,
	"  client_secret:\n    - " + marker,
	"  client_secret: &a " + marker,
	"  client_secret: !!str " + marker,
	"  client_secrt: " + marker,
	"  clientsecret: {value: " + marker + "}",
	"  clientsecret: \"" + marker,
}
