package upstream

import (
	"net/http"
	"slices"
	"strings"

	"github.com/whisp-bff/whisp-bff/internal/problem"
)

// Route is an operation of Whisp's REST API that matched a request, with the
// path to forward.
type Route struct {
	// Operation is the operationId of openapi.json, or "extra" for a route that
	// the configuration added: one of a small fixed set, fit for a metric label.
	Operation string
	// Path starts with /api. It was put together from the template that
	// matched and the checked parameters, not copied from the request.
	Path   string
	method string
}

// Operation names that other code branches on.
const (
	OperationRefresh        = "refreshToken"
	OperationTicket         = "getTicket"
	OperationChangeUsername = "changeUsername"
	OperationDeleteUser     = "deleteUser"
	OperationLogout         = "logout"
	OperationLogoutAll      = "logoutAll"
	operationExtra          = "extra"
)

// documented is the allow-list: openapi.json without the two operations that
// take the API key, plus the ticket's old address.
var documented = []struct{ operation, method, template string }{
	{OperationChangeUsername, http.MethodPost, "/api/user/changeUsername"},
	{OperationDeleteUser, http.MethodDelete, "/api/user/deleteUser"},
	{"getUser", http.MethodGet, "/api/user/getUser"},
	{OperationTicket, http.MethodGet, "/api/auth/getTicket"},
	{OperationTicket, http.MethodGet, "/api/user/getTicket"}, // older clients
	{OperationRefresh, http.MethodPost, "/api/auth/refresh"},
	{OperationLogout, http.MethodPost, "/api/auth/logout"},
	{OperationLogoutAll, http.MethodPost, "/api/auth/logoutAll"},
	{"createChat", http.MethodPost, "/api/chat/createChat"},
	{"getChats", http.MethodGet, "/api/chat/getChats"},
	{"addUserToChat", http.MethodPost, "/api/chat/addUser"},
	{"getChatUsers", http.MethodGet, "/api/chat/getUsers/{uuid}"},
	{"changeChatName", http.MethodPost, "/api/chat/changeName"},
	{"deleteChat", http.MethodDelete, "/api/chat/deleteChat"},
	{"removeUserFromChat", http.MethodPost, "/api/chat/removeUser"},
	{"getMessages", http.MethodGet, "/api/messages/getMessages/{uuid}"},
}

// MethodError is a known route asked with another method. It wraps
// problem.MethodNotAllowed; whoever answers sets the Allow header (RFC 9110
// section 15.5.6).
type MethodError struct{ Allow string }

func (e *MethodError) Error() string { return "method not allowed, only " + e.Allow }

// Unwrap returns the problem to answer with.
func (e *MethodError) Unwrap() error { return problem.MethodNotAllowed() }

// routes finds the one route of a request. The zero value knows none.
type routes struct{ list []pattern }

type pattern struct {
	operation, method string
	segments          []string // "{uuid}" and "{segment}" stand for parameters
}

func newRoutes(extra []ExtraRoute) routes {
	var r routes
	for _, d := range documented {
		r.list = append(r.list, pattern{d.operation, d.method, strings.Split(d.template, "/")})
	}
	for _, e := range extra {
		segments := strings.Split(e.Path, "/")
		for i, segment := range segments {
			if strings.HasPrefix(segment, "{") {
				segments[i] = "{segment}"
			}
		}
		r.list = append(r.list, pattern{operationExtra, e.Method, segments})
	}
	return r
}

// match finds the route for an escaped path that starts with /api. Its error is
// PathNotCanonical, RouteForbidden or a [MethodError].
//
// HEAD is not answered for GET routes: getMessages would mark messages as read.
// OPTIONS is the listener's matter (CORS) and never forwarded.
func (r routes) match(method, path string) (Route, error) {
	if !CanonicalPath(path) {
		return Route{}, problem.PathNotCanonical()
	}
	if needsKey(path) { // an added template must not reach them through a parameter
		return Route{}, problem.RouteForbidden()
	}
	segments := strings.Split(path, "/")
	var allow []string
	for _, p := range r.list {
		built, ok := p.build(segments)
		switch {
		case !ok:
		case p.method == method:
			return Route{Operation: p.operation, Path: built, method: method}, nil
		case !slices.Contains(allow, p.method):
			allow = append(allow, p.method)
		}
	}
	if allow != nil {
		return Route{}, &MethodError{Allow: strings.Join(allow, ", ")}
	}
	return Route{}, problem.RouteForbidden()
}

// build puts the path together from the template's own words and the checked
// parameters.
func (p pattern) build(segments []string) (string, bool) {
	if len(segments) != len(p.segments) {
		return "", false
	}
	for i, want := range p.segments {
		var ok bool
		switch want {
		case "{uuid}":
			ok = isUUID(segments[i])
		case "{segment}":
			ok = len(segments[i]) <= 128
		default:
			ok = segments[i] == want
		}
		if !ok {
			return "", false
		}
	}
	return strings.Join(segments, "/"), true
}

// isUUID accepts the text form of RFC 9562 section 4, hexadecimal in either case.
func isUUID(text string) bool {
	if len(text) != 36 {
		return false
	}
	for i := range len(text) {
		c := text[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if strings.IndexByte("0123456789abcdefABCDEF", c) < 0 {
				return false
			}
		}
	}
	return true
}

// validTemplate reports whether every brace wraps a whole, named segment.
func validTemplate(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		inner := strings.TrimSuffix(strings.TrimPrefix(segment, "{"), "}")
		if strings.ContainsAny(inner, "{}") || inner == "" && segment != "" ||
			strings.HasPrefix(segment, "{") != strings.HasSuffix(segment, "}") {
			return false
		}
	}
	return true
}
