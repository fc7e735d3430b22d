// Package stomp reads and writes STOMP frames, versions 1.0, 1.1 and 1.2
// (https://stomp.github.io/stomp-specification-1.2.html), for the server's end.
//
// [Decoder] is fed what arrives, in whatever pieces: several frames at once,
// one frame in parts (stompjs splits large ones), heart-beats between them. It
// applies the version's escaping; CONNECT and CONNECTED are never escaped
// (section "Value Encoding"). It checks what makes a frame a frame; which
// headers a command needs is the caller's to know.
package stomp

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Version is a STOMP version. The zero value is what holds before CONNECT.
type Version int

// The versions there are.
const (
	V10 Version = iota
	V11
	V12
)

// String implements [fmt.Stringer]: "1.2".
func (v Version) String() string { return [...]string{"1.0", "1.1", "1.2"}[v] }

// Negotiate picks the highest version of an accept-version header. None means
// the client speaks 1.0 only.
func Negotiate(accept string) (Version, bool) {
	if accept == "" {
		return V10, true
	}
	best, found := V10, false
	for offered := range strings.SplitSeq(accept, ",") {
		for v := V12; v >= V10; v-- {
			if strings.TrimSpace(offered) == v.String() && (!found || v > best) {
				best, found = v, true
			}
		}
	}
	return best, found
}

// Header is one header line, unescaped.
type Header struct{ Name, Value string }

// Frame is one frame.
type Frame struct {
	Command string
	Headers []Header
	Body    []byte
}

// Get returns the first header of that name: "If a client or a server receives
// repeated frame header entries, only the first header entry SHOULD be used".
func (f *Frame) Get(name string) (string, bool) {
	for _, h := range f.Headers {
		if h.Name == name {
			return h.Value, true
		}
	}
	return "", false
}

// Append writes the frame in that version, with a content-length header if it
// has a body.
func (f *Frame) Append(to []byte, v Version) []byte {
	if f.Command == "CONNECT" || f.Command == "CONNECTED" {
		v = V10
	}
	to = append(to, f.Command...)
	to = append(to, '\n')
	for _, h := range f.Headers {
		to = AppendHeader(to, h.Name, h.Value, v)
	}
	if len(f.Body) > 0 {
		to = append(to, "content-length:"...)
		to = strconv.AppendInt(to, int64(len(f.Body)), 10)
		to = append(to, '\n')
	}
	to = append(to, '\n')
	to = append(to, f.Body...)
	return append(to, 0)
}

// AppendHeader writes one header line, escaped as the version wants.
func AppendHeader(to []byte, name, value string, v Version) []byte {
	to = appendEscaped(to, name, v)
	to = append(to, ':')
	to = appendEscaped(to, value, v)
	return append(to, '\n')
}

func appendEscaped(to []byte, text string, v Version) []byte {
	if v == V10 || !strings.ContainsAny(text, "\\\n\r:") {
		return append(to, text...)
	}
	for i := range len(text) {
		switch c := text[i]; {
		case c == '\\':
			to = append(to, `\\`...)
		case c == '\n':
			to = append(to, `\n`...)
		case c == ':':
			to = append(to, `\c`...)
		case c == '\r' && v == V12:
			to = append(to, `\r`...)
		default:
			to = append(to, c)
		}
	}
	return to
}

func unescape(text string, v Version) (string, error) {
	if v == V10 || !strings.Contains(text, `\`) {
		return text, nil
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			b.WriteByte(text[i])
			continue
		}
		i++
		switch {
		case i < len(text) && text[i] == '\\':
			b.WriteByte('\\')
		case i < len(text) && text[i] == 'n':
			b.WriteByte('\n')
		case i < len(text) && text[i] == 'c':
			b.WriteByte(':')
		case i < len(text) && text[i] == 'r' && v == V12:
			b.WriteByte('\r')
		default:
			return "", errors.New("undefined escape sequence in a header")
		}
	}
	return b.String(), nil
}

const (
	maxHead  = 64 << 10
	maxFrame = 1 << 20
)

// Decoder cuts a byte stream into frames. The zero value is ready.
type Decoder struct {
	// Version is how headers are unescaped; set it once it is agreed on.
	Version Version
	pending []byte
}

// Feed adds p and returns the next complete frame, or nil if there is none
// yet; call it with nil until it returns nil. After an error the stream is
// lost: the only thing left is to say ERROR and close.
func (d *Decoder) Feed(p []byte) (*Frame, error) {
	d.pending = append(d.pending, p...)
	d.skipHeartBeats()
	if len(d.pending) == 0 {
		d.pending = nil // an idle connection keeps no buffer
		return nil, nil
	}
	head, rest, complete := cutHead(d.pending)
	switch {
	case !complete && len(d.pending) > maxHead, len(head) > maxHead:
		return nil, errors.New("frame head is too large")
	case !complete:
		return nil, nil
	}
	frame, err := parseHead(head, d.Version)
	if err != nil {
		return nil, err
	}
	body, after, complete, err := cutBody(frame, rest)
	if err != nil || !complete {
		return nil, err
	}
	frame.Body = bytes.Clone(body)
	d.pending = after
	return frame, nil
}

func (d *Decoder) skipHeartBeats() {
	for len(d.pending) > 0 && (d.pending[0] == '\n' || d.pending[0] == '\r') {
		d.pending = d.pending[1:]
	}
}

// cutHead finds the blank line, with or without carriage returns.
func cutHead(p []byte) (head, rest []byte, complete bool) {
	for from := 0; ; {
		i := bytes.IndexByte(p[from:], '\n')
		if i < 0 {
			return nil, nil, false
		}
		i += from
		switch next := p[i+1:]; {
		case bytes.HasPrefix(next, []byte("\n")):
			return p[:i], next[1:], true
		case bytes.HasPrefix(next, []byte("\r\n")):
			return p[:i], next[2:], true
		}
		from = i + 1
	}
}

func parseHead(head []byte, v Version) (*Frame, error) {
	lines := strings.Split(string(head), "\n")
	f := &Frame{Command: strings.TrimSuffix(lines[0], "\r")}
	if f.Command == "" || strings.ContainsFunc(f.Command, func(r rune) bool { return r < 'A' || r > 'Z' }) {
		return nil, errors.New("not a STOMP frame")
	}
	if f.Command == "CONNECT" || f.Command == "STOMP" {
		v = V10
	}
	for _, line := range lines[1:] {
		name, value, found := strings.Cut(strings.TrimSuffix(line, "\r"), ":")
		if !found {
			return nil, errors.New("header line without a colon")
		}
		var err error
		if name, err = unescape(name, v); err != nil {
			return nil, err
		}
		if value, err = unescape(value, v); err != nil {
			return nil, err
		}
		f.Headers = append(f.Headers, Header{name, value})
	}
	return f, nil
}

// cutBody takes the body: content-length bytes, or up to the first NUL.
func cutBody(f *Frame, p []byte) (body, rest []byte, complete bool, err error) {
	length, given := f.Get("content-length")
	if !given {
		body, rest, complete = bytes.Cut(p, []byte{0})
		if len(body) > maxFrame {
			return nil, nil, false, errors.New("frame is too large")
		}
		return body, rest, complete, nil
	}
	n, err := strconv.Atoi(strings.TrimSpace(length))
	if err != nil || n < 0 || n > maxFrame {
		return nil, nil, false, fmt.Errorf("content-length %q", length)
	}
	if len(p) <= n {
		return nil, nil, false, nil
	}
	if p[n] != 0 {
		return nil, nil, false, errors.New("no NUL after content-length bytes")
	}
	return p[:n], p[n+1:], true, nil
}
