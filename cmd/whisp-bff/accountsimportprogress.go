package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/problem"
)

const (
	barInterval  = 200 * time.Millisecond
	lineInterval = 10 * time.Second
	// shownFailures are told one by one; the rest is in the results file.
	shownFailures = 20
	// shownLines of the file are named for each code in the summary.
	shownLines = 8
)

// progress shows how far the import is: a bar that is drawn over and over on a
// terminal, a line now and then elsewhere. As an io.Writer it keeps what others
// print (the log) off the bar.
type progress struct {
	out      io.Writer
	terminal bool
	clock    func() time.Time
	size     int64
	limit    perSecond

	mu       sync.Mutex
	begun    time.Time // the first row that was not skipped
	created  int
	existing int
	failed   int
	skipped  int
	bytes    int64 // of rows with a result
	passed   int64 // of rows that were skipped
	codes    map[string]*codeCount
	waited   time.Time // when waiting was last told
	drawn    bool      // the bar stands in the last line
}

// codeCount is how often a row failed for one reason, and where.
type codeCount struct {
	count int
	lines []int
}

func newProgress(out io.Writer, clock func() time.Time, size int64, limit perSecond) *progress {
	p := &progress{out: out, clock: clock, size: size, limit: limit, codes: map[string]*codeCount{}, begun: clock()}
	if file, ok := out.(*os.File); ok && os.Getenv("TERM") != "dumb" {
		info, err := file.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

// start shows until the returned function is called.
func (p *progress) start() (stop func()) {
	interval := lineInterval
	if p.terminal {
		interval = barInterval
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				p.tick()
			case <-end:
				return
			}
		}
	}()
	return func() {
		close(end)
		<-ended
		p.mu.Lock()
		defer p.mu.Unlock()
		p.clear()
	}
}

func (p *progress) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal {
		p.draw()
		return
	}
	fmt.Fprintln(p.out, p.status())
}

// draw needs p.mu.
func (p *progress) draw() {
	const width = 20
	full := int(p.share() * width)
	fmt.Fprintf(p.out, "\r\x1b[K[%s%s] %s", strings.Repeat("=", full), strings.Repeat(" ", width-full), p.status())
	p.drawn = true
}

// clear needs p.mu.
func (p *progress) clear() {
	if p.drawn {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.drawn = false
	}
}

// Write prints whole lines above the bar.
func (p *progress) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.print(text)
}

// print needs p.mu.
func (p *progress) print(text []byte) (int, error) {
	redraw := p.drawn
	p.clear()
	n, err := p.out.Write(text)
	if redraw {
		p.draw()
	}
	return n, err
}

func (p *progress) say(format string, args ...any) {
	_, _ = p.print(fmt.Appendf(nil, format+"\n", args...)) // a terminal that is gone
}

// result counts what became of a row, and tells failures.
func (p *progress) result(r importResult) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytes += r.size
	switch {
	case r.Error != "":
		p.failed++
	case *r.Created:
		p.created++
	default:
		p.existing++
	}
	if r.Error == "" {
		return
	}
	known := p.codes[r.Error]
	if known == nil {
		known = &codeCount{}
		p.codes[r.Error] = known
	}
	known.count++
	if len(known.lines) < shownLines {
		known.lines = append(known.lines, r.Line)
	}
	switch {
	case p.failed <= shownFailures && r.Detail != "":
		p.say("line %d: %s: %s", r.Line, r.Error, r.Detail)
	case p.failed <= shownFailures:
		p.say("line %d: %s", r.Line, r.Error)
	case p.failed == shownFailures+1:
		p.say("more failed rows are in the results file only")
	}
}

// skip counts a row that has its account already.
func (p *progress) skip(size int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.skipped++
	p.passed += size
	if p.processed() == 0 {
		p.begun = p.clock() // skipping takes no time worth measuring
	}
}

// waiting tells why nothing happens, but not too often.
func (p *progress) waiting(d time.Duration, why *problem.Problem) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := p.clock(); now.Sub(p.waited) > lineInterval {
		p.waited = now
		p.say("waiting %s: %s (%s)", d.Round(time.Second), explain(why), why.Code)
	}
}

func (p *progress) failedRows() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

func (p *progress) processed() int { return p.created + p.existing + p.failed }

// share of the file that is done, 0 to 1.
func (p *progress) share() float64 {
	if p.size == 0 {
		return 1
	}
	return min(1, float64(p.bytes+p.passed)/float64(p.size))
}

func (p *progress) perSecond() float64 {
	if elapsed := p.clock().Sub(p.begun).Seconds(); elapsed > 0 {
		return float64(p.processed()) / elapsed
	}
	return 0
}

// status is one line of at most 80 columns, the bar included.
func (p *progress) status() string {
	text := fmt.Sprintf("%3.0f %%  %s rows  %.1f/s", 100*p.share(), thousands(p.processed()+p.skipped), p.perSecond())
	if left, known := p.left(); known {
		text += "  ETA " + left.Round(time.Second).String()
	}
	if p.failed > 0 {
		text += fmt.Sprintf("  %s failed", thousands(p.failed))
	}
	return text
}

// left is how long the rest of the file takes if its rows are as long, and as
// quick, as those so far.
func (p *progress) left() (time.Duration, bool) {
	if p.processed() < 2 || p.bytes == 0 || p.perSecond() == 0 {
		return 0, false
	}
	rest := max(0, p.size-p.bytes-p.passed)
	rows := float64(rest) * float64(p.processed()) / float64(p.bytes)
	return time.Duration(rows / p.perSecond() * float64(time.Second)), true
}

// summary says how it ended, and what the failed rows have in common.
func (p *progress) summary(results string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	speed := ""
	if p.processed() > 0 {
		speed = fmt.Sprintf("; %s, %.1f/s (no limit)", p.clock().Sub(p.begun).Round(10*time.Millisecond), p.perSecond())
	}
	if p.limit > 0 {
		speed = strings.Replace(speed, "no limit", "limit "+p.limit.String(), 1)
	}
	fmt.Fprintf(p.out, "%s rows: %s made, %s found, %s failed, %s done before%s\n", thousands(p.processed()+p.skipped),
		thousands(p.created), thousands(p.existing), thousands(p.failed), thousands(p.skipped), speed)
	for _, code := range slices.Sorted(maps.Keys(p.codes)) {
		known := p.codes[code]
		lines := make([]string, len(known.lines))
		for i, line := range known.lines {
			lines[i] = fmt.Sprint(line)
		}
		more := ""
		if known.count > len(lines) {
			more = " and more"
		}
		text := advice[code]
		if text != "" {
			text = ": " + text
		}
		fmt.Fprintf(p.out, "  %s × %s%s (lines %s%s)\n", thousands(known.count), code, text, strings.Join(lines, ", "), more)
	}
	fmt.Fprintf(p.out, "Results: %s\n", results)
}

// thousands writes 12345 as 12,345.
func thousands(n int) string {
	digits := fmt.Sprint(n)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}
