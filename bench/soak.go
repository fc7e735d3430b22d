//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	visitsPerBatch = 24 * int(ways)
	visitsAtOnce   = 128
	doomedPerBatch = 2                      // sessions that log out meanwhile
	logoutAfter    = 100 * time.Millisecond // of a batch's beginning
	// vanishUntil is how long before the churn's end the last SockJS clients vanish
	// without a trace: whisp-bff remembers them for half a minute, and waiting
	// for that at the end would be dull.
	vanishUntil = 20 * time.Second
	calmWithin  = 60 * time.Second
)

// Tolerances. Memory is compared with what it was after a warm-up, since a fresh
// process has not made its pools yet.
const (
	moreGoroutines  = 4
	moreDescriptors = 4
	moreHeap        = 4 << 20 // the tickets of the last 20 s count, spent or not
	moreRSS         = 8 << 20
)

// measureSoak lets sockets come and go, and looks at what stays.
func measureSoak(ctx context.Context, l *lab, p plan, out *report) error {
	for _, b := range l.binaries {
		if err := soakOf(ctx, l, b, p, out); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
	}
	return nil
}

// soak is one whisp-bff that has visitors.
type soak struct {
	*carrier
	lab     *lab
	site    *site
	batches int

	visits, lost, logouts int
	example               string
}

// remains are what a process holds.
type remains struct {
	goroutines, descriptors, sockets, sockJS int
	heap, rss                                int64
}

func soakOf(ctx context.Context, l *lab, binary candidate, p plan, out *report) error {
	b, err := l.newBFF(ctx, binary, siteOptions{sockets: true, pprof: true})
	if err != nil {
		return err
	}
	defer b.stop()
	s := &soak{lab: l, site: b.site}
	if s.carrier, err = b.carrier(ctx); err != nil {
		return err
	}
	fresh, err := s.calm(ctx, remains{})
	if err != nil {
		return err
	}
	if err := s.churn(ctx, p.warmSoak, false); err != nil {
		return err
	}
	warm, err := s.calm(ctx, fresh)
	if err != nil {
		return err
	}
	s.visits, s.lost, s.logouts = 0, 0, 0
	before, err := s.counters(ctx)
	if err != nil {
		return err
	}
	started := time.Now()
	if err := s.churn(ctx, p.soak, true); err != nil {
		return err
	}
	took := time.Since(started)
	after, err := s.calm(ctx, fresh)
	if err != nil {
		return err
	}
	counted, err := s.counters(ctx)
	if err != nil {
		return err
	}
	s.report(out, took, fresh, warm, after)
	out.line("  Sockets by what ended them first: %s", grown(before, counted))
	return nil
}

// churn lets visitors come, batch by batch, for about so long.
func (s *soak) churn(ctx context.Context, length time.Duration, vanish bool) error {
	for end := time.Now().Add(length); time.Now().Before(end); {
		if err := s.batch(ctx, vanish && time.Until(end) > vanishUntil); err != nil {
			return err
		}
	}
	return nil
}

// batch is some hundred visits, and a few people who log out meanwhile.
func (s *soak) batch(ctx context.Context, vanish bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	first := s.batches * doomedPerBatch % len(s.cookies)
	s.batches++
	doomed := s.cookies[first : first+doomedPerBatch]
	visits, err := s.plan(doomed, vanish)
	if err != nil {
		return err
	}
	loggedOut := make(chan error, 1)
	go func() { loggedOut <- s.logOut(ctx, doomed) }()
	result, err := s.lab.do(order{Do: "churn", Address: s.process.address, Visits: visits, Conns: visitsAtOnce})
	if err := errors.Join(err, <-loggedOut); err != nil {
		return fmt.Errorf("%w; whisp-bff said\n%s", err, s.process.tail())
	}
	s.visits += len(visits)
	s.lost += result.Lost
	if s.example == "" {
		s.example = result.Example
	}
	for i := range doomed {
		if doomed[i], err = s.site.login(ctx); err != nil {
			return err
		}
	}
	return nil
}

// plan makes the visits of a batch: every way as often, every session in turn.
func (s *soak) plan(doomed []string, vanish bool) ([]visit, error) {
	tickets, err := s.tickets(s.lab, visitsPerBatch)
	if err != nil {
		return nil, err
	}
	visits := make([]visit, visitsPerBatch)
	for i := range visits {
		cookie := s.cookies[i%len(s.cookies)]
		v := visit{Way: way(i) % ways, Doomed: slices.Contains(doomed, cookie), Vanish: vanish && i%2 == 0}
		if v.Way.sockJS() {
			path := s.path + "/001/" + strings.ToLower(rand.Text()[:12])
			v.Request = s.post(path+"/xhr_streaming", tickets[i], cookie, "")
			v.Send = s.post(path+"/xhr_send", tickets[i], cookie, `["`+v.Way.says()+`"]`)
		} else {
			v.Request = s.handshake(tickets[i], cookie)
		}
		visits[i] = v
	}
	return visits, nil
}

// post is a request of a SockJS session.
func (s *soak) post(path, ticket, cookie, body string) []byte {
	return append(rawRequest("POST", s.process, path+"?ticket="+ticket, "Origin: http://"+s.process.address.String(),
		"Content-Type: text/plain;charset=UTF-8", "Content-Length: "+strconv.Itoa(len(body)), "Cookie: "+cookie), body...)
}

// logOut ends sessions a moment later.
func (s *soak) logOut(ctx context.Context, cookies []string) error {
	if err := sleep(ctx, logoutAfter); err != nil {
		return err
	}
	for _, cookie := range cookies {
		if err := s.site.logout(ctx, cookie); err != nil {
			return err
		}
		s.logouts++
	}
	return nil
}

func (s *site) logout(ctx context.Context, cookie string) error {
	origin := "http://" + s.public.String()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, origin+"/auth/logout", http.NoBody)
	if err != nil {
		return err
	}
	request.Header.Set("Origin", origin)
	request.Header.Set("Cookie", cookie)
	answer, err := s.client.Do(request)
	if err != nil {
		return err
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("logout: %s", answer.Status)
	}
	return nil
}

// calm waits until nothing is open and as little is left as at first, which may
// be never, and looks.
func (s *soak) calm(ctx context.Context, at remains) (remains, error) {
	for deadline := time.Now().Add(calmWithin); ; {
		s.site.client.CloseIdleConnections()
		hangUps := order{Do: "request", Address: s.lab.upstream, Conns: 1, Total: 1, Want: []byte("HTTP/1.1 200 "),
			Requests: [][]byte{[]byte("POST " + hangUp + " HTTP/1.1\r\nHost: upstream\r\n\r\n")}}
		if _, err := s.lab.do(hangUps); err != nil {
			return remains{}, err
		}
		if err := sleep(ctx, 500*time.Millisecond); err != nil {
			return remains{}, err
		}
		now, err := s.look(ctx)
		first := at == remains{}
		back := now.goroutines <= at.goroutines && now.descriptors <= at.descriptors
		if err != nil || now.sockets+now.sockJS == 0 && (first || back) || time.Now().After(deadline) {
			return now, err
		}
	}
}

// look looks at what the process holds, its garbage collected.
func (s *soak) look(ctx context.Context) (remains, error) {
	var r remains
	var profile fetched
	var err error
	for range 3 { // what pools hold outlives one collection
		if profile, err = s.site.get(ctx, "http://"+s.site.admin.String()+"/debug/pprof/heap?gc=1&debug=1"); err != nil {
			return r, err
		}
	}
	_, alive, _ := strings.Cut(profile.body, "# HeapAlloc = ")
	alive, _, _ = strings.Cut(alive, "\n")
	if r.heap, err = strconv.ParseInt(alive, 10, 64); err != nil {
		return r, fmt.Errorf("heap profile: %w", err)
	}
	for name, to := range map[string]*int{
		"go_goroutines": &r.goroutines, "whisp_bff_realtime_tunnels": &r.sockets, "whisp_bff_realtime_sockjs_sessions": &r.sockJS,
	} {
		value, err := s.site.metric(ctx, name)
		if err != nil {
			return r, err
		}
		*to = int(value)
	}
	descriptors, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.process.cmd.Process.Pid))
	r.descriptors, r.rss = len(descriptors), s.process.rss()
	return r, err
}

const endings = "whisp_bff_realtime_tunnels_closed_total"

// counters are how many sockets ended, by what ended them.
func (s *soak) counters(ctx context.Context) (map[string]float64, error) {
	answer, err := s.site.get(ctx, "http://"+s.site.admin.String()+"/metrics")
	if err != nil {
		return nil, err
	}
	counted := map[string]float64{}
	for line := range strings.Lines(answer.body) {
		if series, ok := strings.CutPrefix(line, endings+`{reason="`); ok {
			reason, value, _ := strings.Cut(series, `"} `)
			if counted[reason], err = strconv.ParseFloat(strings.TrimSpace(value), 64); err != nil {
				return nil, err
			}
		}
	}
	return counted, nil
}

// grown lists which counters grew, and by how much.
func grown(before, after map[string]float64) string {
	var list []string
	for reason, value := range after {
		if more := value - before[reason]; more > 0 {
			list = append(list, fmt.Sprintf("%s %.0f", reason, more))
		}
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

func (s *soak) report(out *report, took time.Duration, fresh, warm, after remains) {
	name := s.process.name
	out.line("")
	out.line("%-34s %10s %10s %10s", "Soak of "+name+", "+took.Round(time.Second).String(), "fresh", "warmed up", "after")
	number := func(what string, of func(remains) int, target string, met bool) {
		out.line("  %-32s %10d %10d %10d  %s", what, of(fresh), of(warm), of(after), out.target("soak: "+what+" of "+name, met, target))
	}
	number("goroutines", func(r remains) int { return r.goroutines },
		fmt.Sprintf("≤ fresh + %d", moreGoroutines), after.goroutines <= fresh.goroutines+moreGoroutines)
	number("file descriptors", func(r remains) int { return r.descriptors },
		fmt.Sprintf("≤ fresh + %d", moreDescriptors), after.descriptors <= fresh.descriptors+moreDescriptors)
	memory := func(what string, of func(remains) int64, more int64) {
		out.line("  %-32s %10s %10s %10s  %s", what, mib(of(fresh)), mib(of(warm)), mib(of(after)),
			out.target("soak: "+what+" of "+name, of(after) <= of(warm)+more, fmt.Sprintf("≤ warmed up + %d MiB", more>>20)))
	}
	memory("heap alive, garbage collected", func(r remains) int64 { return r.heap }, moreHeap)
	memory("RSS", func(r remains) int64 { return r.rss }, moreRSS)
	number("sockets open", func(r remains) int { return r.sockets }, "0", after.sockets == 0)
	number("SockJS sessions", func(r remains) int { return r.sockJS }, "0", after.sockJS == 0)
	out.line("  %d visits, %.0f per s, and %d logouts; ended unasked: %d  %s", s.visits, float64(s.visits)/took.Seconds(), s.logouts,
		s.lost, out.target("soak: ended unasked of "+name, s.lost == 0, "0"))
	if s.example != "" {
		out.line("    one of them: %s", s.example)
	}
}
