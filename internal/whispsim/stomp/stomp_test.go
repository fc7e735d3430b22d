package stomp_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/whisp-bff/whisp-bff/internal/whispsim/stomp"
)

// decode feeds pieces and renders every frame as COMMAND[name=value…]body.
func decode(v stomp.Version, pieces ...string) string {
	d := stomp.Decoder{Version: v}
	var got []string
	for _, piece := range pieces {
		input := []byte(piece)
		for {
			frame, err := d.Feed(input)
			if err != nil {
				return strings.Join(append(got, "error: "+err.Error()), " | ")
			}
			if frame == nil {
				break
			}
			input = nil
			text := frame.Command
			for _, h := range frame.Headers {
				text += fmt.Sprintf("[%s=%s]", h.Name, h.Value)
			}
			got = append(got, fmt.Sprintf("%s%q", text, frame.Body))
		}
	}
	return strings.Join(got, " | ")
}

func TestDecoder(t *testing.T) {
	cases := []struct {
		name    string
		version stomp.Version
		pieces  []string
		want    string
	}{
		{"no body", stomp.V12, []string{"DISCONNECT\n\n\x00"}, `DISCONNECT""`},
		{"headers and body", stomp.V12, []string{"SEND\na:b\nc:d:e\n\nhi\x00"}, `SEND[a=b][c=d:e]"hi"`},
		{"1.0 value with colon", stomp.V10, []string{"SEND\nc:d:e\n\nhi\x00"}, `SEND[c=d:e]"hi"`},
		{"carriage returns", stomp.V12, []string{"SEND\r\na:b\r\n\r\nhi\x00"}, `SEND[a=b]"hi"`},
		{"several and heart-beats", stomp.V12, []string{"\n\nA\n\n\x00\r\n\nB\n\n\x00\n"}, `A"" | B""`},
		{"in pieces", stomp.V12, []string{"SE", "ND\na:", "b\n", "\nh", "i", "\x00"}, `SEND[a=b]"hi"`},
		{"content-length", stomp.V12, []string{"SEND\ncontent-length:3\n\na\x00b\x00"}, `SEND[content-length=3]"a\x00b"`},
		{"content-length in pieces", stomp.V12, []string{"SEND\ncontent-length:3\n\na\x00", "b", "\x00"}, `SEND[content-length=3]"a\x00b"`},
		{"content-length too short", stomp.V12, []string{"SEND\ncontent-length:1\n\nab\x00"}, `error: no NUL after content-length bytes`},
		{"content-length negative", stomp.V12, []string{"SEND\ncontent-length:-1\n\n\x00"}, `error: content-length "-1"`},
		{"content-length huge", stomp.V12, []string{"SEND\ncontent-length:9999999999\n\n"}, `error: content-length "9999999999"`},
		{"escapes 1.2", stomp.V12, []string{`SEND` + "\n" + `a\cb:\\\n\r` + "\n\n\x00"}, "SEND[a:b=\\\n\r]\"\""},
		{"escape r in 1.1", stomp.V11, []string{"SEND\na:\\r\n\n\x00"}, `error: undefined escape sequence in a header`},
		{"undefined escape", stomp.V12, []string{"SEND\na:\\t\n\n\x00"}, `error: undefined escape sequence in a header`},
		{"escape cut short", stomp.V12, []string{"SEND\na:\\\n\n\x00"}, `error: undefined escape sequence in a header`},
		{"no escapes in 1.0", stomp.V10, []string{"SEND\na:\\n\n\n\x00"}, `SEND[a=\n]""`},
		{"no escapes in CONNECT", stomp.V12, []string{"CONNECT\na:\\t:x\n\n\x00"}, `CONNECT[a=\t:x]""`},
		{"no colon", stomp.V12, []string{"SEND\nabc\n\n\x00"}, `error: header line without a colon`},
		{"not STOMP", stomp.V12, []string{"GET / HTTP/1.1\n\n"}, `error: not a STOMP frame`},
		{"endless head", stomp.V12, []string{"SEND\n" + strings.Repeat("a:b\n", 20_000)}, `error: frame head is too large`},
		{"unfinished", stomp.V12, []string{"SEND\n\nabc"}, ``},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := decode(c.version, c.pieces...); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestFirstOfRepeatedHeadersCounts(t *testing.T) {
	var d stomp.Decoder
	frame, err := d.Feed([]byte("SEND\na:1\na:2\n\n\x00"))
	if err != nil || frame == nil {
		t.Fatalf("frame = %v, error %v", frame, err)
	}
	if value, _ := frame.Get("a"); value != "1" {
		t.Errorf("a = %s, want 1", value)
	}
}

func TestAppendAndDecodeAgree(t *testing.T) {
	value := "a:b\\c\nd\re"
	for _, v := range []stomp.Version{stomp.V11, stomp.V12} {
		if v == stomp.V11 {
			value = "a:b\\c\nd"
		}
		f := &stomp.Frame{Command: "MESSAGE", Headers: []stomp.Header{{Name: "x:y", Value: value}}, Body: []byte("\x00\x00")}
		d := stomp.Decoder{Version: v}
		got, err := d.Feed(f.Append(nil, v))
		if err != nil || got == nil {
			t.Fatalf("%s: frame %v, error %v", v, got, err)
		}
		if back, _ := got.Get("x:y"); back != value || string(got.Body) != "\x00\x00" {
			t.Errorf("%s: got %q, body %q", v, back, got.Body)
		}
		value = "a:b\\c\nd\re"
	}
}

func TestNegotiate(t *testing.T) {
	for accept, want := range map[string]string{
		"": "1.0", "1.2": "1.2", "1.0,1.1": "1.1", "1.2, 1.1 ,1.0": "1.2", "1.3,2.0": "none", "1.1,9": "1.1",
	} {
		got := "none"
		if v, found := stomp.Negotiate(accept); found {
			got = v.String()
		}
		if got != want {
			t.Errorf("Negotiate(%q) = %s, want %s", accept, got, want)
		}
	}
}
