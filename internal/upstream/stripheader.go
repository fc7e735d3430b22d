package upstream

import (
	"net/http"
	"strings"
)

// forged lists the request headers by which a browser could lie about who it is
// or where it comes from; a trailing * stands for any ending. They are always
// removed from what goes to the app.
//
// "Proxy" is httpoxy (CVE-2016-5385): CGI programs read it as HTTP_PROXY.
var forged = []string{
	"forwarded", "x-forwarded-*", "x-real-ip", "x-original-*", "x-rewrite-url",
	"x-auth-request-*", "x-api-key", "x-whisp-*", "proxy",
}

// stripper removes headers by normalised name: lower case, with "_" and "." read
// as "-", because that is how CGI, WSGI and many frameworks fold them (X_User
// and X-User are one variable to them; security.md 21). It is immutable.
type stripper struct {
	exact    map[string]struct{}
	prefixes []string
	first    [256]bool // first bytes, normalised, that any of them has
}

func newStripper(lists ...[]string) *stripper {
	s := &stripper{exact: make(map[string]struct{})}
	for _, list := range lists {
		for _, name := range list {
			name = string(normalise(nil, name))
			if prefix, ok := strings.CutSuffix(name, "*"); ok {
				s.prefixes = append(s.prefixes, prefix)
			} else {
				s.exact[name] = struct{}{}
			}
			s.first[name[0]] = true
		}
	}
	return s
}

// strip removes what must not pass. It allocates nothing for names up to 64
// bytes.
func (s *stripper) strip(header http.Header) {
	for name := range header {
		if s.matches(name) {
			delete(header, name)
		}
	}
}

func (s *stripper) matches(name string) bool {
	if name == "" || !s.first[fold(name[0])] {
		return false
	}
	var buffer [64]byte
	normal := normalise(buffer[:0], name)
	if _, ok := s.exact[string(normal)]; ok {
		return true
	}
	for _, prefix := range s.prefixes {
		if len(normal) >= len(prefix) && string(normal[:len(prefix)]) == prefix {
			return true
		}
	}
	return false
}

func normalise(into []byte, name string) []byte {
	for i := range len(name) {
		into = append(into, fold(name[i]))
	}
	return into
}

func fold(c byte) byte {
	switch {
	case 'A' <= c && c <= 'Z':
		return c + 'a' - 'A'
	case c == '_', c == '.':
		return '-'
	}
	return c
}

func validStrip(name string) bool { return token(name) && strings.Trim(name, "*") != "" }
