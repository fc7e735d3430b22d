// Package secret holds text that must never be seen: API keys, tokens,
// tickets, cookie values, derived passwords.
//
// A [Text] prints as "[redacted]" under every fmt verb, in slog, and in every
// text or JSON encoding, so that a stray %v or a logged struct leaks nothing.
// Getting at the value takes an explicit [Text.Reveal], which is what a
// reviewer searches for.
//
// The package does not protect memory: a core dump or a debugger still shows
// the value.
package secret

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what a non-empty [Text] prints as.
const Redacted = "[redacted]"

// Text is a secret string. The zero value is the empty secret. Text is
// comparable only through [Text.Equal], which takes constant time.
type Text struct {
	_ [0]func() // no ==, which would not be constant-time
	// value is a pointer because fmt prints unexported fields of a struct
	// without asking their methods; it does not follow pointers there.
	value *string
}

// New wraps value.
func New(value string) Text {
	if value == "" {
		return Text{}
	}
	return Text{value: &value}
}

// Reveal returns the value itself. Call it only where the value leaves for the
// place it is meant for.
func (t Text) Reveal() string {
	if t.value == nil {
		return ""
	}
	return *t.value
}

// Empty reports whether there is no secret.
func (t Text) Empty() bool { return t.value == nil }

// Equal compares in time that depends on the lengths only.
func (t Text) Equal(other Text) bool {
	return subtle.ConstantTimeCompare([]byte(t.Reveal()), []byte(other.Reveal())) == 1
}

// String implements [fmt.Stringer]; it never returns the value.
func (t Text) String() string {
	if t.Empty() {
		return ""
	}
	return Redacted
}

// Format implements [fmt.Formatter], so that %#v, %q and %x are redacted too.
func (t Text) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.String()) }

// MarshalText implements [encoding.TextMarshaler]; JSON and YAML use it.
func (t Text) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// LogValue implements [slog.LogValuer].
func (t Text) LogValue() slog.Value { return slog.StringValue(t.String()) }
