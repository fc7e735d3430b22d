package sockproxy

import (
	"bytes"
	"strconv"
	"strings"
)

// closeText is a SockJS close frame, c[code,"reason"], as transport t carries
// it (SockJS protocol 0.3.3), with its content type. callback is jsonp's. ok is false for
// transports that carry nothing back.
func closeText(t transport, callback string, why *ending) (text, contentType string, ok bool) {
	frame := "c[" + strconv.Itoa(int(why.toClient)) + "," + strconv.Quote(why.text) + "]"
	const script = "application/javascript;charset=UTF-8"
	switch t {
	case xhrPoll, xhrStream:
		return frame + "\n", script, true
	case eventSource:
		return "data: " + frame + "\r\n\r\n", "text/event-stream;charset=UTF-8", true
	case htmlFile:
		return "<script>\np(" + strconv.Quote(frame) + ");\n</script>\r\n", "text/html;charset=UTF-8", true
	case jsonpPoll:
		if callback == "" {
			return "", "", false
		}
		return "/**/" + callback + "(" + strconv.Quote(frame) + ");\r\n", script, true
	}
	return "", "", false
}

// frameEnd follows a streaming answer to know whether its last byte ended a
// SockJS frame: only there may a frame of ours begin.
type frameEnd struct {
	terminator string
	tail       []byte
}

// newFrameEnd: streams begin with a prelude, after which nothing is open.
func newFrameEnd(t transport) frameEnd {
	terminator := "\n" // frames are JSON, which has no bare line feed
	switch t {
	case eventSource:
		terminator = "\r\n\r\n"
	case htmlFile:
		terminator = "</script>\r\n"
	}
	return frameEnd{terminator: terminator, tail: make([]byte, 0, 2*len(terminator))}
}

func (e *frameEnd) saw(p []byte) {
	if len(p) >= len(e.terminator) {
		e.tail = append(e.tail[:0], p[len(p)-len(e.terminator):]...)
		return
	}
	e.tail = append(e.tail, p...)
	if extra := len(e.tail) - len(e.terminator); extra > 0 {
		e.tail = append(e.tail[:0], e.tail[extra:]...)
	}
}

func (e *frameEnd) reached() bool {
	return bytes.HasSuffix(e.tail, []byte(e.terminator)) ||
		e.terminator == "\r\n\r\n" && strings.HasSuffix(string(e.tail), "\r\n") && len(e.tail) == 2 // eventsource's prelude
}
