package sockjs

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"
)

// framing is how a transport writes frames.
type framing struct {
	method      string
	contentType string
	streaming   bool
	callback    bool // wants a JavaScript function name in ?c=
	prelude     func(callback string) []byte
	frame       func(frame []byte, callback string) []byte
}

var framings = map[string]framing{
	"xhr": {
		method: http.MethodPost, contentType: "application/javascript;charset=UTF-8",
		frame: func(frame []byte, _ string) []byte { return append(frame, '\n') },
	},
	"xhr_streaming": {
		method: http.MethodPost, contentType: "application/javascript;charset=UTF-8", streaming: true,
		prelude: func(string) []byte { return []byte(strings.Repeat("h", 2048) + "\n") },
		frame:   func(frame []byte, _ string) []byte { return append(frame, '\n') },
	},
	"eventsource": {
		method: http.MethodGet, contentType: "text/event-stream;charset=UTF-8", streaming: true,
		prelude: func(string) []byte { return []byte("\r\n") },
		frame:   func(frame []byte, _ string) []byte { return []byte("data: " + string(frame) + "\r\n\r\n") },
	},
	"htmlfile": {
		method: http.MethodGet, contentType: "text/html;charset=UTF-8", streaming: true, callback: true,
		prelude: htmlPrelude,
		frame: func(frame []byte, _ string) []byte {
			return []byte("<script>\np(" + script(frame) + ");\n</script>\r\n")
		},
	},
	"jsonp": {
		method: http.MethodGet, contentType: "application/javascript;charset=UTF-8", callback: true,
		frame: func(frame []byte, callback string) []byte {
			return []byte("/**/" + callback + "(" + script(frame) + ");\r\n")
		},
	},
}

// script is a frame as a JavaScript string that is safe inside HTML: json
// escapes <, > and &.
func script(frame []byte) string {
	text, err := json.Marshal(string(frame))
	if err != nil { // a string: cannot fail
		return `""`
	}
	return string(text)
}

// htmlPrelude is padded to 2 KiB, so that every browser starts to run it.
func htmlPrelude(callback string) []byte {
	page := "<!doctype html>\n<html><head>\n" +
		"  <meta http-equiv=\"X-UA-Compatible\" content=\"IE=edge\" />\n" +
		"  <meta http-equiv=\"Content-Type\" content=\"text/html; charset=UTF-8\" />\n" +
		"</head><body><h2>Don't panic!</h2>\n" +
		"  <script>\n" +
		"    document.domain = document.domain;\n" +
		"    var c = parent." + callback + ";\n" +
		"    c.start();\n" +
		"    function p(d) {c.message(d);};\n" +
		"    window.onload = function() {c.stop();};\n" +
		"  </script>\n"
	return []byte(page + strings.Repeat(" ", max(2048-len(page), 0)) + "\r\n\r\n")
}

// serveReceiver is a request that receives: it waits for frames and writes
// them, one if polling, else until StreamLimit.
func (s *Server) serveReceiver(w http.ResponseWriter, r *http.Request, server, id string, f framing) {
	callback := r.URL.Query().Get("c")
	if f.callback && !goodCallback(callback) {
		plainError(w, callback)
		return
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, wsLimit)) // only then does net/http see the client leave
	session := s.findOrOpen(w, r, server, id)
	if session == nil {
		return
	}
	noCache(w.Header())
	w.Header().Set("Content-Type", f.contentType)
	w.WriteHeader(http.StatusOK)
	if f.prelude != nil {
		_, _ = w.Write(f.prelude(callback))
	}
	if !session.attach() {
		_, _ = w.Write(f.frame(closeFrame(codeAnother, "Another connection still open"), callback))
		return
	}
	interrupted := true
	defer func() { session.detach(interrupted) }()
	if interrupted = !s.stream(w, r, session, f, callback); session.wasCut() {
		panic(http.ErrAbortHandler)
	}
}

// stream writes frames; false: the client went away.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, session *Session, f framing, callback string) bool {
	flush := http.NewResponseController(w).Flush
	heartBeat := time.NewTimer(s.cfg.HeartBeat)
	defer heartBeat.Stop()
	for written := 0; ; {
		frame, last, cut := session.next(s.cfg.StreamLimit - written)
		if cut {
			return true
		}
		if frame == nil {
			if flush() != nil {
				return false
			}
			select {
			case <-session.wake:
				continue
			case <-heartBeat.C:
				heartBeat.Reset(s.cfg.HeartBeat)
				frame = []byte("h")
			case <-r.Context().Done():
				return false
			case <-s.done:
				session.Cut()
				return true
			}
		}
		n, err := w.Write(f.frame(frame, callback))
		if err != nil {
			return false
		}
		if written += n; last || !f.streaming || written >= s.cfg.StreamLimit {
			return true
		}
	}
}

// goodCallback is the protocol's alphabet for function names.
func goodCallback(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '_' && r != '.'
	})
}

// plainError refuses a callback as Spring does, without repeating it.
func plainError(w http.ResponseWriter, callback string) {
	text := `invalid "callback" parameter`
	if callback == "" {
		text = `"callback" parameter required`
	}
	fail(w, http.StatusInternalServerError, text)
}

func fail(w http.ResponseWriter, status int, text string) {
	noCache(w.Header())
	w.Header().Set("Content-Type", "text/plain;charset=UTF-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

func noCache(h http.Header) {
	h.Set("Cache-Control", "no-store, no-cache, must-revalidate, max-age=0")
}
