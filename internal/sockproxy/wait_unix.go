//go:build unix

package sockproxy

import (
	"io"
	"net"
	"os"
	"syscall"
)

// receive reads src until it ends. On plain TCP nothing is held while there is
// nothing to read: the runtime's poller waits, and only then a buffer is borrowed.
//
// The write to dst happens inside the poller's callback, so src must not be
// closed from here: net.Conn.Close waits for the callback to end. [tunnel.cut]
// therefore interrupts with deadlines, and closing comes after both flows.
func (f *flow) receive() error {
	conn, ok := f.src.(*net.TCPConn) // exactly: a wrapper may do things in its Read
	if !ok {
		return f.receiveHolding()
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var end error
	err = raw.Read(func(fd uintptr) bool {
		end = f.receiveReady(int(fd))
		return end != nil
	})
	if end != nil {
		return end
	}
	return err
}

// receiveReady reads and passes on until there is nothing to read (nil).
func (f *flow) receiveReady(fd int) error {
	buf := f.tunnel.proxy.buffers.get()
	defer f.tunnel.proxy.buffers.put(buf)
	for {
		n, err := syscall.Read(fd, buf[f.carried:])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return nil
		case err != nil:
			return os.NewSyscallError("read", err)
		case n == 0:
			return io.EOF
		}
		if err := f.take(buf[:], n); err != nil {
			return err
		}
	}
}
