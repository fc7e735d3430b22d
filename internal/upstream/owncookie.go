package upstream

import (
	"net/http"
	"strings"
)

const (
	sessionCookie = "whisp-session"
	loginPrefix   = "whisp-login-"
)

// ownCookies knows which cookie names are whisp-bff's: the session, those of
// logins in progress and Whisp's balancer's, with and without "__Host-" or
// "__Secure-", and the names it was given besides. Names are compared as
// net/http reads them: case-sensitive, white space around them dropped.
type ownCookies map[string]struct{}

func newOwnCookies(more []string) ownCookies {
	own := ownCookies{sessionCookie: {}}
	for _, name := range more {
		own[strings.TrimPrefix(name, hostPrefix)] = struct{}{}
	}
	return own
}

func (o ownCookies) has(name string) bool {
	name = strings.TrimPrefix(name, hostPrefix)
	name = strings.TrimPrefix(name, "__Secure-")
	if _, ok := o[name]; ok {
		return true
	}
	return strings.HasPrefix(name, loginPrefix) || strings.HasPrefix(name, balancerPrefix)
}

// strip removes our cookies from a request; the app's stay byte for byte. It
// writes into the slice of values, which must be the header's own.
func (o ownCookies) strip(header http.Header) {
	lines := header["Cookie"]
	kept := lines[:0]
	for _, line := range lines {
		if line = o.stripLine(line); line != "" {
			kept = append(kept, line)
		}
	}
	if len(kept) == 0 {
		delete(header, "Cookie")
		return
	}
	header["Cookie"] = kept
}

func (o ownCookies) stripLine(line string) string {
	if !o.mentioned(line) {
		return line
	}
	var kept strings.Builder
	cut := false
	for pair := range strings.SplitSeq(line, ";") {
		name, _, _ := strings.Cut(pair, "=")
		if o.has(strings.Trim(name, " \t")) {
			cut = true
			continue
		}
		if kept.Len() > 0 {
			kept.WriteByte(';')
		} else {
			pair = strings.TrimLeft(pair, " \t")
		}
		kept.WriteString(pair)
	}
	if !cut {
		return line
	}
	return kept.String()
}

// mentioned is a cheap test that most Cookie headers of other names fail.
func (o ownCookies) mentioned(line string) bool {
	if strings.Contains(line, "whisp-") {
		return true
	}
	for name := range o {
		if strings.Contains(line, name) {
			return true
		}
	}
	return false
}

// setsOwn reports whether a Set-Cookie line would write a cookie of ours. A line
// without a name counts by its value: browsers send "=__Host-x=1" back as
// "__Host-x=1" (RFC 6265bis section 5.7 forbids it; not all versions obey).
func (o ownCookies) setsOwn(line string) bool {
	pair, _, _ := strings.Cut(line, ";")
	name, value, found := strings.Cut(pair, "=")
	name = strings.Trim(name, " \t")
	if name == "" && found {
		name, _, _ = strings.Cut(value, "=")
		name = strings.Trim(name, " \t")
	}
	return o.has(name)
}
