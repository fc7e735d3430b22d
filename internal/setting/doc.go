// Package setting has the value types a configuration is made of — [Duration],
// [Size], [URL], [Secret] — and the errors a Validate method collects.
//
// It is a leaf: every package that owns a Config uses it, and it knows nothing
// of YAML files. Reading them, and turning an [Error] into "file:line:col" with
// the offending line, is internal/config's work.
//
// The value types decode from text through UnmarshalText. A number without a
// unit is refused on purpose: "timeout: 5" has cost people nights. Their errors
// are phrased to follow the name of the key, the fix after a semicolon: "has no
// unit; write 5s for seconds". They do not repeat the text, which the line from
// the file shows, and which may hold a password.
package setting
