//go:build linux

// Command bench prints how fast and how small whisp-bff is, beside a real nginx
// that does the same work in the same run:
//
//	make bench
//	go run -tags nomsgpack ./bench [-short] [-bff bin/whisp-bff] [-only http,start,sockets]
//
// nginx and whisp-bff take turns (A B A B …) and the figure to look at is their
// ratio within one round: a noisy machine slows both. Figures are never
// a test: the exit status is 0 whatever they are, and not 0 only if something
// could not be measured. README.md says what each figure means.
//
// One binary is every process of a run but the two that are measured:
//
//	bench ─┬─ nginx, whisp-bff      measured
//	       ├─ bench upstream        the app, and Whisp's sockets  (upstream.go)
//	       ├─ bench load            the clients                   (load*.go)
//	       └─ bench bare            net/http alone, as a yardstick (bare.go)
//
// while the bench process itself only provides logins (an OpenID Provider and
// the Whisp simulator) and is idle during a round. Everything listens on
// 127.0.0.1 on free ports and is gone at the end, Ctrl-C included.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) == 2 {
		switch os.Args[1] {
		case roleLoad:
			exit(serveLoad(os.Stdin, os.Stdout))
		case roleUpstream:
			exit(serveUpstream(os.Stdin, os.Stdout))
		case roleBare:
			exit(serveBare(os.Stdin, os.Stdout))
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends it the hard way
	err := run(ctx, os.Args[1:])
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	stop()
	exit(err)
}

func exit(err error) {
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// options of a run.
type options struct {
	binary   string
	only     string
	short    bool
	profiles string
}

// plan says how much is measured.
type plan struct {
	rounds      int           // of each comparison
	round       time.Duration // one server's turn in a round, about
	starts      int           // of whisp-bff
	idleSockets int
	echoSockets int
	limit       time.Duration // of everything
}

func (o options) plan() plan {
	if o.short {
		return plan{rounds: 3, round: 500 * time.Millisecond, starts: 5, idleSockets: 1000, echoSockets: 50, limit: 2 * time.Minute}
	}
	return plan{rounds: 5, round: 1200 * time.Millisecond, starts: 11, idleSockets: 3000, echoSockets: 50, limit: 5 * time.Minute}
}

func run(ctx context.Context, args []string) error {
	var opts options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.BoolVar(&opts.short, "short", false, "about 40 s instead of 2 minutes; fewer rounds, 1,000 idle sockets instead of 3,000")
	flags.StringVar(&opts.binary, "bff", "bin/whisp-bff", "the whisp-bff `binary` to measure, as make build makes it")
	flags.StringVar(&opts.only, "only", "start,http,sockets", "which `parts` to run, comma separated")
	flags.StringVar(&opts.profiles, "profiles", "", "instead of measuring, write CPU profiles of whisp-bff under load to this `directory`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, opts.plan().limit)
	defer cancel()

	l, err := newLab(ctx, opts.binary)
	if err != nil {
		return err
	}
	defer l.close()
	if opts.profiles != "" {
		return writeProfiles(ctx, l, opts.profiles)
	}
	out := &report{to: os.Stdout}
	out.title(l, opts)
	for _, part := range []struct {
		name    string
		measure func(context.Context, *lab, plan, *report) error
	}{
		{"start", measureStart},
		{"http", measureHTTP},
		{"sockets", measureSockets},
	} {
		if !strings.Contains(","+opts.only+",", ","+part.name+",") {
			continue
		}
		if err := part.measure(ctx, l, opts.plan(), out); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	out.verdict()
	return nil
}
