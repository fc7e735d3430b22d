//go:build !linux

// Command bench needs Linux: it reads /proc and waits with epoll.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: runs on Linux only (it reads /proc, and its clients use epoll)")
	os.Exit(1)
}
