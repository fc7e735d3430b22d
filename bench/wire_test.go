//go:build linux

package main

import (
	"bytes"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) == roleUpstream { // startHelper started this binary again
		exit(serveUpstream(os.Stdin, os.Stdout))
	}
	goleak.VerifyTestMain(m)
}

func TestAnswerLength(t *testing.T) {
	for _, test := range []struct {
		name, received string
		want           int
		wrong          bool
	}{
		{"whole", "HTTP/1.1 200 OK\r\ncontent-LENGTH: 2\r\n\r\nok", 40, false},
		{"whole, and more", "HTTP/1.1 200 OK\r\nContent-Length:2\r\n\r\nokHTTP/1.1", 39, false},
		{"no body", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", 56, false},
		{"headers not complete", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", 0, false},
		{"body not complete", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no", 0, false},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 0, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := answerLength([]byte(test.received))
			if got != test.want || (err != nil) != test.wrong {
				t.Errorf("answerLength = %d, %v; want %d, error: %t", got, err, test.want, test.wrong)
			}
		})
	}
}

func TestFramesOfEveryLengthAreParsedWhole(t *testing.T) {
	for _, size := range []int{0, 1, 125, 126, 200, 65535} {
		sent := clientFrame(size)
		for _, part := range []int{0, 1, 2, 5, len(sent) - 1} {
			if _, complete := parseFrame(sent[:min(part, len(sent)-1)]); complete {
				t.Errorf("%d of %d bytes taken for a frame", part, len(sent))
			}
		}
		f, complete := parseFrame(append(bytes.Clone(sent), "next"...))
		if !complete || f.length != len(sent) || len(f.payload) != size || f.first != 0x81 {
			t.Fatalf("a frame of %d bytes: complete %t, length %d, payload %d", size, complete, f.length, len(f.payload))
		}
		for i, b := range f.payload {
			if b^f.mask[i&3] != byte('a'+i%26) {
				t.Fatalf("a frame of %d bytes: byte %d unmasked is wrong", size, i)
			}
		}
	}
}

func TestMessagesCarryTheirText(t *testing.T) {
	for _, text := range []string{"", tellReset} {
		f, complete := parseFrame(clientMessage([]byte(text)))
		for i := range f.payload {
			f.payload[i] ^= f.mask[i&3]
		}
		if !complete || string(f.payload) != text {
			t.Errorf("%q became %q, complete: %t", text, f.payload, complete)
		}
	}
}

func TestHandshakeAnswerIsTheOneOfRFC6455(t *testing.T) {
	// Section 1.3 has key and answer.
	answer := switching([]byte("GET /chat HTTP/1.1\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"))
	if !bytes.Contains(answer, []byte("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n")) {
		t.Errorf("answered %q", answer)
	}
}

func TestRatioComparesWithinARound(t *testing.T) {
	// The machine was busy in the second round: both are slow in it.
	fast := []sample{{rate: 100}, {rate: 10}, {rate: 120}}
	slow := []sample{{rate: 50}, {rate: 5}, {rate: 50}}
	if got := ratio(slow, fast, rate); got != 0.5 {
		t.Errorf("ratio = %v, want 0.5", got)
	}
	if got := middleHalf([]sample{{rate: 1}, {rate: 9}, {rate: 3}, {rate: 2}}, []sample{{rate: 1}, {rate: 1}, {rate: 1}, {rate: 1}}, rate); got != "2.00 to 3.00" {
		t.Errorf("middle half = %s", got)
	}
	p50, p99 := percentiles([]time.Duration{3, 1, 2})
	if p50 != 2 || p99 != 3 {
		t.Errorf("percentiles = %v, %v", p50, p99)
	}
}
