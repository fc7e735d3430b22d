package whispsim

import (
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Drop says when a faulty connection is cut.
type Drop string

// The moments at which a connection can be cut.
const (
	DropNever  Drop = ""
	DropBefore Drop = "before" // nothing done, nothing answered
	DropMid    Drop = "mid"    // done, cut in the middle of the answer
	DropAfter  Drop = "after"  // done, but nothing answered
)

// Fault makes calls of one operation go wrong. What is set is combined: the
// delay comes first, then Hang, DropBefore or Status end the call without the
// operation having run, else it runs and its answer is mangled.
//
// On a WebSocket only Delay, Hang, DropBefore and Status mean something; see
// [Server.CloseSockets] for the rest.
type Fault struct {
	Operation string // an operationId, a realtime name of README.md, or "*"
	Times     int    // how many calls; 0: until cleared

	Delay      time.Duration
	Hang       bool // never answer; ends with the client or with Close
	Drop       Drop
	Status     int    // answer with it
	RetryAfter string // with Status
	Body       string // with Status
	// Committed runs the operation before answering Status, as a gateway does
	// that lost patience.
	Committed       bool
	Garbage         bool // a body that is not JSON
	NoAuthorization bool // no Authorization response header
}

// faults is what is to go wrong, in the order in which it was asked for.
type faults struct {
	mu   sync.Mutex
	list []*Fault
}

// Fail adds a fault. Faults of one operation strike one after the other: the
// first until its Times are used up, then the next.
func (s *Server) Fail(f Fault) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.list = append(s.faults.list, &f)
}

// Heal removes the faults of an operation, or all of them for "*".
func (s *Server) Heal(operation string) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	var kept []*Fault
	for _, f := range s.faults.list {
		if operation != "*" && f.Operation != operation {
			kept = append(kept, f)
		}
	}
	s.faults.list = kept
}

// Faults returns what is still to go wrong; Times is what is left of it.
func (s *Server) Faults() []Fault {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	list := make([]Fault, 0, len(s.faults.list))
	for _, f := range s.faults.list {
		list = append(list, *f)
	}
	return list
}

// strike returns the fault that hits this call, and uses it up.
func (c *faults) strike(operation string) (Fault, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, f := range c.list {
		if f.Operation != operation && f.Operation != "*" {
			continue
		}
		struck := *f
		if f.Times == 1 {
			c.list = append(c.list[:i:i], c.list[i+1:]...)
		} else if f.Times > 1 {
			f.Times--
		}
		return struck, true
	}
	return Fault{}, false
}

// serveFault serves one call under a fault. Cutting the connection is
// [http.ErrAbortHandler]: a closed connection in HTTP/1, a reset stream in
// HTTP/2.
func (s *Server) serveFault(w http.ResponseWriter, r *http.Request, t target, f Fault) {
	if f.Delay > 0 && !s.pause(r, f.Delay) {
		panic(http.ErrAbortHandler)
	}
	if f.Hang {
		s.pause(r, 0)
		panic(http.ErrAbortHandler)
	}
	if f.Drop == DropBefore {
		panic(http.ErrAbortHandler)
	}
	if f.Status != 0 {
		if f.Committed {
			t.serve(&discardWriter{header: http.Header{}}, r)
		}
		f.answer(w)
		return
	}
	switch f.Drop {
	case DropAfter:
		t.serve(&discardWriter{header: http.Header{}}, r)
		panic(http.ErrAbortHandler)
	case DropMid:
		w = &cutWriter{ResponseWriter: w}
	}
	if f.Garbage {
		w = &garbageWriter{ResponseWriter: w}
	}
	if f.NoAuthorization {
		w = &noAuthorizationWriter{ResponseWriter: w}
	}
	t.serve(w, r)
}

// pause waits, for ever if d is 0; it reports whether the time went by before
// the client or the server went away.
func (s *Server) pause(r *http.Request, d time.Duration) bool {
	var elapsed <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		elapsed = timer.C
	}
	select {
	case <-elapsed:
		return true
	case <-r.Context().Done():
	case <-s.done:
	}
	return false
}

func (f Fault) answer(w http.ResponseWriter) {
	if f.RetryAfter != "" {
		w.Header().Set("Retry-After", f.RetryAfter)
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(f.Body)))
	w.WriteHeader(f.Status)
	_, _ = w.Write([]byte(f.Body))
}

// discardWriter is an answer nobody gets.
type discardWriter struct{ header http.Header }

func (w *discardWriter) Header() http.Header         { return w.header }
func (w *discardWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *discardWriter) WriteHeader(int)             {}

// cutWriter cuts the connection in the middle of the first thing written, or
// after the header of an answer without a body.
type cutWriter struct{ http.ResponseWriter }

func (w *cutWriter) WriteHeader(status int) {
	empty := w.Header().Get("Content-Length") == "0"
	if empty {
		w.Header().Set("Content-Length", "64") // a promise to be broken
	}
	w.ResponseWriter.WriteHeader(status)
	if empty {
		w.cut()
	}
}

func (w *cutWriter) Write(p []byte) (int, error) {
	_, _ = w.ResponseWriter.Write(p[:len(p)/2])
	w.cut()
	return 0, http.ErrAbortHandler
}

func (w *cutWriter) cut() {
	_ = http.NewResponseController(w.ResponseWriter).Flush() // the cut follows anyway
	panic(http.ErrAbortHandler)
}

// garbage looks like JSON for a while.
const garbage = `{"id":"550e8400-e29b-41d4-a716-446655440000","username":<html>502 Bad Gateway` + "\x00\xff\xfe"

// garbageWriter replaces whatever body there is.
type garbageWriter struct {
	http.ResponseWriter
	started bool
}

func (w *garbageWriter) WriteHeader(status int) {
	if w.started {
		return
	}
	w.started = true
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(garbage)))
	w.ResponseWriter.WriteHeader(status)
	_, _ = w.ResponseWriter.Write([]byte(garbage))
}

func (w *garbageWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return len(p), nil
}

// noAuthorizationWriter forgets the JWT.
type noAuthorizationWriter struct{ http.ResponseWriter }

func (w *noAuthorizationWriter) WriteHeader(status int) {
	w.Header().Del("Authorization")
	w.ResponseWriter.WriteHeader(status)
}
