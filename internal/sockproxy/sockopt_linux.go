package sockproxy

import (
	"net"
	"syscall"
	"time"
)

// tcpUserTimeout is TCP_USER_TIMEOUT (RFC 5482, tcp(7)); package syscall lacks it.
const tcpUserTimeout = 0x12

// setUserTimeout ends a connection whose peer acknowledges nothing for that
// long: a client that vanished without FIN while we send to it. Without it the
// kernel retransmits for a quarter of an hour.
func setUserTimeout(conn *net.TCPConn, after time.Duration) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(after.Milliseconds()))
	})
}
