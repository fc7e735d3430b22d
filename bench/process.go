//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a server that is measured.
type process struct {
	name    string
	address netip.AddrPort // of its public listener
	cmd     *exec.Cmd
	exited  chan struct{} // closed once it is gone and err is set
	err     error
	log     string // path of what it wrote to standard error
}

const stopWithin = 5 * time.Second

// start runs a program whose standard error goes to the file log. It gets a
// process group of its own, so that Ctrl-C reaches only us and everything is
// stopped in order.
func start(name string, address netip.AddrPort, log string, program ...string) (*process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644) //nolint:gosec // nothing secret, and nginx's worker may be another user
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	p := &process{name: name, address: address, exited: make(chan struct{}), log: log}
	p.cmd = exec.Command(program[0], program[1:]...) //nolint:noctx // stop ends it, in order
	p.cmd.Stdout, p.cmd.Stderr = file, file
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// stop ends the process, politely at first. It may be called again.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(stopWithin):
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.exited
	}
}

// until calls ready every interval until it is true. It gives up when the process
// ends, or after ten seconds.
func (p *process) until(ctx context.Context, interval time.Duration, ready func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for !ready() {
		select {
		case <-p.exited:
			return fmt.Errorf("%s ended by itself (%w); it said\n%s", p.name, p.err, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s did not get ready: %w; it said\n%s", p.name, ctx.Err(), p.tail())
		case <-time.After(interval):
		}
	}
	return nil
}

func (p *process) tail() []byte {
	said, _ := os.ReadFile(p.log)
	return bytes.TrimSpace(said[max(0, len(said)-2000):])
}

// pids are the process and its children: nginx's worker is one.
func (p *process) pids() []int {
	own := p.cmd.Process.Pid
	pids := []int{own}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		stat, _ := os.ReadFile(path)
		// "pid (name) state ppid …", and a name may contain anything
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) > 1 && string(fields[1]) == strconv.Itoa(own) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// cpu is the processor time used so far, user and system, from
// /proc/PID/task/*/schedstat: the kernel's own nanoseconds, where /proc/PID/stat
// counts in hundredths of a second.
func (p *process) cpu() time.Duration {
	var sum time.Duration
	for _, pid := range p.pids() {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		for _, path := range threads {
			stat, _ := os.ReadFile(path)
			ran, _, _ := strings.Cut(string(stat), " ")
			nanoseconds, _ := strconv.ParseInt(ran, 10, 64)
			sum += time.Duration(nanoseconds)
		}
	}
	return sum
}

// rss is the resident memory in bytes: the process's and its children's.
func (p *process) rss() int64 {
	var sum int64
	for _, pid := range p.pids() {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		for line := range strings.Lines(string(status)) {
			if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
				kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
				sum += kib << 10
			}
		}
	}
	return sum
}

// helper is another process of this program.
type helper struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.Reader
}

// startHelper runs this program in a role; input is the first that it reads. It
// ends with ctx, or when its standard input does.
func startHelper(ctx context.Context, role, input string) (*helper, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	h := &helper{cmd: exec.CommandContext(ctx, self, role)}
	h.cmd.Stderr = os.Stderr
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if h.stdin, err = h.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if h.stdout, err = h.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := h.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	if _, err := io.WriteString(h.stdin, input); err != nil {
		return nil, errors.Join(err, h.stop())
	}
	return h, nil
}

// listening reads the address a helper listens on.
func (h *helper) listening() (netip.AddrPort, error) {
	var address string
	if _, err := fmt.Fscanln(h.stdout, &address); err != nil {
		return netip.AddrPort{}, fmt.Errorf("helper did not start: %w", err)
	}
	return netip.ParseAddrPort(address)
}

func (h *helper) stop() error {
	_ = h.stdin.Close()
	return h.cmd.Wait()
}
