//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// person is somebody signed in over plain HTTP, as a browser without a window.
type person struct {
	st     *stack
	client *http.Client
	// authorization is what the page's own code sends in that header, to /auth/…
	// only: below /whisp the header is the SDK's.
	authorization string
}

// signedIn is what sign-in answers.
type signedIn struct {
	JWT          string `json:"jwt"`
	RefreshToken string `json:"refreshToken"`
	UserID       string `json:"userId"`
	Username     string `json:"username"`
}

// problemBody is whisp-bff's error.
type problemBody struct {
	Status    int    `json:"status"`
	Code      string `json:"code"`
	Message   string `json:"message"`
	RequestID string `json:"requestId"`
}

// formAction finds where the provider's login form posts to.
var formAction = regexp.MustCompile(`action="([^"]+)"`)

func (st *stack) newPerson(t testing.TB) *person {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 100
	t.Cleanup(transport.CloseIdleConnections)
	return &person{st: st, client: &http.Client{Jar: jar, Transport: transport, Timeout: patience}}
}

// login goes through the provider's login and ends at the app.
func (st *stack) login(t testing.TB, name string) *person {
	t.Helper()
	p := st.newPerson(t)
	page, at := p.navigate(t, http.MethodGet, st.origin+"/auth/login?return_to=/", nil)
	action := formAction.FindStringSubmatch(page)
	if action == nil {
		t.Fatalf("no login form at %s:\n%s", at, page)
	}
	target, err := at.Parse(action[1])
	if err != nil {
		t.Fatal(err)
	}
	if page, at = p.navigate(t, http.MethodPost, target.String(), url.Values{"account": {name}}); at.String() != st.origin+"/" {
		t.Fatalf("after login at %s:\n%s", at, page)
	}
	return p
}

// navigate does what a click does; it follows redirects.
func (p *person) navigate(t testing.TB, method, target string, form url.Values) (page string, at *url.URL) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	req.Header.Set("Accept", "text/html,application/xhtml+xml")
	req.Header.Set("Sec-Fetch-Mode", "navigate")
	req.Header.Set("Sec-Fetch-Dest", "document")
	resp, err := p.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body), resp.Request.URL
}

// fetch does what a page's fetch does. The header is alternating names and values.
func (p *person) fetch(t testing.TB, method, path, body string, header ...string) (*http.Response, []byte) {
	t.Helper()
	resp, answer, err := p.try(method, path, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	return resp, answer
}

func (p *person) try(method, path, body string, header ...string) (*http.Response, []byte, error) {
	req, err := http.NewRequest(method, p.st.origin+path, strings.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Origin", p.st.origin)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	req.Header.Set("Sec-Fetch-Mode", "cors")
	req.Header.Set("Sec-Fetch-Dest", "empty")
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if p.authorization != "" && strings.HasPrefix(path, "/auth/") {
		req.Header.Set("Authorization", p.authorization)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	return resp, answer, err
}

// signIn is the page's second line.
func (p *person) signIn(t testing.TB) signedIn {
	t.Helper()
	resp, body := p.fetch(t, http.MethodPost, "/auth/whisp/sign-in", "")
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("sign-in: %s %s", resp.Status, body)
	}
	return decode[signedIn](t, body)
}

// whisp calls Whisp's REST API through whisp-bff.
func (p *person) whisp(t testing.TB, method, path, body, jwt string) (*http.Response, []byte) {
	t.Helper()
	return p.fetch(t, method, "/whisp/api/"+path, body, "Authorization", "Bearer "+jwt, "Content-Type", "application/json")
}

// newChat makes a chat of p and somebody who needs no browser.
func (p *person) newChat(t testing.TB, jwt, username string) string {
	t.Helper()
	const other = "companion"
	if !hasUser(p.st, other) {
		p.st.sim.AddUser(other, other+"@example.com", secret.New("SecureP@ss123"))
	}
	resp, body := p.whisp(t, http.MethodPost, "chat/createChat", `{"chatName":"Lab","userNames":["`+username+`","`+other+`"]}`, jwt)
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("createChat: %s %s", resp.Status, body)
	}
	return decode[struct {
		ChatID string `json:"chatId"`
	}](t, body).ChatID
}

func hasUser(st *stack, name string) bool {
	for _, user := range st.sim.Users() {
		if user.Username == name {
			return true
		}
	}
	return false
}

// cookies are those the browser would send to whisp-bff, as one header.
func (p *person) cookies(t testing.TB) string {
	t.Helper()
	origin, err := url.Parse(p.st.origin)
	if err != nil {
		t.Fatal(err)
	}
	var pairs []string
	for _, cookie := range p.client.Jar.Cookies(origin) {
		pairs = append(pairs, cookie.Name+"="+cookie.Value)
	}
	return strings.Join(pairs, "; ")
}

func decode[T any](t testing.TB, body []byte) T {
	t.Helper()
	var value T
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&value); err != nil {
		t.Fatalf("%q is not the JSON expected: %v", body, err)
	}
	return value
}
