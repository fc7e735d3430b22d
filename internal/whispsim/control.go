package whispsim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// faultJSON is a Fault as the control API writes it.
type faultJSON struct {
	Operation       string `json:"operation"`
	Times           int    `json:"times,omitempty"`
	Delay           string `json:"delay,omitempty"`
	Hang            bool   `json:"hang,omitempty"`
	Drop            Drop   `json:"drop,omitempty"`
	Status          int    `json:"status,omitempty"`
	RetryAfter      string `json:"retryAfter,omitempty"`
	Body            string `json:"body,omitempty"`
	Committed       bool   `json:"committed,omitempty"`
	Garbage         bool   `json:"garbage,omitempty"`
	NoAuthorization bool   `json:"noAuthorization,omitempty"`
}

// Control returns the handler of the control API, for tests in other languages
// and for the demo. It changes and shows everything without asking who calls:
// serve it on loopback only, never where Whisp itself is served.
//
//	GET  /users /sockets /counters /requests /faults
//	POST /faults        {"operation":"signIn","status":503,"retryAfter":"1","times":2,"delay":"200ms",…}
//	DELETE /faults      all, or those of ?operation=
//	DELETE /requests    forgets requests, calls and counters
//	POST /keys/revoke   {"key":"…"}       and /keys/restore
//	POST /sockets/close {"code":1012,"reason":"…"}; code 0 cuts
//	POST /users         {"username":"…","email":"…","password":"…"} -> {"id":"…"}
//	GET  /refreshToken?token=… -> {"alive":true}
func (s *Server) Control() http.Handler {
	mux := http.NewServeMux()
	show := func(path string, get func(*http.Request) any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) { writeJSON(w, http.StatusOK, get(r)) })
	}
	show("/users", func(*http.Request) any { return s.Users() })
	show("/sockets", func(*http.Request) any { return map[string]int{"open": s.OpenSockets()} })
	show("/counters", func(*http.Request) any { return s.Counters() })
	show("/requests", func(*http.Request) any { return s.Requests() })
	show("/faults", func(*http.Request) any { return faultsJSON(s.Faults()) })
	show("/refreshToken", func(r *http.Request) any {
		return map[string]bool{"alive": s.RefreshTokenAlive(secret.New(r.URL.Query().Get("token")))}
	})
	mux.HandleFunc("DELETE /faults", func(w http.ResponseWriter, r *http.Request) {
		operation := r.URL.Query().Get("operation")
		if operation == "" {
			operation = "*"
		}
		s.Heal(operation)
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("DELETE /requests", func(w http.ResponseWriter, _ *http.Request) {
		s.ForgetRequests()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /faults", take(func(f faultJSON) (any, error) { return nil, s.failJSON(f) }))
	mux.HandleFunc("POST /keys/revoke", take(func(k keyJSON) (any, error) { s.RevokeKey(secret.New(k.Key)); return nil, nil }))
	mux.HandleFunc("POST /keys/restore", take(func(k keyJSON) (any, error) { s.RestoreKey(secret.New(k.Key)); return nil, nil }))
	mux.HandleFunc("POST /sockets/close", take(func(c closeJSON) (any, error) { s.CloseSockets(c.Code, c.Reason); return nil, nil }))
	mux.HandleFunc("POST /users", take(s.addUserJSON))
	return mux
}

type keyJSON struct {
	Key string `json:"key"`
}

type closeJSON struct {
	Code   int    `json:"code"`
	Reason string `json:"reason"`
}

type userJSON struct {
	Username string `json:"username"`
	Email    string `json:"email"`
	Password string `json:"password"`
}

func (s *Server) addUserJSON(u userJSON) (any, error) {
	id, err := s.TryAddUser(u.Username, u.Email, secret.New(u.Password))
	return map[string]string{"id": id}, err
}

func (s *Server) failJSON(f faultJSON) error {
	var delay time.Duration
	if f.Delay != "" {
		var err error
		if delay, err = time.ParseDuration(f.Delay); err != nil {
			return fmt.Errorf("delay: %w", err)
		}
	}
	switch f.Drop {
	case DropNever, DropBefore, DropMid, DropAfter:
	default:
		return errField{"drop", `must be "before", "mid" or "after"`}
	}
	switch {
	case f.Operation == "":
		return errField{"operation", `must be an operationId, a realtime name, or "*"`}
	case f.Status != 0 && (f.Status < 200 || f.Status > 599):
		return errField{"status", "must be between 200 and 599"}
	}
	s.Fail(Fault{
		Operation: f.Operation, Times: f.Times, Delay: delay, Hang: f.Hang, Drop: f.Drop, Status: f.Status,
		RetryAfter: f.RetryAfter, Body: f.Body, Committed: f.Committed, Garbage: f.Garbage, NoAuthorization: f.NoAuthorization,
	})
	return nil
}

func faultsJSON(list []Fault) []faultJSON {
	all := []faultJSON{}
	for _, f := range list {
		delay := ""
		if f.Delay > 0 {
			delay = f.Delay.String()
		}
		all = append(all, faultJSON{
			Operation: f.Operation, Times: f.Times, Delay: delay, Hang: f.Hang, Drop: f.Drop, Status: f.Status,
			RetryAfter: f.RetryAfter, Body: f.Body, Committed: f.Committed, Garbage: f.Garbage, NoAuthorization: f.NoAuthorization,
		})
	}
	return all
}

// take is a handler that reads T from JSON and is strict about it. It wants a
// JSON content type, which no foreign page can send without a preflight.
func take[T any](do func(T) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Content-Type") != "application/json" {
			writeJSON(w, http.StatusUnsupportedMediaType, message{"Content-Type must be application/json"})
			return
		}
		var input T
		decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&input); err != nil {
			writeJSON(w, http.StatusBadRequest, message{err.Error()})
			return
		}
		output, err := do(input)
		switch {
		case err != nil:
			writeJSON(w, http.StatusBadRequest, message{err.Error()})
		case output == nil:
			w.WriteHeader(http.StatusNoContent)
		default:
			writeJSON(w, http.StatusCreated, output)
		}
	}
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client is gone; nobody is left to tell
}
