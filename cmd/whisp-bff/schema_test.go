package main

import (
	"os"
	"testing"
)

// TestConfigCommands: what is printed is what is committed.
func TestConfigCommands(t *testing.T) {
	t.Parallel()
	for page, file := range map[string]string{
		"schema": "../../config.schema.json", "example": "../../config.example.yaml", "reference": "../../docs/configuration.md",
	} {
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := runCommand(t.Context(), "config", page); err != nil || out != string(want) {
			t.Errorf("config %s prints something else than %s: %v", page, file, err)
		}
	}
}
