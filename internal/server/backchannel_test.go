package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/oidcsim"
	"github.com/whisp-bff/whisp-bff/internal/store"
)

const pathBackChannel = "/auth/backchannel-logout"

// outage is a store that can be switched off.
type outage struct {
	*store.Memory
	down *atomic.Bool
}

var errOutage = errors.New("connection refused")

func (o outage) err() error {
	if o.down.Load() {
		return errOutage
	}
	return nil
}

func (o outage) Get(ctx context.Context, key string) ([]byte, error) {
	if err := o.err(); err != nil {
		return nil, err
	}
	return o.Memory.Get(ctx, key)
}

func (o outage) Recent(ctx context.Context, key string) ([]byte, error) { return o.Get(ctx, key) }

func (o outage) Members(ctx context.Context, set string) ([]string, error) {
	if err := o.err(); err != nil {
		return nil, err
	}
	return o.Memory.Members(ctx, set)
}

// Has is cmd/whisp-bff's.
func (o outage) Has(ctx context.Context, key string) (bool, error) {
	_, err := o.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// toPublic carries what the provider sends to our public URL.
type toPublic struct{ s *stack }

func (p toPublic) RoundTrip(r *http.Request) (*http.Response, error) {
	to, err := url.Parse(p.s.base)
	if err != nil {
		return nil, err
	}
	there := r.Clone(r.Context())
	there.Host, there.URL.Scheme, there.URL.Host = publicHost, to.Scheme, to.Host
	return p.s.client.Transport.RoundTrip(there)
}

// loginAs is login with a sid of the test's choice in the ID token.
func (s *stack) loginAs(t testing.TB, person, sid string) *browser {
	t.Helper()
	s.provider.SetFaults(oidcsim.Faults{IDToken: func(claims map[string]any) { claims["sid"] = sid }})
	defer s.provider.SetFaults(oidcsim.Faults{})
	return s.login(t, person)
}

func (s *stack) logoutToken(t testing.TB, subject, sid string) string {
	t.Helper()
	token, err := s.provider.LogoutToken("web", subject, sid)
	if err != nil {
		t.Fatal(err)
	}
	s.secret(token)
	return token
}

// backChannel posts a logout token, as a provider does.
func (s *stack) backChannel(t testing.TB, token string, options ...option) *answer {
	t.Helper()
	form := body("application/x-www-form-urlencoded", url.Values{"logout_token": {token}}.Encode())
	return s.send(t, http.MethodPost, pathBackChannel, append([]option{form}, options...)...)
}

// wantRefused checks the answer that the specification wants.
func (a *answer) wantRefused() {
	a.t.Helper()
	var got map[string]string
	if a.status != http.StatusBadRequest || json.Unmarshal([]byte(a.body), &got) != nil || got["error"] != "invalid_request" ||
		got["error_description"] == "" || got["code"] != "logout_token_invalid" || got["requestId"] != a.header.Get("X-Request-Id") {
		a.t.Errorf("%s: %d %s", a.what, a.status, a.body)
	}
	a.has("Cache-Control", "no-store").has("Content-Type", "application/json")
}

// revoking has the broker work on its outbox.
func (s *stack) revoking(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.broker.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
}

func (s *stack) wantRevoked(t testing.TB, g grant) {
	t.Helper()
	waitFor(t, "the refresh token is revoked", func() bool { return !s.whisp.RefreshTokenAlive(secretOf(g.RefreshToken)) })
}

func (b *browser) wantGone(t testing.TB) {
	t.Helper()
	b.send(t, http.MethodGet, "/auth/session", sameOrigin).want(http.StatusUnauthorized, "session_required")
}

// chatting signs in at Whisp and opens a socket.
func (b *browser) chatting(t testing.TB) (grant, socket) {
	t.Helper()
	g := b.signIn(t)
	c := b.socket(t, b.ticket(t, g))
	c.connect(t, g.JWT)
	return g, c
}

func TestBackChannelLogout(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.revoking(t)
	laptop, phone, bob := s.loginAs(t, "alice", "laptop"), s.loginAs(t, "alice", "phone"), s.loginAs(t, "bob", "bob's")
	atLaptop, laptopSocket := laptop.chatting(t)
	atPhone, phoneSocket := phone.chatting(t)

	// One sign-in at the provider, with no cookie and from no page of ours.
	token := s.logoutToken(t, "demo-alice", "laptop")
	s.backChannel(t, token, header("Origin", s.provider.Issuer()), header("Sec-Fetch-Site", "cross-site")).want(http.StatusOK, "").has("Cache-Control", "no-store")
	laptop.wantGone(t)
	laptopSocket.wantClosed(t, 1000)
	s.wantRevoked(t, atLaptop)
	phone.send(t, http.MethodGet, "/auth/session", sameOrigin).want(http.StatusOK, "")
	if !s.whisp.RefreshTokenAlive(secretOf(atPhone.RefreshToken)) {
		t.Error("the other session's refresh token is revoked")
	}
	s.backChannel(t, token).wantRefused() // once

	// All of a person's.
	s.backChannel(t, s.logoutToken(t, "demo-alice", "")).want(http.StatusOK, "")
	phone.wantGone(t)
	phoneSocket.wantClosed(t, 1000)
	s.wantRevoked(t, atPhone)
	bob.send(t, http.MethodGet, "/auth/session", sameOrigin).want(http.StatusOK, "")

	// Nobody's is fine, too.
	s.backChannel(t, s.logoutToken(t, "demo-alice", "")).want(http.StatusOK, "").has("Cache-Control", "no-store")
	s.backChannel(t, s.logoutToken(t, "", "unknown")).want(http.StatusOK, "")

	// By the provider itself, for whatever it calls bob's session.
	s.provider.SetFaults(oidcsim.Faults{LogoutToken: func(claims map[string]any) { claims["sid"] = "bob's" }})
	if err := s.provider.LogOut(t.Context(), "bob"); err != nil {
		t.Error(err)
	}
	bob.wantGone(t)
	for _, line := range []string{
		`whisp_bff_backchannel_logouts_total{outcome="ended"} 3`,
		`whisp_bff_backchannel_logouts_total{outcome="no_session"} 2`,
		`whisp_bff_backchannel_logouts_total{outcome="invalid"} 1`,
	} {
		if text := s.metricsText(t); !strings.Contains(text, line) {
			t.Errorf("no metric %s", line)
		}
	}
	if lines := s.logs.lines(t, "logged out by the provider"); len(lines) != 5 || lines[0]["by"] != "sid" || lines[1]["by"] != "sub" || lines[0]["sessions"] != 1.0 {
		t.Errorf("log %v", lines)
	}
}

// security.md 13: a cookie that a back-channel logout ended is nobody's, also when
// it comes together with the logout.
func TestBackChannelLogoutAmongRequests(t *testing.T) {
	t.Parallel()
	s := start(t)
	alice := s.loginAs(t, "alice", "one")
	alice.signIn(t)
	cookie := cookies(sessionCookie + "=" + alice.cookies[sessionCookie])
	var asking sync.WaitGroup
	ended := make(chan struct{})
	for range 4 {
		asking.Go(func() {
			for {
				s.send(t, http.MethodPost, "/auth/whisp/sign-in", sameOrigin, cookie)
				select {
				case <-ended:
					return
				default:
				}
			}
		})
	}
	s.backChannel(t, s.logoutToken(t, "demo-alice", "one")).want(http.StatusOK, "")
	close(ended)
	asking.Wait()
	s.send(t, http.MethodGet, "/auth/session", sameOrigin, cookie).want(http.StatusUnauthorized, "session_required")
	s.send(t, http.MethodPost, "/auth/whisp/sign-in", sameOrigin, cookie).want(http.StatusUnauthorized, "session_required")
	s.revoking(t)
	waitFor(t, "no refresh token is left", func() bool { return s.whisp.Users()[0].Refresh == 0 })
}

func TestBackChannelLogoutRefuses(t *testing.T) {
	t.Parallel()
	s := start(t)
	alice := s.loginAs(t, "alice", "one")
	honest := s.logoutToken(t, "demo-alice", "one")
	s.provider.SetFaults(oidcsim.Faults{Signature: oidcsim.SignNone})
	unsigned := s.logoutToken(t, "demo-alice", "one")
	s.provider.SetFaults(oidcsim.Faults{LogoutToken: func(claims map[string]any) { claims["aud"] = "other" }})
	foreign := s.logoutToken(t, "demo-alice", "one")
	s.provider.SetFaults(oidcsim.Faults{})
	const form = "application/x-www-form-urlencoded"
	for name, request := range map[string]struct {
		target string
		option option
	}{
		"no body":          {pathBackChannel, func(*http.Request) {}},
		"empty form":       {pathBackChannel, body(form, "")},
		"another field":    {pathBackChannel, body(form, "token="+honest)},
		"empty token":      {pathBackChannel, body(form, "logout_token=")},
		"two tokens":       {pathBackChannel, body(form, "logout_token="+honest+"&logout_token="+honest)},
		"in the query":     {pathBackChannel + "?logout_token=" + honest, body(form, "")},
		"as JSON":          {pathBackChannel, body("application/json", `{"logout_token":"`+honest+`"}`)},
		"no content type":  {pathBackChannel, body("", "logout_token="+honest)},
		"broken form":      {pathBackChannel, body(form, "logout_token=%zz")},
		"too large":        {pathBackChannel, body(form, "a="+strings.Repeat("a", 17<<10)+"&logout_token="+honest)},
		"unsigned":         {pathBackChannel, body(form, "logout_token="+unsigned)},
		"another audience": {pathBackChannel, body(form, "logout_token="+foreign)},
	} {
		t.Run(name, func(t *testing.T) {
			s.send(t, http.MethodPost, request.target, request.option).wantRefused()
			alice.send(t, http.MethodGet, "/auth/session", sameOrigin).want(http.StatusOK, "")
		})
	}
	s.send(t, http.MethodGet, pathBackChannel).want(http.StatusMethodNotAllowed, "method_not_allowed").has("Allow", "POST")
	if lines := s.logs.lines(t, "back-channel logout refused"); len(lines) != 1 || lines[0]["cause"] == "" {
		t.Errorf("%d lines about refusals, want one in a while", len(lines))
	}
	s.backChannel(t, honest).want(http.StatusOK, "")
	alice.wantGone(t)
}

// With the store down nobody knows what to end: the provider is told to come
// again, with the same token if it likes.
func TestBackChannelLogoutWithTheStoreDown(t *testing.T) {
	t.Parallel()
	s := start(t, withAdminToken)
	alice := s.loginAs(t, "alice", "one")
	token := s.logoutToken(t, "demo-alice", "one")
	s.storeDown.Store(true)
	s.backChannel(t, token).want(http.StatusServiceUnavailable, "store_unavailable")
	s.administer(t, http.MethodGet, alicesSessions(s), "").want(http.StatusServiceUnavailable, "store_unavailable").has("Retry-After", "1")
	s.administer(t, http.MethodDelete, alicesSessions(s), "").want(http.StatusServiceUnavailable, "store_unavailable")
	s.storeDown.Store(false)
	alice.send(t, http.MethodGet, "/auth/session", sameOrigin).want(http.StatusOK, "")
	s.backChannel(t, token).want(http.StatusOK, "")
	alice.wantGone(t)
	if !strings.Contains(s.metricsText(t), `whisp_bff_backchannel_logouts_total{outcome="failed"} 1`) {
		t.Error("the failure was not counted")
	}
}

// Whisp may take its time; the provider does not wait for it.
func TestBackChannelLogoutWhileWhispHangs(t *testing.T) {
	t.Parallel()
	s := start(t)
	alice := s.loginAs(t, "alice", "one")
	g, chat := alice.chatting(t)
	s.whisp.Fail(hanging("*"))
	s.backChannel(t, s.logoutToken(t, "demo-alice", "one")).want(http.StatusOK, "")
	alice.wantGone(t)
	chat.wantClosed(t, 1000)
	if s.whisp.Calls("logout") != 0 {
		t.Error("Whisp was asked before the answer")
	}
	s.whisp.Heal("*")
	s.revoking(t)
	s.wantRevoked(t, g)
}

// The provider ends the sign-in after it gave the tokens and before the login has
// finished here.
func TestLogoutOvertakesLogin(t *testing.T) {
	t.Parallel()
	s := start(t, withAdminToken)
	s.waitReady(t)
	for _, sid := range []string{"one", ""} {
		b := s.browser()
		callback := b.toProvider(t, "alice", "/")
		s.provider.SetFaults(oidcsim.Faults{IDToken: func(claims map[string]any) {
			claims["sid"] = "one"
			s.backChannel(t, s.logoutToken(t, "demo-alice", sid)).want(http.StatusOK, "")
		}})
		page := b.send(t, http.MethodGet, callback, navigate).want(http.StatusUnauthorized, "")
		s.provider.SetFaults(oidcsim.Faults{})
		if !strings.Contains(page.body, "login_rejected") || b.cookies[sessionCookie] != "" {
			t.Errorf("sid %q: a session began: %s", sid, page.body)
		}
		s.clock.advance(2 * time.Second)
	}
	if got := s.sessionsOf(t); len(got.Sessions) != 0 {
		t.Errorf("left behind: %+v", got)
	}
	s.login(t, "alice") // and a new login works
}
