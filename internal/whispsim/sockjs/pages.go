package sockjs

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"html"
	"io"
	"net/http"
	"strings"
)

const year = 31536000 // seconds

func (s *Server) serveGreeting(w http.ResponseWriter, r *http.Request) {
	if !s.cfg.Admit(w, r) {
		return
	}
	w.Header().Set("Content-Type", "text/plain;charset=UTF-8")
	_, _ = io.WriteString(w, "Welcome to SockJS!\n")
}

// serveInfo tells a client what it may use.
func (s *Server) serveInfo(w http.ResponseWriter, r *http.Request) {
	if !s.cfg.Admit(w, r) {
		return
	}
	var entropy [4]byte
	_, _ = rand.Read(entropy[:]) // never fails
	noCache(w.Header())
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	_, _ = fmt.Fprintf(w, `{"entropy":%d,"origins":["*:*"],"cookie_needed":true,"websocket":true}`,
		binary.BigEndian.Uint32(entropy[:]))
}

const iframePage = `<!DOCTYPE html>
<html>
<head>
  <meta http-equiv="X-UA-Compatible" content="IE=edge" />
  <meta http-equiv="Content-Type" content="text/html; charset=UTF-8" />
  <script>
    document.domain = document.domain;
    _sockjs_onload = function(){SockJS.bootstrap_iframe();};
  </script>
  <script src="%s"></script>
</head>
<body>
  <h2>Don't panic!</h2>
  <p>This is a SockJS hidden iframe. It's used for cross domain magic.</p>
</body>
</html>`

// serveIframe is the page in which the iframe transports run.
func (s *Server) serveIframe(w http.ResponseWriter, r *http.Request) {
	if !s.cfg.Admit(w, r) {
		return
	}
	page := fmt.Sprintf(iframePage, html.EscapeString(s.cfg.ClientURL))
	sum := sha256.Sum256([]byte(page))
	tag := `"0` + hex.EncodeToString(sum[:16]) + `"`
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	cacheForYear(w.Header())
	w.Header().Set("Content-Type", "text/html;charset=UTF-8")
	w.Header().Set("ETag", tag)
	_, _ = io.WriteString(w, page)
}

// isIframe matches /iframe.html and /iframe-<version>.html.
func isIframe(path string) bool {
	name, found := strings.CutPrefix(path, "/iframe")
	name, html := strings.CutSuffix(name, ".html")
	return found && html && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && r != '-' && r != '.' && r != '_'
	})
}

// ServePreflight answers OPTIONS as Spring's SockJS does.
func ServePreflight(w http.ResponseWriter, r *http.Request) {
	AllowPreflight(w.Header(), r)
	cacheForYear(w.Header())
	w.WriteHeader(http.StatusNoContent)
}

// AllowPreflight sets the headers that allow what a preflight asks for. Those
// that every answer carries are set elsewhere.
func AllowPreflight(h http.Header, r *http.Request) {
	if method := r.Header.Get("Access-Control-Request-Method"); method != "" {
		h.Set("Access-Control-Allow-Methods", method)
	}
	if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
		h.Set("Access-Control-Allow-Headers", asked)
	}
	h.Set("Access-Control-Max-Age", fmt.Sprint(year))
}

func cacheForYear(h http.Header) { h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", year)) }
