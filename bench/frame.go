//go:build linux

package main

import "encoding/binary"

// frame is one WebSocket frame as it was received (RFC 6455 section 5.2).
type frame struct {
	first   byte // FIN and opcode
	mask    [4]byte
	payload []byte // still masked, a part of what was parsed
	length  int    // header and payload
}

// parseFrame reads the frame at the start of p; complete is false if p does not
// hold it all. Payloads of 64 KiB and more are never complete.
func parseFrame(p []byte) (f frame, complete bool) {
	if len(p) < 2 {
		return f, false
	}
	f.first = p[0]
	at, size := 2, int(p[1]&0x7f)
	switch {
	case size == 127, size == 126 && len(p) < 4:
		return f, false
	case size == 126:
		size, at = int(binary.BigEndian.Uint16(p[2:])), 4
	}
	if p[1]&0x80 != 0 {
		if len(p) < at+4 {
			return f, false
		}
		copy(f.mask[:], p[at:])
		at += 4
	}
	if len(p) < at+size {
		return f, false
	}
	f.payload, f.length = p[at:at+size], at+size
	return f, true
}

// appendLength appends the second byte of a frame and what of the length does
// not fit in it; masked is 0x80 or 0.
func appendLength(to []byte, masked byte, size int) []byte {
	if size < 126 {
		return append(to, masked|byte(size)) //nolint:gosec // G115: below 126
	}
	return append(to, masked|126, byte(size>>8), byte(size)) //nolint:gosec // G115: the bytes of a number below 64 Ki
}

// clientFrame is a masked text frame of size bytes.
func clientFrame(size int) []byte {
	text := make([]byte, size)
	for i := range text {
		text[i] = byte('a' + i%26)
	}
	return clientMessage(text)
}

// clientMessage is a masked text frame.
func clientMessage(text []byte) []byte {
	mask := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	out := appendLength([]byte{0x81}, 0x80, len(text))
	out = append(out, mask[:]...)
	for i, b := range text {
		out = append(out, b^mask[i&3])
	}
	return out
}

// Close frames with status 1000.
var (
	serverClose = []byte{0x88, 2, 0x03, 0xe8}
	clientClose = []byte{0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8}
)

// frameLength is answerLength for frames.
func frameLength(p []byte) (int, error) {
	f, _ := parseFrame(p)
	return f.length, nil
}
