package access

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/whisp-bff/whisp-bff/internal/identity"
)

// maxHeaderValue bounds one identity header in bytes; a longer value is left
// out rather than cut, since half a list of groups says something else.
const maxHeaderValue = 4 << 10

// Headers are the names that [Policy.Tell] may set. They must be removed from
// every request before.
func (p *Policy) Headers() []string {
	names := make([]string, len(p.headers))
	for i, h := range p.headers {
		names[i] = h.name
	}
	return names
}

// Tell sets the identity headers of id in h. A claim that is missing sets none.
//
// A list becomes its elements joined by commas, inside them commas as %2C and
// percent signs as %25. A value with anything but printable ASCII, with white
// space at an end, or that looks encoded itself, is written as in RFC 8187 section
// 3.2.1, percent-encoded behind "UTF-8" and two apostrophes: no claim can break out
// of its header, and no two values look the same in it.
func (p *Policy) Tell(h http.Header, id identity.Identity) {
	for _, header := range p.headers {
		value, ok := claim(id, header.claim)
		if !ok {
			continue
		}
		if text := HeaderValue(value); text != "" && len(text) <= maxHeaderValue {
			h[header.name] = []string{text}
		}
	}
}

// HeaderValue is a claim as text for a header, in the form that [Policy.Tell]
// describes; empty for an object or null.
func HeaderValue(value any) string {
	text, ok := scalar(value)
	if !ok {
		list := words(value)
		for i, word := range list {
			list[i] = escapeElement.Replace(word)
		}
		text = strings.Join(list, ",")
	}
	if strings.TrimSpace(text) != text || len(text) >= len(encodedMark) && strings.EqualFold(text[:len(encodedMark)], encodedMark) ||
		strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		return encodedMark + url.PathEscape(text)
	}
	return text
}

// encodedMark begins a value that is percent-encoded UTF-8.
const encodedMark = "UTF-8''"

var escapeElement = strings.NewReplacer(",", "%2C", "%", "%25")

// claim finds a claim by its name, or by a path of names with dots between
// (Keycloak's realm_access.roles). sub and iss are the identity's own.
func claim(id identity.Identity, name string) (any, bool) {
	switch name {
	case "sub":
		return id.Subject, true
	case "iss":
		return id.Issuer, true
	}
	if value, ok := id.Claims[name]; ok {
		return value, true
	}
	var current any = id.Claims
	for part := range strings.SplitSeq(name, ".") {
		object, ok := current.(map[string]any)
		if !ok {
			return nil, false
		}
		if current, ok = object[part]; !ok {
			return nil, false
		}
	}
	return current, true
}

// scalar returns text, numbers and booleans as text.
func scalar(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool, float64, int, int64:
		return fmt.Sprint(v), true
	}
	return "", false
}

// words returns a list's texts, or a text's words (the form of RFC 6749's
// scope).
func words(value any) []string {
	switch v := value.(type) {
	case []any:
		var list []string
		for _, element := range v {
			if text, ok := scalar(element); ok {
				list = append(list, text)
			}
		}
		return list
	case []string:
		return append([]string(nil), v...)
	case string:
		return strings.Fields(v)
	}
	return nil
}
