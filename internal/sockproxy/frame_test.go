package sockproxy

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
)

func TestFollower(t *testing.T) {
	long := func(n uint64) []byte { return binary.BigEndian.AppendUint64([]byte{0x82, 127}, n) }
	for _, test := range []struct {
		name string
		in   []byte
		code closeCode
	}{
		{"text", frame(0x81, false, "hello"), 0},
		{"empty binary", frame(0x82, false, ""), 0},
		{"16-bit length", frame(0x82, false, strings.Repeat("x", 126)), 0},
		{"64-bit length", frame(0x82, false, strings.Repeat("x", 1<<16)), 0},
		{"at the limit", frame(0x82, false, strings.Repeat("x", testLimit)), 0},
		{"fragments", slices.Concat(frame(0x01, false, "a"), frame(0x00, false, "b"), frame(0x80, false, "c")), 0},
		{"control between fragments", slices.Concat(frame(0x01, false, "a"), frame(0x8a, false, "p"), frame(0x80, false, "c")), 0},
		{"close with code", frame(0x88, false, "\x03\xe8bye"), 0},
		{"close without", frame(0x88, false, ""), 0},

		{"over the limit", frame(0x82, false, strings.Repeat("x", testLimit+1)), closeTooBig},
		{"fragments over the limit", slices.Concat(frame(0x02, false, strings.Repeat("x", testLimit)), frame(0x80, false, "x")), closeTooBig},
		{"empty continuations for ever", append(frame(0x02, false, ""), bytes.Repeat(frame(0x00, false, ""), testLimit)...), closeTooBig},
		{"64-bit length with the top bit", long(1 << 63), closeProtocol},
		{"64-bit length that fits 16", long(0xffff), closeProtocol},
		{"16-bit length that fits 7", []byte{0x82, 126, 0, 125}, closeProtocol},
		{"RSV1", frame(0xc1, false, "x"), closeProtocol},
		{"RSV2", frame(0xa1, false, "x"), closeProtocol},
		{"RSV3", frame(0x91, false, "x"), closeProtocol},
		{"reserved data opcode", frame(0x83, false, "x"), closeProtocol},
		{"reserved control opcode", frame(0x8b, false, "x"), closeProtocol},
		{"masked server frame", frame(0x81, true, "x"), closeProtocol},
		{"continuation of nothing", frame(0x80, false, "x"), closeProtocol},
		{"continuation after the end", append(frame(0x81, false, "x"), frame(0x80, false, "x")...), closeProtocol},
		{"text within a fragmented message", append(frame(0x01, false, "x"), frame(0x81, false, "x")...), closeProtocol},
		{"fragmented ping", frame(0x09, false, "x"), closeProtocol},
		{"ping of 126", frame(0x89, false, strings.Repeat("x", 126)), closeProtocol},
		{"close of one byte", frame(0x88, false, "x"), closeProtocol},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := follower{limit: testLimit}
			passed, code := feed(&f, test.in, len(test.in))
			if code != test.code {
				t.Errorf("code %d, want %d", code, test.code)
			}
			if code == 0 && passed != len(test.in) {
				t.Errorf("%d of %d bytes may pass", passed, len(test.in))
			}
		})
	}
}

func TestNothingPassesAfterClose(t *testing.T) {
	f := follower{}
	closing := frame(0x88, false, "\x03\xe8")
	passed, code := f.follow(append(slices.Clone(closing), frame(0x81, false, "more")...))
	if passed != len(closing) || code != 0 || !f.closed || !f.between() {
		t.Errorf("passed %d, code %d, %+v", passed, code, f)
	}
}

func TestFollowAllocatesNothing(t *testing.T) {
	message := frame(0x81, false, strings.Repeat("x", 1000))
	f := follower{limit: testLimit}
	if allocs := testing.AllocsPerRun(100, func() { f.follow(message) }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

const testLimit = 70_000

// feed follows in in pieces of size, carrying incomplete headers like a flow.
// It returns how many bytes passed in all.
func feed(f *follower, in []byte, size int) (passed int, code closeCode) {
	var carry []byte
	for len(in) > 0 {
		n := min(size, len(in))
		piece := append(carry, in[:n]...)
		in = in[n:]
		var pass int
		pass, code = f.follow(piece)
		passed += pass
		if code != 0 {
			return passed, code
		}
		if f.closed && f.between() {
			return passed, 0
		}
		if carry = slices.Clone(piece[pass:]); len(carry) >= maxHeader {
			panic("more carried than a header has")
		}
	}
	return passed, 0
}

// Whatever the pieces in which bytes come, as many pass with the same verdict.
func FuzzFollowerSplits(f *testing.F) {
	f.Add(frame(0x81, false, "hello"), uint16(1), false)
	f.Add(append(frame(0x01, true, "a"), frame(0x80, true, "b")...), uint16(3), true)
	f.Add(frame(0x82, false, strings.Repeat("x", 70_001)), uint16(1000), false)
	f.Add([]byte{0x88, 0x82, 1, 2, 3, 4, 5, 6, 7}, uint16(2), true)
	f.Fuzz(func(t *testing.T, in []byte, size uint16, masked bool) {
		whole, split := follower{masked: masked, limit: testLimit}, follower{masked: masked, limit: testLimit}
		wantPassed, wantCode := feed(&whole, in, len(in))
		gotPassed, gotCode := feed(&split, in, max(int(size), 1))
		if gotPassed != wantPassed || gotCode != wantCode || whole != split {
			t.Errorf("in pieces of %d: %d bytes, code %d, %+v; whole: %d, %d, %+v", size, gotPassed, gotCode, split, wantPassed, wantCode, whole)
		}
	})
}
