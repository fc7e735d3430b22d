//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

// maxImportMemory is the most an import may take, however long the file is, in
// MiB. The race detector's shadow memory comes to several times that.
const (
	maxImportMemory     = 64
	maxImportMemoryRace = 256
)

// TestImportKilled kills imports where it hurts. 2,000 people always, as many as
// WHISP_BFF_IMPORT_PEOPLE says otherwise: 20,000 take a minute or two.
func TestImportKilled(t *testing.T) {
	people := 2000
	if text := os.Getenv("WHISP_BFF_IMPORT_PEOPLE"); text != "" {
		var err error
		if people, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	site := newKillSite(t, people)
	// The first two die while Whisp has registered somebody and nobody was told
	// yet; the second is hurried by faults.
	first := site.run(t, int64(people/3))
	site.whisp.Fail(whispsim.Fault{Operation: "signIn", Times: 20, Status: http.StatusServiceUnavailable, RetryAfter: "0"})
	site.whisp.Fail(whispsim.Fault{Operation: "registerUser", Times: 10, Drop: whispsim.DropAfter})
	second := site.run(t, int64(people*2/3))
	site.whisp.Heal("*")
	last := site.run(t, 0)
	for i, run := range []importRun{first, second} {
		if run.exit != -1 || run.signal != syscall.SIGKILL {
			t.Errorf("run %d was not killed: exit %d\n%s", i+1, run.exit, run.output)
		}
	}
	if last.exit != 0 {
		t.Fatalf("last run: exit %d\n%s", last.exit, last.output)
	}
	t.Logf("%d people; last run: %s", people, summaryLine(last.output))
	done := regexp.MustCompile(`, ([0-9,]+) done before`).FindStringSubmatch(last.output)
	if done == nil || done[1] == "0" {
		t.Errorf("the last run began anew: %s", last.output)
	}
	site.checkAccounts(t)

	most := maxImportMemory
	if raceDetector {
		most = maxImportMemoryRace
	}
	for i, run := range []importRun{first, second, last} {
		t.Logf("run %d: %d MiB at most", i+1, run.memory)
		if run.memory > most {
			t.Errorf("run %d took %d MiB, allowed are %d", i+1, run.memory, most)
		}
	}
}

// killSite is a Whisp, a file of people, and a way to kill imports of it.
type killSite struct {
	people int
	dir    string
	whisp  *whispsim.Server

	mu         sync.Mutex
	child      *os.Process
	killAfter  int64 // registrations; 0: never
	registered atomic.Int64
}

func newKillSite(t *testing.T, people int) *killSite {
	t.Helper()
	s := &killSite{people: people, dir: t.TempDir()}
	s.whisp = whispsim.New(whispsim.Config{APIKeys: []secret.Text{secret.New(testKey)}, RecordLimit: -1})
	listener := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(func() { s.whisp.Close(); listener.Close() })

	var text bytes.Buffer
	text.WriteString("issuer,subject,preferred_username,email,department\n")
	for i := range people {
		// Half of the names are wanted by two people.
		fmt.Fprintf(&text, "https://login.example.com,u%d,person%d,person%d@example.com,%s\n", i, i%(people*3/4), i, strings.Repeat("d", i%200))
	}
	for name, content := range map[string][]byte{"people.csv": text.Bytes(), "config.yaml": []byte(configFor(listener.URL, ""))} {
		if err := os.WriteFile(filepath.Join(s.dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// serve is Whisp, which has the import killed between doing and answering.
func (s *killSite) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/api/user/registerUser" {
		s.whisp.ServeHTTP(w, r)
		return
	}
	answer := httptest.NewRecorder()
	s.whisp.ServeHTTP(answer, r)
	if answer.Code == http.StatusCreated && s.registered.Add(1) == s.killAt() {
		s.mu.Lock()
		_ = s.child.Kill() // the run's own check tells
		s.mu.Unlock()
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = io.Copy(w, answer.Body)
}

func (s *killSite) killAt() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.killAfter
}

// importRun is how one process ended.
type importRun struct {
	output string
	exit   int
	signal syscall.Signal
	memory int // MiB, the most it had
}

// run imports until killAfter people were registered, by this run or before; 0 is
// until it is done.
func (s *killSite) run(t *testing.T, killAfter int64) importRun {
	t.Helper()
	var output bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "whisp-bff", "accounts", "import", "people.csv", "-c", "config.yaml", "--rate", "5000/s")
	cmd.Dir, cmd.Stderr, cmd.Stdout = s.dir, &output, &output
	s.mu.Lock()
	if err := cmd.Start(); err != nil {
		s.mu.Unlock()
		t.Fatal(err)
	}
	s.child, s.killAfter = cmd.Process, killAfter
	s.mu.Unlock()
	_ = cmd.Wait() // ProcessState tells
	run := importRun{output: output.String(), exit: cmd.ProcessState.ExitCode()}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		run.signal = status.Signal()
	}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		unit := int64(1 << 10)
		if runtime.GOOS == "darwin" {
			unit = 1
		}
		run.memory = int(usage.Maxrss * unit >> 20)
	}
	return run
}

// checkAccounts: every person has one account, no account is without its person,
// and the results say which.
func (s *killSite) checkAccounts(t *testing.T) {
	t.Helper()
	users := map[string]string{} // id -> name
	for _, user := range s.whisp.Users() {
		users[user.ID] = user.Username
	}
	if len(users) != s.people {
		t.Errorf("Whisp has %d accounts for %d people", len(users), s.people)
	}
	text, err := os.ReadFile(filepath.Join(s.dir, "people.csv.results.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	accounts := map[string]string{} // subject -> id
	owners := map[string]string{}   // id -> subject
	for line := range strings.Lines(string(text)) {
		var r importResult
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("result %q: %v", line, err)
		}
		if r.Error != "" {
			t.Errorf("%s: %s %s", r.Subject, r.Error, r.Detail)
			continue
		}
		if known := accounts[r.Subject]; known != "" && known != r.UserID {
			t.Errorf("%s has two accounts", r.Subject)
		}
		if owner := owners[r.UserID]; owner != "" && owner != r.Subject {
			t.Errorf("%s and %s share an account", owner, r.Subject)
		}
		if users[r.UserID] != r.Username {
			t.Errorf("%s: the results say %q, Whisp %q", r.Subject, r.Username, users[r.UserID])
		}
		accounts[r.Subject], owners[r.UserID] = r.UserID, r.Subject
	}
	if len(accounts) != s.people {
		t.Errorf("the results name %d of %d people", len(accounts), s.people)
	}
}

func summaryLine(output string) string {
	for line := range strings.Lines(output) {
		if strings.Contains(line, " rows: ") {
			return strings.TrimSpace(line)
		}
	}
	return "none"
}
