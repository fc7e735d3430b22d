package setting

import (
	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// Secret is a secret in a configuration: exactly one of its three fields says
// where the value comes from. internal/config reads the environment and files
// and calls [Secret.Resolve]; nobody else does.
type Secret struct {
	// Value is the secret itself, for demos: anyone who reads the file has it.
	Value secret.Text `yaml:"value"`
	// Env names an environment variable.
	Env string `yaml:"env"`
	// File is a path; one trailing line break is dropped.
	File string `yaml:"file"`

	// resolved is a pointer because fmt prints unexported fields without
	// asking their type, which would show the value; it does not follow
	// pointers.
	resolved *secret.Text
}

// SecretValue returns a resolved Secret, for tests and the demo.
func SecretValue(value string) Secret {
	text := secret.New(value)
	return Secret{Value: text, resolved: &text}
}

// Given reports whether the configuration names a source at all.
func (s Secret) Given() bool { return !s.Value.Empty() || s.Env != "" || s.File != "" }

// Resolve stores what the source held.
func (s *Secret) Resolve(value secret.Text) { s.resolved = &value }

// Text returns the resolved value; empty before [Secret.Resolve].
func (s Secret) Text() secret.Text {
	if s.resolved == nil {
		return secret.Text{}
	}
	return *s.resolved
}
