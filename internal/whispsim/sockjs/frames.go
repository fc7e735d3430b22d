package sockjs

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

var errJSON = errors.New("broken JSON encoding")

// messageFrame is a[…] of messages already quoted.
func messageFrame(quoted [][]byte) []byte {
	size := 3
	for _, message := range quoted {
		size += len(message) + 1
	}
	frame := append(make([]byte, 0, size), "a["...)
	for i, message := range quoted {
		if i > 0 {
			frame = append(frame, ',')
		}
		frame = append(frame, message...)
	}
	return append(frame, ']')
}

func closeFrame(code int, reason string) []byte {
	frame := strconv.AppendInt([]byte("c["), int64(code), 10)
	frame = append(frame, ',')
	frame = quote(frame, []byte(reason))
	return append(frame, ']')
}

const digits = "0123456789abcdef"

// quote writes a JSON string. Beyond JSON's own rules it escapes what some
// browsers mangle (section "Unicode" of the protocol): everything outside the
// basic plane becomes two \u escapes, a few ranges inside it one.
func quote(to, text []byte) []byte {
	to = append(to, '"')
	for len(text) > 0 {
		c := text[0]
		if c < utf8.RuneSelf {
			switch {
			case c == '"' || c == '\\':
				to = append(to, '\\', c)
			case c == '\n':
				to = append(to, `\n`...)
			case c < 0x20 || c == 0x7f:
				to = append(to, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
			default:
				to = append(to, c)
			}
			text = text[1:]
			continue
		}
		r, n := utf8.DecodeRune(text)
		to = appendRune(to, r)
		text = text[n:]
	}
	return append(to, '"')
}

func appendRune(to []byte, r rune) []byte {
	switch {
	case r > 0xffff:
		r -= 0x10000
		return appendUnit(appendUnit(to, 0xd800+r>>10), 0xdc00+r&0x3ff)
	case r >= 0x200c && r <= 0x200f, r >= 0x2028 && r <= 0x202f, r >= 0x2060 && r <= 0x206f, r >= 0xfff0:
		return appendUnit(to, r)
	}
	return utf8.AppendRune(to, r)
}

func appendUnit(to []byte, unit rune) []byte {
	return append(to, '\\', 'u', digits[unit>>12&15], digits[unit>>8&15], digits[unit>>4&15], digits[unit&15])
}

// parseMessages reads what a client sends: a list of strings, over the
// websocket also a single one.
func parseMessages(text []byte, singleToo bool) ([]string, error) {
	var list []string
	if err := json.Unmarshal(text, &list); err == nil && list != nil {
		return list, nil
	}
	var single string
	if singleToo && json.Unmarshal(text, &single) == nil {
		return []string{single}, nil
	}
	return nil, fmt.Errorf("%w: want a list of strings", errJSON)
}
