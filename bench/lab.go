//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
)

// lab is what all measurements share: the clients, the upstream, the yardstick
// and a directory for files.
type lab struct {
	binaries []candidate
	nginx    string // path
	dir      string
	upstream netip.AddrPort
	bare     *process

	helpers  []*helper
	orders   *json.Encoder
	outcomes *json.Decoder
	stops    []func()
	tls      *tlsEnd // once somebody asked for it
}

// candidate is a whisp-bff to measure. Several take turns, so that they can be
// compared with each other.
type candidate struct{ name, path string }

// binariesOf names the binaries at paths.
func binariesOf(paths []string) []candidate {
	binaries := make([]candidate, len(paths))
	for i, path := range paths {
		binaries[i] = candidate{name: "whisp-bff", path: path}
		if len(paths) > 1 {
			binaries[i].name += " " + string(rune('A'+i))
		}
	}
	return binaries
}

func newLab(ctx context.Context, binaries []candidate) (*lab, error) {
	l := &lab{binaries: binaries}
	if err := l.build(ctx); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *lab) build(ctx context.Context) error {
	var err error
	for _, b := range l.binaries {
		if _, err := os.Stat(b.path); err != nil {
			return fmt.Errorf("%w: build it with `make build`, or say -bff PATH", err)
		}
	}
	if l.nginx, err = findNginx(); err != nil {
		return err
	}
	if l.dir, err = os.MkdirTemp("", "whisp-bench-"); err != nil {
		return err
	}
	upstream, err := startHelper(ctx, roleUpstream, "")
	if err != nil {
		return err
	}
	l.helpers = append(l.helpers, upstream)
	if l.upstream, err = upstream.listening(); err != nil {
		return err
	}
	bare, err := startHelper(ctx, roleBare, l.upstream.String()+"\n")
	if err != nil {
		return err
	}
	l.helpers = append(l.helpers, bare)
	address, err := bare.listening()
	if err != nil {
		return err
	}
	l.bare = &process{name: "net/http alone", address: address, cmd: bare.cmd}
	load, err := startHelper(ctx, roleLoad, "")
	if err != nil {
		return err
	}
	l.helpers = append(l.helpers, load)
	l.orders, l.outcomes = json.NewEncoder(load.stdin), json.NewDecoder(load.stdout)
	return nil
}

// close stops everything, the last started first, and removes the files.
func (l *lab) close() {
	for i := len(l.stops) - 1; i >= 0; i-- {
		l.stops[i]()
	}
	for _, h := range l.helpers {
		_ = h.stop() // killed ones report that they were
	}
	if l.dir != "" {
		_ = os.RemoveAll(l.dir)
	}
}

// do has the clients follow an order.
func (l *lab) do(o order) (outcome, error) {
	var result outcome
	if err := l.orders.Encode(o); err != nil {
		return result, fmt.Errorf("clients: %w", err)
	}
	if err := l.outcomes.Decode(&result); err != nil {
		return result, fmt.Errorf("clients: %w", err)
	}
	if result.Error != "" {
		return result, fmt.Errorf("clients: %s", result.Error)
	}
	return result, nil
}

// subdirectory makes a directory that nginx's worker can use, whoever it is.
func (l *lab) subdirectory(pattern string) (string, error) {
	return os.MkdirTemp(l.dir, pattern)
}

func findNginx() (string, error) {
	for _, name := range []string{"nginx", "/usr/sbin/nginx"} { // Debian keeps it out of users' PATH
		if path, err := exec.LookPath(name); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", errors.New("no nginx: ./scripts/setup-tests --bench installs it")
}

// freePort returns a loopback address nobody listens on now.
func freePort() (netip.AddrPort, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer func() { _ = listener.Close() }()
	return netip.ParseAddrPort(listener.Addr().String())
}
