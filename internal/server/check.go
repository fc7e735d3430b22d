package server

import (
	"net/http"
	"strings"

	"github.com/whisp-bff/whisp-bff/internal/access"
)

const (
	subjectHeader = "X-Whisp-Bff-Subject"
	issuerHeader  = "X-Whisp-Bff-Issuer"
)

// check tells another proxy who sends the request that it is about to carry:
// nginx's auth_request, Traefik's forwardAuth, Envoy's ext_authz (HTTP). It never
// redirects, whatever the client looks like, and looks at nothing but the
// credential: which paths need one is the asking proxy's to decide.
//
// 202 with identity headers, or 401, or 503 if nobody can tell. Envoy takes
// nothing but 200 for a yes; it appends the path of the request it asks about,
// which is how it is told apart.
func (s *Site) check(x *exchange) error {
	answer, err := s.identify(x, x.r, false)
	x.Header().Set("Cache-Control", "no-store")
	if err != nil {
		return err
	}
	headers, err := s.describe(answer.Identity)
	if err != nil {
		return err
	}
	for name, values := range headers {
		x.Header()[name] = values
	}
	x.Header().Set(subjectHeader, access.HeaderValue(answer.Identity.Subject))
	x.Header().Set(issuerHeader, access.HeaderValue(answer.Identity.Issuer))
	status := http.StatusAccepted
	if strings.HasPrefix(x.r.URL.Path, pathCheck+"/") {
		status = http.StatusOK
	}
	x.WriteHeader(status)
	return nil
}

// jwks shows the keys that assertions are signed with.
func (s *Site) jwks(x *exchange) error {
	s.writeJWKS(x, x.r)
	return nil
}

// writeJWKS also serves the admin listener, which an app beside us can reach
// under any name.
func (s *Site) writeJWKS(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Header().Set("Cache-Control", "public, max-age=300")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(s.parts.Assertions.JWKS())
}
