//go:build e2e

package e2e

import (
	"flag"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

var openLine = regexp.MustCompile(`^  Open +(http://localhost:\d+)$`)

var update = flag.Bool("update", false, "take the picture of the README anew: docs/demo.png")

// The demo as a new user sees it: the one command, two people, a chat, every
// screen in light and dark, wide and on a phone (e2e/screenshots), Ctrl-C.
func TestDemo(t *testing.T) {
	t.Parallel()
	temporary := t.TempDir()
	command := exec.Command(tools.demo, "--bff", tools.bff)
	command.Env = append(os.Environ(), "TMPDIR="+temporary)
	demo := startCommand(t, "whisp-demo", command)
	st := &stack{origin: demoURL(t, demo)}
	b := newBrowser(t, loadFailures)
	wide := window{Width: 1440, Height: 900}
	alice, bob, carol := b.open(t, st, "alice", wide), b.open(t, st, "bob", wide), b.open(t, st, "carol", wide)

	alice.visit(t, "/")
	alice.sees(t, "#sign-in-button", "Sign in")
	alice.shots(t, "sign-in")
	alice.click(t, "#sign-in-button")
	alice.sees(t, ".person", "Alice Anderson")
	alice.shots(t, "login")
	alice.click(t, `[name="person"][value="alice"]`)
	alice.sees(t, "#status", "Connected")
	for _, person := range []*tab{bob, carol} {
		person.visit(t, "/")
		person.click(t, "#sign-in-button")
		person.click(t, `[name="person"][value="`+person.name+`"]`)
		person.sees(t, "#status", "Connected")
	}
	alice.click(t, `[data-person="dave"]`)
	alice.sees(t, "#notice", "has not signed in yet")
	alice.shots(t, "hint")
	conversation(t, alice, bob)
	carol.click(t, `[data-person="alice"]`)
	carol.sees(t, "#chat-title", "Alice Anderson")
	carol.say(t, "Lunch at half past twelve?")
	alice.sees(t, ".badge", "1")
	bob.types(t, alice)
	alice.shots(t, "chat")
	alice.click(t, "#code-toggle")
	alice.sees(t, "#code-lines mark", `whisp.setAuth(await post("/auth/whisp/sign-in"));`)
	alice.shots(t, "three-lines")
	if *update {
		alice.picture(t, "../docs/demo.png")
	}
	alice.click(t, "#code-close")
	alice.click(t, "#log-out") // the provider has an id_token_hint and does not ask
	alice.sees(t, "#sign-in-button", "Sign in")

	demo.stop(t)
	if left, err := os.ReadDir(temporary); err != nil || len(onlyDemo(left)) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// demoURL reads what the demo prints until the address, and lets the rest go by.
func demoURL(t *testing.T, demo *process) string {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case line, open := <-demo.lines:
			if !open {
				t.Fatalf("the demo ended: %s", demo.log)
			}
			if match := openLine.FindStringSubmatch(line); match != nil {
				return match[1]
			}
		case <-timeout:
			t.Fatalf("the demo printed no address: %s", demo.log)
		}
	}
}

// onlyDemo leaves out what the browser keeps in the same place.
func onlyDemo(entries []os.DirEntry) []string {
	var names []string
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), "whisp-demo-") {
			names = append(names, entry.Name())
		}
	}
	return names
}

func conversation(t *testing.T, alice, bob *tab) {
	t.Helper()
	alice.click(t, `[data-person="bob"]`)
	alice.sees(t, "#chat-title", "Bob Brown")
	bob.click(t, "#chats .row")
	bob.sees(t, "#chat-title", "Alice Anderson")
	for _, line := range []struct {
		from, to *tab
		text     string
	}{
		{alice, bob, "Morning Bob! The new gateway is in front of the app since last night."},
		{bob, alice, "Saw it. Nobody noticed a thing, which is the best review there is."},
		{bob, alice, "Did you have to touch the frontend?"},
		{alice, bob, "Three lines. The API key is gone from the browser for good."},
		{alice, bob, "And chats survive the token running out now; I left a tab open over lunch and it just went on."},
		{bob, alice, "Then let's switch the other two sites over this week."},
	} {
		line.from.say(t, line.text)
		line.to.sees(t, ".theirs .bubble", line.text)
	}
	react(t, alice, "Saw it", "😂")
	react(t, alice, "Then let's", "👍")
	react(t, bob, "Three lines", "🎉")
	bob.sees(t, `.own [data-reaction="👍"]`, "")
	alice.sees(t, `.own [data-reaction="🎉"]`, "")
}

// react uses the keyboard from the picker on.
func react(t *testing.T, person *tab, message, reaction string) {
	t.Helper()
	row := `.message:has-text("` + message + `")`
	person.hover(t, row)
	person.click(t, row+" .react")
	choice := row + ` [data-pick="` + reaction + `"]`
	person.sees(t, choice, "")
	person.press(t, choice, "Enter")
	person.sees(t, row+` [data-reaction="`+reaction+`"]`, "")
}

// picture takes the README's picture. GitHub shows it some 830 pixels wide.
func (p *tab) picture(t testing.TB, file string) {
	t.Helper()
	const limit = 200 << 10
	p.do(t, "size", command{"width": 1280, "height": 800})
	p.do(t, "scheme", command{"dark": false})
	p.do(t, "shot", command{"path": file})
	if info, err := os.Stat(file); err != nil || info.Size() > limit {
		t.Errorf("%s: %v, has %d bytes of %d", file, err, info.Size(), limit)
	}
}

// shots takes a picture in light and dark, wide and as on a phone.
func (p *tab) shots(t testing.TB, name string) {
	t.Helper()
	for _, size := range []struct {
		name          string
		width, height int
	}{{"phone", 390, 844}, {"wide", 1440, 900}} {
		p.do(t, "size", command{"width": size.width, "height": size.height})
		for _, scheme := range []string{"dark", "light"} {
			p.do(t, "scheme", command{"dark": scheme == "dark"})
			p.shot(t, name+"-"+size.name+"-"+scheme)
		}
	}
}
