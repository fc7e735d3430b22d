package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// terminal prints for people; in colour only if it is one and NO_COLOR is unset.
type terminal struct {
	out    io.Writer
	colour bool
}

func newTerminal(out io.Writer) terminal {
	file, ok := out.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return terminal{out: out}
	}
	info, err := file.Stat()
	return terminal{out: out, colour: err == nil && info.Mode()&os.ModeCharDevice != 0}
}

func (t terminal) bold(s string) string { return t.paint("1", s) }
func (t terminal) dim(s string) string  { return t.paint("2", s) }
func (t terminal) link(s string) string { return t.paint("1;36", s) }

func (t terminal) paint(code, s string) string {
	if !t.colour {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// welcome says where to go, whom one can be, and what whisp-bff runs with.
func (t terminal) welcome(s *stack, opts options) {
	var names []string
	for _, person := range people {
		names = append(names, person.Username)
	}
	yaml, err := s.settings.redacted()
	if err != nil { // written once already with the same template
		yaml = err.Error()
	}
	fmt.Fprintf(t.out, "\n  %s\n\n", t.bold("whisp-bff demo is running"))
	fmt.Fprintf(t.out, "  Open    %s\n", t.link(s.publicURL))
	fmt.Fprintf(t.out, "  Be      %s\n", strings.Join(names, ", "))
	fmt.Fprintf(t.out, "  Try     two people: a second one in a private window of your browser\n")
	fmt.Fprintf(t.out, "  Behind  provider %s, Whisp simulator %s, app %s\n", s.settings.Issuer, s.settings.WhispURL, s.settings.AppURL)
	fmt.Fprintf(t.out, "  Inside  %s/metrics, JWTs live %s\n\n", s.adminURL, opts.jwtLife)
	fmt.Fprintf(t.out, "  %s\n", t.dim("whisp-bff's configuration:"))
	for line := range strings.Lines(yaml) {
		fmt.Fprint(t.out, "  ", t.dim("│ "+strings.TrimRight(line, "\n")), "\n")
	}
	fmt.Fprintf(t.out, "\n  Stop it with %s.\n", t.bold("Ctrl-C"))
}
