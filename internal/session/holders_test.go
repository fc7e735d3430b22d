package session_test

import (
	"crypto/sha256"
	"slices"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/session"
)

// Holders are looked up many at a time, without being used, and a store that does not
// answer says of nobody that they are gone.
func TestHoldersEnded(t *testing.T) {
	f := newFixture(t, "https://app.example.com")
	holders := session.Holders{Sessions: f.Sessions, Devices: newDevices(f)}
	lives, over := session.KeyOf(f.login(t, identity.ProviderTokens{})), session.KeyOf(f.login(t, identity.ProviderTokens{}))
	must(t, f.End(t.Context(), over))
	value, err := holders.Devices.NewValue()
	must(t, err)
	device, err := holders.Devices.Recognise(t.Context(), value, session.Recognition{Identity: alice})
	must(t, err)
	keys := []string{lives, over, device.Key, device.Key + "x"}

	f.memory.fail.Store(true)
	if ended, err := holders.Ended(t.Context(), keys); err == nil || len(ended) > 0 {
		t.Errorf("with the store away: %v, %v", ended, err)
	}
	f.memory.fail.Store(false)
	ended, err := holders.Ended(t.Context(), keys)
	must(t, err)
	if want := []string{over, device.Key + "x"}; !slices.Equal(ended, want) {
		t.Errorf("ended: %v, want %v", ended, want)
	}
	for range 4 { // looking does not keep anybody
		f.step(10 * time.Minute)
		ended, err = holders.Ended(t.Context(), []string{lives})
		must(t, err)
	}
	if !slices.Equal(ended, []string{lives}) {
		t.Error("it was kept alive by being looked at")
	}
}

func TestAdmissions(t *testing.T) {
	f := newFixture(t, "https://app.example.com")
	a, sock := session.NewAdmissions(f.memory), sha256.Sum256([]byte("abc"))
	wants := func(want string) {
		t.Helper()
		if got, err := a.Find(t.Context(), sock); err != nil || string(got) != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	wants("")
	for _, claim := range []string{"first", "second"} {
		if stands, err := a.Claim(t.Context(), sock, []byte(claim), time.Minute); err != nil || string(stands) != "first" {
			t.Errorf("%s claim: %q, %v", claim, stands, err)
		}
	}
	f.step(50 * time.Second)
	must(t, a.Renew(t.Context(), sock, []byte("first"), time.Minute))
	f.step(50 * time.Second)
	wants("first")
	f.memory.fail.Store(true)
	if _, err := a.Find(t.Context(), sock); err == nil {
		t.Error("a store that is away says there is none")
	}
	f.memory.fail.Store(false)
	must(t, a.Withdraw(t.Context(), sock))
	wants("")
}
