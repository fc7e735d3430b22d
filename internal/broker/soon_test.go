package broker_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/problem"
)

func TestSignOutSoon(t *testing.T) {
	f := newFixture(t, true)
	alice := person("1", "alice")
	f.whisp.set("logout", problem.WhispUnreachable()) // nobody asks Whisp on the way
	g := f.signIn("s", alice)
	f.signIn("other", alice)
	holders, err := f.Holders(t.Context(), alice)
	slices.Sort(holders)
	if err != nil || !slices.Equal(holders, []string{"other", "s"}) {
		t.Fatalf("holders %v, %v", holders, err)
	}
	must(t, f.SignOutSoon(t.Context(), "s"))
	must(t, f.SignOutSoon(t.Context(), "never seen"))
	if !f.whisp.alive(g.RefreshToken) {
		t.Fatal("Whisp was asked at once")
	}
	f.whisp.set("logout", nil)

	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { f.Run(ctx) })
	defer running.Wait()
	defer cancel()
	for deadline := time.Now().Add(10 * time.Second); f.whisp.alive(g.RefreshToken); {
		if time.Now().After(deadline) { // sooner than the next interval
			t.Fatal("the refresh token lives on")
		}
		time.Sleep(time.Millisecond)
	}
	if again := f.signIn("s", alice); again.RefreshToken.Equal(g.RefreshToken) {
		t.Error("the grant was not forgotten")
	}
}
