package identity

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// maxChunks is how many cookies one token may be split into.
const maxChunks = 16

// place is where a request carries a token: a header or a cookie.
type place struct{ header, cookie string }

func placeOf(header, cookie string) place {
	if cookie != "" {
		return place{cookie: cookie}
	}
	return place{header: http.CanonicalHeaderKey(header)}
}

func (p place) String() string {
	if p.cookie != "" {
		return "cookie " + p.cookie
	}
	return "header " + p.header
}

// shared reports whether others put tokens there too, which are none of our
// business: whisp-sdk sends Whisp's own JWT in Authorization.
func (p place) shared() bool { return p.header == authorization }

// find returns the token of a request. It is [ErrSkip] if there is none, and
// another error if it cannot be said which one it is.
func (p place) find(r *http.Request) (string, error) {
	if p.cookie != "" {
		return joinCookie(r.Cookies(), p.cookie)
	}
	values := r.Header[p.header]
	switch {
	case len(values) == 0, len(values) == 1 && values[0] == "":
		return "", ErrSkip
	case len(values) > 1:
		return "", fmt.Errorf("%s stands there more than once", p)
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		if p.shared() {
			return "", ErrSkip // Basic and the like
		}
		return values[0], nil
	}
	if token = strings.TrimLeft(token, " "); token == "" {
		return "", ErrSkip
	}
	return token, nil
}

// joinCookie returns the value of a cookie, which may be split into name.0,
// name.1 and so on, as Auth.js and others do with long ones. The header's order
// does not matter, gaps and repetitions do. Empty cookies count as none: that is
// how some clear them.
func joinCookie(cookies []*http.Cookie, name string) (string, error) {
	whole, chunks := "", map[int]string{}
	for _, c := range cookies {
		suffix, ok := strings.CutPrefix(c.Name, name)
		if !ok || c.Value == "" {
			continue
		}
		if suffix == "" {
			if whole != "" {
				return "", errors.New("cookie stands there more than once")
			}
			whole = c.Value
			continue
		}
		index, ok := chunkIndex(suffix)
		if !ok {
			continue // another cookie with a longer name
		}
		if _, twice := chunks[index]; twice {
			return "", errors.New("cookie has a part more than once")
		}
		chunks[index] = c.Value
	}
	switch {
	case whole != "" && len(chunks) > 0:
		return "", errors.New("cookie stands there both whole and in parts")
	case whole == "" && len(chunks) == 0:
		return "", ErrSkip
	case len(chunks) == 0:
		return bounded(whole)
	case len(chunks) > maxChunks:
		return "", errors.New("cookie has too many parts")
	}
	var joined strings.Builder
	for i := range len(chunks) {
		chunk, ok := chunks[i]
		if !ok {
			return "", errors.New("cookie lacks a part")
		}
		joined.WriteString(chunk)
	}
	return bounded(joined.String())
}

// chunkIndex reads ".0", ".1", …, ".999", without leading zeros.
func chunkIndex(suffix string) (int, bool) {
	digits, ok := strings.CutPrefix(suffix, ".")
	if !ok || len(digits) > 3 {
		return 0, false
	}
	index, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || strconv.FormatUint(index, 10) != digits {
		return 0, false
	}
	return int(index), true
}

func bounded(token string) (string, error) {
	if len(token) > maxToken {
		return "", errors.New("token is longer than 16 KiB")
	}
	return token, nil
}
