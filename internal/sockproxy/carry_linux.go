package sockproxy

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// carry passes on what a busy flow has to read, as long as that needs no waiting.
func (l *loopRun) carry(f *flow) {
	for range turn {
		if f.dstFD < 0 {
			go f.work(nil, 0, nil)
			return
		}
		if f.tunnel.cutting.Load() {
			f.state.Store(flowDone)
			go f.tunnel.flowEnded(f, errStop)
			return
		}
		room := len(l.buf) - f.carried
		n, err := syscall.Read(int(f.srcFD), l.buf[f.carried:])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			if f.park() {
				return
			}
			continue
		case err != nil || n == 0:
			f.state.Store(flowDone)
			go f.tunnel.flowEnded(f, readError(err))
			return
		}
		unsent, done := f.forward(l.buf[:], n)
		if !done {
			go f.work(l.buf, n, unsent)
			l.buf = l.buffers.get()
			return
		}
		// A read that was not filled emptied the socket (epoll(7), question 9),
		// unless an end, which has no bytes, came together with the bytes.
		if n < room && !f.ended && f.park() {
			return
		}
	}
	l.unread = append(l.unread, f)
}

// forward is take for the ordinary case, without waiting. If not done, either
// nothing happened yet and take must do it all; or unsent remains to be
// written, and the caller has the flow's sending.
func (f *flow) forward(buf []byte, n int) (unsent []byte, done bool) {
	if !f.sending.TryLock() {
		return nil, false
	}
	if f.shut || f.lost || f.tunnel.closing.Load() != nil {
		f.sending.Unlock()
		return nil, false
	}
	copy(buf, f.carry[:f.carried])
	p := buf[:f.carried+n]
	follow := f.follow
	pass, code := follow.follow(p)
	if code != 0 || follow.closed {
		f.sending.Unlock()
		return nil, false
	}
	sent, err := writeSome(int(f.dstFD), p[:pass])
	if err != nil {
		f.tunnel.note(lostBecause(f.toClient, err)) // told once: take meets a broken pipe
		f.sending.Unlock()
		return nil, false
	}
	f.follow = follow
	f.carried = copy(f.carry[:], p[pass:])
	f.saw(n)
	if sent < pass {
		return p[sent:pass], false
	}
	f.sending.Unlock()
	if f.tunnel.closing.Load() != nil {
		go f.tryClose()
	}
	return nil, true
}

// writeSome writes what fits now.
func writeSome(fd int, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		n, err := syscall.Write(fd, p)
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, syscall.EAGAIN):
			return 0, nil
		case !errors.Is(err, syscall.EINTR):
			return 0, err
		}
	}
}

// workEarly begins a flow with what had already been read from its source.
func (f *flow) workEarly(early []byte) {
	if err := f.takeEarly(early); err != nil {
		f.state.Store(flowDone)
		f.tunnel.flowEnded(f, err)
		return
	}
	f.work(nil, 0, nil)
}

// work carries a busy flow, waiting where it must, until it is idle or done.
// It begins with what forward left: n bytes in buf to take, or unsent in buf, with sending held.
func (f *flow) work(buf *[bufferSize]byte, n int, unsent []byte) {
	if buf == nil {
		buf = f.loop.buffers.get()
	}
	defer f.loop.buffers.put(buf)
	var err error
	switch {
	case unsent != nil:
		err = f.write(unsent)
		f.sending.Unlock()
		if f.tunnel.closing.Load() != nil {
			f.tryClose()
		}
	case n > 0:
		err = f.take(buf[:], n)
	}
	for err == nil {
		n, err = syscall.Read(int(f.srcFD), buf[f.carried:])
		switch {
		case errors.Is(err, syscall.EINTR):
			err = nil
		case errors.Is(err, syscall.EAGAIN):
			if f.park() {
				return
			}
			err = nil
		case err != nil || n == 0:
			err = readError(err)
		case f.tunnel.cutting.Load():
			err = errStop
		default:
			err = f.take(buf[:], n)
		}
	}
	f.state.Store(flowDone)
	f.tunnel.flowEnded(f, err)
}

// readError is what reading nothing means.
func readError(err error) error {
	if err == nil {
		return io.EOF
	}
	return os.NewSyscallError("read", err)
}
