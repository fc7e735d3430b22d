package server_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/setting"
	"github.com/whisp-bff/whisp-bff/internal/whispsim"
)

// refresh is what the vendor's SDK does when its JWT has run out, and before every
// reconnect of a socket.
func (b *browser) refresh(t testing.TB, refreshToken, expired string) *answer {
	t.Helper()
	sent, _ := json.Marshal(map[string]string{"expiredJwt": expired})
	a := b.send(t, http.MethodPost, "/whisp/api/auth/refresh", sameOrigin,
		header("Authorization", "Bearer "+refreshToken), body("application/json", string(sent)))
	b.s.secret(strings.TrimPrefix(a.header.Get("Authorization"), "Bearer "))
	return a
}

// together refreshes in many tabs at once, and returns what each got.
func (b *browser) together(t testing.TB, tabs int, refreshToken, expired string) []*answer {
	t.Helper()
	got := make([]*answer, tabs)
	var wg sync.WaitGroup
	for i := range got {
		tab := &browser{b.s, b.cookies} // answers set no cookies here
		wg.Go(func() { got[i] = tab.refresh(t, refreshToken, expired) })
	}
	wg.Wait()
	return got
}

// Every tab of a session refreshes when its sockets come back: Whisp is asked once
// per life of a JWT.
func TestTabsShareARefresh(t *testing.T) {
	t.Parallel()
	s := start(t)
	alice := s.login(t, "alice")
	g := alice.signIn(t)
	s.clock.advance(time.Minute)
	var second string
	for _, a := range alice.together(t, 100, g.RefreshToken, g.JWT) {
		a.want(http.StatusOK, "").has("Cache-Control", "no-store")
		jwt, prefixed := strings.CutPrefix(a.header.Get("Authorization"), "Bearer ")
		if second == "" {
			second = jwt
		}
		if !prefixed || jwt == g.JWT || jwt != second {
			t.Fatal("the tabs did not get one new JWT")
		}
	}
	if calls := s.whisp.Calls("refreshToken"); calls != 1 {
		t.Errorf("%d refreshes at Whisp", calls)
	}
	// A tab that slept has the old JWT still, and the next sign-in has the new one.
	alice.refresh(t, g.RefreshToken, "Bearer "+g.JWT).want(http.StatusOK, "").has("Authorization", "Bearer "+second)
	if in := alice.signIn(t); in.JWT != second || in.RefreshToken != g.RefreshToken {
		t.Error("the sign-in does not have what the refresh got")
	}
	if calls := s.whisp.Calls("refreshToken"); calls != 1 {
		t.Errorf("%d refreshes at Whisp", calls)
	}
	// Whoever wants another than the present one gets it, and so does everybody
	// once that is old.
	s.clock.advance(time.Minute)
	third := alice.refresh(t, g.RefreshToken, second).want(http.StatusOK, "").header.Get("Authorization")
	s.clock.advance(4*time.Minute + 10*time.Second)
	fourth := alice.refresh(t, g.RefreshToken, g.JWT).want(http.StatusOK, "").header.Get("Authorization")
	if calls := s.whisp.Calls("refreshToken"); calls != 3 || third == "Bearer "+second || fourth == third {
		t.Errorf("%d refreshes at Whisp", calls)
	}
}

// What is not the session's own is between the browser and Whisp.
func TestForeignRefreshIsNotShared(t *testing.T) {
	t.Parallel()
	s := start(t)
	alice, bob := s.login(t, "alice"), s.login(t, "bob")
	hers, his := alice.signIn(t), bob.signIn(t)
	s.clock.advance(time.Minute)
	alice.refresh(t, hers.RefreshToken, hers.JWT).want(http.StatusOK, "")
	before := s.whisp.Calls("refreshToken")
	// bob's browser with alice's refresh token gets what Whisp says to it.
	if got := bob.refresh(t, hers.RefreshToken, hers.JWT); got.header.Get("Authorization") == "" {
		t.Errorf("Whisp said %d", got.status)
	}
	bob.refresh(t, "no-such-token", his.JWT).want(http.StatusUnauthorized, "")
	if calls := s.whisp.Calls("refreshToken") - before; calls != 2 {
		t.Errorf("%d refreshes at Whisp", calls)
	}
	// bob's grant is as it was.
	if in := bob.signIn(t); in.JWT != his.JWT || in.RefreshToken != his.RefreshToken {
		t.Error("bob's grant changed")
	}
}

// Trouble that passes is waited out together; a refresh token that is dead is
// dead for every tab.
func TestTabsShareTrouble(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *setup) { c.whisp.RefreshPatience = setting.Duration(15 * time.Second) })
	s.clock.advance(-time.Minute) // patience is measured in real time: be there at the end
	alice := s.login(t, "alice")
	g := alice.signIn(t)
	s.clock.advance(time.Minute)
	s.whisp.Fail(whispsim.Fault{Operation: "refreshToken", Status: http.StatusBadGateway, Times: 2})
	for _, a := range alice.together(t, 30, g.RefreshToken, g.JWT) {
		a.want(http.StatusOK, "")
	}
	if calls := s.whisp.Calls("refreshToken"); calls > 10 {
		t.Errorf("%d refreshes at Whisp", calls)
	}
	s.whisp.Fail(whispsim.Fault{Operation: "refreshToken", Status: http.StatusUnauthorized})
	for _, a := range alice.together(t, 30, g.RefreshToken, alice.signIn(t).JWT) {
		a.want(http.StatusUnauthorized, "")
	}
}
