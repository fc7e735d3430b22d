//go:build linux

package main

import (
	"os"
	"strings"
)

// kernel is the kernel's version.
func kernel() string {
	text, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	release, _, _ := strings.Cut(strings.TrimSpace(string(text)), "-")
	return "Linux " + release
}

// load is the load average of the last minute. Above 1 before anything started,
// others are using the machine.
func load() string {
	text, _ := os.ReadFile("/proc/loadavg")
	minute, _, _ := strings.Cut(string(text), " ")
	return minute
}
