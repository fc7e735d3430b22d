package login

import (
	"net/url"
	"strings"
)

// maxReturnTo is the longest path to return to, in bytes, escaped. It travels in
// state, and so in URLs of the provider.
const maxReturnTo = 1024

// SafeReturnTo returns raw if it is an ordinary path on our own origin, with or
// without query and fragment, and "/" if there is the slightest doubt. Spaces
// and non-ASCII characters come back percent-encoded, so the result is fit for a
// Location header.
//
// "The host is empty" is no check: net/url says so of ///evil, and browsers read
// a backslash as a slash and skip tabs and line breaks (WHATWG URL). So this is a
// list of what may pass: one leading slash, no control character, no
// backslash, no dot segment, none of them in percent-encoding either, not
// even twice. Our own login and callback paths are refused too: returning
// there would start over.
func SafeReturnTo(raw string) string {
	if len(raw) > maxReturnTo || !strings.HasPrefix(raw, "/") {
		return "/"
	}
	escaped := escapeForHeader(raw)
	if len(escaped) > maxReturnTo || strings.ContainsFunc(escaped, isForbidden) {
		return "/"
	}
	parsed, err := url.Parse(escaped)
	if err != nil || parsed.Scheme != "" || parsed.Host != "" || parsed.User != nil || parsed.Opaque != "" {
		return "/"
	}
	path := escaped
	if end := strings.IndexAny(path, "?#"); end >= 0 {
		path = path[:end]
	}
	if !safePath(path) {
		return "/"
	}
	return escaped
}

// safePath holds path, and what one and two rounds of decoding make of it, to
// the same rules: somebody behind us may decode once more than we do.
func safePath(path string) bool {
	for range 3 {
		if strings.ContainsFunc(path, isForbidden) || strings.HasPrefix(path, "//") {
			return false
		}
		for segment := range strings.SplitSeq(path, "/") {
			if name, _, _ := strings.Cut(segment, ";"); name == "." || name == ".." {
				return false
			}
		}
		switch strings.ToLower(strings.TrimSuffix(path, "/")) {
		case CallbackPath, "/auth/login":
			return false
		}
		decoded, err := url.PathUnescape(path)
		if err != nil {
			// "%zz" did not get past url.Parse, so this is a literal percent sign
			// that an earlier round uncovered: nothing left to decode.
			return true
		}
		path = decoded
	}
	return true
}

func isForbidden(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }

// escapeForHeader percent-encodes spaces and bytes beyond ASCII.
func escapeForHeader(raw string) string {
	const hex = "0123456789ABCDEF"
	var out strings.Builder
	for i := range len(raw) {
		if c := raw[i]; c == ' ' || c > 0x7f {
			out.WriteString("%" + hex[c>>4:c>>4+1] + hex[c&15:c&15+1])
		} else {
			out.WriteByte(c)
		}
	}
	return out.String()
}
