package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/server"
)

// security.md 27. What is hidden behind a body is never served: neither by us
// nor by the app. A request that two servers could frame differently is refused
// or is the last of its connection.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	const smuggled = "GET /smuggled HTTP/1.1\r\nHost: app.example.com\r\n\r\n"
	head := func(method, path string, lines ...string) string {
		return method + " " + path + " HTTP/1.1\r\nHost: app.example.com\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
	}
	for name, test := range map[string]struct {
		request string
		status  []int // allowed
	}{
		"CL.TE":                  {head("POST", "/x", "Content-Length: 5", "Transfer-Encoding: chunked") + "0\r\n\r\n" + smuggled, []int{200}},
		"TE.CL":                  {head("POST", "/x", "Transfer-Encoding: chunked", "Content-Length: 4") + "0\r\n\r\n" + smuggled, []int{200}},
		"CL.TE on ours":          {head("POST", "/auth/logout", "Origin: https://app.example.com", "Content-Length: 5", "Transfer-Encoding: chunked") + "0\r\n\r\n" + smuggled, []int{200}},
		"CL.TE on Whisp's":       {head("POST", "/whisp/api/auth/logoutAll", "Origin: https://app.example.com", "Content-Length: 5", "Transfer-Encoding: chunked") + "0\r\n\r\n" + smuggled, []int{401}},
		"CL.TE, refused":         {head("POST", "/auth/logout", "Content-Length: 5", "Transfer-Encoding: chunked") + "0\r\n\r\n" + smuggled, []int{403}},
		"TE.TE":                  {head("POST", "/x", "Transfer-Encoding: chunked", "Transfer-Encoding: identity") + "0\r\n\r\n" + smuggled, []int{400, 501}},
		"TE list":                {head("POST", "/x", "Transfer-Encoding: gzip, chunked") + "0\r\n\r\n" + smuggled, []int{400, 501}},
		"xchunked":               {head("POST", "/x", "Transfer-Encoding: xchunked") + "0\r\n\r\n" + smuggled, []int{400, 501}},
		"TE with a tab":          {head("POST", "/x", "Transfer-Encoding:\tchunked", "Content-Length: 5") + "0\r\n\r\n" + smuggled, []int{200, 400, 501}},
		"TE with a space before": {head("POST", "/x", "Transfer-Encoding : chunked", "Content-Length: 5") + "0\r\n\r\n" + smuggled, []int{400}},
		"TE with VT":             {head("POST", "/x", "Transfer-Encoding: \x0bchunked", "Content-Length: 5") + "0\r\n\r\n" + smuggled, []int{400, 501}},
		"two CLs":                {head("POST", "/x", "Content-Length: 0", "Content-Length: 5") + "0\r\n\r\n" + smuggled, []int{400}},
		"CL list":                {head("POST", "/x", "Content-Length: 0, 5") + "0\r\n\r\n" + smuggled, []int{400}},
		"CL with a plus":         {head("POST", "/x", "Content-Length: +5") + "0\r\n\r\n" + smuggled, []int{400}},
		"negative CL":            {head("POST", "/x", "Content-Length: -5") + "0\r\n\r\n" + smuggled, []int{400}},
		"CL in hex":              {head("POST", "/x", "Content-Length: 0x5") + "0\r\n\r\n" + smuggled, []int{400}},
		"huge CL":                {head("POST", "/x", "Content-Length: 99999999999999999999") + smuggled, []int{400}},
		"obs-fold of TE":         {head("POST", "/x", "Transfer-Encoding:", " chunked") + "0\r\n\r\n" + smuggled, []int{200, 400}},
		"fold first":             {"GET /x HTTP/1.1\r\n Host: app.example.com\r\n\r\n" + smuggled, []int{400}},
		"bare CR in a value":     {head("GET", "/x", "X: a\rTransfer-Encoding: chunked") + smuggled, []int{400}},
		"bare LF in chunk size":  {head("POST", "/x", "Transfer-Encoding: chunked") + "0\n\r\n" + smuggled, []int{0, 200, 400, 499}},
		"chunk size overflow":    {head("POST", "/x", "Transfer-Encoding: chunked") + "10000000000000000\r\nx\r\n0\r\n\r\n" + smuggled, []int{0, 200, 400, 499}},
		"chunk without its CRLF": {head("POST", "/x", "Transfer-Encoding: chunked") + "1\r\nxx0\r\n\r\n" + smuggled, []int{0, 200, 400, 499}},
		"HTTP/1.0 with TE":       {"POST /x HTTP/1.0\r\nHost: app.example.com\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + smuggled, []int{200, 400}},
		"trailer":                {head("POST", "/x", "Transfer-Encoding: chunked", "Trailer: Content-Length") + "0\r\nContent-Length: 50\r\nX-Forwarded-User: eve\r\n\r\n" + smuggled, []int{0, 200, 400, 499}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(c *setup) {
				c.app = func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					_, _ = io.WriteString(w, "app")
				}
			})
			answers, closed := s.raw(t, test.request, 9)
			status := 0
			if len(answers) > 0 {
				status = answers[0].status
			}
			if !contains(test.status, status) {
				t.Errorf("27: got %d, want one of %v", status, test.status)
			}
			if len(answers) > 1 && answers[1].status == 200 {
				t.Error("27: the smuggled request was answered")
			}
			if !closed {
				t.Error("27: the connection lives on")
			}
			for _, r := range s.app.requests() {
				if r.URL.Path != "/x" || r.Header.Get("X-Forwarded-User") != "" || r.Trailer != nil {
					t.Errorf("27: the app saw %s with trailer %v", r.URL.Path, r.Trailer)
				}
			}
		})
	}
}

func contains(list []int, one int) bool {
	for _, other := range list {
		if other == one {
			return true
		}
	}
	return false
}

// What net/http makes of obs-fold (RFC 9112 section 5.2): one line, joined by a
// space. So this is a header X and a body of five bytes, and what follows is a
// request in its own right, see the package comment.
func TestFoldedLines(t *testing.T) {
	t.Parallel()
	s := start(t)
	answers, _ := s.raw(t, "POST /x HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: 5\r\nX: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"+
		"GET /second HTTP/1.1\r\nHost: app.example.com\r\nConnection: close\r\n\r\n", 9)
	seen := s.app.requests()
	if len(answers) != 2 || len(seen) != 2 {
		t.Fatalf("27: %d answers, the app saw %d requests", len(answers), len(seen))
	}
	if got := seen[0].Header.Get("X"); got != "y Transfer-Encoding: chunked" || len(seen[0].TransferEncoding) > 0 || seen[0].ContentLength != 5 {
		t.Errorf("27: the app saw X %q, %v, %d", got, seen[0].TransferEncoding, seen[0].ContentLength)
	}
}

// The rule does not cost an ordinary connection its life.
func TestKeepAlive(t *testing.T) {
	t.Parallel()
	s := start(t)
	request := "POST /x HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: 3\r\n\r\nabc"
	answers, closed := s.raw(t, request+request+request+"GET /auth/session HTTP/1.1\r\nHost: app.example.com\r\nConnection: close\r\n\r\n", 9)
	if len(answers) != 4 || !closed || answers[3].status != http.StatusUnauthorized {
		t.Errorf("%d answers, closed %v", len(answers), closed)
	}
}

func TestChunkExtensionFlood(t *testing.T) {
	t.Parallel()
	s := start(t)
	flood := strings.Repeat("1;"+strings.Repeat("x", 4000)+"\r\na\r\n", 200)
	answers, closed := s.raw(t, "POST /auth/whisp/sign-in HTTP/1.1\r\nHost: app.example.com\r\nOrigin: "+publicOrigin+"\r\nTransfer-Encoding: chunked\r\n\r\n"+flood, 3)
	if !closed && len(answers) < 3 {
		t.Errorf("27: goes on, %d answers", len(answers))
	}
}

// security.md 29: who sends slowly, or never, is not waited for.
func TestSlowBodies(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *setup) {
		c.tune = func(s *server.Server) { s.SetBodyPatience(200 * time.Millisecond) }
	})
	alice := s.login(t, "alice")
	head := "Host: app.example.com\r\nOrigin: " + publicOrigin + "\r\nCookie: " + sessionCookie + "=" + alice.cookies[sessionCookie] + "\r\nContent-Type: application/json\r\n"
	for name, test := range map[string]struct {
		request string
		status  int
	}{
		"sign-in, nothing comes":     {"POST /auth/whisp/sign-in HTTP/1.1\r\n" + head + "Content-Length: 20\r\n\r\n", 408},
		"sign-in, half comes":        {"POST /auth/whisp/sign-in HTTP/1.1\r\n" + head + "Content-Length: 20\r\n\r\n{\"fresh\":", 408},
		"sign-in, chunks never end":  {"POST /auth/whisp/sign-in HTTP/1.1\r\n" + head + "Transfer-Encoding: chunked\r\n\r\n1\r\n \r\n", 408},
		"a body nobody reads":        {"POST /auth/whisp/sign-out HTTP/1.1\r\n" + head + "Content-Length: 100\r\n\r\n", 204},
		"refused before it is read":  {"POST /auth/whisp/sign-out HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: 100\r\n\r\n", 403},
		"a GET with a body":          {"GET /auth/session HTTP/1.1\r\n" + head + "Content-Length: 100\r\n\r\n", 200},
		"foreign host":               {"POST / HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 100\r\n\r\n", 421},
		"upload to the app":          {"POST /upload HTTP/1.1\r\n" + head + "Content-Length: 100\r\n\r\nabc", 0},
		"to Whisp":                   {"POST /whisp/api/chat/createChat HTTP/1.1\r\n" + head + "Content-Length: 100\r\n\r\nabc", 0},
		"sign-in with a huge length": {"POST /auth/whisp/sign-in HTTP/1.1\r\n" + head + "Content-Length: 99999999999\r\n\r\nabc", 408},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			answers, closed := s.raw(t, test.request, 9)
			if took := time.Since(began); took > 3*time.Second || !closed {
				t.Errorf("29: took %s, closed %v", took, closed)
			}
			if test.status != 0 && (len(answers) != 1 || answers[0].status != test.status) {
				t.Errorf("29: got %d answers, want %d", len(answers), test.status)
			}
		})
	}
}

// An upload that goes on, however slowly, is not cut; nor is a long answer to a
// body that has ended.
func TestSlowIsNotStalled(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *setup) {
		c.app = func(w http.ResponseWriter, r *http.Request) {
			n, _ := io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-time.After(400 * time.Millisecond):
			case <-r.Context().Done():
			}
			_, _ = fmt.Fprint(w, n)
		}
		c.tune = func(s *server.Server) { s.SetBodyPatience(150 * time.Millisecond) }
	})
	conn := s.dial(t)
	_, _ = io.WriteString(conn, "POST /upload HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: 10\r\n\r\n")
	for range 10 {
		time.Sleep(30 * time.Millisecond)
		_, _ = io.WriteString(conn, "x")
	}
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	read, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil || string(read) != "10" {
		t.Errorf("got %q %v", read, err)
	}
}

// security.md 29: one byte of a header per second.
func TestSlowHeader(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *setup) { c.server.ReadHeaderTimeout = 1e9 })
	conn := s.dial(t)
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: app.ex")
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Errorf("29: still open: %v", err)
	}
}
