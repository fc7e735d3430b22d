//go:build linux

// Command bench prints how fast and how small whisp-bff is, beside a real nginx
// that does the same work in the same run:
//
//	make bench
//	go run -tags nomsgpack ./bench [-short] [-bff bin/whisp-bff] [-only http,start,sockets,tls,soak] [-soak 10m]
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
//	       ├─ bench bare            net/http alone, as a yardstick (bare.go)
//	       └─ nginx                 the upstream's TLS, for the part that needs it (tls.go)
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
	"slices"
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
	binaries list
	only     list
	short    bool
	profiles string
	soak     time.Duration // the soak alone, so long; 0: everything
}

// list is a flag that may be given again, or as a comma separated list.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(value string) error {
	*l = append(*l, strings.Split(value, ",")...)
	return nil
}

// plan says how much is measured.
type plan struct {
	rounds      int           // of each comparison
	echoRounds  int           // of the echoes, where smaller differences matter
	round       time.Duration // one server's turn in a round, about
	starts      int           // of whisp-bff
	idleSockets int
	echoSockets int
	warmSoak    time.Duration // churn before the soak's first look at memory
	soak        time.Duration // churn
	limit       time.Duration // of everything, for one whisp-bff
}

func (o options) plan() plan {
	p := plan{
		rounds: 5, echoRounds: 9, round: 1200 * time.Millisecond, starts: 11, idleSockets: 3000, echoSockets: 50,
		warmSoak: 4 * time.Second, soak: 24 * time.Second, limit: 8 * time.Minute,
	}
	if o.short {
		p = plan{
			rounds: 3, echoRounds: 3, round: 500 * time.Millisecond, starts: 5, idleSockets: 1000, echoSockets: 50,
			warmSoak: 2 * time.Second, soak: 6 * time.Second, limit: 4 * time.Minute,
		}
	}
	if o.soak > 0 {
		p.soak = o.soak
		p.limit += o.soak
	}
	p.limit *= time.Duration(len(o.binaries))
	return p
}

// part of a run: a table or several.
type part struct {
	name    string
	measure func(context.Context, *lab, plan, *report) error
}

// parts of a run, in order.
var parts = []part{
	{"start", measureStart},
	{"http", measureHTTP},
	{"sockets", measureSockets},
	{"tls", measureTLS},
	{"soak", measureSoak},
}

// parse reads the arguments.
func parse(args []string) (options, error) {
	var opts options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.BoolVar(&opts.short, "short", false, "about 90 s instead of 4 minutes; fewer rounds, 1,000 idle sockets instead of 3,000")
	flags.Var(&opts.binaries, "bff", "the whisp-bff `binary` to measure; again, or comma separated, for several that take turns (default bin/whisp-bff)")
	flags.Var(&opts.only, "only", "which `parts` to run: start, http, sockets, tls, soak; comma separated (default all)")
	flags.DurationVar(&opts.soak, "soak", 0, "the soak alone, for so long, such as 10m")
	flags.StringVar(&opts.profiles, "profiles", "", "instead of measuring, write CPU profiles of whisp-bff under load to this `directory`")
	if err := flags.Parse(args); err != nil {
		return opts, err
	}
	if flags.NArg() > 0 {
		return opts, fmt.Errorf("%q is no option", flags.Arg(0))
	}
	if len(opts.binaries) == 0 {
		opts.binaries = list{"bin/whisp-bff"}
	}
	known := func(name string) bool {
		return slices.ContainsFunc(parts, func(p part) bool { return p.name == name })
	}
	for _, name := range opts.only {
		if !known(name) {
			return opts, fmt.Errorf("-only %s: there is no such part", name)
		}
	}
	switch {
	case opts.soak < 0:
		return opts, errors.New("-soak: a time above 0")
	case opts.soak > 0 && len(opts.only) > 0:
		return opts, errors.New("-soak runs the soak alone: no -only")
	case opts.soak > 0:
		opts.only = list{"soak"}
	}
	return opts, nil
}

func run(ctx context.Context, args []string) error {
	opts, err := parse(args)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, opts.plan().limit)
	defer cancel()

	l, err := newLab(ctx, binariesOf(opts.binaries))
	if err != nil {
		return err
	}
	defer l.close()
	if opts.profiles != "" {
		return writeProfiles(ctx, l, opts.profiles)
	}
	out := &report{to: os.Stdout}
	out.title(l, opts)
	for _, part := range parts {
		if len(opts.only) > 0 && !slices.Contains(opts.only, part.name) {
			continue
		}
		if err := part.measure(ctx, l, opts.plan(), out); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	out.verdict()
	return nil
}
