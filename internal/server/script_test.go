package server_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
)

// answer is what came back, read whole.
type answer struct {
	t      testing.TB
	what   string
	status int
	header http.Header
	body   string
	whole  bool // read to its end
}

// want checks the status and, if it is one of our problems, its code; "" is for
// answers that are none.
func (a *answer) want(status int, code string) *answer {
	a.t.Helper()
	if a.status != status || a.code() != code {
		a.t.Errorf("%s: got %d %q, want %d %q; body %.200q", a.what, a.status, a.code(), status, code, a.body)
	}
	return a
}

// code of a problem answer, which must be a whole one.
func (a *answer) code() string {
	a.t.Helper()
	if a.header.Get("Content-Type") != "application/problem+json" {
		return ""
	}
	var p struct {
		Code, Message, Detail, Title, Type, RequestID string
		Status                                        int
	}
	if a.body == "" { // HEAD
		return "head"
	}
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		a.t.Errorf("%s: a problem that is no JSON: %v in %q", a.what, err, a.body)
		return ""
	}
	if p.Status != a.status || p.Message == "" || p.Detail == "" || p.Title == "" || p.RequestID == "" ||
		p.RequestID != a.header.Get("X-Request-Id") || a.header.Get("Cache-Control") != "no-store" ||
		a.header.Get("X-Content-Type-Options") != "nosniff" {
		a.t.Errorf("%s: incomplete problem %q, header %v", a.what, a.body, a.header)
	}
	return p.Code
}

// has checks one header.
func (a *answer) has(name, value string) *answer {
	a.t.Helper()
	if got := strings.Join(a.header.Values(name), ", "); got != value {
		a.t.Errorf("%s: header %s is %q, want %q", a.what, name, got, value)
	}
	return a
}

func (a *answer) decode(into any) *answer {
	a.t.Helper()
	if err := json.Unmarshal([]byte(a.body), into); err != nil {
		a.t.Errorf("%s: %v in %.200q", a.what, err, a.body)
	}
	return a
}

// option changes a request before it is sent.
type option func(*http.Request)

func header(name string, values ...string) option {
	return func(r *http.Request) { r.Header[name] = values } // as written, not canonical
}

// sameOrigin is what a browser sends with fetch from one of our own pages.
func sameOrigin(r *http.Request) {
	r.Header.Set("Origin", publicOrigin)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.Header.Set("Sec-Fetch-Mode", "cors")
}

// navigate is what it sends when a person goes somewhere.
func navigate(r *http.Request) {
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Sec-Fetch-Dest", "document")
	r.Header.Set("Accept", "text/html,*/*;q=0.8")
}

func body(contentType, text string) option {
	return func(r *http.Request) {
		r.Body = io.NopCloser(strings.NewReader(text))
		r.ContentLength = int64(len(text))
		if contentType != "" {
			r.Header.Set("Content-Type", contentType)
		}
	}
}

func host(name string) option { return func(r *http.Request) { r.Host = name } }

// send makes one request at the public listener.
func (s *stack) send(t testing.TB, method, target string, options ...option) *answer {
	t.Helper()
	response := s.open(t, method, target, options...)
	defer func() { _ = response.Body.Close() }()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	s.remember(response.Header, string(read))
	return &answer{t, method + " " + target, response.StatusCode, response.Header, string(read), true}
}

// open is send for answers that are read as they come.
func (s *stack) open(t testing.TB, method, target string, options ...option) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.base, nil)
	if err != nil {
		t.Fatal(err)
	}
	// Opaque keeps the client from tidying up what we want to send untidy. It
	// cannot say "//", which [stack.raw] can.
	request.URL.Opaque, request.URL.RawQuery, _ = strings.Cut(target, "?")
	request.Host = publicHost
	for _, option := range options {
		option(request)
	}
	response, err := s.client.Do(request)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	return response
}

// get reads a URL that is not the public listener's.
func (s *stack) get(t testing.TB, address string, options ...option) *answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, option := range options {
		option(request)
	}
	response, err := s.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return &answer{t, "GET " + address, response.StatusCode, response.Header, string(read), true}
}

// browser keeps cookies; it sends them whatever their path.
type browser struct {
	s       *stack
	cookies map[string]string
}

func (s *stack) browser() *browser { return &browser{s, map[string]string{}} }

func (b *browser) withCookies(r *http.Request) {
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
}

func (b *browser) send(t testing.TB, method, target string, options ...option) *answer {
	t.Helper()
	a := b.s.send(t, method, target, append([]option{b.withCookies}, options...)...)
	b.keep(t, a)
	return a
}

// keep takes over Set-Cookie, and checks what no cookie of ours may lack
// (security.md 14).
func (b *browser) keep(t testing.TB, a *answer) {
	t.Helper()
	for _, c := range (&http.Response{Header: a.header}).Cookies() {
		if strings.Contains(c.Name, "whisp-") && !strings.Contains(c.Name, "whisp-lb-") {
			if !strings.HasPrefix(c.Name, "__Host-") || !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" || c.SameSite != http.SameSiteLaxMode {
				t.Errorf("14: %s set a cookie with weak attributes: %s", a.what, c.Name)
			}
		}
		if c.MaxAge < 0 || c.Value == "" {
			delete(b.cookies, c.Name)
			continue
		}
		b.cookies[c.Name] = c.Value
		b.s.secret(c.Value)
	}
}

// toProvider begins a login and lets the provider answer: it returns the
// callback's path and query.
func (b *browser) toProvider(t testing.TB, person, returnTo string) string {
	t.Helper()
	begun := b.send(t, http.MethodGet, "/auth/login?return_to="+url.QueryEscape(returnTo), navigate)
	begun.want(http.StatusFound, "")
	answered := b.s.get(t, begun.header.Get("Location")+"&login_hint="+person)
	if answered.status != http.StatusSeeOther {
		t.Fatalf("provider: %d %s", answered.status, answered.body)
	}
	callback, err := url.Parse(answered.header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	b.s.secret(callback.Query().Get("code"))
	b.s.secret(callback.Query().Get("state"))
	return callback.RequestURI()
}

const sessionCookie = "__Host-whisp-session"

// login signs a person in.
func (s *stack) login(t testing.TB, person string) *browser {
	t.Helper()
	s.waitReady(t)
	b := s.browser()
	b.send(t, http.MethodGet, b.toProvider(t, person, "/welcome?x=1"), navigate).
		want(http.StatusFound, "").has("Location", "/welcome?x=1")
	if b.cookies[sessionCookie] == "" {
		t.Fatal("no session cookie after login")
	}
	return b
}

type grant struct {
	JWT, RefreshToken, UserID, Username string
	ExpiresAt                           time.Time
}

// signIn gets a grant.
func (b *browser) signIn(t testing.TB, options ...option) grant {
	t.Helper()
	var g grant
	b.send(t, http.MethodPost, "/auth/whisp/sign-in", append([]option{sameOrigin}, options...)...).want(http.StatusOK, "").decode(&g)
	b.s.secret(g.JWT)
	b.s.secret(g.RefreshToken)
	return g
}

// ticket fetches a realtime ticket.
func (b *browser) ticket(t testing.TB, g grant) string {
	t.Helper()
	var got struct{ Ticket string }
	b.send(t, http.MethodGet, "/whisp/api/auth/getTicket", sameOrigin, header("Authorization", "Bearer "+g.JWT)).
		want(http.StatusOK, "").decode(&got)
	b.s.secret(got.Ticket)
	return got.Ticket
}

// rawOnce writes bytes as they are and reads the first answer; nil if there is
// none.
func (s *stack) rawOnce(t testing.TB, request string) *answer {
	t.Helper()
	answers, _ := s.raw(t, request, 1)
	if len(answers) == 0 {
		return nil
	}
	return answers[0]
}

// raw writes bytes as they are and reads answers, until the server closes or has
// been quiet for a moment, but no more than most.
func (s *stack) raw(t testing.TB, request string, most int) (answers []*answer, closed bool) {
	t.Helper()
	conn := s.dial(t)
	defer func() { _ = conn.Close() }()
	go func() { _, _ = io.WriteString(conn, request) }()
	reader := bufio.NewReader(conn)
	for len(answers) < most {
		quiet := 3 * time.Second
		if len(answers) > 0 {
			quiet = 150 * time.Millisecond
		}
		_ = conn.SetReadDeadline(time.Now().Add(quiet))
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			timeout, ok := errors.AsType[net.Error](err)
			return answers, !ok || !timeout.Timeout()
		}
		read, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		s.remember(response.Header, string(read))
		answers = append(answers, &answer{t, "raw", response.StatusCode, response.Header, string(read), err == nil})
	}
	return answers, false
}

// logs collects what the server logs.
type logs struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// lines returns the log lines with that message.
func (l *logs) lines(t testing.TB, message string) (found []map[string]any) {
	t.Helper()
	for line := range strings.Lines(l.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		if fields["msg"] == message {
			found = append(found, fields)
		}
	}
	return found
}

// secret notes a text that must be in no log line and no metric.
func (s *stack) secret(text string) {
	if len(text) < 8 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.secrets, text) {
		s.secrets = append(s.secrets, text)
	}
}

func (s *stack) remember(h http.Header, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen.Len() < 8<<20 {
		_ = h.Write(&s.seen)
		s.seen.WriteString(text)
	}
}

func (s *stack) metricsText(t testing.TB) string {
	t.Helper()
	families, err := s.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(&text, family); err != nil {
			t.Fatal(err)
		}
	}
	return text.String()
}

// verifySecrecy runs at the end of every test (security.md 24, 46, 63).
func (s *stack) verifySecrecy(t testing.TB) {
	t.Helper()
	logged, counted := s.logs.String(), s.metricsText(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, constant := range []string{apiKey, clientSecret, masterSecret} {
		if strings.Contains(s.seen.String(), constant) {
			t.Errorf("63: %.8s… is in an answer", constant)
		}
	}
	for _, text := range append(s.secrets, apiKey, clientSecret, masterSecret, "@example.com") {
		if at := strings.Index(logged, text); at >= 0 {
			from := strings.LastIndexByte(logged[:at], '\n') + 1
			t.Errorf("63: a secret is in the log: %.600s", logged[from:])
			return
		}
		if strings.Contains(counted, text) {
			t.Errorf("46: a secret (%.8s…) is in a metric", text)
		}
	}
	for _, request := range s.whisp.Requests() {
		key := request.Header.Get("X-Api-Key")
		if key != "" && request.Operation != "signIn" && request.Operation != "registerUser" {
			t.Errorf("24: %s reached Whisp with an x-api-key", request.Operation)
		}
	}
}
