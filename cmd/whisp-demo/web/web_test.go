package web

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func served(t *testing.T, path string) (*http.Response, string) {
	t.Helper()
	handler, err := Handler([]Person{{Username: "alice", Name: "Alice </script>"}})
	if err != nil {
		t.Fatal(err)
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
	return recorder.Result(), recorder.Body.String()
}

func TestPageIsServedUnderAStrictPolicy(t *testing.T) {
	for path, media := range map[string]string{
		"/": "text/html", "/page.css": "text/css", "/app.js": "text/javascript", "/icons.svg": "image/svg+xml",
	} {
		resp, body := served(t, path)
		if resp.StatusCode != http.StatusOK || body == "" {
			t.Errorf("%s: %s, %d bytes", path, resp.Status, len(body))
		}
		if got := resp.Header.Get("Content-Type"); !strings.HasPrefix(got, media) {
			t.Errorf("%s is %q, want %s", path, got, media)
		}
		csp := resp.Header.Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'self'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", path, csp)
		}
	}
	if resp, _ := served(t, "/web.go"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("/web.go: %s", resp.Status)
	}
}

func TestPeople(t *testing.T) {
	resp, body := served(t, "/api/people")
	var people []Person
	if err := json.Unmarshal([]byte(body), &people); err != nil || len(people) != 1 || people[0].Username != "alice" {
		t.Errorf("%q: %v", body, err)
	}
	if got := resp.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type %q", got)
	}
}

// What the policy forbids would only be noticed in a browser; and what it does
// not forbid (markup made of text) is forbidden by us.
func TestSourcesKeepToThePolicy(t *testing.T) {
	forbidden := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|\.setAttribute\("style"|` +
		`\sstyle=|\son[a-z]+="|<script>|<style|https?://[a-z0-9]`)
	allowed := []string{"http://www.w3.org/2000/svg", "https://stomp.github.io", "https://app.example.com"}
	for name, text := range sources(t) {
		for _, address := range allowed {
			text = strings.ReplaceAll(text, address, "")
		}
		if found := forbidden.FindString(text); found != "" {
			t.Errorf("%s has %q", name, found)
		}
	}
}

func TestIDsInScriptsExist(t *testing.T) {
	all := sources(t)
	byID := regexp.MustCompile(`byId\("([^"]+)"\)`)
	for name, text := range all {
		for _, match := range byID.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(all["index.html"], ` id="`+match[1]+`"`) {
				t.Errorf("%s looks for #%s, which index.html lacks", name, match[1])
			}
		}
	}
}

func TestThreeLinesAreThree(t *testing.T) {
	marked := regexp.MustCompile(`(?m)// ([123])$`).FindAllStringSubmatch(sources(t)["integration.js"], -1)
	if len(marked) != 3 || marked[0][1]+marked[1][1]+marked[2][1] != "123" {
		t.Errorf("marked lines: %v", marked)
	}
}

func sources(t *testing.T) map[string]string {
	t.Helper()
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, entry := range entries {
		text, err := files.ReadFile(entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		all[entry.Name()] = string(text)
	}
	return all
}
