//go:build !linux

package sockproxy

import (
	"net"
	"time"
)

// setUserTimeout is known on Linux only; elsewhere a vanished peer is noticed
// by keep-alive or by idle_timeout.
func setUserTimeout(*net.TCPConn, time.Duration) {}
