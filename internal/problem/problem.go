// Package problem is every error a client of ours can see.
//
// A [Problem] is an RFC 9457 problem detail with three members more: message
// (the Whisp SDK shows it to people), code (stable: clients and runbooks
// may depend on it) and requestId (what to quote to support). Its texts are
// fixed: nothing a request, a token or an upstream said is ever echoed. What
// went wrong inside travels as the cause ([Problem.Because]), which is logged
// and never sent.
//
// There is one constructor per error (catalogue.go). Handlers return errors;
// one place at the edge turns them into answers with [From] and [Write].
package problem

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"
)

// Problem is a client-visible error. Values are immutable: methods copy.
type Problem struct {
	Status int
	// Code is stable and documented in docs/errors.md.
	Code  string
	Title string
	// Message is a whole sentence for a person: what happened, what to do.
	Message string
	// RetryAfter, if positive, is sent as Retry-After in whole seconds, rounded up.
	RetryAfter time.Duration

	cause error
}

// Error gives code and cause: for logs, not for clients.
func (p *Problem) Error() string {
	if p.cause == nil {
		return p.Code
	}
	return p.Code + ": " + p.cause.Error()
}

// Unwrap returns the cause.
func (p *Problem) Unwrap() error { return p.cause }

// Because returns a copy with a cause, which is logged and never sent.
func (p *Problem) Because(cause error) *Problem {
	with := *p
	with.cause = cause
	return &with
}

// After returns a copy that asks the client to wait.
func (p *Problem) After(wait time.Duration) *Problem {
	with := *p
	with.RetryAfter = wait
	return &with
}

// From finds the Problem in an error chain. An error that has none is a fault
// of ours: 500 internal, with the error as its cause.
func From(err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		if p.cause == nil && err != error(p) { //nolint:errorlint // whether err is more than p, not whether it holds p
			return p.Because(err)
		}
		return p
	}
	return Internal().Because(err)
}

type body struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	Message   string `json:"message"`
	Code      string `json:"code"`
	RequestID string `json:"requestId,omitempty"`
}

// Write answers with p. It must be called before anything else was written.
func Write(w http.ResponseWriter, requestID string, p *Problem) {
	encoded, err := json.Marshal(body{
		Type:      "urn:whisp-bff:problem:" + p.Code,
		Title:     p.Title,
		Status:    p.Status,
		Detail:    p.Message,
		Message:   p.Message,
		Code:      p.Code,
		RequestID: requestID,
	})
	if err != nil { // strings and an int: cannot fail
		panic(err)
	}
	h := w.Header()
	for _, stale := range []string{"Content-Length", "Content-Encoding", "ETag", "Last-Modified"} {
		h.Del(stale)
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64(math.Ceil(p.RetryAfter.Seconds())), 10))
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(encoded)
}
