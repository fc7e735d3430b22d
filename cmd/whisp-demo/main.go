// Command whisp-demo runs the whole of whisp-bff's world on loopback: an OpenID
// Provider, the Whisp simulator, a small chat app, and the real whisp-bff in
// front of it. Two browser windows can chat; nothing else is needed.
//
//	go build -o bin/ ./cmd/whisp-bff ./cmd/whisp-demo && bin/whisp-demo
//
// It prints where to go, whom one can be and the configuration it runs with
// (stack.go builds the parts, bff.go runs the child process). Ctrl-C stops
// everything; nothing is left behind.
//
// It is a toy in one respect: everybody who reaches its provider can be
// anybody. All listeners are therefore on 127.0.0.1, and there is no flag to
// change that.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	bff     string        // path of the whisp-bff binary
	port    int           // public port, 0 = a free one
	jwtLife time.Duration // life of the simulator's JWTs
	verbose bool          // show whisp-bff's log
	around  string        // directory for secrets; if set, whisp-bff is not run
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run returns the exit code: 0 after Ctrl-C, 1 if something failed, 2 for a
// command line that makes no sense.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	opts, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2
	}
	if err := demo(ctx, opts, stdout, stderr); err != nil {
		fmt.Fprintln(stderr, "whisp-demo:", err)
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (options, error) {
	var opts options
	flags := flag.NewFlagSet("whisp-demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintln(stderr, "whisp-demo runs a chat behind whisp-bff on loopback, with nothing else installed.")
		flags.PrintDefaults()
	}
	flags.StringVar(&opts.bff, "bff", siblingBFF(), "the whisp-bff `binary` to run")
	flags.IntVar(&opts.port, "port", 0, "public `port` on loopback; 0 picks a free one")
	flags.DurationVar(&opts.jwtLife, "jwt-life", 5*time.Minute, "how long the simulator's JWTs live; try 5s")
	flags.BoolVar(&opts.verbose, "verbose", false, "show whisp-bff's log, at level debug")
	flags.StringVar(&opts.around, "around", "", "run everything but whisp-bff: put the client secret and the API key into this `directory`, and print a configuration")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	var problem string
	switch {
	case flags.NArg() > 0:
		problem = fmt.Sprintf("unexpected argument %q; --help lists the flags", flags.Arg(0))
	case opts.port < 0 || opts.port > 65535:
		problem = "--port must be 0..65535"
	case opts.jwtLife < time.Second:
		problem = "--jwt-life must be at least 1s"
	default:
		return opts, nil
	}
	fmt.Fprintln(stderr, "whisp-demo:", problem)
	return options{}, errors.New(problem)
}

// siblingBFF is where `go build -o bin/ ./cmd/...` puts whisp-bff: beside us.
func siblingBFF() string {
	self, err := os.Executable()
	if err != nil {
		return "whisp-bff"
	}
	name := "whisp-bff"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(filepath.Dir(self), name)
}

// demo runs until ctx ends or a part fails.
func demo(ctx context.Context, opts options, stdout, stderr io.Writer) error {
	stack, err := newStack(opts)
	if err != nil {
		return err
	}
	defer stack.close()
	if opts.around != "" {
		return around(ctx, stack, opts.around, stdout)
	}

	child, err := startBFF(ctx, opts.bff, stack.configFile, logWriter(opts, stderr))
	if err != nil {
		return err
	}
	defer func() { _ = child.stop() }() // an error that matters is returned below
	if err := child.ready(ctx, stack.adminURL+"/readyz"); err != nil {
		if ctx.Err() != nil { // Ctrl-C while starting
			return nil
		}
		return err
	}
	newTerminal(stdout).welcome(stack, opts)

	select {
	case <-ctx.Done():
	case err := <-stack.failed:
		return err
	case <-child.exited:
		if ctx.Err() == nil {
			return child.died()
		}
	}
	fmt.Fprintln(stdout, "\nStopping …")
	return child.stop()
}

func logWriter(opts options, stderr io.Writer) io.Writer {
	if opts.verbose {
		return stderr
	}
	return io.Discard
}
