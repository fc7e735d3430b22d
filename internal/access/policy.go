// Package access decides who may have which of the app's paths, and tells the
// app who asks.
//
// Rules are for apps that want their pages guarded in front of them. They are
// checked on the path as the app will read it, and a path that two parsers
// could read differently is refused as soon as anything is guarded at all: a
// public pattern must not open a guarded path (CVE-2025-54576). Queries never
// take part. Guarded patterns also match in other letter case and with a
// trailing slash, since many frameworks serve those as the same page; public
// patterns match exactly.
//
// Telling the app is by headers that no browser can set ([Policy.Tell]) and,
// for apps that would rather verify, by a signed JWT ([Assertions]).
package access

import (
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/problem"
)

// Policy is the rules and headers of one configuration; immutable.
type Policy struct {
	fallback guard
	rules    []rule
	guarded  bool
	headers  []header
}

type rule struct {
	segments []string
	subtree  bool // ended in /**
	guard    guard
}

// guard is what one path asks for.
type guard struct {
	public           bool
	claim            string
	equals, contains string
}

type header struct{ name, claim string }

// NewPolicy returns the policy of a valid cfg.
func NewPolicy(cfg Config) *Policy {
	p := &Policy{fallback: guard{public: cfg.Default == Public}}
	p.guarded = !p.fallback.public
	for _, r := range cfg.Rules {
		g := guard{public: r.Require == Public, claim: r.Claim, equals: r.Equals, contains: r.Contains}
		p.guarded = p.guarded || !g.public
		path, subtree := strings.CutSuffix(r.Path, "/**")
		p.rules = append(p.rules, rule{segments: split(path), subtree: subtree, guard: g})
	}
	for name, claim := range cfg.Headers {
		p.headers = append(p.headers, header{http.CanonicalHeaderKey(name), claim})
	}
	return p
}

// Tells reports whether [Policy.Tell] may have something to say.
func (p *Policy) Tells() bool { return len(p.headers) > 0 }

// Guard is what a path of the app asks for.
type Guard struct{ guard }

// For returns what the path of u asks for. If anything is guarded, a path that
// could be read in two ways is the problem path_not_canonical.
func (p *Policy) For(u *url.URL) (Guard, error) {
	if !p.guarded {
		return Guard{p.fallback}, nil
	}
	if ambiguous(u) {
		return Guard{}, problem.PathNotCanonical()
	}
	segments := split(u.Path)
	for _, r := range p.rules {
		if r.matches(segments) {
			return Guard{r.guard}, nil
		}
	}
	return Guard{p.fallback}, nil
}

// Public reports whether nobody needs to be known.
func (g Guard) Public() bool { return g.public }

// Allows reports whether a known identity may have the path.
func (g Guard) Allows(id identity.Identity) bool {
	if g.claim == "" {
		return true
	}
	value, ok := claim(id, g.claim)
	if !ok {
		return false
	}
	if g.equals != "" {
		text, ok := scalar(value)
		return ok && text == g.equals
	}
	for _, word := range words(value) {
		if word == g.contains {
			return true
		}
	}
	return false
}

func (r rule) matches(path []string) bool {
	// A guarded page must not be had by adding a slash; a public one is exact.
	if !r.guard.public && len(path) > 0 && path[len(path)-1] == "" {
		path = path[:len(path)-1]
	}
	if len(path) < len(r.segments) || (len(path) > len(r.segments) && !r.subtree) {
		return false
	}
	for i, want := range r.segments {
		switch {
		case want == "*" && path[i] != "":
		case want == path[i]:
		case !r.guard.public && strings.EqualFold(want, path[i]):
		default:
			return false
		}
	}
	return true
}

// split cuts a path into segments; "/" has none, "/a/" has "a" and "".
func split(path string) []string {
	path = strings.TrimPrefix(path, "/")
	if path == "" {
		return nil
	}
	return strings.Split(path, "/")
}

// ambiguous reports whether some server could take the path for another one:
// encoded or doubled slashes, dot segments however encoded, backslashes,
// parameters, an encoded or bare start of query or fragment (CVE-2026-41059),
// control characters, trailing dots or blanks, a second encoding, bytes that are
// no UTF-8 (an overlong %c0%ae is a dot to some).
func ambiguous(u *url.URL) bool {
	escaped, path := strings.ToLower(u.EscapedPath()), u.Path
	for _, bad := range []string{"%2f", "%5c", "%2e", "%25", "%3b", "%00", "%3f", "%23"} {
		if strings.Contains(escaped, bad) {
			return true
		}
	}
	if strings.ContainsAny(path, "\\;#") || strings.Contains(path, "//") || !utf8.ValidString(path) {
		return true
	}
	for i := range len(path) {
		if path[i] < 0x20 || path[i] == 0x7f {
			return true
		}
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." || strings.HasSuffix(segment, " ") || strings.HasSuffix(segment, ".") {
			return true
		}
	}
	return false
}
