package sockproxy

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// Each line is one step on one table; the clock moves by the given seconds before it.
func TestTickets(t *testing.T) {
	type step struct {
		after   int
		do      string // issue, known, spend, admit
		ticket  string
		session string
		server  string
		want    bool
	}
	for _, test := range []struct {
		name  string
		steps []step
	}{
		{"spent once", []step{
			{0, "issue", "t", "alice", "", true}, {0, "known", "t", "alice", "", true},
			{0, "spend", "t", "alice", "", true}, {0, "spend", "t", "alice", "", false}, {0, "known", "t", "alice", "", false},
		}},
		{"a stranger's try is refused and spends nothing", []step{
			{0, "issue", "t", "alice", "", true}, {0, "spend", "t", "bob", "", false}, {0, "known", "t", "bob", "", false},
			{0, "admit", "t", "bob", "1", false}, {0, "spend", "t", "alice", "", true},
		}},
		{"too late", []step{
			{0, "issue", "t", "alice", "", true}, {20, "spend", "t", "alice", "", false}, {0, "known", "t", "alice", "", false},
			{0, "admit", "t", "alice", "1", false},
		}},
		{"just in time", []step{{0, "issue", "t", "alice", "", true}, {19, "spend", "t", "alice", "", true}}},
		{"one SockJS client, several sessions", []step{
			{0, "issue", "t", "alice", "", true}, {1, "admit", "t", "alice", "123", true}, {5, "admit", "t", "alice", "123", true},
			{0, "admit", "t", "alice", "456", false}, {0, "spend", "t", "alice", "", false}, {14, "admit", "t", "alice", "123", false},
		}},
		{"unknown", []step{{0, "spend", "t", "alice", "", false}, {0, "admit", "t", "alice", "1", false}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			now := time.Unix(1000, 0)
			table := newMemoryTickets(func() time.Time { return now }, 20*time.Second)
			for i, s := range test.steps {
				now = now.Add(time.Duration(s.after) * time.Second)
				hash, got := hashTicket(secret.New(s.ticket)), true
				switch s.do {
				case "issue":
					_ = table.Issue(t.Context(), hash, s.session)
				case "known":
					got, _ = table.Known(t.Context(), hash, s.session)
				case "spend":
					got, _ = table.Spend(t.Context(), hash, s.session)
				case "admit":
					got, _ = table.Admit(t.Context(), hash, s.session, s.server)
				}
				if got != s.want {
					t.Fatalf("step %d, %+v: %v", i, s, got)
				}
			}
		})
	}
}

func TestTicketsAreBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	table := newMemoryTickets(func() time.Time { return now }, 20*time.Second)
	hash := func(i int) ticketHash { return hashTicket(secret.New(strconv.Itoa(i))) }
	for i := range 3 * maxTicketsPerSession {
		_ = table.Issue(t.Context(), hash(i), "alice")
	}
	if len(table.byHash) != maxTicketsPerSession {
		t.Errorf("one session holds %d tickets", len(table.byHash))
	}
	if ok, _ := table.Spend(t.Context(), hash(3*maxTicketsPerSession-1), "alice"); !ok {
		t.Error("the newest is gone")
	}
	for i := range maxTickets + 10 {
		_ = table.Issue(t.Context(), hash(i), strconv.Itoa(i))
	}
	if len(table.byHash) > maxTickets || len(table.order) > maxTickets {
		t.Errorf("%d tickets, %d in order", len(table.byHash), len(table.order))
	}
	now = now.Add(time.Minute)
	_ = table.Issue(t.Context(), hash(0), "alice")
	if len(table.byHash) != 1 || len(table.bySession) != 1 || len(table.order) != 1 {
		t.Errorf("%d tickets of %d sessions after a minute", len(table.byHash), len(table.bySession))
	}
}

func TestOneOfManySpends(t *testing.T) {
	table := newMemoryTickets(time.Now, 20*time.Second)
	hash := hashTicket(secret.New("t"))
	_ = table.Issue(t.Context(), hash, "alice")
	var won atomic.Int32
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if ok, _ := table.Spend(context.Background(), hash, "alice"); ok {
				won.Add(1)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 {
		t.Errorf("%d spent it", won.Load())
	}
}
