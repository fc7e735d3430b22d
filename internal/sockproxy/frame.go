package sockproxy

import "encoding/binary"

// closeCode is a WebSocket close code (RFC 6455 section 7.4.1 and its registry).
type closeCode uint16

const (
	closeNormal    closeCode = 1000
	closeGoingAway closeCode = 1001
	closeProtocol  closeCode = 1002
	closePolicy    closeCode = 1008
	closeTooBig    closeCode = 1009
	closeInternal  closeCode = 1011
	closeRestart   closeCode = 1012
)

const (
	opContinuation = 0x0
	opBinary       = 0x2
	opClose        = 0x8
	opPong         = 0xa

	// maxHeader is the longest frame header: 2 + 8 (length) + 4 (mask).
	maxHeader = 14
	// maxControl is the longest payload of a control frame (RFC 6455 section 5.5).
	maxControl = 125
)

// follower follows the frame headers of one direction of a WebSocket without
// touching payloads. No extension is ever negotiated, so reserved bits are
// errors. It allocates nothing.
//
// Invariant: what follow let pass ends inside a payload (left > 0) or exactly
// at a frame boundary (left == 0), never inside a header.
type follower struct {
	// masked says which direction this is: clients mask, servers do not.
	masked bool
	// limit is the largest message in bytes; 0 is none. Continuation frames count with
	// their headers, so that endless empty ones reach it too.
	limit uint64

	left    uint64 // payload bytes of the current frame still to come
	message uint64 // cost of the current message so far
	open    bool   // a fragmented message has begun and not ended
	closed  bool   // a Close frame has begun; nothing may follow it
	frames  uint64 // begun so far
}

// follow looks at the next bytes, p, and says how many of them may be passed
// on. The rest is either an incomplete header, at most maxHeader-1 bytes, to be put
// before the next bytes; or follows a Close frame and is to be dropped; or, when code
// is not 0, begins the frame that breaks the rules with that code.
//
// After closeTooBig the limit is off and the frame can be followed (and
// dropped); after closeProtocol following makes no sense any more.
func (f *follower) follow(p []byte) (pass int, code closeCode) {
	for pass < len(p) {
		if f.left > 0 {
			n := min(f.left, uint64(len(p)-pass))
			f.left -= n
			pass += int(n) //nolint:gosec // at most len(p)
			continue
		}
		if f.closed {
			return pass, 0
		}
		size, code := f.header(p[pass:])
		if code != 0 {
			return pass, code
		}
		if size == 0 {
			return pass, 0
		}
		pass += size
	}
	return pass, 0
}

// header reads one frame header; size 0 means it is not complete yet.
func (f *follower) header(p []byte) (size int, code closeCode) {
	if len(p) < 2 {
		return 0, 0
	}
	final, op := p[0]&0x80 != 0, p[0]&0x0f
	masked, length := p[1]&0x80 != 0, uint64(p[1]&0x7f)
	control := op >= opClose
	switch {
	case p[0]&0x70 != 0, masked != f.masked,
		control && (!final || length > maxControl || op > opPong),
		op == opClose && length == 1, // a code is two bytes
		!control && (op > opBinary || (op == opContinuation) != f.open):
		return 0, closeProtocol
	}
	size = 2
	if masked {
		size += 4
	}
	switch length {
	case 126:
		if size += 2; len(p) < size {
			return 0, 0
		}
		if length = uint64(binary.BigEndian.Uint16(p[2:])); length < 126 {
			return 0, closeProtocol
		}
	case 127:
		if size += 8; len(p) < size {
			return 0, 0
		}
		if length = binary.BigEndian.Uint64(p[2:]); length <= 0xffff || length>>63 != 0 {
			return 0, closeProtocol
		}
	default:
		if len(p) < size {
			return 0, 0
		}
	}
	if code := f.begin(op, final, length, size); code != 0 {
		return 0, code
	}
	return size, 0
}

// begin enters a frame whose header was valid.
func (f *follower) begin(op byte, final bool, length uint64, size int) closeCode {
	if op >= opClose {
		f.closed = op == opClose
	} else if code := f.count(op, length, size); code != 0 {
		return code
	} else {
		f.open = !final
	}
	f.left = length
	f.frames++
	return 0
}

// count adds a data frame to its message.
func (f *follower) count(op byte, length uint64, size int) closeCode {
	if f.limit == 0 {
		return 0
	}
	cost, before := length, f.message
	if op == opContinuation {
		cost += uint64(size) //nolint:gosec // at most maxHeader
	} else {
		before = 0
	}
	if cost > f.limit || before > f.limit-cost {
		f.limit = 0
		return closeTooBig
	}
	f.message = before + cost
	return 0
}

// between reports whether the next byte would begin a frame.
func (f *follower) between() bool { return f.left == 0 }

// closeFrame builds a Close frame. Towards a server it is masked with the key
// zero: masking protects intermediaries from bytes an attacker chose (RFC 6455
// section 10.3), and here are none.
func closeFrame(masked bool, code closeCode, reason string) []byte {
	reason = reason[:min(len(reason), maxControl-2)]
	frame := make([]byte, 0, 2+4+2+len(reason))
	frame = append(frame, 0x80|opClose, byte(2+len(reason))) //nolint:gosec // at most maxControl
	if masked {
		frame[1] |= 0x80
		frame = append(frame, 0, 0, 0, 0)
	}
	frame = binary.BigEndian.AppendUint16(frame, uint16(code))
	return append(frame, reason...)
}
