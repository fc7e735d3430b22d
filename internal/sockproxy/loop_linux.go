package sockproxy

import (
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
)

// loops watch the plain TCP sources of flows, so that an idle tunnel has neither
// a goroutine nor a buffer. The flows of a tunnel share a loop.
//
// There is one loop for every two processors. A loop keeps a processor busy for as
// long as messages come, and what they come by and go to — the kernel, the rest
// of whisp-bff, a sidecar's neighbours — needs the other. On two processors one
// loop carries 25 % more messages than two, at half their p99 (bench: echoes).
type loops struct {
	all  []*loop
	next atomic.Uint32
}

// loop is an epoll instance (edge-triggered) and the goroutine that serves it,
// which exists while there are flows. The goroutine waits for the epoll
// descriptor through the runtime's own poller, like for any file, and so blocks
// no thread.
//
// It never waits for anything else. What could wait — a full dst, a taken lock,
// TLS, the end of a tunnel — goes to a goroutine of its own ([flow.work]) until
// the flow is idle again:
//
//	idle ──event──▶ busy ──nothing to read──▶ idle
//	                busy ──event──▶ again ──nothing to read──▶ busy
//	idle, busy, again ──source ended, or cut──▶ done
//
// Whoever moved a flow from idle to busy owns it: loop or goroutine.
type loop struct {
	buffers *bufferPool

	mu    sync.Mutex
	file  *os.File // nil while there is no flow
	epoll int
	flows map[int32]*flow // by descriptor of src
}

// loopRun is what the goroutine of a loop works with. A loop that ended and
// began again has another one.
type loopRun struct {
	*loop
	buf    *[bufferSize]byte
	events [128]syscall.EpollEvent
	ready  []*flow // of one batch of events
	unread []*flow // had more to read than one turn takes
}

// States of a watched flow.
const (
	flowIdle uint32 = iota
	flowBusy
	flowAgain // busy, and there was another event
	flowDone
)

// turn is how many buffers of one flow are passed on before others have theirs.
const turn = 4

const (
	pollIn  = syscall.EPOLLIN | syscall.EPOLLRDHUP | (1 << 31) // EPOLLET, which package syscall has as a negative number
	pollEnd = syscall.EPOLLRDHUP | syscall.EPOLLHUP | syscall.EPOLLERR
)

// watched is what a flow is to its loop.
type watched struct {
	loop  *loop
	state atomic.Uint32
	srcFD int32
	dstFD int32 // -1: not plain TCP, writing may wait
	ended bool  // the last event said that src ended: read up to there
}

func newLoops(buffers *bufferPool) *loops {
	l := &loops{}
	for range max(1, runtime.GOMAXPROCS(0)/2) {
		l.all = append(l.all, &loop{buffers: buffers, flows: map[int32]*flow{}})
	}
	return l
}

// pick chooses the loop of a tunnel.
func (l *loops) pick() *loop { return l.all[int(l.next.Add(1))%len(l.all)] }

// prepare makes f one to be watched if its source is plain TCP. Both flows of a
// tunnel are prepared before either begins, since one may end the other.
func (l *loop) prepare(f *flow) {
	src, ok := descriptor(f.src)
	if !ok {
		return
	}
	f.srcFD, f.dstFD, f.loop = src, -1, l
	if dst, ok := descriptor(f.dst); ok {
		f.dstFD = dst
	}
	f.state.Store(flowBusy)
}

// watch begins to carry a prepared flow; false: it needs a goroutine, which the
// loop will leave alone. early is what had been read from src already.
func (f *flow) watch(early []byte) bool {
	if f.loop == nil {
		return false
	}
	if err := f.loop.add(f); err != nil {
		f.tunnel.proxy.log.Warn("realtime: socket not watched, it gets a goroutine", "error", err)
		return false
	}
	go f.workEarly(early)
	return true
}

// descriptor returns a TCP connection's. It is valid until the connection is
// closed, which happens after both flows are done. A wrapper of a connection has
// none: it may do things in its Read.
func descriptor(conn net.Conn) (fd int32, ok bool) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return 0, false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0, false
	}
	err = raw.Control(func(d uintptr) { fd = int32(d) }) //nolint:gosec // descriptors are small
	return fd, err == nil
}

// add registers f, and starts the loop if f is the first.
func (l *loop) add(f *flow) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		if err := l.begin(); err != nil {
			return err
		}
	}
	event := syscall.EpollEvent{Events: pollIn, Fd: f.srcFD}
	if err := syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_ADD, int(f.srcFD), &event); err != nil {
		return os.NewSyscallError("epoll_ctl", err) // a loop without flows waits for the next
	}
	l.flows[f.srcFD] = f
	return nil
}

// begin makes the epoll instance and its goroutine. The caller holds mu.
func (l *loop) begin() error {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // makes os.NewFile use the runtime's poller
		_ = syscall.Close(fd)
		return os.NewSyscallError("fcntl", err)
	}
	file := os.NewFile(uintptr(fd), "epoll")
	raw, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return err
	}
	l.epoll, l.file = fd, file
	go l.run(raw)
	return nil
}

// remove forgets f, and ends the loop after the last.
func (l *loop) remove(f *flow) {
	var last *os.File
	l.mu.Lock()
	if l.flows[f.srcFD] == f {
		delete(l.flows, f.srcFD)
		_ = syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_DEL, int(f.srcFD), nil)
		if len(l.flows) == 0 {
			last, l.file = l.file, nil
		}
	}
	l.mu.Unlock()
	if last != nil {
		_ = last.Close() // waits for the loop to look up, which may want the lock
	}
}

// run serves events until the file is closed.
func (l *loop) run(raw syscall.RawConn) {
	state := &loopRun{loop: l, buf: l.buffers.get()}
	defer func() { l.buffers.put(state.buf) }()
	_ = raw.Read(func(epoll uintptr) bool {
		state.serve(int(epoll))
		return false
	})
}

// serve handles events until there are none.
func (l *loopRun) serve(epoll int) {
	for {
		n, err := syscall.EpollWait(epoll, l.events[:], 0)
		if err == syscall.EINTR {
			continue
		}
		if n <= 0 && len(l.unread) == 0 {
			return
		}
		unread := l.unread
		l.unread, l.ready = nil, l.ready[:0]
		l.wake(max(n, 0))
		for _, f := range l.ready {
			l.carry(f)
		}
		clear(l.ready) // keep no ended tunnel in memory
		for _, f := range unread {
			l.carry(f)
		}
	}
}

// wake makes the idle flows among those with events busy. An event for a
// descriptor that meanwhile is another flow's does no harm.
func (l *loopRun) wake(events int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, event := range l.events[:events] {
		switch f := l.flows[event.Fd]; {
		case f == nil:
		case f.awake():
			f.ended = event.Events&pollEnd != 0
			l.ready = append(l.ready, f)
		case event.Events&syscall.EPOLLERR != 0 && !f.toClient:
			// Busy, probably with a Whisp that takes nothing, and so would not read that
			// the browser is gone. What Whisp sent last is different: it may still arrive.
			go f.tunnel.clientReset()
		}
	}
}

// clientReset ends a tunnel whose client's connection is broken.
func (t *tunnel) clientReset() {
	err := error(syscall.ECONNRESET)
	if tcp, ok := t.client.(*net.TCPConn); ok {
		if raw, failed := tcp.SyscallConn(); failed == nil {
			_ = raw.Control(func(fd uintptr) {
				if code, failed := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR); failed == nil && code != 0 {
					err = syscall.Errno(code)
				}
			})
		}
	}
	t.note(lostBecause(true, err))
	t.cut()
}

// unwatch takes a flow that is done from its loop.
func (f *flow) unwatch() {
	if f.loop != nil {
		f.loop.remove(f)
	}
}

// awake notes an event; true: the caller owns the flow now.
func (f *flow) awake() bool {
	for {
		switch f.state.Load() {
		case flowIdle:
			if f.state.CompareAndSwap(flowIdle, flowBusy) {
				return true
			}
		case flowBusy:
			if f.state.CompareAndSwap(flowBusy, flowAgain) {
				return false
			}
		default:
			return false
		}
	}
}

// park gives up a busy flow that has nothing to read; false: there was an
// event meanwhile, read again.
func (f *flow) park() bool {
	if !f.state.CompareAndSwap(flowBusy, flowIdle) {
		if f.state.CompareAndSwap(flowAgain, flowBusy) {
			f.ended = true // perhaps: read to the end to be sure
			return false
		}
		return true // done
	}
	if f.tunnel.cutting.Load() {
		f.abandon()
	}
	return true
}

// abandon ends an idle flow. A busy one comes by itself: its writes are
// interrupted and park looks for the cut.
func (f *flow) abandon() {
	if f.loop != nil && f.state.CompareAndSwap(flowIdle, flowDone) {
		go f.tunnel.flowEnded(f, errStop)
	}
}
