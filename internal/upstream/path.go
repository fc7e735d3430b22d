package upstream

import "strings"

// CanonicalPath reports whether an escaped path can be read in one way only.
//
// It must start with a slash and consist of non-empty segments of the
// characters A–Z a–z 0–9 and - . _ ~ : @ ! $ & ' ( ) * + , = . Refused is
// everything that two parsers are known to read differently (security.md
// 25): any percent-encoding, "//", segments that are "." or "..", segments
// ending in a dot, ";" parameters, backslashes, spaces, control and non-ASCII
// characters. One trailing slash is refused as well: it is an empty segment.
//
// It is meant for routes that we match ourselves (/auth, /whisp). Paths of the
// customer's app may contain what they like.
func CanonicalPath(escaped string) bool {
	if len(escaped) < 2 || len(escaped) > 2048 || escaped[0] != '/' {
		return false
	}
	start := 1
	for i := 1; i <= len(escaped); i++ {
		if i == len(escaped) || escaped[i] == '/' {
			if i == start || escaped[i-1] == '.' {
				return false
			}
			start = i + 1
			continue
		}
		if !segmentByte(escaped[i]) {
			return false
		}
	}
	return true
}

func segmentByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("-._~:@!$&'()*+,=", c) >= 0
}

// needsKey reports whether a path, however it is spelled, names one of the two
// operations that take the API key. It looks at letters and digits only and so
// finds them behind any separator or case trick.
func needsKey(path string) bool {
	var letters strings.Builder
	for i := range len(path) {
		switch c := path[i]; {
		case 'A' <= c && c <= 'Z':
			letters.WriteByte(c + 'a' - 'A')
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
			letters.WriteByte(c)
		}
	}
	return strings.Contains(letters.String(), "registeruser") || strings.Contains(letters.String(), "signin")
}
