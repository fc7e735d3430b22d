package upstream

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

const (
	balancerPrefix = "whisp-lb-"
	hostPrefix     = "__Host-"

	maxBalancerCookies = 8
	maxBalancerName    = 64
	maxBalancerValue   = 1024
)

// BalancerCookies carries the cookies of Whisp's load balancer between Whisp and
// the browser, so that one client's requests keep reaching the same node.
//
// On the way out each is renamed to "__Host-whisp-lb-<name>" (on loopback http,
// where browsers refuse that prefix, "whisp-lb-<name>"), so that it can neither
// replace a cookie of ours or of the app nor be planted by a sibling domain. On
// the way in only such cookies go on, under their own name; nothing else of the
// Cookie header ever reaches Whisp (cookies ignore ports: on localhost even the
// identity provider's arrive here).
//
// The zero value is not ready: use [NewBalancerCookies].
type BalancerCookies struct {
	prefix string
	secure bool
	clock  func() time.Time
}

// NewBalancerCookies returns the rules for a site at publicURL.
func NewBalancerCookies(publicURL setting.URL, clock func() time.Time) BalancerCookies {
	if publicURL.Scheme == "https" {
		return BalancerCookies{prefix: hostPrefix + balancerPrefix, secure: true, clock: clock}
	}
	return BalancerCookies{prefix: balancerPrefix, clock: clock}
}

// ToBrowser returns the Set-Cookie lines for the browser, from an answer of
// Whisp. Name, value and lifetime are Whisp's; Path=/, HttpOnly, SameSite=Lax
// and (on https) Secure are ours. Cookies with a name over 64 or a value over
// 1024 bytes, and all beyond the eighth, are dropped.
func (b BalancerCookies) ToBrowser(upstream http.Header) []string {
	var lines []string
	for _, line := range upstream["Set-Cookie"] {
		cookie, err := http.ParseSetCookie(line)
		if err != nil || len(lines) == maxBalancerCookies {
			continue
		}
		value := cookie.Value
		if cookie.Quoted {
			value = `"` + value + `"`
		}
		if len(cookie.Name) > maxBalancerName || !plainValue(value) {
			continue
		}
		// Not http.Cookie.String: that would quote or drop bytes of the value,
		// and what we hand out must come back unchanged.
		text := b.prefix + cookie.Name + "=" + value + "; Path=/" + b.lifetime(cookie) + "; HttpOnly; SameSite=Lax"
		if b.secure {
			text += "; Secure"
		}
		lines = append(lines, text)
	}
	return lines
}

// lifetime translates Max-Age, which wins (RFC 6265 section 5.3), or Expires.
func (b BalancerCookies) lifetime(cookie *http.Cookie) string {
	switch {
	case cookie.MaxAge != 0: // net/http reports "Max-Age=0" as -1
		return "; Max-Age=" + strconv.Itoa(max(cookie.MaxAge, 0))
	case cookie.Expires.IsZero():
		return ""
	default:
		seconds := max(cookie.Expires.Sub(b.clock()), 0) / time.Second
		return "; Max-Age=" + strconv.FormatInt(int64(seconds), 10)
	}
}

// ToWhisp returns the value of the Cookie header to send to Whisp, from a
// browser's request; empty means: send none.
func (b BalancerCookies) ToWhisp(browser http.Header) string {
	var out strings.Builder
	found := 0
	for _, line := range browser["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			name, value, ok := strings.Cut(strings.Trim(pair, " \t"), "=")
			name, ours := strings.CutPrefix(strings.TrimRight(name, " \t"), b.prefix)
			if !ok || !ours || !token(name) || len(name) > maxBalancerName || !plainValue(value) {
				continue
			}
			if found++; found > maxBalancerCookies {
				return out.String()
			}
			if out.Len() > 0 {
				out.WriteString("; ")
			}
			out.WriteString(name + "=" + value)
		}
	}
	return out.String()
}

// plainValue reports whether value consists of cookie octets (RFC 6265 section
// 4.1.1), a wrapping pair of quotes allowed.
func plainValue(value string) bool {
	for i := range len(value) {
		c := value[i]
		if c <= ' ' || c > '~' || c == ';' || c == '\\' || c == ',' {
			return false
		}
	}
	return len(value) <= maxBalancerValue
}

// token reports whether name is a token of RFC 9110 section 5.6.2.
func token(name string) bool {
	for i := range len(name) {
		c := name[i]
		if c <= ' ' || c > '~' || strings.IndexByte(`()<>@,;:\"/[]?={}`, c) >= 0 {
			return false
		}
	}
	return name != ""
}
