package whispsim

import (
	"net/http"
	"slices"
	"sync"
	"time"
)

// Request is one request as it reached us, for tests that assert what must
// never reach Whisp. It holds tokens in the clear: never log one.
type Request struct {
	Operation string // an operationId of openapi.json, or a name of README.md's list
	Method    string
	Path      string // as it came, still escaped
	Query     string
	Host      string
	Proto     string // "HTTP/1.1", "HTTP/2.0"
	Header    http.Header
	Body      []byte // REST operations with a body only
	At        time.Time
}

// record keeps the latest requests and counts all of them.
type record struct {
	mu       sync.Mutex
	limit    int // <= 0: keep none
	requests []Request
	next     int                    // where the ring goes on, once full
	calls    map[string]int         // operation -> requests arrived
	statuses map[string]map[int]int // operation -> status -> answers
}

func newRecord(limit int) record {
	return record{limit: limit, calls: map[string]int{}, statuses: map[string]map[int]int{}}
}

func (c *record) arrived(operation string, r *http.Request, body []byte, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[operation]++
	if c.limit <= 0 {
		return
	}
	entry := Request{
		Operation: operation, Method: r.Method, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery,
		Host: r.Host, Proto: r.Proto, Header: r.Header.Clone(), Body: body, At: at,
	}
	if len(c.requests) < c.limit {
		c.requests = append(c.requests, entry)
		return
	}
	c.requests[c.next] = entry
	c.next = (c.next + 1) % c.limit
}

// answered counts an answer; status 0 is a connection cut before one.
func (c *record) answered(operation string, status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	byStatus := c.statuses[operation]
	if byStatus == nil {
		byStatus = map[int]int{}
		c.statuses[operation] = byStatus
	}
	byStatus[status]++
}

// Requests returns the latest requests, oldest first, at most
// Config.RecordLimit.
func (s *Server) Requests() []Request {
	s.record.mu.Lock()
	defer s.record.mu.Unlock()
	return slices.Concat(s.record.requests[s.record.next:], s.record.requests[:s.record.next])
}

// Calls returns how many requests of an operation have arrived, answered or
// not: Calls("signIn").
func (s *Server) Calls(operation string) int {
	s.record.mu.Lock()
	defer s.record.mu.Unlock()
	return s.record.calls[operation]
}

// Counters returns the answers per operation and status. Status 0 counts
// connections cut before an answer. STOMP actions are counted as
// "stomp.SEND_MSG" and so on, status 200 or 400.
func (s *Server) Counters() map[string]map[int]int {
	s.record.mu.Lock()
	defer s.record.mu.Unlock()
	all := make(map[string]map[int]int, len(s.record.statuses))
	for operation, byStatus := range s.record.statuses {
		all[operation] = make(map[int]int, len(byStatus))
		for status, n := range byStatus {
			all[operation][status] = n
		}
	}
	return all
}

// ForgetRequests empties what Requests, Calls and Counters tell.
func (s *Server) ForgetRequests() {
	s.record.mu.Lock()
	defer s.record.mu.Unlock()
	s.record.requests, s.record.next = nil, 0
	clear(s.record.calls)
	clear(s.record.statuses)
}

// action counts a STOMP action, which is asked and answered at once.
func (c *record) action(name string, status int) {
	c.mu.Lock()
	c.calls[name]++
	c.mu.Unlock()
	c.answered(name, status)
}
