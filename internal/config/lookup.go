package config

import "bytes"

// Lookup reads one text of a configuration file and nothing else: for what must
// work while the rest of the file may be wrong, such as asking a running server
// for its health. It is false if the file cannot be read or is no YAML, or the
// text is not there. The text is not validated.
func Lookup(path string, open Open, keys ...string) (text string, ok bool) {
	content, err := readFile(open, path)
	if err != nil {
		return "", false
	}
	content = bytes.TrimPrefix(content, []byte("\ufeff"))
	at, ok := newDocument(path, string(content), keyNames{}).parse(content)
	for _, key := range keys {
		if !ok {
			return "", false
		}
		at, ok = at.at(key)
	}
	if !ok || at.kind != scalar {
		return "", false
	}
	return at.text, true
}

// at is the value of a key of a mapping.
func (n *node) at(key string) (*node, bool) {
	for _, e := range n.entries {
		if e.name == key {
			return e.value, true
		}
	}
	return nil, false
}
