package config

import (
	"testing"
	"testing/fstest"
)

func TestLookup(t *testing.T) {
	for text, want := range map[string]string{
		"server: {admin_listen: \"127.0.0.1:1\"}\n":                  "127.0.0.1:1",
		"\ufeffserver:\n  admin_listen: :1\nwhisp: 3\n":              ":1",
		"server: {admin_listen: a, admin_listen: b}\n":               "a",
		"unknown: {x: &anchor 1}\nserver:\n  admin_listen: here\n":   "here",
		"server: {listen: x}\n":                                      "",
		"server: [admin_listen]\n":                                   "",
		"server: {admin_listen: {deeper: x}}\n":                      "",
		"server: {admin_listen: \"x\n":                               "",
		"":                                                           "",
		"server:\n  admin_listen:\n":                                 "",
		"admin_listen: top\nlogin: {server: {admin_listen: deep}}\n": "",
	} {
		files := fstest.MapFS{"c.yaml": {Data: []byte(text)}}
		got, ok := Lookup("c.yaml", mapOpener(files), "server", "admin_listen")
		if got != want || ok != (want != "") {
			t.Errorf("%q gives %q, %v; want %q", text, got, ok, want)
		}
	}
	if _, ok := Lookup("none.yaml", mapOpener(fstest.MapFS{}), "server", "admin_listen"); ok {
		t.Error("found something in a file that is not there")
	}
}
