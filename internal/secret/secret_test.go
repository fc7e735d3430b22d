package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

func TestTextIsRedactedEverywhere(t *testing.T) {
	const value = "s3cr3t-value"
	holder := struct {
		Key  secret.Text
		Keys []secret.Text
		Map  map[string]secret.Text
		Ptr  *secret.Text

		hidden struct{ key secret.Text }
		list   []secret.Text
	}{
		hidden: struct{ key secret.Text }{secret.New(value)}, list: []secret.Text{secret.New(value)},
		Key: secret.New(value), Keys: []secret.Text{secret.New(value)},
		Map: map[string]secret.Text{"k": secret.New(value)},
	}
	text := secret.New(value)
	holder.Ptr = &text

	var out []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
		out = append(out, fmt.Sprintf(verb, text), fmt.Sprintf(verb, &text), fmt.Sprintf(verb, holder.Keys), fmt.Sprintf(verb, holder.Map))
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		out = append(out, fmt.Sprintf(verb, holder), fmt.Sprintf(verb, &holder))
	}
	out = append(out, fmt.Errorf("wrap: %v", text).Error())
	encoded, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	out = append(out, string(encoded))
	for _, handler := range []func(*bytes.Buffer) slog.Handler{
		func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
		func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
	} {
		var buf bytes.Buffer
		slog.New(handler(&buf)).Info("x", "key", text, "holder", holder, "list", holder.Keys)
		out = append(out, buf.String())
	}
	for _, line := range out {
		if strings.Contains(line, value) || strings.Contains(line, fmt.Sprintf("%x", value)) {
			t.Errorf("secret leaked: %s", line)
		}
	}
	if !strings.Contains(string(encoded), secret.Redacted) {
		t.Errorf("JSON %s does not say %s", encoded, secret.Redacted)
	}
}

func TestTextEqual(t *testing.T) {
	a := secret.New("a")
	if !a.Equal(secret.New("a")) || a.Equal(secret.New("b")) || a.Equal(secret.Text{}) {
		t.Error("Equal is wrong")
	}
	if !(secret.Text{}).Empty() || a.Empty() {
		t.Error("Empty is wrong")
	}
}
