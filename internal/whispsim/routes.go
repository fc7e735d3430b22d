package whispsim

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/whispsim/sockjs"
)

// call is one REST call, authenticated and with its body parsed.
type call struct {
	r        *http.Request
	user     *user // of the JWT; nil where none is needed
	fields   fields
	query    url.Values
	argument string // the last path segment, where the path has a parameter
}

// proof is what an operation wants to see first.
type proof int

const (
	noProof proof = iota
	apiKey
	userJWT
)

// operation is one REST operation. run is called with Server.mu held.
type operation struct {
	id, method, path string // a path ending in "/" takes one more segment
	proof            proof
	body             bool
	run              func(*Server, *call) answer
}

// operations are openapi.json's, under its operationIds. The second getTicket
// is the path older clients use.
var operations = []operation{
	{"registerUser", "POST", "/api/user/registerUser", apiKey, true, registerUser},
	{"signIn", "POST", "/api/user/signin", apiKey, true, signIn},
	{"changeUsername", "POST", "/api/user/changeUsername", userJWT, true, changeUsername},
	{"deleteUser", "DELETE", "/api/user/deleteUser", userJWT, false, deleteUser},
	{"getUser", "GET", "/api/user/getUser", userJWT, false, getUser},
	{"getTicket", "GET", "/api/auth/getTicket", userJWT, false, getTicket},
	{"getTicket", "GET", "/api/user/getTicket", userJWT, false, getTicket},
	{"refreshToken", "POST", "/api/auth/refresh", noProof, true, refresh},
	{"logout", "POST", "/api/auth/logout", userJWT, true, logout},
	{"logoutAll", "POST", "/api/auth/logoutAll", userJWT, false, logoutAll},
	{"createChat", "POST", "/api/chat/createChat", userJWT, true, createChat},
	{"getChats", "GET", "/api/chat/getChats", userJWT, false, getChats},
	{"addUserToChat", "POST", "/api/chat/addUser", userJWT, true, addUserToChat},
	{"getChatUsers", "GET", "/api/chat/getUsers/", userJWT, false, getChatUsers},
	{"changeChatName", "POST", "/api/chat/changeName", userJWT, true, changeChatName},
	{"deleteChat", "DELETE", "/api/chat/deleteChat", userJWT, false, deleteChat},
	{"removeUserFromChat", "POST", "/api/chat/removeUser", userJWT, true, removeUserFromChat},
	{"getMessages", "GET", "/api/messages/getMessages/", userJWT, false, getMessages},
}

// realtimePath is the SockJS endpoint.
const realtimePath = "/api/wsConnect"

// target is where a request goes: the operation's name for counters and
// faults, and its handler.
type target struct {
	id        string
	wantsBody bool
	serve     http.HandlerFunc
}

// route finds the target. It matches the decoded path, as Spring does, so that
// "/api/user/%73ignin" is a sign-in here too: a proxy in front must not count
// on our refusing it.
func (s *Server) route(r *http.Request) target {
	if !firewall(r.URL) {
		return target{id: "firewall", serve: s.always(invalid("The request was rejected because the URL was not normalized"))}
	}
	path := r.URL.Path
	if rest, found := strings.CutPrefix(path, realtimePath); found && (rest == "" || rest[0] == '/') {
		return s.routeRealtime(r, rest)
	}
	known := false
	for i := range operations {
		op := &operations[i]
		argument, match := op.match(path)
		if !match {
			continue
		}
		if r.Method == op.method {
			return target{id: op.id, wantsBody: op.body, serve: func(w http.ResponseWriter, r *http.Request) {
				s.send(w, s.perform(op, r, argument))
			}}
		}
		known = true
	}
	switch {
	case known && r.Method == http.MethodOptions:
		return target{id: "preflight", serve: s.servePreflight}
	case known:
		return target{id: "unknown", serve: s.always(answer{status: http.StatusMethodNotAllowed, body: message{"Method not allowed"}})}
	}
	return target{id: "unknown", serve: s.always(answer{status: http.StatusNotFound, body: message{"Not found"}})}
}

// match compares a path; argument is the segment that stands for a parameter.
func (o *operation) match(path string) (argument string, match bool) {
	if !strings.HasSuffix(o.path, "/") {
		return "", path == o.path
	}
	argument, match = strings.CutPrefix(path, o.path)
	return argument, match && argument != "" && !strings.Contains(argument, "/")
}

// perform checks the proof, reads the body and runs the operation: the proof
// first, as Spring's filters do.
func (s *Server) perform(op *operation, r *http.Request, argument string) answer {
	c := &call{r: r, query: r.URL.Query(), argument: argument}
	subject, a, refused := s.checkProof(op.proof, r)
	if refused {
		return a
	}
	if op.body {
		parsed, a, bad := readBody(r)
		if bad {
			return a
		}
		c.fields = parsed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if op.proof == userJWT {
		if c.user = s.people.byID[subject]; c.user == nil {
			return unauthorized(r, "The user of the token does not exist")
		}
	}
	return op.run(s, c)
}

// checkProof looks at what needs no state but the keys, and returns the JWT's
// subject where one is needed. A refused key is answered like wrong
// credentials, without a body: nobody promises that the two can be told apart.
func (s *Server) checkProof(p proof, r *http.Request) (subject string, a answer, refused bool) {
	switch p {
	case apiKey:
		hash := keyHash(secret.New(r.Header.Get("x-api-key")))
		s.mu.Lock()
		good := s.keys[hash]
		s.mu.Unlock()
		if !good {
			s.log.InfoContext(r.Context(), "API key refused", "path", r.URL.Path)
			return "", answer{status: s.cfg.KeyRefusedStatus}, true
		}
	case userJWT:
		token, found := bearer(r.Header.Get("Authorization"))
		if !found {
			return "", unauthorized(r, "Missing token"), true
		}
		var err error
		if subject, err = s.verifyJWT(token, false); err != nil {
			s.log.DebugContext(r.Context(), "JWT refused", "path", r.URL.Path, "error", err)
			return "", unauthorized(r, "Invalid or expired token"), true
		}
	case noProof:
	}
	return subject, answer{}, false
}

// firewall is Spring Security's StrictHttpFirewall, the part that looks at the
// path.
func firewall(u *url.URL) bool {
	raw := strings.ToLower(u.EscapedPath())
	for _, bad := range []string{"//", ";", "%3b", "%2f", "%5c", "%00", "%25", "%0a", "%0d", "\\"} {
		if strings.Contains(raw, bad) {
			return false
		}
	}
	for segment := range strings.SplitSeq(u.Path, "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	return true
}

func (s *Server) always(a answer) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { s.send(w, a) }
}

// servePreflight answers a CORS preflight (Fetch standard, section 3.2) the
// way Spring's CorsFilter does when everything is allowed.
func (s *Server) servePreflight(w http.ResponseWriter, r *http.Request) {
	sockjs.AllowPreflight(w.Header(), r)
	s.send(w, ok(nil))
}
