//go:build e2e

package e2e

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

// One whole session with everything logged, then a search for what must not be
// anywhere: every secret in every log line and metric, and those of the server
// in every answer a browser got (security.md 42, 46, 63).
func TestNoSecretLeaks(t *testing.T) {
	t.Parallel()
	st := newStack(t, setup{logLevel: "debug"})
	b := newBrowser(t, loadFailures)
	alice, bob := b.open(t, st, "alice", window{}), b.open(t, st, "bob", window{})
	bob.signIn(t, "bob")
	alice.signIn(t, "alice")
	alice.click(t, `[data-person="bob"]`)
	alice.sees(t, "#chat-title", "Bob Brown")
	alice.say(t, "Hello")
	bob.click(t, "#chats .row")
	bob.sees(t, ".theirs .bubble", "Hello")
	bob.watchStatus(t)
	st.jwtsExpire()
	st.sim.CloseSockets(1012, "restart")
	bob.statusWas(t, "Reconnecting", "Connected")
	alice.sees(t, "#status", "Connected")
	cookies := append(b.cookies(t, "alice"), b.cookies(t, "bob")...)
	misuse(t, st)

	alice.click(t, "#log-out")
	alice.click(t, "#logout")
	alice.arrives(t, st.origin)
	answers := call[[]exchange](t, b, command{"do": "responses"})
	metrics := st.metrics(t)
	st.bff.stop(t) // the log is complete

	found := whatWhispSaw(t, st.sim.Requests())
	found.fromBrowser(t, st, answers, cookies)
	found.add("API key", st.apiKey)
	found.add("client secret", st.clientSecret)
	found.add("master secret", st.masterSecret)
	for _, kind := range []string{"JWT", "refresh token", "ticket", "password", "cookie", "code", "state"} {
		if len(found[kind]) == 0 {
			t.Errorf("the session showed no %s: the search would prove nothing", kind)
		}
	}
	log := st.bff.log.String()
	if !strings.Contains(strings.ToLower(log), "debug") {
		t.Error("nothing was logged at level debug: the search would prove nothing")
	}
	for kind, values := range found {
		for _, value := range values {
			if at := strings.Index(log, value); at >= 0 {
				t.Errorf("the log has a %s: …%s…", kind, log[max(0, at-200):at])
			}
			if strings.Contains(metrics, value) {
				t.Errorf("/metrics has a %s", kind)
			}
		}
	}
	searchAnswers(t, answers, found)
}

// misuse walks into what logs most: things that go wrong.
func misuse(t *testing.T, st *stack) {
	carol := st.login(t, "carol")
	in := carol.signIn(t)
	carol.whisp(t, http.MethodGet, "user/getUser", "", in.JWT+"x")
	carol.whisp(t, http.MethodPost, "auth/refresh", `{"expiredJwt":"`+in.JWT+`"}`, in.RefreshToken+"x")
	carol.whisp(t, http.MethodPost, "user/signin", `{"username":"carol","password":"`+st.apiKey+`"}`, in.JWT)
	carol.fetch(t, http.MethodGet, "/whisp/api/wsConnect?ticket="+in.JWT, "")
	carol.fetch(t, http.MethodGet, "/whisp/api/wsConnect/info?ticket="+in.JWT, "")
	carol.fetch(t, http.MethodGet, "/auth/callback?code="+in.JWT+"&state="+in.RefreshToken, "")
	carol.fetch(t, http.MethodPost, "/auth/whisp/sign-in", `{"username":"carol","password":"`+in.JWT+`"}`)
	st.sim.Fail(whispsim.Fault{Operation: "signIn", Status: http.StatusInternalServerError, Body: st.apiKey, Times: 3})
	st.login(t, "dave").fetch(t, http.MethodPost, "/auth/whisp/sign-in", "")
	st.sim.Heal("*")
}

// secrets are values by kind.
type secrets map[string][]string

func (s secrets) add(kind, value string) {
	if len(value) < 8 { // too short to be found by search, and no secret of ours
		return
	}
	for _, known := range s[kind] {
		if known == value {
			return
		}
	}
	s[kind] = append(s[kind], value)
}

func whatWhispSaw(t *testing.T, requests []whispsim.Request) secrets {
	t.Helper()
	found := secrets{}
	for _, r := range requests {
		if _, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok {
			if r.Operation == "refreshToken" {
				found.add("refresh token", token)
			} else {
				found.add("JWT", token)
			}
		}
		if query, err := url.ParseQuery(r.Query); err == nil {
			found.add("ticket", query.Get("ticket"))
		}
		var body struct{ Password, RefreshToken string }
		if json.Unmarshal(r.Body, &body) == nil {
			found.add("password", body.Password)
			found.add("refresh token", body.RefreshToken)
		}
		if key := r.Header.Get("X-Api-Key"); key != "" && r.Operation != "signIn" && r.Operation != "registerUser" {
			t.Errorf("%s was called with an API key", r.Operation)
		}
	}
	return found
}

func (s secrets) fromBrowser(t *testing.T, st *stack, answers []exchange, cookies []cookie) {
	t.Helper()
	for _, answer := range answers {
		at, err := url.Parse(answer.URL)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(answer.URL, st.origin+"/auth/callback") {
			s.add("code", at.Query().Get("code"))
			s.add("state", at.Query().Get("state"))
		}
		if at.Path == "/auth/whisp/sign-in" && answer.Status == http.StatusOK {
			in := decode[signedIn](t, []byte(answer.Body))
			s.add("JWT", in.JWT)
			s.add("refresh token", in.RefreshToken)
		}
		if _, token, ok := strings.Cut(answer.Headers["authorization"], " "); ok {
			s.add("JWT", token)
		}
	}
	for _, cookie := range cookies {
		if cookie.Domain == "localhost" {
			s.add("cookie", cookie.Value)
		}
	}
}

// searchAnswers looks for what no browser may ever see.
func searchAnswers(t *testing.T, answers []exchange, found secrets) {
	t.Helper()
	if len(answers) < 20 {
		t.Errorf("only %d answers were recorded: the search would prove nothing", len(answers))
	}
	anyKeyHeader := regexp.MustCompile(`(?i)^x-api-key$`)
	for _, answer := range answers {
		text := answer.URL + "\n" + answer.Body
		for name, value := range answer.Headers {
			text += "\n" + name + ": " + value
			if anyKeyHeader.MatchString(name) {
				t.Errorf("%s answers with the header %s", answer.URL, name)
			}
		}
		for _, kind := range []string{"API key", "client secret", "master secret", "password"} {
			for _, value := range found[kind] {
				if strings.Contains(text, value) {
					t.Errorf("the answer of %s has the %s", answer.URL, kind)
				}
			}
		}
	}
}
