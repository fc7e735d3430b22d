package whispsim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"unicode/utf8"

	"github.com/google/uuid"
)

// maxBody bounds a REST request body.
const maxBody = 1 << 20

// fields is a JSON object read the way Spring's Jackson reads one: names are
// case-sensitive, unknown ones are ignored, null is as good as absent.
type fields map[string]json.RawMessage

// errField is a field that is missing or of the wrong type.
type errField struct{ name, want string }

func (e errField) Error() string { return fmt.Sprintf("%s: %s", e.name, e.want) }

func parseFields(text []byte) (fields, error) {
	var f fields
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, fmt.Errorf("not a JSON object: %w", err)
	}
	if f == nil {
		return nil, errors.New("not a JSON object: null")
	}
	return f, nil
}

// text reads an optional string; present is false for absent and null.
func (f fields) text(name string) (value string, present bool, err error) {
	raw, there := f[name]
	if !there || bytes.Equal(raw, []byte("null")) {
		return "", false, nil
	}
	if err := json.Unmarshal(raw, &value); err != nil {
		return "", false, errField{name, "must be a string"}
	}
	return value, true, nil
}

// need reads a string that must be there.
func (f fields) need(name string) (string, error) {
	value, present, err := f.text(name)
	if err == nil && !present {
		err = errField{name, "must not be null"}
	}
	return value, err
}

// id reads a UUID that must be there, in canonical form.
func (f fields) id(name string) (string, error) {
	value, err := f.need(name)
	if err != nil {
		return "", err
	}
	id, good := canonicalUUID(value)
	if !good {
		return "", errField{name, "must be a UUID"}
	}
	return id, nil
}

// texts reads a list of strings that must be there.
func (f fields) texts(name string) ([]string, error) {
	var list []string
	if err := json.Unmarshal(f[name], &list); err != nil || list == nil {
		return nil, errField{name, "must be a list of strings"}
	}
	return list, nil
}

// canonicalUUID accepts only the form with four hyphens, in either case.
func canonicalUUID(text string) (string, bool) {
	id, err := uuid.Parse(text)
	if err != nil || len(text) != 36 {
		return "", false
	}
	return id.String(), true
}

// readBody reads and parses the request's JSON body. The answer is only to be
// sent when bad is true.
func readBody(r *http.Request) (f fields, a answer, bad bool) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, answer{status: http.StatusUnsupportedMediaType, body: message{"Content-Type must be application/json"}}, true
	}
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	switch {
	case err != nil:
		return nil, invalid("request body could not be read"), true
	case len(raw) > maxBody:
		return nil, answer{status: http.StatusRequestEntityTooLarge, body: message{"request body is too large"}}, true
	case !utf8.Valid(raw):
		return nil, invalid("request body is not UTF-8"), true
	}
	f, err = parseFields(raw)
	if err != nil {
		return nil, invalid(err.Error()), true
	}
	return f, answer{}, false
}
