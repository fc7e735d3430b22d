package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

const (
	readyWithin = 20 * time.Second
	readyEvery  = 25 * time.Millisecond
	stopWithin  = 15 * time.Second
	tailSize    = 4 << 10 // bytes of log shown when whisp-bff dies
)

// bff is the running whisp-bff process.
type bff struct {
	cancel context.CancelFunc // sends SIGTERM, and stopWithin later SIGKILL
	exited chan struct{}      // closed once the process is gone and err is set
	err    error              // what Wait returned
	tail   *tail
}

// startBFF runs `binary serve --config configFile` until ctx ends or stop. Its
// log (standard error) goes to log; the end of it is kept for [bff.died]. The
// caller calls stop.
func startBFF(ctx context.Context, binary, configFile string, log io.Writer) (*bff, error) {
	if _, err := exec.LookPath(binary); err != nil {
		return nil, fmt.Errorf("whisp-bff is not at %s: build it with `make build`, or say --bff PATH", binary)
	}
	ctx, cancel := context.WithCancel(ctx)
	b := &bff{cancel: cancel, exited: make(chan struct{}), tail: &tail{}}
	cmd := exec.CommandContext(ctx, binary, "serve", "--config", configFile)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopWithin
	cmd.Stdout, cmd.Stderr = log, io.MultiWriter(log, b.tail)
	ownGroup(cmd)
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("start whisp-bff: %w", err)
	}
	go func() {
		b.err = cmd.Wait()
		close(b.exited)
	}()
	return b, nil
}

// ready waits until url answers 200.
func (b *bff) ready(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	client := &http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	for !answersOK(ctx, client, url) {
		select {
		case <-b.exited:
			return b.died()
		case <-ctx.Done():
			return fmt.Errorf("whisp-bff did not get ready within %s; its log ends with\n%s", readyWithin, b.tail)
		case <-tick.C:
		}
	}
	return nil
}

func answersOK(ctx context.Context, client *http.Client, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// died says that whisp-bff ended by itself. Call it after exited is closed.
func (b *bff) died() error {
	how := "exit status 0"
	if b.err != nil {
		how = b.err.Error()
	}
	return fmt.Errorf("whisp-bff ended by itself (%s); its log ends with\n%s", how, b.tail)
}

// stop asks whisp-bff to stop and waits; after stopWithin it is killed, which
// is an error. It may be called more than once.
func (b *bff) stop() error {
	b.cancel()
	<-b.exited
	if b.err != nil && !errors.Is(b.err, context.Canceled) { // Canceled: it exited with status 0, as asked
		return fmt.Errorf("whisp-bff did not stop cleanly: %w; its log ends with\n%s", b.err, b.tail)
	}
	return nil
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	end []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = append(t.end, p...)
	if extra := len(t.end) - tailSize; extra > 0 {
		t.end = append([]byte(nil), t.end[extra:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.end))
}
