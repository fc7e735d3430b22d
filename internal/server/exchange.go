package server

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"net"
	"net/http"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/problem"
)

// exchange is one request and its answer. It is the ResponseWriter that
// everything below writes to, so that the access log knows what was sent.
//
// Whoever takes the connection over ([http.ResponseController.Hijack]) has
// switched protocols, as far as logs and metrics are concerned.
type exchange struct {
	http.ResponseWriter
	r *http.Request
	// id names the request in logs, in answers and towards the app and Whisp.
	id string
	// ids is id as a header value.
	ids [1]string
	// client is the address the request came from, proxies of ours left out.
	client string
	// route is a name from a small fixed set, fit for a metric label.
	route string
	// body is nil if the request has none.
	body *slowBody
	// source is the identity source that answered or refused; identityKey names
	// whom it found. Both are for the log.
	source, identityKey string
	// who stands for identityKey where nobody needs the key but the log: it is a
	// hash, and many run without an access log.
	who identity.Identity
	// cause is what a problem answer was about; for the log only.
	cause *problem.Problem

	started time.Time
	status  int
	bytes   int64
}

// WriteHeader notes the final status; informational ones pass. A second final
// status is dropped: gin, which does not see what handlers write past it, sends
// one when they are done.
func (x *exchange) WriteHeader(status int) {
	if x.status != 0 {
		return
	}
	x.ResponseWriter.WriteHeader(status) // panics if it is out of range
	if status >= 200 || status == http.StatusSwitchingProtocols {
		x.status = status
	}
}

// Write counts.
func (x *exchange) Write(p []byte) (int, error) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	n, err := x.ResponseWriter.Write(p)
	x.bytes += int64(n)
	x.rested()
	return n, err
}

// Hijack notes that the connection is somebody else's now.
func (x *exchange) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(x.ResponseWriter).Hijack()
	if err == nil && x.status == 0 {
		x.status = http.StatusSwitchingProtocols
	}
	return conn, buffered, err
}

// FlushError sends what is buffered.
func (x *exchange) FlushError() error {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	err := http.NewResponseController(x.ResponseWriter).Flush()
	x.rested()
	return err
}

// rested takes a read deadline off: sending may have made net/http read the rest
// of the body, and watch the client from then on.
func (x *exchange) rested() {
	if x.body != nil {
		x.body.rest()
	}
}

// Unwrap serves [http.ResponseController].
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// identified is what the log calls whoever sent the request; "" for nobody.
func (x *exchange) identified() string {
	key := x.identityKey
	if key == "" && x.who.Subject != "" {
		key = x.who.Key()
	}
	return key[:min(len(key), 12)]
}

// fail answers with the problem in err.
func (x *exchange) fail(err error) {
	x.cause = problem.From(err)
	problem.Write(x, x.id, x.cause)
}

// exchangeOf finds the exchange below whatever was wrapped around it.
func exchangeOf(w http.ResponseWriter) *exchange {
	for {
		switch v := w.(type) {
		case *exchange:
			return v
		case interface{ Unwrap() http.ResponseWriter }:
			w = v.Unwrap()
		default:
			panic("server: a ResponseWriter without an exchange") // a fault in routes.go
		}
	}
}

const requestIDHeader = "X-Request-Id"

// requestID keeps a trusted proxy's id and makes one for everybody else.
func requestID(r *http.Request, trusted bool) string {
	if id := r.Header.Get(requestIDHeader); trusted && validRequestID(id) {
		return id
	}
	var raw [10]byte
	_, _ = rand.Read(raw[:]) // never fails, see crypto/rand
	return hex.EncodeToString(raw[:])
}

func validRequestID(id string) bool {
	if len(id) < 8 || len(id) > 64 {
		return false
	}
	for i := range len(id) {
		c := id[i]
		digit, letter := '0' <= c && c <= '9', 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !digit && !letter && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
