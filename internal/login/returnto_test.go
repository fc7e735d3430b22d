package login_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/whisp-bff/whisp-bff/internal/login"
)

func TestSafeReturnTo(t *testing.T) {
	long := "/" + strings.Repeat("a", 1023)
	for _, same := range []string{
		"/", "/inbox", "/inbox/", "/inbox?folder=2&q=a%20b", "/a/b#section-2", "/?x=1", "/#x", "/a?next=https://other.example/",
		"/a?b=//c", "/a//b", "/@alice", "/a:b", "/a;v=1/b", "/100%25", "/caf%C3%A9", "/a?p=%2e%2e%2f%0a", "/auth", "/auth/loginx", "/.well-known/x", long,
	} {
		if got := login.SafeReturnTo(same); got != same {
			t.Errorf("SafeReturnTo(%q) = %q, want it unchanged", same, got)
		}
	}
	for raw, want := range map[string]string{"/café": "/caf%C3%A9", "/a b?c d": "/a%20b?c%20d"} {
		if got := login.SafeReturnTo(raw); got != want {
			t.Errorf("SafeReturnTo(%q) = %q, want %q", raw, got, want)
		}
	}
	for _, bad := range []string{
		"", "inbox", "//evil", "///evil", `/\evil`, `/\/evil`, `\\evil`, `\/evil`, "https:evil", "https:/evil", "https://evil", "HTTPS://evil",
		"https://app@evil", "//app.example.com@evil", "javascript:alert(1)", "data:text/html,x", "%2f%2fevil", "/%2f%2fevil", "/%2F/evil", "/%5cevil", "/%5C%5Cevil",
		"/%252f%252fevil", "/%255cevil", "/%09/evil", "/\t/evil", "\t//evil", " //evil", "/\r\n/evil", "/a\r\nSet-Cookie: x=y", "/%0d%0aSet-Cookie:x",
		"/a\x00b", "/%00", "/a\x7f", "/.//evil", "/..//evil", "/a/../b", "/a/..//evil", "/%2e%2e//evil", "/./x", "/..;/x", "/a\\..\\b", "/?a\\b", "/%zz", "/#%zz",
		"/auth/login", "/auth/login?return_to=/auth/login", "/Auth/Callback", "/auth/callback/", "/auth/%6cogin", long + "a", strings.Repeat("/a", 5000),
		"/" + strings.Repeat("é", 400),
	} {
		if got := login.SafeReturnTo(bad); got != "/" {
			t.Errorf("SafeReturnTo(%q) = %q, want /", bad, got)
		}
	}
}

func FuzzSafeReturnTo(f *testing.F) {
	for _, seed := range []string{"/", "/a?b#c", "//evil", `/\evil`, "/%2f%2fevil", "/\t/evil", "/.//evil", "/a/..//evil", "https:evil", "/%255cevil", "/é"} {
		f.Add(seed)
	}
	origin, err := url.Parse("https://app.example.com/auth/callback")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got := login.SafeReturnTo(raw)
		if !strings.HasPrefix(got, "/") || strings.HasPrefix(got, "//") || len(got) > 1024 {
			t.Fatalf("SafeReturnTo(%q) = %q", raw, got)
		}
		if again := login.SafeReturnTo(got); again != got {
			t.Fatalf("not stable: %q -> %q -> %q", raw, got, again)
		}
		for _, as := range []string{got, browserSees(got)} {
			resolved, err := origin.Parse(as)
			if err != nil || resolved.Scheme != "https" || resolved.Host != "app.example.com" || resolved.User != nil {
				t.Fatalf("%q resolves to %v (%v)", as, resolved, err)
			}
		}
		for i := range len(got) {
			if got[i] <= ' ' || got[i] >= 0x7f {
				t.Fatalf("%q is not fit for a header", got)
			}
		}
	})
}

// browserSees is how the WHATWG URL parser prepares input for a special scheme:
// C0 controls and spaces trimmed, tab and line breaks gone, backslash a slash.
func browserSees(text string) string {
	text = strings.TrimFunc(text, func(r rune) bool { return r <= ' ' })
	return strings.NewReplacer("\t", "", "\r", "", "\n", "", `\`, "/").Replace(text)
}
