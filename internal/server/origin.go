package server

import (
	"net/http"
	"strings"

	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// origins knows whose pages may act with a session of ours.
//
// net/http's CrossOriginProtection is not enough here: it lets every GET pass,
// a POST with neither header, and an http origin on an https site.
type origins struct {
	own     string
	allowed map[string]bool
}

func newOrigins(public setting.URL, others []setting.URL) origins {
	o := origins{own: public.Origin(), allowed: map[string]bool{public.Origin(): true}}
	for _, other := range others {
		o.allowed[other.Origin()] = true
	}
	return o
}

// checkWrite is for requests that change something: the browser must say where
// they come from, in Origin or Sec-Fetch-Site (every browser in use sends both
// with a POST), and it must be an allowed place.
func (o origins) checkWrite(r *http.Request) error {
	if len(r.Header["Origin"]) == 0 && r.Header.Get("Sec-Fetch-Site") == "" {
		return problem.OriginForbidden()
	}
	return o.checkRead(r)
}

// checkRead is for requests that change nothing but carry private data: a place
// that is named must be an allowed one. Without Origin, Sec-Fetch-Site decides;
// "none" is a person at the address bar.
func (o origins) checkRead(r *http.Request) error {
	given := r.Header["Origin"]
	switch {
	case len(given) > 1:
		return problem.OriginForbidden()
	case len(given) == 1:
		if !o.allowed[given[0]] {
			return problem.OriginForbidden()
		}
		return nil
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return nil
	}
	return problem.OriginForbidden()
}

// answerCORS sets the headers of the Fetch standard for an allowed foreign
// origin, and reports whether the request was a preflight, which is then
// answered.
func (o origins) answerCORS(w http.ResponseWriter, r *http.Request) (preflight bool) {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	h := w.Header()
	h["Vary"] = headerOrigin // the first to speak of it, see route
	preflight = r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
	if origin != o.own && o.allowed[origin] {
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Credentials", "true")
		h.Set("Access-Control-Expose-Headers", "Authorization, "+requestIDHeader+", Retry-After")
		if preflight {
			h.Set("Access-Control-Allow-Methods", "GET, POST, DELETE")
			h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
			h.Set("Access-Control-Max-Age", "600")
		}
	}
	if preflight {
		w.WriteHeader(http.StatusNoContent)
	}
	return preflight
}

// navigation reports whether a person is looking at this request, so that an
// answer may be a page or a redirect. Fetch metadata decides; only where a
// client sends none, Accept does. A request with a bearer token never is.
func navigation(r *http.Request) bool {
	if r.Header.Get("Authorization") != "" {
		return false
	}
	if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" {
		return mode == "navigate"
	}
	first, _, _ := strings.Cut(r.Header.Get("Accept"), ",")
	return strings.HasPrefix(strings.TrimSpace(first), "text/html")
}
