package sockproxy

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ws "github.com/coder/websocket"

	"github.com/whisp-bff/whisp-bff/internal/whispsim/sockjs"
)

// cluster is a Whisp of several nodes behind one name. Each knows its own SockJS
// sessions only, as Whisp's do.
type cluster struct {
	name  string
	nodes []*whispNode
	// failing makes the resolver fail.
	failing atomic.Bool
}

type whispNode struct {
	address string
	server  *httptest.Server
	mu      sync.Mutex
	hosts   map[string]bool
	// sessions are the SockJS session ids whose requests came here, sockets the
	// plain WebSockets.
	sessions map[string]int
	sockets  int
}

func newCluster(t *testing.T, nodes int) *cluster {
	c := &cluster{name: "whisp.test:80"}
	for range nodes {
		echo := sockjs.New(sockjs.Config{
			HeartBeat: time.Minute,
			Admit:     func(http.ResponseWriter, *http.Request) bool { return true },
			Open: func(_ http.ResponseWriter, _ *http.Request, _ string, session *sockjs.Session) (sockjs.Receiver, bool) {
				return echoSession{session}, true
			},
		})
		node := &whispNode{hosts: map[string]bool{}, sessions: map[string]int{}}
		node.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			node.note(r)
			if r.URL.Path == endpoint {
				if conn, err := ws.Accept(w, r, &ws.AcceptOptions{InsecureSkipVerify: true}); err == nil {
					_ = conn.CloseNow()
				}
				return
			}
			_, serve, found := echo.Route(r.Method, strings.TrimPrefix(r.URL.Path, endpoint))
			if !found {
				http.NotFound(w, r)
				return
			}
			serve(w, r)
		}))
		node.address = strings.TrimPrefix(node.server.URL, "http://")
		t.Cleanup(func() { echo.Close(); node.server.Close() })
		c.nodes = append(c.nodes, node)
	}
	return c
}

func (n *whispNode) note(r *http.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[r.Host] = true
	if parts := strings.Split(strings.TrimPrefix(r.URL.Path, endpoint), "/"); len(parts) == 4 {
		n.sessions[parts[2]]++
	} else if r.URL.Path == endpoint {
		n.sockets++
	}
}

func (n *whispNode) seen(session string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sessions[session]
}

// Nodes is the resolver.
func (c *cluster) Nodes(context.Context) ([]string, error) {
	if c.failing.Load() {
		return nil, errors.New("no such host")
	}
	var addresses []string
	for _, node := range c.nodes {
		addresses = append(addresses, node.address)
	}
	return addresses, nil
}

func (c *cluster) DialHTTP1(ctx context.Context, node string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", node)
}

// before puts a site before the cluster.
func (c *cluster) before(t *testing.T, change func(*Config, *Deps)) *site {
	s := newSite(t, c.name, func(cfg *Config, deps *Deps) {
		deps.Dialer = c
		if change != nil {
			change(cfg, deps)
		}
	})
	t.Cleanup(func() { _ = s.Drain(canceled()) }) // streams end before the nodes do
	return s
}

// All requests of a SockJS session go to the node that knows it; sessions spread.
func TestSockJSSessionStaysAtItsNode(t *testing.T) {
	whisp := newCluster(t, 2)
	s := whisp.before(t, nil)
	const sessions = 16
	for i := range sessions {
		id := string(rune('a' + i))
		path, query := "/000/"+id+"/", "?ticket="+s.ticket("alice", "ticket-"+id)
		if r := s.sock("alice", "POST", path+"xhr"+query, "", nil); r.StatusCode != 200 {
			t.Fatal(r.Status)
		}
		for range 3 {
			if r := s.sock("alice", "POST", path+"xhr_send"+query, `["x"]`, nil); r.StatusCode != 204 {
				t.Fatalf("session %s, sending: %s", id, r.Status)
			}
			if got := nextFrame(t, bufio.NewReader(s.sock("alice", "POST", path+"xhr"+query, "", nil).Body)); got != `a["x"]` {
				t.Fatalf("session %s got %q", id, got)
			}
		}
	}
	var used [2]int
	for i := range sessions {
		for n, node := range whisp.nodes {
			switch node.seen(string(rune('a' + i))) {
			case 0:
			case 7:
				used[n]++
			default:
				t.Errorf("session %c is at more than one node", 'a'+i)
			}
		}
	}
	if used[0] == 0 || used[1] == 0 || used[0]+used[1] != sessions { // 2 in 65,536 by chance
		t.Errorf("spread %v", used)
	}
	for _, node := range whisp.nodes {
		if len(node.hosts) != 1 || !node.hosts[whisp.name] {
			t.Errorf("Host was %v", node.hosts)
		}
	}
}

func TestSocketsSpreadAndAvoidDeadNodes(t *testing.T) {
	whisp := newCluster(t, 3)
	dead := whisp.nodes[1]
	dead.server.Close()
	s := whisp.before(t, nil)
	for range 24 {
		s.ticket("alice", "t")
		r := s.request("GET", "/api/wsConnect?ticket=t", nil)
		if r.StatusCode != 101 {
			t.Fatal(r.Status)
		}
		_ = r.Body.Close()
	}
	if one, other := whisp.nodes[0].sockets, whisp.nodes[2].sockets; one == 0 || other == 0 || one+other != 24 {
		t.Errorf("%d and %d sockets", one, other)
	}
	whisp.failing.Store(true)
	s.ticket("alice", "t")
	if r := s.request("GET", "/api/wsConnect?ticket=t", nil); r.StatusCode != 503 {
		t.Errorf("without an address: %s", r.Status)
	}
	if p := <-s.problems; p.Code != "whisp_unreachable" {
		t.Error(p)
	}
}

// A session ends with its node; the client's next one goes to another.
func TestSockJSNodeDies(t *testing.T) {
	whisp := newCluster(t, 2)
	s := whisp.before(t, nil)
	s.ticket("alice", "t")
	status := func(path, body string) int { return s.sock("alice", "POST", path+"?ticket=t", body, nil).StatusCode }
	if got := status("/000/abc/xhr", ""); got != 200 {
		t.Fatal(got)
	}
	home := whisp.nodes[0]
	if home.seen("abc") == 0 {
		home = whisp.nodes[1]
	}
	home.server.Close()
	if got := status("/000/abc/xhr_send", `["x"]`); got != 503 {
		t.Errorf("sending to a node that is gone: %d", got)
	}
	if got := status("/000/abc/xhr_send", `["x"]`); got != 401 { // it is no session any more
		t.Errorf("and again: %d", got)
	}
	for _, id := range []string{"def", "ghi", "jkl", "mno"} {
		if got := status("/000/"+id+"/xhr", ""); got != 200 {
			t.Errorf("a new session: %d", got)
		}
	}
	if got := s.sock("alice", "GET", "/info?ticket=t", "", nil).StatusCode; got != 200 {
		t.Errorf("info: %d", got)
	}
}

func TestNodesOrder(t *testing.T) {
	clock := still()
	found := []string{"[2001:db8::1]:443", "192.0.2.1:443", "[2001:db8::2]:443", "192.0.2.2:443"}
	n := &nodes{dialer: fixedNodes(found), clock: clock.now, rand: strings.NewReader(""), resting: map[string]time.Time{}}
	n.rest("[2001:db8::2]:443")
	families := func() (text string) {
		order, err := n.order(t.Context())
		if err != nil || len(order) != len(found) {
			t.Fatal(order, err)
		}
		for _, node := range order {
			if v6(node) {
				text += "6"
			} else {
				text += "4"
			}
		}
		return text
	}
	if got := families(); got != "6446" {
		t.Errorf("with one at rest: %s", got)
	}
	clock.advance(nodeRest)
	if got := families(); got != "6644" {
		t.Errorf("afterwards: %s", got)
	}
	n.rest("192.0.2.9:443")
	if len(n.resting) != 1 {
		t.Errorf("%d nodes remembered", len(n.resting))
	}
}

type fixedNodes []string

func (f fixedNodes) Nodes(context.Context) ([]string, error) { return append([]string(nil), f...), nil }
func (fixedNodes) DialHTTP1(context.Context, string) (net.Conn, error) {
	return nil, errors.New("not here")
}
