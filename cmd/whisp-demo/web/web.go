// Package web is the demo's "customer's app": a small chat page and the server
// it comes from.
//
// It stands for the web app a customer already has. It knows nothing of Whisp
// but its page's three lines of integration (integration.js), holds no key and
// keeps no session: whisp-bff in front of it does all that. The page is plain
// HTML, CSS and JavaScript modules, without a build step and without anything
// from elsewhere; it works under the Content-Security-Policy set here, which
// allows no inline script, no inline style and no other origin.
//
// The chat client in whisp-client.js is a stand-in for the vendor's SDK; see
// its first lines.
package web

import (
	"embed"
	"encoding/json"
	"fmt"
	"net/http"
)

//go:embed index.html *.css *.js *.svg
var files embed.FS

// Person is a colleague the app knows, signed in or not.
type Person struct {
	// Username is the person's name at the OpenID Provider, and so, with
	// whisp-bff's default mapping, at Whisp.
	Username string `json:"username"`
	// Name is how the page calls them.
	Name string `json:"name"`
}

// policy leaves the page its own origin and nothing else. connect-src 'self'
// covers the WebSocket: for an http(s) page it matches ws(s) of the same host
// and port (Content Security Policy Level 3 section 6.7.2.8).
const policy = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// Handler serves the page at "/" and the people at "/api/people". It does not
// check who asks: only whisp-bff may reach it.
func Handler(people []Person) (http.Handler, error) {
	list, err := json.Marshal(people)
	if err != nil {
		return nil, fmt.Errorf("encode people: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/people", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(list)
	})
	mux.Handle("GET /", pages(http.FileServerFS(files)))
	return mux, nil
}

// pages sets what every file of the page is sent with. no-cache: the files
// have no modification time, and a demo that was rebuilt should look rebuilt.
func pages(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cache-Control", "no-cache")
		next.ServeHTTP(w, r)
	})
}
