//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what merely must happen, before it
// gives up: long, since the machine may be busy with other things.
const patience = 90 * time.Second

// process is a child process that ends with the test.
type process struct {
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	lines  chan string // standard output
	log    *logbook    // standard error
	exited chan struct{}
	err    error // what Wait returned, once exited is closed
	script bool  // ends with its standard input, and not by a signal
}

// startScript runs one of our node scripts.
func startScript(t testing.TB, script string, args ...string) *process {
	t.Helper()
	p := start(t, script, tools.node, append([]string{script}, args...)...)
	p.script = true
	return p
}

// start runs a program until the test ends or [process.stop].
func start(t testing.TB, name string, program string, args ...string) *process {
	t.Helper()
	return startCommand(t, name, exec.Command(program, args...))
}

func startCommand(t testing.TB, name string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{name: name, cmd: cmd, log: &logbook{}, lines: make(chan string, 1024), exited: make(chan struct{})}
	p.cmd.Stderr = p.log
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin = stdin
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		in := bufio.NewReader(stdout)
		for {
			line, err := in.ReadString('\n')
			if line != "" {
				p.lines <- strings.TrimSuffix(line, "\n")
			}
			if err != nil {
				break
			}
		}
		close(p.lines)
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.stop(t)
		if t.Failed() {
			t.Logf("the end of what %s logged:\n%s", name, p.log.tail(6000))
		}
	})
	return p
}

// stop asks the process to end and fails the test if it does not, or not with
// status 0.
func (p *process) stop(t testing.TB) {
	t.Helper()
	select {
	case <-p.exited:
		return
	default:
	}
	_ = p.stdin.Close()
	if !p.script {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	}
	deadline := time.After(patience)
	for {
		select {
		case _, open := <-p.lines: // nobody reads them any more
			if !open {
				p.lines = nil
			}
		case <-p.exited:
			if status, ok := errors.AsType[*exec.ExitError](p.err); ok && status.ExitCode() != 0 {
				t.Errorf("%s ended with %v:\n%s", p.name, p.err, p.log.tail(6000))
			}
			return
		case <-deadline:
			_ = p.cmd.Process.Kill()
			t.Errorf("%s did not stop within %s", p.name, patience)
			<-p.exited
			return
		}
	}
}

// line waits for the next line of output and decodes it.
func (p *process) line(t testing.TB, into any) {
	t.Helper()
	select {
	case line, open := <-p.lines:
		if !open {
			t.Fatalf("%s ended: %v\n%s", p.name, p.err, p.log.tail(6000))
		}
		if err := json.Unmarshal([]byte(line), into); err != nil {
			t.Fatalf("%s printed %q: %v", p.name, line, err)
		}
	case <-time.After(patience):
		t.Fatalf("%s printed nothing for %s\n%s", p.name, patience, p.log.tail(6000))
	}
}

// logbook keeps all that is written to it.
type logbook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logbook) tail(n int) string {
	text := l.String()
	return text[max(0, len(text)-n):]
}

// eventually polls until ok says so: for things that can be looked at only.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(10 * time.Millisecond) // the interval of the poll, nothing is timed by it
	}
}
