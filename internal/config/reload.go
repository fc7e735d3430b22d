package config

import (
	"reflect"
	"strings"
)

// reloads says of every key whether a running process takes a new value. An
// entry stands for its key and all below it that have none of their own; its text
// is why a change waits for a restart, and empty for what is taken at once. A key
// that is not covered waits.
var reloads = map[string]string{ //nolint:gosec // G101 sees names of secrets
	"public_url": "cookies, redirect URIs and origins in use follow from it",

	"app":    "",
	"access": "",

	"login":           "",
	"login.issuer":    "sessions and refresh tokens belong to it",
	"login.client_id": "refresh tokens and logins in progress belong to it",

	"identity":         "",
	"identity.sources": "it decides which endpoints there are, and who holds what is open",

	"whisp":            "",
	"whisp.url":        "accounts, tokens and open sockets belong to it",
	"whisp.allow_http": "it goes with whisp.url",
	"whisp.breaker":    "the breaker would forget what it knows",

	"account":              "every replica must map people alike, and a mistake costs accounts: roll it out",
	"account.self_service": "",

	"tokens":  "browsers hold what it decided",
	"session": "sessions and devices were counted with it",

	"realtime":             "",
	"realtime.ticket_life": "tickets that are out were counted with it",

	"server":                     "",
	"server.listen":              "the listener is open",
	"server.admin_listen":        "the listener is open",
	"server.max_header":          "the listener is open",
	"server.read_header_timeout": "the listener is open",
	"server.keep_alive":          "the listener is open",

	"store": "it is open, and everybody's sessions are in it",

	"log":        "",
	"log.format": "the log is open",
}

// NeedsRestart reports whether a change of the key at path waits for a restart,
// and why.
func NeedsRestart(path string) (why string, needs bool) {
	for at, _, _ := strings.Cut(path, "["); at != ""; at = at[:max(strings.LastIndexByte(at, '.'), 0)] {
		if why, listed := reloads[at]; listed {
			return why, why != ""
		}
	}
	return "nobody has said that it does not", true
}

// Adopt returns what a process that runs with f makes of next: next, but for the
// keys that need a restart, which stay as they are in f. It was never validated
// in this combination.
func (f *File) Adopt(next *File) *File {
	adopted := *next
	running := map[string]reflect.Value{}
	leaves(reflect.ValueOf(f).Elem(), "", func(path string, v reflect.Value) { running[path] = v })
	leaves(reflect.ValueOf(&adopted).Elem(), "", func(path string, v reflect.Value) {
		if _, restart := NeedsRestart(path); restart {
			v.Set(running[path])
		}
	})
	return &adopted
}
