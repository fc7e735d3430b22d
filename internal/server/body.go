package server

import (
	"io"
	"net/http"
	"time"
)

// bodyPatience is how long a client may keep us waiting for the next bytes of a
// request body. net/http has one limit for a whole request only, which would
// cut off large uploads; nginx's client_body_timeout is the same idea.
const bodyPatience = 30 * time.Second

// slowBody is a request body of a client that may be slow, but not forever:
// one byte per hour must not hold a connection, here or at the app.
//
// The read deadline is the connection's, so it also bounds what net/http reads
// by itself: the rest of a body that nobody wanted, before it sends the answer.
// It is taken off as soon as the body has ended: net/http then reads ahead, to
// notice a client that leaves, and would take a deadline for one that left.
type slowBody struct {
	io.ReadCloser
	conn     *http.ResponseController
	patience time.Duration
	until    time.Time // if set, the body must have ended by then
}

// newSlowBody also bounds what happens before the first Read.
func newSlowBody(w http.ResponseWriter, body io.ReadCloser, patience time.Duration) *slowBody {
	b := &slowBody{ReadCloser: body, conn: http.NewResponseController(w), patience: patience}
	b.wait()
	return b
}

func (b *slowBody) Read(p []byte) (int, error) {
	b.wait()
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.rest()
	}
	return n, err
}

// Close reads what is left of a small body.
func (b *slowBody) Close() error {
	b.wait()
	defer b.rest()
	return b.ReadCloser.Close()
}

// endBy bounds the body as a whole.
func (b *slowBody) endBy(d time.Duration) {
	b.until = time.Now().Add(d) //nolint:forbidigo // a connection's deadline is in wall-clock time
}

func (b *slowBody) wait() {
	deadline := time.Now().Add(b.patience) //nolint:forbidigo // a connection's deadline is in wall-clock time
	if !b.until.IsZero() && b.until.Before(deadline) {
		deadline = b.until
	}
	_ = b.conn.SetReadDeadline(deadline) // fails on connections that have none, such as a recorder's
}

func (b *slowBody) rest() { _ = b.conn.SetReadDeadline(time.Time{}) }

// unframed reports whether the end of a request's body may be disputed: by a
// front server that read Content-Length where we read chunks, or chunks where
// we, as HTTP/1.0 wants, read Content-Length. net/http hides which of them came
// (RFC 9112 section 6.1 wants a connection that carried both to be closed), so
// it is closed after any such request, and nothing smuggled behind the body is
// ever read as a request.
func unframed(r *http.Request) bool {
	return len(r.TransferEncoding) > 0 || (r.ProtoMajor == 1 && r.ProtoMinor == 0 && r.ContentLength != 0)
}
