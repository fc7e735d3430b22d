package upstream

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/setting"
)

func TestBalancerCookiesOnTheWayOut(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	https := NewBalancerCookies(setting.MustURL("https://app.example.com"), func() time.Time { return now })
	loopback := NewBalancerCookies(setting.MustURL("http://localhost:8080"), func() time.Time { return now })
	const tail = "; Path=/; HttpOnly; SameSite=Lax; Secure"
	for _, c := range []struct{ in, want string }{
		{"AWSALB=abc+/=", "__Host-whisp-lb-AWSALB=abc+/=" + tail},
		{"AWSALB=abc; Domain=whispchat.com; Path=/api; SameSite=None; Partitioned", "__Host-whisp-lb-AWSALB=abc" + tail},
		{`q="quoted"`, `__Host-whisp-lb-q="quoted"` + tail},
		{"a=1; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "__Host-whisp-lb-a=1; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"},
		{"a=; Max-Age=0", "__Host-whisp-lb-a=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure"},
		{"a=1; Expires=Sun, 01 Mar 2026 12:01:00 GMT", "__Host-whisp-lb-a=1; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"},
		{"a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "__Host-whisp-lb-a=1; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure"},
		{"__Host-whisp-session=stolen", "__Host-whisp-lb-__Host-whisp-session=stolen" + tail},
		{"no equals", ""},
		{"=nameless", ""},
		{"bad name=1", ""},
		{"a=white space", ""},
		{"a=" + strings.Repeat("x", 1025), ""},
		{strings.Repeat("n", 65) + "=1", ""},
	} {
		got := strings.Join(https.ToBrowser(http.Header{"Set-Cookie": {c.in}}), "|")
		if got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.in, got, c.want)
		}
	}
	if got := loopback.ToBrowser(http.Header{"Set-Cookie": {"a=1"}}); !slices.Equal(got, []string{"whisp-lb-a=1; Path=/; HttpOnly; SameSite=Lax"}) {
		t.Errorf("on loopback: %q", got)
	}
	many := make([]string, 20)
	for i := range many {
		many[i] = string(rune('a'+i)) + "=1"
	}
	if got := https.ToBrowser(http.Header{"Set-Cookie": many}); len(got) != 8 {
		t.Errorf("%d cookies passed, want 8", len(got))
	}
}

// Nothing but the balancer's own cookies reaches Whisp.
func TestBalancerCookiesOnTheWayIn(t *testing.T) {
	https := NewBalancerCookies(setting.MustURL("https://app.example.com"), time.Now)
	for _, c := range []struct{ in, want string }{
		{"__Host-whisp-session=s; theme=dark; __Host-whisp-lb-AWSALB=abc+/=; provider=x", "AWSALB=abc+/="},
		{"__Host-whisp-lb-a=1;__Host-whisp-lb-b=2", "a=1; b=2"},
		{"whisp-lb-a=planted-by-a-sibling", ""},
		{"__Secure-whisp-lb-a=1", ""},
		{"__Host-whisp-lb-=1", ""},
		{"__Host-whisp-lb-a", ""},
		{"__Host-whisp-lb-a=sp ace", ""},
		{`__Host-whisp-lb-a="q"`, `a="q"`},
		{"x=\"; __Host-whisp-lb-a=1\"", `a=1"`}, // quotes hide nothing (RFC 6265 section 5.4)
		{"", ""},
	} {
		if got := https.ToWhisp(http.Header{"Cookie": {c.in}}); got != c.want {
			t.Errorf("%s: got %q, want %q", c.in, got, c.want)
		}
	}
	if got := https.ToWhisp(http.Header{"Cookie": {strings.Repeat("__Host-whisp-lb-a=1; ", 20)}}); strings.Count(got, "=") != 8 {
		t.Errorf("%d cookies passed, want 8", strings.Count(got, "="))
	}
}

func TestOwnCookiesAreTakenOutOfARequest(t *testing.T) {
	own := newOwnCookies([]string{"__Host-acme-sid"})
	for _, c := range []struct {
		in   []string
		want []string
	}{
		{[]string{"theme=dark; lang=de"}, []string{"theme=dark; lang=de"}},
		{[]string{"a=1;  b=\"x y\" ;c=; __Host-whisp-session=s"}, []string{"a=1;  b=\"x y\" ;c="}},
		{[]string{"__Host-whisp-session=s; a=1"}, []string{"a=1"}},
		{[]string{"whisp-session=s; whisp-login-1=x; __Host-whisp-lb-A=y; a=1; __Host-acme-sid=z; acme-sid=z"}, []string{"a=1"}},
		{[]string{"__Host-whisp-session =s;\twhisp-lb-a\t=1; a=1"}, []string{"a=1"}},
		{[]string{"a=1", "whisp-session=s", "b=2"}, []string{"a=1", "b=2"}},
		{[]string{"whisp-session=s"}, nil},
		{[]string{"whisp-session"}, nil},
		{[]string{"whisp-theme=mine; note=whisp-session"}, []string{"whisp-theme=mine; note=whisp-session"}},
		{[]string{"__Secure-whisp-session=x; ok=1"}, []string{"ok=1"}},
	} {
		header := http.Header{"Cookie": c.in}
		own.strip(header)
		if !slices.Equal(header["Cookie"], c.want) {
			t.Errorf("%q: got %q, want %q", c.in, header["Cookie"], c.want)
		}
	}
}

func TestOwnCookiesCannotBeSetByTheApp(t *testing.T) {
	own := newOwnCookies(nil)
	for line, want := range map[string]bool{
		"__Host-whisp-session=evil; Path=/; Secure": true,
		"whisp-session=evil":                        true,
		" whisp-session =evil":                      true,
		"=__Host-whisp-session=evil":                true,
		"=whisp-lb-a=evil":                          true,
		"whisp-login-x=":                            true,
		"whisp-session":                             true,
		"sid=1; Path=/; x=whisp-session":            false,
		"whisp-sessions=1":                          false,
		"theme=whisp-session":                       false,
	} {
		if got := own.setsOwn(line); got != want {
			t.Errorf("%q: got %v", line, got)
		}
	}
}
