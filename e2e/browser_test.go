//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// browser is one Chromium, driven by browser.mjs.
type browser struct {
	process *process

	mu      sync.Mutex
	next    int
	waiting map[int]chan reply
}

type reply struct {
	ID    int             `json:"id"`
	Value json.RawMessage `json:"value"`
	Error string          `json:"error"`
}

// exchange is an answer some page got.
type exchange struct {
	URL     string            `json:"url"`
	Status  int               `json:"status"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
}

// newBrowser starts Chromium for this test. What its pages complain about in
// the console, refused by the Content-Security-Policy for one, fails the test
// unless it contains one of the expected texts.
func newBrowser(t testing.TB, expected ...string) *browser {
	t.Helper()
	b := &browser{process: startScript(t, "browser.mjs", tools.chromium, strconv.FormatInt(patience.Milliseconds(), 10)), next: 1, waiting: map[int]chan reply{}}
	var hello reply
	b.process.line(t, &hello)
	go b.read()
	t.Cleanup(func() {
		if t.Failed() {
			name := "failed-" + strings.ReplaceAll(t.Name(), "/", "-")
			if _, err := b.ask(command{"do": "shotAll", "directory": "screenshots", "prefix": name}); err == nil {
				t.Logf("what the tabs show is in screenshots/%s-*.png", name)
			}
		}
		for _, complaint := range call[[]string](t, b, command{"do": "complaints"}) {
			if !containsAny(complaint, expected) {
				t.Errorf("the console says: %s", complaint)
			}
		}
	})
	return b
}

func containsAny(text string, parts []string) bool {
	for _, part := range parts {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

func (b *browser) read() {
	for line := range b.process.lines {
		var r reply
		if json.Unmarshal([]byte(line), &r) != nil {
			continue // not ours: node may print warnings
		}
		b.mu.Lock()
		waiting := b.waiting[r.ID]
		delete(b.waiting, r.ID)
		b.mu.Unlock()
		if waiting != nil {
			waiting <- r
		}
	}
}

type command map[string]any

// ask has the browser do something and returns what it gave.
func (b *browser) ask(c command) (json.RawMessage, error) {
	answer := make(chan reply, 1)
	b.mu.Lock()
	c["id"] = b.next
	b.waiting[b.next] = answer
	b.next++
	line, err := json.Marshal(c)
	if err == nil {
		_, err = fmt.Fprintf(b.process.stdin, "%s\n", line)
	}
	b.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("tell the browser: %w", err)
	}
	select {
	case r := <-answer:
		if r.Error != "" {
			return nil, errors.New(r.Error)
		}
		return r.Value, nil
	case <-b.process.exited:
		return nil, fmt.Errorf("the browser ended: %s", b.process.log.tail(3000))
	case <-time.After(patience + patience/2): // the browser gives up earlier, and says why
		return nil, fmt.Errorf("the browser does not answer %s", line)
	}
}

// call is ask for an answer of one type.
func call[T any](t testing.TB, b *browser, c command) T {
	t.Helper()
	given, err := b.ask(c)
	if err != nil {
		t.Fatal(err)
	}
	return decode[T](t, given)
}

// cookiesOf leaves out those of other hosts.
func (b *browser) cookiesOf(t testing.TB, context, host string) []cookie {
	t.Helper()
	return slices.DeleteFunc(b.cookies(t, context), func(c cookie) bool { return c.Domain != host })
}

// tab is a page in one person's browser; "alice/2" shares its cookies with "alice".
type tab struct {
	b    *browser
	name string
	st   *stack
}

// window says how a tab looks.
type window struct {
	Dark, Phone   bool
	Width, Height int
}

func (b *browser) open(t testing.TB, st *stack, name string, w window) *tab {
	t.Helper()
	c := command{"do": "open", "page": name, "dark": w.Dark, "phone": w.Phone}
	if w.Width > 0 {
		c["width"], c["height"] = w.Width, w.Height
	}
	call[any](t, b, c)
	return &tab{b: b, name: name, st: st}
}

func (p *tab) do(t testing.TB, what string, c command) {
	t.Helper()
	if err := p.try(what, c); err != nil {
		t.Fatal(err)
	}
}

// try is do for goroutines, which must not end the test.
func (p *tab) try(what string, c command) error {
	c["do"], c["page"] = what, p.name
	_, err := p.b.ask(c)
	return err
}

// cookie is one of a browser's; Domain has no port, as cookies have none.
type cookie struct {
	Name     string `json:"name"`
	Value    string `json:"value"`
	Domain   string `json:"domain"`
	Path     string `json:"path"`
	HTTPOnly bool   `json:"httpOnly"`
	SameSite string `json:"sameSite"`
}

func (b *browser) cookies(t testing.TB, context string) []cookie {
	t.Helper()
	return call[[]cookie](t, b, command{"do": "cookies", "context": context})
}

func (p *tab) visit(t testing.TB, path string) {
	t.Helper()
	p.do(t, "goto", command{"url": p.st.origin + path})
}
func (p *tab) reload(t testing.TB) { t.Helper(); p.do(t, "reload", command{}) }
func (p *tab) click(t testing.TB, selector string) {
	t.Helper()
	p.do(t, "click", command{"selector": selector})
}

func (p *tab) hover(t testing.TB, selector string) {
	t.Helper()
	p.do(t, "hover", command{"selector": selector})
}

func (p *tab) fill(t testing.TB, selector, text string) {
	t.Helper()
	p.do(t, "fill", command{"selector": selector, "text": text})
}

func (p *tab) press(t testing.TB, selector, key string) {
	t.Helper()
	p.do(t, "press", command{"selector": selector, "key": key})
}

// sees waits until something with that text is visible.
func (p *tab) sees(t testing.TB, selector, text string) {
	t.Helper()
	p.do(t, "wait", command{"selector": selector, "text": text})
}

// arrives waits until the address starts with url.
func (p *tab) arrives(t testing.TB, url string) {
	t.Helper()
	p.do(t, "waitURL", command{"prefix": url})
}

func (p *tab) shot(t testing.TB, name string) {
	t.Helper()
	p.do(t, "shot", command{"path": filepath.Join("screenshots", name+".png")})
}

func evaluate[T any](t testing.TB, p *tab, script string, argument any) T {
	t.Helper()
	return call[T](t, p.b, command{"do": "evaluate", "page": p.name, "script": script, "argument": argument})
}

// signIn goes from nothing to the chat: at the app, through the provider's login.
func (p *tab) signIn(t testing.TB, name string) {
	t.Helper()
	p.visit(t, "/auth/login?return_to=/")
	p.click(t, `button[value="`+name+`"]`)
	p.arrives(t, p.st.origin+"/")
	p.sees(t, "#status", "Connected")
}
