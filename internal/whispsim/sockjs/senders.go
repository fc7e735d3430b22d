package sockjs

import (
	"io"
	"mime"
	"net/http"
	"net/url"

	"github.com/whisp-bff/whisp-bff/internal/whispsim/wsconn"
)

// wsLimit bounds one request body of the client.
const wsLimit = wsconn.MaxMessage

// serveSend takes messages: xhr_send as JSON, jsonp_send as JSON or as a form
// with it in the field d.
func (s *Server) serveSend(w http.ResponseWriter, r *http.Request, id, transport string) {
	session := s.find(id)
	if session == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 4*wsLimit+1))
	if err != nil || len(body) > 4*wsLimit { // quoting and form encoding make it longer
		fail(w, http.StatusRequestEntityTooLarge, "Payload too large.")
		return
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if transport == "jsonp_send" && kind == "application/x-www-form-urlencoded" {
		form, err := url.ParseQuery(string(body))
		if err != nil {
			fail(w, http.StatusInternalServerError, "Broken form encoding.")
			return
		}
		body = []byte(form.Get("d"))
	}
	if len(body) == 0 {
		fail(w, http.StatusInternalServerError, "Payload expected.")
		return
	}
	messages, err := parseMessages(body, false)
	if err != nil {
		fail(w, http.StatusInternalServerError, "Broken JSON encoding.")
		return
	}
	if !session.deliver(messages) {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	noCache(w.Header())
	w.Header().Set("Content-Type", "text/plain;charset=UTF-8")
	if transport == "xhr_send" {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	_, _ = io.WriteString(w, "ok")
}
