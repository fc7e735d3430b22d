package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/server"
	"github.com/whisp-bff/whisp-bff/internal/setting"
	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

const adminToken = "admin-token-of-more-than-32-bytes-never-to-be-seen"

func withAdminToken(c *setup) { c.server.AdminToken = setting.SecretValue(adminToken) }

// administer makes one call of the admin API, by default as a program does that
// holds the token.
func (s *stack) administer(t testing.TB, method, target, text string, options ...option) *answer {
	t.Helper()
	s.secret(adminToken)
	request, err := http.NewRequestWithContext(t.Context(), method, s.admin+target, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+adminToken)
	if text != "" {
		request.Header.Set("Content-Type", "application/json")
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
	s.remember(response.Header, string(read))
	return &answer{t, method + " " + target, response.StatusCode, response.Header, string(read), true}
}

// person is an identity as the body of a call.
func person(subject string, claims map[string]any) string {
	text, _ := json.Marshal(map[string]any{"issuer": "https://login.example.com", "subject": subject, "claims": claims})
	return string(text)
}

const whoIsAnn = "/admin/accounts?issuer=https%3A%2F%2Flogin.example.com&subject=ann"

type account struct {
	UserID, Username string
	Created          *bool
	Error            *struct{ Code, Message string }
}

func TestAdminPreRegisters(t *testing.T) {
	t.Parallel()
	s := start(t, withAdminToken)
	ann := person("ann", map[string]any{"preferred_username": "ann", "email": "ann@example.com", "groups": []string{"a"}})

	s.administer(t, http.MethodGet, whoIsAnn, "").want(http.StatusNotFound, "account_unknown")
	var made, again, found account
	s.administer(t, http.MethodPost, "/admin/accounts", ann).want(http.StatusCreated, "").has("Cache-Control", "no-store").decode(&made)
	if made.UserID == "" || made.Username != "ann" || made.Created == nil || !*made.Created {
		t.Fatalf("made %+v", made)
	}
	s.administer(t, http.MethodPost, "/admin/accounts", ann).want(http.StatusOK, "").decode(&again)
	if again.UserID != made.UserID || *again.Created {
		t.Errorf("again %+v", again)
	}
	s.administer(t, http.MethodGet, whoIsAnn, "").want(http.StatusOK, "").decode(&found)
	if found.UserID != made.UserID || found.Username != "ann" {
		t.Errorf("found %+v", found)
	}
	users := s.whisp.Users()
	if len(users) != 1 || users[0].ID != made.UserID || users[0].Refresh != 0 {
		t.Errorf("Whisp has %+v; want one account, and no refresh token left behind", users)
	}

	// Released, the account is found again: the link said nothing that cannot be derived.
	s.administer(t, http.MethodDelete, whoIsAnn, "").want(http.StatusNoContent, "")
	s.administer(t, http.MethodGet, whoIsAnn, "").want(http.StatusNotFound, "account_unknown")
	s.administer(t, http.MethodDelete, whoIsAnn, "").want(http.StatusNoContent, "")
	s.administer(t, http.MethodPost, "/admin/accounts", ann).want(http.StatusOK, "").decode(&again)
	if again.UserID != made.UserID {
		t.Errorf("after release: %+v, want %s", again, made.UserID)
	}
}

// Who was pre-registered signs in to that account.
func TestPreRegisteredSignsIn(t *testing.T) {
	t.Parallel()
	s := start(t, withAdminToken)
	alice := s.login(t, "alice")
	var who struct {
		Issuer, Subject string
		Claims          map[string]any
	}
	alice.send(t, http.MethodGet, "/auth/session", sameOrigin).want(http.StatusOK, "").decode(&who)
	text, _ := json.Marshal(map[string]any{"issuer": who.Issuer, "subject": who.Subject, "claims": who.Claims})
	var made account
	s.administer(t, http.MethodPost, "/admin/accounts", string(text)).want(http.StatusCreated, "").decode(&made)
	if g := alice.signIn(t); g.UserID != made.UserID || g.Username != made.Username {
		t.Errorf("signed in as %s %s, registered %s %s", g.UserID, g.Username, made.UserID, made.Username)
	}
}

func TestAdminList(t *testing.T) {
	t.Parallel()
	s := start(t, withAdminToken)
	people := []string{
		person("u1", map[string]any{"preferred_username": "sam"}),
		person("", nil),
		person("u2", map[string]any{"preferred_username": "sam"}), // the same name: another account
		person("u\n3", nil),
	}
	for i := range 40 {
		people = append(people, person(fmt.Sprint("n", i), nil))
	}
	var got struct {
		Accounts                  []account
		Created, Existing, Failed int
		Stopped                   bool
	}
	s.administer(t, http.MethodPost, "/admin/accounts", `{"accounts":[`+strings.Join(people, ",")+`]}`).want(http.StatusOK, "").decode(&got)
	if len(got.Accounts) != 44 || got.Created != 42 || got.Failed != 2 || got.Existing != 0 || got.Stopped {
		t.Fatalf("%d items, %d created, %d failed, %d existing, stopped %v", len(got.Accounts), got.Created, got.Failed, got.Existing, got.Stopped)
	}
	if first, second := got.Accounts[0], got.Accounts[2]; first.UserID == second.UserID || !strings.HasPrefix(second.Username, "sam") {
		t.Errorf("two people of one name: %+v, %+v", first, second)
	}
	for _, i := range []int{1, 3} {
		if e := got.Accounts[i].Error; e == nil || e.Code != "identity_invalid" || e.Message == "" || got.Accounts[i].UserID != "" {
			t.Errorf("item %d: %+v", i, got.Accounts[i])
		}
	}
	s.administer(t, http.MethodPost, "/admin/accounts", `{"accounts":[]}`).want(http.StatusOK, "")
}

// A list stops when Whisp goes down half way, says what was done, and can be
// sent again.
func TestAdminListStops(t *testing.T) {
	t.Parallel()
	s := start(t, withAdminToken, func(c *setup) { c.whisp.Breaker.Failures = 1000 })
	var people []string
	for i := range 200 {
		people = append(people, person(fmt.Sprint("n", i), nil))
	}
	list := `{"accounts":[` + strings.Join(people, ",") + `]}`
	// The first people cost some sign-ins; then nothing works any more.
	s.whisp.Fail(whispsim.Fault{Operation: "registerUser", Times: 20, Delay: 1})
	s.whisp.Fail(whispsim.Fault{Operation: "registerUser", Drop: whispsim.DropBefore})
	var got struct {
		Accounts        []account
		Created, Failed int
		Stopped         bool
	}
	s.administer(t, http.MethodPost, "/admin/accounts", list).want(http.StatusOK, "").decode(&got)
	if !got.Stopped || got.Created < 1 || got.Created > 20 || got.Created+got.Failed != 200 {
		t.Fatalf("created %d, failed %d, stopped %v", got.Created, got.Failed, got.Stopped)
	}
	if e := got.Accounts[199].Error; e == nil || e.Code != "whisp_unreachable" {
		t.Errorf("an item that was not tried: %+v", got.Accounts[199])
	}
	if tried := s.whisp.Calls("registerUser"); tried > 40 {
		t.Errorf("registerUser was called %d times: it did not stop", tried)
	}
	s.whisp.Heal("*")
	s.whisp.Fail(whispsim.Fault{Operation: "*", Status: 503, RetryAfter: "7"})
	s.administer(t, http.MethodPost, "/admin/accounts", list).want(http.StatusOK, "") // those made are linked, and asked nobody
	s.administer(t, http.MethodPost, "/admin/accounts", `{"accounts":[`+person("x", nil)+`]}`).want(http.StatusServiceUnavailable, "whisp_failed").has("Retry-After", "7")
	s.whisp.Heal("*")
	var again struct{ Created, Existing, Failed int }
	s.administer(t, http.MethodPost, "/admin/accounts", list).want(http.StatusOK, "").decode(&again)
	if again.Failed != 0 || again.Existing != got.Created || len(s.whisp.Users()) != 200 {
		t.Errorf("again: %+v, %d accounts", again, len(s.whisp.Users()))
	}
}

func TestAdminPreview(t *testing.T) {
	t.Parallel()
	s := start(t, withAdminToken)
	var got struct {
		Usernames, Emails, DroppedClaims []string
		FirstName, SurName               string
	}
	s.administer(t, http.MethodPost, "/admin/accounts/preview", person("u1", map[string]any{
		"preferred_username": "Ann Smith", "email": "ann@example.com", "given_name": "Ann", "family_name": "{{.sub}}",
		"groups": strings.Repeat("x", 70<<10),
	})).want(http.StatusOK, "").decode(&got)
	if len(got.Usernames) != 2 || got.Usernames[0] != "Ann-Smith" || !strings.HasPrefix(got.Usernames[1], "Ann-Smith-") {
		t.Errorf("usernames %q", got.Usernames)
	}
	if len(got.Emails) != 2 || got.Emails[0] != "ann@example.com" || !strings.HasSuffix(got.Emails[1], "@users.invalid") {
		t.Errorf("emails %q", got.Emails)
	}
	if got.FirstName != "Ann" || got.SurName != "{{.sub}}" || len(got.DroppedClaims) != 1 || got.DroppedClaims[0] != "groups" {
		t.Errorf("%+v", got)
	}
	if calls := len(s.whisp.Requests()); calls != 0 || len(s.whisp.Users()) != 0 {
		t.Errorf("a preview asked Whisp %d times", calls)
	}
}

func TestAdminRefuses(t *testing.T) {
	t.Parallel()
	s := start(t, withAdminToken)
	ann := person("ann", nil)
	for name, test := range map[string]struct {
		method, target, body string
		options              []option
		status               int
		code                 string
	}{
		"no token":         {http.MethodPost, "/admin/accounts", ann, []option{header("Authorization")}, 401, "admin_token_refused"},
		"empty token":      {http.MethodPost, "/admin/accounts", ann, []option{header("Authorization", "Bearer ")}, 401, "admin_token_refused"},
		"another token":    {http.MethodPost, "/admin/accounts", ann, []option{header("Authorization", "Bearer "+adminToken+"x")}, 401, "admin_token_refused"},
		"half a token":     {http.MethodPost, "/admin/accounts", ann, []option{header("Authorization", "Bearer "+adminToken[:40])}, 401, "admin_token_refused"},
		"another scheme":   {http.MethodPost, "/admin/accounts", ann, []option{header("Authorization", "Basic "+adminToken)}, 401, "admin_token_refused"},
		"two tokens":       {http.MethodPost, "/admin/accounts", ann, []option{header("Authorization", "Bearer "+adminToken, "Bearer x")}, 401, "admin_token_refused"},
		"token in query":   {http.MethodGet, whoIsAnn + "&access_token=" + adminToken, "", []option{header("Authorization")}, 401, "admin_token_refused"},
		"a page":           {http.MethodPost, "/admin/accounts", ann, []option{header("Origin", "https://evil.example")}, 403, "origin_forbidden"},
		"our own page":     {http.MethodPost, "/admin/accounts", ann, []option{sameOrigin}, 403, "origin_forbidden"},
		"a page's GET":     {http.MethodGet, whoIsAnn, "", []option{header("Sec-Fetch-Site", "none")}, 403, "origin_forbidden"},
		"null origin":      {http.MethodPost, "/admin/accounts", ann, []option{header("Origin", "null")}, 403, "origin_forbidden"},
		"text/plain":       {http.MethodPost, "/admin/accounts", ann, []option{header("Content-Type", "text/plain")}, 400, "body_invalid"},
		"form":             {http.MethodPost, "/admin/accounts", "issuer=x", []option{header("Content-Type", "application/x-www-form-urlencoded")}, 400, "body_invalid"},
		"no body":          {http.MethodPost, "/admin/accounts", "", []option{header("Content-Type", "application/json")}, 400, "body_invalid"},
		"no identity":      {http.MethodPost, "/admin/accounts", "{}", nil, 422, "identity_invalid"},
		"both":             {http.MethodPost, "/admin/accounts", `{"issuer":"i","subject":"s","accounts":[]}`, nil, 400, "body_invalid"},
		"unknown field":    {http.MethodPost, "/admin/accounts", `{"issuer":"i","subject":"s","password":"x"}`, nil, 400, "body_invalid"},
		"two values":       {http.MethodPost, "/admin/accounts", ann + ann, nil, 400, "body_invalid"},
		"not UTF-8":        {http.MethodPost, "/admin/accounts", "{\"issuer\":\"i\",\"subject\":\"\xff\"}", nil, 400, "body_invalid"},
		"too large":        {http.MethodPost, "/admin/accounts", `{"issuer":"` + strings.Repeat("x", 1<<20) + `"}`, nil, 413, "body_too_large"},
		"too many":         {http.MethodPost, "/admin/accounts", `{"accounts":[` + strings.Repeat("{},", 1000) + `{}]}`, nil, 413, "body_too_large"},
		"long subject":     {http.MethodPost, "/admin/accounts", person(strings.Repeat("x", 256), nil), nil, 422, "identity_invalid"},
		"find nobody":      {http.MethodGet, "/admin/accounts", "", nil, 422, "identity_invalid"},
		"find twice":       {http.MethodGet, whoIsAnn + "&subject=bob", "", nil, 422, "identity_invalid"},
		"unknown question": {http.MethodDelete, whoIsAnn + "&all=1", "", nil, 422, "identity_invalid"},
		"PUT":              {http.MethodPut, "/admin/accounts", ann, nil, 405, "method_not_allowed"},
		"unknown path":     {http.MethodGet, "/admin/other", "", nil, 404, "not_found"},
		"and without":      {http.MethodGet, "/admin/other", "", []option{header("Authorization")}, 401, "admin_token_refused"},
	} {
		t.Run(name, func(t *testing.T) {
			a := s.administer(t, test.method, test.target, test.body, test.options...).want(test.status, test.code)
			if test.status == http.StatusUnauthorized {
				a.has("WWW-Authenticate", "Bearer")
			}
			if test.status == http.StatusMethodNotAllowed {
				a.has("Allow", "DELETE, GET, POST")
			}
		})
	}
	if users := s.whisp.Users(); len(users) != 0 {
		t.Errorf("accounts were made: %+v", users)
	}
}

// Without a token there is no admin API, whatever a caller sends.
func TestAdminDisabled(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, option := range []option{header("Authorization"), header("Authorization", "Bearer "), header("Authorization", "Bearer"), header("X", "")} {
		s.administer(t, http.MethodPost, "/admin/accounts", person("ann", nil), option).want(http.StatusNotFound, "not_found")
		s.administer(t, http.MethodGet, whoIsAnn, "", option).want(http.StatusNotFound, "not_found")
	}
	s.send(t, http.MethodGet, "/admin/accounts").want(http.StatusOK, "") // on the public listener it is the app's
}

func TestAdminTokenIsChecked(t *testing.T) {
	cfg := server.DefaultConfig()
	cfg.AdminToken = setting.SecretValue(strings.Repeat("x", 31))
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "admin_token is too short") {
		t.Errorf("31 bytes: %v", err)
	}
	cfg.AdminToken = setting.SecretValue(strings.Repeat("x", 32))
	if err := cfg.Validate(); err != nil {
		t.Errorf("32 bytes: %v", err)
	}
}

// A client that leaves stops its list.
func TestAdminClientLeaves(t *testing.T) {
	t.Parallel()
	s := start(t, withAdminToken)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	var people []string
	for i := range 300 {
		people = append(people, person(fmt.Sprint("n", i), nil))
	}
	s.whisp.Fail(whispsim.Fault{Operation: "registerUser", Hang: true})
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.admin+"/admin/accounts", strings.NewReader(`{"accounts":[`+strings.Join(people, ",")+`]}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+adminToken)
	request.Header.Set("Content-Type", "application/json")
	done := make(chan struct{})
	go func() {
		defer close(done)
		response, err := s.client.Do(request)
		if err == nil {
			_ = response.Body.Close()
		}
	}()
	waitFor(t, "eight are with Whisp", func() bool { return s.whisp.Calls("registerUser") == 8 })
	leave()
	<-done
	waitFor(t, "the call is over", func() bool { return len(s.logs.lines(t, "admin request")) == 1 })
	s.whisp.Heal("*")
	if calls := s.whisp.Calls("registerUser"); calls != 8 {
		t.Errorf("registerUser was called %d times after the client left", calls)
	}
}

func waitFor(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
