package whispsim

import (
	"encoding/json"
	"net/http"
	"time"
)

// answer is what an operation wants sent. The zero body sends none at all,
// which is what Whisp does for most of its 200s and for the 201 of
// registerUser.
type answer struct {
	status int
	body   any
	jwt    string // sent in the Authorization response header
}

// message is the body of every 400.
type message struct {
	Message string `json:"message"`
}

// authProblem is the body of a 401. Status is a string, as at Whisp.
type authProblem struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   string `json:"status"`
	Detail   string `json:"detail"`
	Instance string `json:"instance"`
	Code     string `json:"code"`
}

func ok(body any) answer { return answer{status: http.StatusOK, body: body} }

func invalid(text string) answer {
	return answer{status: http.StatusBadRequest, body: message{text}}
}

func unauthorized(r *http.Request, detail string) answer {
	return answer{status: http.StatusUnauthorized, body: authProblem{
		Type:     "about:blank",
		Title:    "Unauthorized",
		Status:   "401",
		Detail:   detail,
		Instance: r.URL.Path,
		Code:     "AUTH_INVALID_TOKEN",
	}}
}

// send writes a. Spring Security adds the no-store headers to every answer.
func (s *Server) send(w http.ResponseWriter, a answer) {
	h := w.Header()
	h.Set("Cache-Control", "no-cache, no-store, max-age=0, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Expires", "0")
	h.Set("X-Content-Type-Options", "nosniff")
	if a.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	if a.jwt != "" {
		h.Set("Authorization", s.authorization(a.jwt))
	}
	if a.body == nil {
		h.Set("Content-Length", "0")
		w.WriteHeader(a.status)
		return
	}
	text, err := json.Marshal(a.body)
	if err != nil {
		s.log.Error("answer is not JSON", "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	h.Set("Content-Type", "application/json")
	w.WriteHeader(a.status)
	_, _ = w.Write(text) // the client is gone; nobody is left to tell
}

// stamp is how Whisp writes times: RFC 3339, UTC, at most milliseconds.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.999Z07:00") }

// stampOrNil is null for a time that never was.
func stampOrNil(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	text := stamp(t)
	return &text
}
