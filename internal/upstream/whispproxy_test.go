package upstream

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

// code reads the code of a problem answer.
func code(body string) string {
	var p struct {
		Code string `json:"code"`
	}
	_ = json.Unmarshal([]byte(body), &p)
	return p.Code
}

// The request that Whisp sees consists of what the lists allow (security.md
// 21 to 25): no credential of ours, and no cookie but the balancer's.
func TestWhispSeesOnlyWhatIsAllowed(t *testing.T) {
	var seen *http.Request
	var body string
	s := newWhispSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		seen, body = r, string(b)
		fmt.Fprint(w, "{}")
	}))
	send(t, "POST", s.URL+"/whisp/api/chat/createChat?page=1&x=%2f", `{"chatName":"x"}`,
		"Authorization: Bearer a.b.c", "Accept: */*", "Accept-Language: de", "Accept-Encoding: br", "Content-Type: application/json",
		"User-Agent: test", "Traceparent: 00-1", "Tracestate: a=1", "Tracestate: b=2",
		"Cookie: __Host-whisp-session=s; theme=dark; __Host-whisp-lb-AWSALB=node-1; idp=x",
		"X-Api-Key: stolen", "x-api-key: stolen", "X_api_key: stolen", "X-Forwarded-User: admin", "X_Forwarded_User: admin", "X.Forwarded.User: admin",
		"X-Forwarded-For: 1.2.3.4", "X-Forwarded-Prefix: /x", "Forwarded: for=1.2.3.4", "X-Real-Ip: 1.2.3.4", "X-Original-Url: /api/user/signin",
		"X-Rewrite-Url: /api/user/signin", "X-Http-Method-Override: DELETE", "Referer: https://app.example.com/?ticket=secret",
		"Origin: https://evil.test", "Sec-Fetch-Site: same-origin", "Te: trailers", "Connection: accept-language, upgrade", "Upgrade: h2c",
		"Http2-Settings: AAMAAABkAAQAAP__", "Proxy-Authorization: Basic x", "Proxy: http://evil.test", "X-Whisp-User: admin")
	if seen == nil {
		t.Fatal("nothing arrived")
	}
	var names []string
	for name := range seen.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	want := []string{"Accept", "Accept-Encoding", "Authorization", "Content-Length", "Content-Type", "Cookie", "Traceparent", "Tracestate", "User-Agent"}
	if !slices.Equal(names, want) {
		t.Errorf("headers %q,\n  want %q", names, want)
	}
	if got := seen.Header.Get("Cookie"); got != "AWSALB=node-1" {
		t.Errorf("Cookie %q", got)
	}
	if seen.RequestURI != "/api/chat/createChat?page=1&x=%2f" || body != `{"chatName":"x"}` || len(seen.Header["Tracestate"]) != 2 {
		t.Errorf("%s %q %q", seen.RequestURI, body, seen.Header["Tracestate"])
	}
	if strings.HasPrefix(seen.Host, "app.") || seen.Host == strings.TrimPrefix(s.URL, "http://") {
		t.Errorf("Host %s is not Whisp's", seen.Host)
	}
}

func TestWhispHeaderDropsWhatIsAmbiguous(t *testing.T) {
	out := WhispHeader(http.Header{
		"Authorization": {"Bearer a", "Bearer b"}, "Content-Type": {"a/b", "c/d"}, "Accept": {"a/b", "c/d"}, "authorization": {"x"},
	})
	if len(out) != 1 || len(out["Accept"]) != 2 {
		t.Errorf("got %v", out)
	}
}

func TestQueryAndBodyBounds(t *testing.T) {
	var arrived atomic.Int32
	s := newWhispSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, "{}")
	}))
	for name, c := range map[string]struct{ method, path, body, code string }{
		"a hundred pairs":     {"GET", "getChats?" + strings.Repeat("a=1&", 99) + "a=1", "", ""},
		"a hundred and one":   {"GET", "getChats?" + strings.Repeat("a=1&", 100) + "a=1", "", "path_not_canonical"},
		"semicolon":           {"GET", "getChats?a=1;b=2", "", "path_not_canonical"},
		"broken escape":       {"GET", "getChats?a=%zz", "", "path_not_canonical"},
		"9 KiB query":         {"GET", "getChats?a=" + strings.Repeat("b", 9<<10), "", "path_not_canonical"},
		"body with length":    {"POST", "createChat", strings.Repeat("x", 1<<20+1), "body_too_large"},
		"body of exactly 1MB": {"POST", "createChat", strings.Repeat("x", 1<<20), ""},
	} {
		before := arrived.Load()
		_, body := send(t, c.method, s.URL+"/whisp/api/chat/"+c.path, c.body)
		if code(body) != c.code || (arrived.Load() > before) != (c.code == "") {
			t.Errorf("%s: got %q, arrived %v", name, body, arrived.Load() > before)
		}
	}
	request, _ := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/whisp/api/chat/createChat", io.MultiReader(strings.NewReader(strings.Repeat("x", 2<<20))))
	response, err := http.DefaultClient.Do(request) // chunked
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusRequestEntityTooLarge || code(string(body)) != "body_too_large" {
		t.Errorf("chunked: %d %s", response.StatusCode, body)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestABodyOfAGetIsNotForwarded(t *testing.T) {
	s := newWhispSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, `{"length":%d,"type":%q}`, len(b), r.Header.Get("Content-Type"))
	}))
	_, body := send(t, "GET", s.URL+"/whisp/api/chat/getChats", "POST /api/user/signin HTTP/1.1\r\n\r\n", "Content-Type: application/json")
	if body != `{"length":0,"type":"application/json"}` {
		t.Errorf("got %s", body)
	}
}

// What the browser sees of an answer.
func TestBrowserSeesOnlyWhatIsAllowed(t *testing.T) {
	s := newWhispSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		for _, line := range []string{
			"Content-Type: application/json", "Authorization: new.jwt.x", "Set-Cookie: AWSALB=n1; Path=/", "Set-Cookie: __Host-whisp-session=evil",
			"Access-Control-Allow-Origin: *", "Access-Control-Allow-Credentials: true", "Server: nginx", "X-Powered-By: Spring", "Location: https://evil.test",
			"Cache-Control: public, max-age=3600", "ETag: x", "Clear-Site-Data: \"*\"", "Refresh: 0;url=https://evil.test", "Retry-After: 3",
			"Www-Authenticate: Basic realm=x", "Trailer: Set-Cookie",
		} {
			name, value, _ := strings.Cut(line, ": ")
			h.Add(name, value)
		}
		if link := h; r.URL.Query().Get("hint") != "" {
			link.Set("Link", "</x>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			link.Del("Link")
		}
		fmt.Fprint(w, `{"a":1}`)
		h.Set("Set-Cookie", "trailer=1")
	}))
	for _, query := range []string{"", "?hint=1"} {
		response, body := send(t, "POST", s.URL+"/whisp/api/user/changeUsername"+query, "{}")
		var names []string
		for name := range response.Header {
			names = append(names, name)
		}
		slices.Sort(names)
		want := []string{"Authorization", "Cache-Control", "Content-Security-Policy", "Content-Type", "Cross-Origin-Resource-Policy", "Date", "Retry-After", "Set-Cookie", "X-Content-Type-Options"}
		if !slices.Equal(names, want) || len(response.Trailer) != 0 {
			t.Errorf("headers %q, trailers %v", names, response.Trailer)
		}
		if got := response.Header.Get("Authorization"); got != "Bearer new.jwt.x" {
			t.Errorf("Authorization %q", got)
		}
		if got := response.Header["Set-Cookie"]; len(got) != 2 || !strings.HasPrefix(got[0], "__Host-whisp-lb-AWSALB=n1;") || !strings.HasPrefix(got[1], "__Host-whisp-lb-__Host-whisp-session=evil;") {
			t.Errorf("Set-Cookie %q", got)
		}
		if response.Header.Get("Cache-Control") != "no-store" || body != `{"a":1}` {
			t.Errorf("%q %q", response.Header.Get("Cache-Control"), body)
		}
	}
	if want := []string{"session-1 changeUsername OK", "session-1 changeUsername OK"}; !slices.Equal(s.passed, want) {
		t.Errorf("passed %q", s.passed)
	}
}

func TestAnswersThatWouldMislead(t *testing.T) {
	for name, c := range map[string]struct {
		status  int
		headers []string
		body    string
		want    int
		code    string
	}{
		"own 401":               {401, []string{"Content-Type: application/problem+json", "Www-Authenticate: Bearer"}, `{"status":"401","code":"AUTH_INVALID_TOKEN"}`, 401, "AUTH_INVALID_TOKEN"},
		"own 400":               {400, []string{"Content-Type: application/json"}, `{"message":"no"}`, 400, ""},
		"own 429":               {429, []string{"Content-Type: application/json", "Retry-After: 2"}, `{}`, 429, ""},
		"own 500 JSON":          {500, []string{"Content-Type: application/json"}, `{"code":"X"}`, 500, "X"},
		"empty 200":             {200, nil, "", 200, ""},
		"login redirect":        {302, []string{"Location: /login"}, "", 502, "whisp_bad_answer"},
		"not modified":          {304, nil, "", 502, "whisp_bad_answer"},
		"maintenance page":      {200, []string{"Content-Type: text/html"}, "<html>", 502, "whisp_bad_answer"},
		"gateway's 502":         {502, []string{"Content-Type: text/html", "Retry-After: 7"}, "<html>", 503, "whisp_failed"},
		"gateway's plain 503":   {503, nil, "overloaded", 503, "whisp_failed"},
		"firewall's HTML 403":   {403, []string{"Content-Type: text/html"}, "<script>", 403, ""},
		"204":                   {204, nil, "", 204, ""},
		"sniffable, mixed case": {200, []string{"Content-Type: TEXT/HTML; charset=utf-8"}, "<html>", 502, "whisp_bad_answer"},
	} {
		s := newWhispSite(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for _, line := range c.headers {
				n, v, _ := strings.Cut(line, ": ")
				w.Header().Set(n, v)
			}
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		}))
		response, body := send(t, "GET", s.URL+"/whisp/api/user/getUser", "")
		if response.StatusCode != c.want || code(body) != c.code {
			t.Errorf("%s: got %d %s", name, response.StatusCode, body)
		}
		if c.want == c.status && c.code != "whisp_failed" && body != c.body {
			t.Errorf("%s: body %q", name, body)
		}
		if name == "own 401" && response.Header.Get("Www-Authenticate") != "Bearer" {
			t.Errorf("%s: challenge lost", name)
		}
		if name == "gateway's 502" && response.Header.Get("Retry-After") != "7" {
			t.Errorf("%s: Retry-After lost", name)
		}
		if name == "firewall's HTML 403" && !strings.Contains(response.Header.Get("Content-Security-Policy"), "sandbox") {
			t.Errorf("%s: scripts could run", name)
		}
	}
}

func TestTicketsAreReportedBeforeTheyAreAnswered(t *testing.T) {
	answer := `{"ticket":"ticket-1"}`
	s := newWhispSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "" {
			t.Error("the ticket could come compressed")
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, answer)
		w.(http.Flusher).Flush() // chunked
	}))
	for _, path := range []string{"/whisp/api/auth/getTicket", "/whisp/api/user/getTicket"} {
		response, body := send(t, "GET", s.URL+path, "", "Accept-Encoding: gzip", "Authorization: Bearer x")
		if body != answer || response.ContentLength != int64(len(answer)) || response.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %q %d", path, body, response.ContentLength)
		}
	}
	if want := []string{"session-1 ticket-1", "session-1 ticket-1"}; !slices.Equal(s.tickets, want) {
		t.Errorf("tickets %q", s.tickets)
	}
	for _, bad := range []string{"", "{}", "null", `{"ticket":""}`, `"ticket"`, strings.Repeat(" ", 65<<10) + "{}"} {
		answer = bad
		if _, body := send(t, "GET", s.URL+"/whisp/api/auth/getTicket", ""); code(body) != "whisp_bad_answer" {
			t.Errorf("%.20q: %s", bad, body)
		}
	}
	if strings.Contains(s.log.String(), "ticket-1") {
		t.Error("the ticket shows in the log")
	}
}

func TestFaultsOfTheNetwork(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := listener.Addr().String()
	_ = listener.Close()
	garbage, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer garbage.Close()
	go func() {
		for {
			conn, err := garbage.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = conn.Write([]byte("SSH-2.0-OpenSSH\r\n\r\n"))
			_ = conn.Close()
		}
	}()
	release := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer hanging.Close()
	defer close(release)
	// Only what hangs may run into a timeout, however busy the machine is.
	patience := func(header time.Duration) func(*WhispConfig) {
		return func(c *WhispConfig) {
			c.Timeouts.ResponseHeader = setting.Duration(header)
			c.RefreshPatience = setting.Duration(60 * time.Millisecond)
		}
	}
	for name, c := range map[string]struct {
		base, want string
		header     time.Duration
	}{
		"refused": {"http://" + refused, "whisp_unreachable", time.Minute},
		"garbage": {"http://" + garbage.Addr().String(), "whisp_unreachable", time.Minute},
		"hanging": {hanging.URL, "whisp_timeout", 50 * time.Millisecond},
	} {
		s := whispSiteTo(t, c.base, patience(c.header))
		for _, call := range []string{"GET /whisp/api/user/getUser", "POST /whisp/api/auth/refresh", "GET /whisp/api/auth/getTicket"} {
			method, path, _ := strings.Cut(call, " ")
			response, body := send(t, method, s.URL+path, "")
			if response.StatusCode != http.StatusServiceUnavailable || code(body) != c.want {
				t.Errorf("%s: %s: %d %s", name, call, response.StatusCode, body)
			}
		}
	}
}

// Neither a client that leaves nor one that provokes 500 opens the breaker.
func TestWhatOneBrowserProvokesDoesNotOpenTheBreaker(t *testing.T) {
	entered := make(chan struct{})
	s := newWhispSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("hang") != "" {
			entered <- struct{}{}
			<-r.Context().Done()
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(500)
	}), func(c *WhispConfig) { c.Breaker.Failures = 1 })
	for range 3 {
		if response, _ := send(t, "GET", s.URL+"/whisp/api/chat/getChats", ""); response.StatusCode != 500 {
			t.Errorf("status %d", response.StatusCode)
		}
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "GET /whisp/api/chat/getChats?hang=1 HTTP/1.1\r\nHost: x\r\n\r\n")
	<-entered
	_ = conn.Close()
	if response, _ := send(t, "GET", s.URL+"/whisp/api/chat/getChats", ""); response.StatusCode != 500 {
		t.Errorf("after the client left: status %d", response.StatusCode)
	}
}

func TestBreakerGuardsProxiedCallsToo(t *testing.T) {
	s := whispSiteTo(t, "http://127.0.0.1:1", func(c *WhispConfig) { c.Breaker.Failures = 2 })
	var retry string
	for range 3 {
		response, body := send(t, "GET", s.URL+"/whisp/api/chat/getChats", "")
		retry = response.Header.Get("Retry-After")
		if code(body) != "whisp_unreachable" {
			t.Errorf("got %s", body)
		}
	}
	if retry != "5" {
		t.Errorf("an open breaker says Retry-After %q", retry)
	}
}

// An upload that the client breaks off is the client's fault.
func TestBrokenUploadIsNotWhispsFault(t *testing.T) {
	done := make(chan error, 1)
	s := newWhispSite(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		done <- err
	}), func(c *WhispConfig) { c.Breaker.Failures = 1 })
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "POST /whisp/api/chat/createChat HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
	_ = conn.(*net.TCPConn).CloseWrite()
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err == nil {
		_ = answer.Body.Close()
		if answer.StatusCode != StatusClientGone {
			t.Errorf("status %d", answer.StatusCode)
		}
	}
	_ = conn.Close()
	if err := <-done; err == nil {
		t.Error("whisp saw a whole body")
	}
}

// Any failed refresh makes the SDK drop its sign-in, so short trouble is waited out.
func TestRefreshIsWaitedOut(t *testing.T) {
	for name, c := range map[string]struct {
		answers []int // by attempt, the last repeats; 0 is a reset
		want    int
		code    string
		calls   int
	}{
		"at once":            {[]int{200}, 200, "", 1},
		"after faults":       {[]int{503, 0, 429, 500, 200}, 200, "", 5},
		"dead token":         {[]int{401}, 401, "AUTH_INVALID_TOKEN", 1},
		"dead after a fault": {[]int{502, 401}, 401, "AUTH_INVALID_TOKEN", 2},
		"bad request":        {[]int{400}, 400, "AUTH_INVALID_TOKEN", 1},
		"redirect":           {[]int{302}, 502, "whisp_bad_answer", 1},
		"no JWT":             {[]int{299}, 502, "whisp_bad_answer", 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				proxy := NewWhispProxy(whispConfig("https://whisp.test"), WhispProxyDeps{
					WhispDeps: whispDeps(t, whispConfig("https://whisp.test")), Fail: fail,
					Cookies: NewBalancerCookies(setting.MustURL("https://app.example.com"), time.Now),
				})
				proxy.transport = roundTrip(func(r *http.Request) (*http.Response, error) {
					body, _ := io.ReadAll(r.Body)
					if string(body) != `{"expiredJwt":"Bearer x"}` || r.Header.Get("Authorization") != "Bearer refresh-1" || r.Header.Get("X-Api-Key") != "" {
						t.Errorf("attempt %d: %s %v", calls, body, r.Header)
					}
					status := c.answers[min(calls, len(c.answers)-1)]
					calls++
					switch status {
					case 0:
						return nil, errReset
					case 200:
						return reply(200, "", "Authorization: bearer new.jwt.x", "Set-Cookie: lb=1"), nil
					default:
						return reply(status, `{"code":"AUTH_INVALID_TOKEN"}`, "Content-Type: application/json"), nil
					}
				})
				w := httptest.NewRecorder()
				r := httptest.NewRequestWithContext(t.Context(), "POST", "/", strings.NewReader(`{"expiredJwt":"Bearer x"}`))
				r.Header = http.Header{"Authorization": {"Bearer refresh-1"}, "X-Api-Key": {"stolen"}}
				proxy.Serve(w, r, Route{Operation: OperationRefresh}, "s")
				if w.Code != c.want || code(w.Body.String()) != c.code || calls != c.calls {
					t.Errorf("%d %s after %d calls", w.Code, w.Body, calls)
				}
				if c.want == 200 && (w.Header().Get("Authorization") != "Bearer new.jwt.x" || w.Header().Get("Set-Cookie") == "" || w.Header().Get("Cache-Control") != "no-store") {
					t.Errorf("headers %v", w.Header())
				}
			})
		})
	}
}

func TestRefreshGivesUpWhenPatienceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := whispConfig("https://whisp.test")
		deps := whispDeps(t, cfg)
		deps.Rand = strings.NewReader(strings.Repeat("\x7f", 4*1000))
		proxy := NewWhispProxy(cfg, WhispProxyDeps{WhispDeps: deps, Fail: fail, Cookies: NewBalancerCookies(cfg.URL, time.Now)})
		calls := 0
		proxy.transport = roundTrip(func(*http.Request) (*http.Response, error) {
			calls++
			return reply(503, ""), nil
		})
		ask := func() *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			proxy.Serve(w, httptest.NewRequestWithContext(t.Context(), "POST", "/", nil), Route{Operation: OperationRefresh}, "s")
			return w
		}
		start := time.Now()
		w := ask()
		if took := time.Since(start); w.Code != 503 || code(w.Body.String()) != "whisp_failed" || took > 8*time.Second || took < 4*time.Second {
			t.Errorf("%d %s after %v", w.Code, w.Body, took)
		}
		if calls < 4 || calls > 40 {
			t.Errorf("%d attempts", calls)
		}
		proxy.transport = roundTrip(func(*http.Request) (*http.Response, error) { return reply(429, "", "Retry-After: 60"), nil })
		start = time.Now()
		if w := ask(); code(w.Body.String()) != "whisp_rate_limited" || w.Header().Get("Retry-After") != "60" || time.Since(start) != 0 {
			t.Errorf("%s %v after %v", w.Body, w.Header(), time.Since(start))
		}
		w = httptest.NewRecorder()
		proxy.Serve(w, httptest.NewRequestWithContext(t.Context(), "POST", "/", io.MultiReader(strings.NewReader(strings.Repeat("x", 65<<10)))), Route{Operation: OperationRefresh}, "s")
		if code(w.Body.String()) != "body_too_large" {
			t.Errorf("large body: %s", w.Body)
		}
	})
}
