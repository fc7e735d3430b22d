package store_test

import (
	"os/exec"
	"syscall"
)

// endWithParent has the kernel kill the server when the test binary dies
// without cleaning up (a timeout, a panic, kill -9).
func endWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
