package broker_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/upstream"
)

// renewing is a browser's refresh that Whisp is slow to answer.
type renewing struct {
	answer chan<- error // nil: with a new JWT
	done   <-chan error
}

func (f *fixture) renewing(t *testing.T, session string, refreshToken, jwt secret.Text) renewing {
	t.Helper()
	began, answer, done := make(chan struct{}), make(chan error), make(chan error, 1)
	go func() {
		_, err := f.Renew(t.Context(), session, upstream.Stale{RefreshToken: refreshToken, JWT: jwt}, func(context.Context) (secret.Text, time.Time, error) {
			close(began)
			return secret.New("jwt-of-a-browser"), f.clock().Add(5 * time.Minute), <-answer
		})
		done <- err
	}()
	<-began
	return renewing{answer, done}
}

// The token that a slow refresh is about has died meanwhile: what the refresh
// brings must not hide it.
func TestLogoutAtWhispDuringARenewal(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true)
	alice := person("1", "alice")
	g := f.signIn("s", alice)
	f.step(time.Minute)
	slow := f.renewing(t, "s", g.RefreshToken, g.JWT)
	f.whisp.mu.Lock()
	delete(f.whisp.tokens, g.RefreshToken.Reveal())
	f.whisp.mu.Unlock()
	if err := f.LoggedOut(t.Context(), "s"); err != nil {
		t.Errorf("not noted: %v", err)
	}
	slow.answer <- nil
	if err := <-slow.done; err != nil {
		t.Error(err)
	}
	if again := f.signIn("s", alice); again.RefreshToken.Equal(g.RefreshToken) || again.JWT.Equal(secret.New("jwt-of-a-browser")) {
		t.Error("the sign-in hands out what is dead")
	}
}

// One session of a person that is busy for long keeps no other from being noted.
func TestLogOutEverywherePastABusySession(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true)
	alice := person("1", "alice")
	sessions := []string{"a", "b", "c", "d", "e"}
	for _, session := range append(sessions, "busy") {
		f.signIn(session, alice)
	}
	lease, err := f.store.Lock(t.Context(), "obtain:busy", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	f.whisp.mu.Lock()
	clear(f.whisp.tokens)
	f.whisp.mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	noted := make(chan error, 1)
	go func() { noted <- f.LoggedOutEverywhere(ctx, alice.Key()) }()
	for _, session := range sessions {
		// Each asks Whisp anew as soon as it is noted, however long the busy one takes.
		for deadline := time.Now().Add(15 * time.Second); !f.whisp.alive(f.signIn(session, alice).RefreshToken); {
			if time.Now().After(deadline) {
				t.Fatalf("session %s is handed a dead refresh token", session)
			}
			time.Sleep(time.Millisecond)
		}
	}
	cancel()
	if err := <-noted; err == nil {
		t.Error("the busy session was not noted, and nobody is told")
	}
	if err := lease.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

// A replica that died left its locks: the refresh goes on without.
func TestRenewalPastLocksThatNobodyReleases(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true)
	alice := person("1", "alice")
	g := f.signIn("s", alice)
	f.step(time.Minute)
	for _, key := range []string{"renew:s", "obtain:s"} {
		lease, err := f.store.Lock(t.Context(), key, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = lease.Release(context.WithoutCancel(t.Context())) }()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	asked := 0
	jwt, err := f.Renew(ctx, "s", upstream.Stale{RefreshToken: g.RefreshToken, JWT: g.JWT}, func(context.Context) (secret.Text, time.Time, error) {
		asked++
		return secret.New("jwt-of-a-browser"), f.clock().Add(5 * time.Minute), nil
	})
	if err != nil || !jwt.Equal(secret.New("jwt-of-a-browser")) || asked != 1 {
		t.Errorf("%v, asked %d times", err, asked)
	}
}

// Whisp says to a browser that the session's refresh token is dead: the next
// sign-in does not hand it out again.
func TestRenewalFindsADeadToken(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true)
	alice := person("1", "alice")
	g := f.signIn("s", alice)
	f.whisp.mu.Lock()
	delete(f.whisp.tokens, g.RefreshToken.Reveal())
	f.whisp.mu.Unlock()
	slow := f.renewing(t, "s", g.RefreshToken, g.JWT)
	slow.answer <- upstream.ErrUnauthorized
	if err := <-slow.done; !errors.Is(err, upstream.ErrUnauthorized) {
		t.Error(err)
	}
	if again := f.signIn("s", alice); again.RefreshToken.Equal(g.RefreshToken) {
		t.Error("the dead refresh token is handed out again")
	}
}

func TestRenewalOfAnotherToken(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true)
	g := f.signIn("s", person("1", "alice"))
	f.signIn("other", person("2", "bob"))
	for session, token := range map[string]secret.Text{"s": secret.New("another"), "other": g.RefreshToken, "nobody": g.RefreshToken} {
		_, err := f.Renew(t.Context(), session, upstream.Stale{RefreshToken: token, JWT: secret.New("old")}, func(context.Context) (secret.Text, time.Time, error) {
			t.Error("asked")
			return secret.Text{}, time.Time{}, nil
		})
		if !errors.Is(err, upstream.ErrNotShared) {
			t.Errorf("%s: %v", session, err)
		}
	}
}

// Whoever shows a JWT that is still good was told otherwise by Whisp: only one
// that is brand new can help.
func TestRenewalAfterWhispRefusedWhatItGave(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true)
	alice := person("1", "alice")
	first := f.signIn("s", alice)
	stale := upstream.Stale{RefreshToken: first.RefreshToken, JWT: first.JWT, Expires: first.Expires}
	asked := 0
	ask := func(context.Context) (secret.Text, time.Time, error) {
		asked++
		return secret.New("jwt-" + string(rune('a'+asked))), f.clock().Add(5 * time.Minute), nil
	}
	renew := func() secret.Text {
		jwt, err := f.Renew(t.Context(), "s", stale, ask)
		if err != nil {
			t.Fatal(err)
		}
		return jwt
	}
	f.step(time.Minute)
	second := renew()
	if again := renew(); !again.Equal(second) || asked != 1 {
		t.Errorf("asked %d times within a second", asked)
	}
	f.step(time.Minute)
	third := renew()
	if third.Equal(second) || asked != 2 {
		t.Errorf("asked %d times", asked)
	}
	f.step(4 * time.Minute) // the first one's time is over: any good one will do
	stale.JWT, stale.Expires = second, first.Expires
	if jwt := renew(); asked != 3 || jwt.Equal(third) {
		t.Errorf("asked %d times", asked)
	}
	f.step(time.Minute)
	if jwt := renew(); asked != 3 || !jwt.Equal(secret.New("jwt-d")) {
		t.Errorf("asked %d times", asked)
	}
	// Whisp refuses the one that is held: the next sign-in does not hand it out.
	if err := f.Refused(t.Context(), "s", secret.New("jwt-x")); err != nil {
		t.Fatal(err)
	}
	if in := f.signIn("s", alice); !in.JWT.Equal(secret.New("jwt-d")) {
		t.Error("another JWT's refusal counted")
	}
	if err := f.Refused(t.Context(), "s", secret.New("jwt-d")); err != nil {
		t.Fatal(err)
	}
	if in := f.signIn("s", alice); in.JWT.Equal(secret.New("jwt-d")) {
		t.Error("a refused JWT is handed out again")
	}
}
