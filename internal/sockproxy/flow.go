package sockproxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

const (
	// bufferSize is how much one read takes, and so what one direction of a
	// tunnel can have in flight.
	bufferSize = 32 << 10
	// smallBuffer is what a connection without a readiness wait holds while idle.
	// Heart-beats and short chat messages fit.
	smallBuffer = 512
)

// bufferPool lends buffers of bufferSize.
type bufferPool struct{ pool sync.Pool }

func newBufferPool() *bufferPool {
	return &bufferPool{pool: sync.Pool{New: func() any { return new([bufferSize]byte) }}}
}

func (b *bufferPool) get() *[bufferSize]byte  { return b.pool.Get().(*[bufferSize]byte) } //nolint:errcheck // nothing else is in the pool
func (b *bufferPool) put(p *[bufferSize]byte) { b.pool.Put(p) }

// errStop ends a flow that has nothing more to do.
var errStop = errors.New("flow: done")

// flow carries one direction of a tunnel, from src to dst. One goroutine at a
// time reads src and owns carry: the flow's own, or, for plain TCP on Linux, that of a
// loop and its helpers (loop_linux.go). Whoever writes to dst holds sending.
type flow struct {
	tunnel   *tunnel
	src, dst net.Conn
	// toClient: this is the direction from Whisp to the browser.
	toClient bool

	seen    atomic.Int64 // coarse time of the last bytes from src
	bytes   atomic.Int64 // received from src
	stalled atomic.Int64 // coarse time when the write in progress began; 0: none
	frames  atomic.Int64 // begun by src
	most    atomic.Int64 // frames that src may have begun until the sweep looks again; 0: any number

	sending sync.Mutex // guards dst's write side and what follows
	follow  follower
	// shut: our last byte to dst was sent, the rest of src is dropped.
	shut bool
	// lost: src broke the frame format, no telling where a frame begins.
	lost bool

	// carry holds an incomplete frame header until the rest of it comes.
	carry   [maxHeader - 1]byte
	carried int

	watched
}

// begin starts to carry, on a loop or in a goroutine of its own. early is what
// had already been read from src.
func (f *flow) begin(early []byte) {
	if !f.watch(early) {
		go func() { f.tunnel.flowEnded(f, f.run(early)) }()
	}
}

// run moves bytes until src ends, an error or errStop, holding a small buffer
// while idle. It is for connections that offer no wait without a buffer, TLS
// above all: bytes can sit decrypted inside the connection while its socket has nothing
// to read. A large buffer is borrowed only after the small one was filled, since then more
// is probably waiting.
func (f *flow) run(early []byte) error {
	if err := f.takeEarly(early); err != nil {
		return err
	}
	small := make([]byte, smallBuffer)
	for {
		room := len(small) - f.carried
		n, err := f.src.Read(small[f.carried:])
		if n > 0 {
			if err := f.take(small, n); err != nil {
				return err
			}
		}
		if err == nil && n == room {
			err = f.receiveMore()
		}
		if err != nil {
			return err
		}
	}
}

// takeEarly passes on what had been read before the flow began.
func (f *flow) takeEarly(early []byte) error {
	for len(early) > 0 {
		buf := f.tunnel.proxy.buffers.get()
		n := copy(buf[f.carried:], early)
		early = early[n:]
		err := f.take(buf[:], n)
		f.tunnel.proxy.buffers.put(buf)
		if err != nil {
			return err
		}
	}
	return nil
}

// receiveMore reads into a borrowed buffer for as long as it gets filled.
func (f *flow) receiveMore() error {
	buf := f.tunnel.proxy.buffers.get()
	defer f.tunnel.proxy.buffers.put(buf)
	for {
		room := len(buf) - f.carried
		n, err := f.src.Read(buf[f.carried:])
		if n > 0 {
			if err := f.take(buf[:], n); err != nil {
				return err
			}
		}
		if err != nil || n < room {
			return err
		}
	}
}

// take passes on n bytes that were read into buf[f.carried:].
func (f *flow) take(buf []byte, n int) error {
	copy(buf, f.carry[:f.carried])

	f.sending.Lock()
	rest, err := f.pass(buf[:f.carried+n])
	f.saw(n)
	f.sending.Unlock()

	f.carried = copy(f.carry[:], rest)
	if f.tunnel.closing.Load() != nil {
		f.tryClose() // whoever asked found us sending
	}
	return err
}

// saw counts n bytes from src. The caller holds sending.
func (f *flow) saw(n int) {
	f.seen.Store(f.tunnel.proxy.now.Load())
	f.bytes.Add(int64(n))
	frames := int64(f.follow.frames) //nolint:gosec // never as many
	f.frames.Store(frames)
	if most := f.most.Load(); most > 0 && frames > most {
		f.tunnel.end(endTooFast)
	}
}

// pass writes to dst what of p may go there, and returns an incomplete header
// to be carried. The caller holds sending.
func (f *flow) pass(p []byte) (rest []byte, err error) {
	if f.shut || f.lost {
		return f.drop(p)
	}
	if f.tunnel.closing.Load() != nil {
		// Only the frame in progress may end; then comes our Close frame.
		n := int(min(f.follow.left, uint64(len(p)))) //nolint:gosec // at most len(p)
		_, _ = f.follow.follow(p[:n])
		if err := f.write(p[:n]); err != nil || f.follow.left > 0 {
			return nil, err
		}
		f.sendClose()
		return f.drop(p[n:])
	}
	n, code := f.follow.follow(p)
	if err := f.write(p[:n]); err != nil {
		return nil, err
	}
	if code != 0 {
		f.lost = code == closeProtocol
		f.tunnel.violated(f, code)
		f.sendClose() // here, where dst is at a boundary; src may be dropped from its middle
		return f.drop(p[n:])
	}
	if f.follow.closed && f.follow.between() {
		f.shut = true
		return nil, f.tunnel.passedClose(f)
	}
	return p[n:], nil
}

// drop follows frames without passing them on, to see the Close frame that
// answers ours. The caller holds sending.
func (f *flow) drop(p []byte) (rest []byte, err error) {
	if f.lost {
		return nil, nil
	}
	n, code := f.follow.follow(p)
	switch {
	case code == closeTooBig: // follow has taken the limit off
		return f.drop(p[n:])
	case code != 0:
		f.lost = true
		return nil, nil
	case f.follow.closed && f.follow.between():
		return nil, f.tunnel.answeredClose(f)
	}
	return p[n:], nil
}

// write sends p whole. The caller holds sending. There is no write deadline
// per write: the sweep looks at stalled and cuts the tunnel.
func (f *flow) write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	f.stalled.Store(f.tunnel.proxy.now.Load())
	_, err := f.dst.Write(p)
	f.stalled.Store(0)
	if err != nil {
		return &writeError{err}
	}
	return nil
}

// writeError tells a failure of dst from one of src.
type writeError struct{ error }

func (e *writeError) Unwrap() error { return e.error }

// tryClose puts our Close frame into dst if the tunnel is closing and dst is
// at a frame boundary. If a write is in progress, its flow calls this afterwards.
func (f *flow) tryClose() {
	if f.sending.TryLock() {
		f.sendClose()
		f.sending.Unlock()
	}
}

// sendClose writes the Close frame if it may. The caller holds sending.
func (f *flow) sendClose() {
	why := f.tunnel.closing.Load()
	if why == nil || f.shut || !f.follow.between() {
		return
	}
	f.shut = true
	if f.follow.closed {
		return // one went through already
	}
	code, text := why.toClient, why.text
	if !f.toClient {
		code, text = why.toUpstream, ""
	}
	_ = f.write(closeFrame(!f.toClient, code, text)) // if it fails, the flow meets the same error
}

// halfClose tells dst that nothing more comes.
func (f *flow) halfClose() {
	f.sending.Lock()
	defer f.sending.Unlock()
	f.shut = true
	if conn, ok := f.dst.(interface{ CloseWrite() error }); ok {
		_ = conn.CloseWrite()
	}
}

// ended reports whether err is the orderly end of src.
func ended(err error) bool { return errors.Is(err, io.EOF) }
