package login

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

func testKeys(t *testing.T, letters ...string) stateKeys {
	t.Helper()
	var texts []secret.Text
	for _, letter := range letters {
		texts = append(texts, secret.New(strings.Repeat(letter, stateKeySize)))
	}
	keys, err := newStateKeys(texts)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestStateSealing(t *testing.T) {
	keys := testKeys(t, "a", "b")
	p := pending{Version: stateVersion, ReturnTo: "/" + strings.Repeat("x", maxReturnTo-1), IssuedAt: 1, Hash: make([]byte, 32), Suffix: "12345678"}
	first, err := keys.seal(rand.Reader, p)
	if err != nil {
		t.Fatal(err)
	}
	second, err := keys.seal(rand.Reader, p)
	if err != nil || first == second {
		t.Fatalf("the same login sealed twice looks the same (%v)", err)
	}
	if len(first) > maxState {
		t.Errorf("the longest path makes a state of %d bytes", len(first))
	}
	opened, _, name, ok := keys.open(first)
	if !ok || opened.ReturnTo != p.ReturnTo || opened.Suffix != p.Suffix {
		t.Errorf("opened %+v, %v", opened, ok)
	}
	if _, _, other, _ := keys.open(second); other == name {
		t.Error("two states share a name")
	}
	if _, _, _, ok := testKeys(t, "c", "a").open(first); !ok {
		t.Error("an older key does not open")
	}
	if _, _, _, ok := testKeys(t, "b").open(first); ok {
		t.Error("a key that did not seal opens")
	}
	old, err := keys.seal(rand.Reader, pending{Version: stateVersion + 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, ok := keys.open(old); ok {
		t.Error("another version opens")
	}
	for i := range len(first) {
		changed := []byte(first)
		if changed[i]++; changed[i] == '[' || changed[i] == '{' || changed[i] == ':' {
			changed[i] = 'A'
		}
		if _, _, _, ok := keys.open(string(changed)); ok {
			t.Fatalf("opens with character %d changed", i)
		}
	}
}

func TestPendingFresh(t *testing.T) {
	begun := time.Unix(1_700_000_000, 0)
	p := pending{IssuedAt: begun.Unix()}
	for after, want := range map[time.Duration]bool{
		0: true, loginLife - time.Second: true, loginLife: false, 24 * time.Hour: false, -30 * time.Second: true, -time.Minute: false,
	} {
		if p.fresh(begun.Add(after), 30*time.Second) != want {
			t.Errorf("after %s: fresh is not %v", after, want)
		}
	}
}

func TestSurplusTakesTheOldest(t *testing.T) {
	jar := cookieJar{secure: true}
	now := time.Unix(3*suffixTime+5, 0) // the suffix's clock has just wrapped around
	made := func(ago time.Duration) string {
		suffix, err := newSuffix(rand.Reader, now.Add(-ago))
		if err != nil {
			t.Fatal(err)
		}
		return suffix
	}
	ahead, forged := made(-2*time.Second), "forged"
	cookies := []*http.Cookie{{Name: jar.prefix() + forged}, {Name: jar.prefix() + ahead}, {Name: "__Host-whisp-session"}, {Name: "whisp-login-plain"}}
	for i := range maxLogins - 3 {
		cookies = append(cookies, &http.Cookie{Name: jar.prefix() + made(time.Duration(i)*time.Second)})
	}
	if removed := jar.surplus(cookies, now); removed != nil {
		t.Fatalf("%d logins, and %d removed", maxLogins-1, len(removed))
	}
	oldest := made(time.Hour)
	cookies = append(cookies, &http.Cookie{Name: jar.prefix() + oldest}, &http.Cookie{Name: jar.prefix() + oldest})
	removed := jar.surplus(cookies, now)
	if len(removed) != 1 || removed[0].Name != jar.prefix()+forged || removed[0].MaxAge >= 0 || !removed[0].Secure || removed[0].Path != "/" {
		t.Fatalf("removed %v, want the forged one", removed)
	}
	cookies = append(cookies, &http.Cookie{Name: jar.prefix() + made(time.Minute)})
	if removed = jar.surplus(cookies, now); len(removed) != 2 || removed[0].Name != jar.prefix()+oldest {
		t.Errorf("removed %v, want the oldest and the forged one", removed)
	}
	for _, c := range removed {
		if strings.HasSuffix(c.Name, ahead) {
			t.Error("the newest was removed")
		}
	}
}

func TestHalfMustMatch(t *testing.T) {
	jar := cookieJar{}
	half := make([]byte, halfSize)
	p := pending{Suffix: "12345678", Hash: []byte{}}
	right := &http.Cookie{Name: "whisp-login-12345678", Value: base64.RawURLEncoding.EncodeToString(half)}
	if _, ok := jar.half([]*http.Cookie{right}, p); ok {
		t.Error("an empty hash matches")
	}
	if _, ok := jar.half(nil, pending{}); ok {
		t.Error("no cookie matches")
	}
}
