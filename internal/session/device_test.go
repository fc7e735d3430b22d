package session_test

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/session"
	"github.com/whisp-bff/whisp-bff/internal/setting"
)

func newDevices(f *fixture) *session.Devices {
	return session.NewDevices(session.DefaultConfig(), session.Deps{
		Store: f.memory, Clock: f.clock, Logger: slog.New(slog.DiscardHandler), PublicURL: setting.MustURL("https://app.example.com"),
	})
}

func TestDevices(t *testing.T) {
	f := newFixture(t, "https://app.example.com")
	d := newDevices(f)
	bob := identity.Identity{Issuer: alice.Issuer, Subject: "b-1"}
	recognise := func(value secret.Text, id identity.Identity) session.Device {
		t.Helper()
		got, err := d.Recognise(t.Context(), value, session.Recognition{Identity: id})
		must(t, err)
		return got
	}
	alive := func(key string) bool {
		t.Helper()
		ok, err := d.Alive(t.Context(), key)
		must(t, err)
		return ok
	}
	laptop, err := d.NewValue()
	must(t, err)
	phone, err := d.NewValue()
	must(t, err)

	first := recognise(laptop, alice)
	if again := recognise(laptop, alice); again.Key != first.Key || again.Replaced != "" {
		t.Errorf("the same browser and person: %+v", again)
	}
	if other := recognise(phone, alice); other.Key == first.Key || other.Replaced != "" {
		t.Errorf("another browser of the same person: %+v", other)
	}
	second := recognise(laptop, bob)
	if second.Key == first.Key || second.Replaced != first.Key || alive(first.Key) || !alive(second.Key) {
		t.Errorf("another person in the same browser: %+v", second)
	}
	third := recognise(laptop, alice)
	if third.Key == first.Key || third.Replaced != second.Key || alive(first.Key) || alive(second.Key) {
		t.Errorf("and back: %+v", third)
	}

	// Clients without cookies: one device for each identity.
	none := recognise(secret.Text{}, alice)
	if junk := recognise(secret.New("junk"), alice); junk.Key != none.Key {
		t.Error("a malformed cookie makes a device of its own")
	}
	if other := recognise(secret.Text{}, bob); other.Key == none.Key || other.Replaced != "" {
		t.Errorf("two people without cookies: %+v", other)
	}

	// Recognising keeps a device alive, touching does not.
	for range 3 {
		f.step(20 * time.Minute)
		recognise(laptop, alice)
	}
	f.step(20 * time.Minute)
	if until, err := d.Touch(t.Context(), third.Key); err != nil || until.Before(f.clock()) {
		t.Errorf("touch: %v, %v", until, err)
	}
	f.step(10 * time.Minute)
	if alive(third.Key) {
		t.Error("alive after half an hour in which nobody was recognised")
	}

	now := recognise(laptop, alice)
	must(t, d.End(t.Context(), "unknown."+alice.Key()))
	must(t, d.End(t.Context(), second.Key)) // bob's, which is not the one in use
	if !alive(now.Key) {
		t.Error("ending another key ended this one")
	}
	must(t, d.End(t.Context(), now.Key))
	if alive(now.Key) {
		t.Error("alive after End")
	}
	if _, err := d.Current(t.Context(), laptop); !errors.Is(err, session.ErrNone) {
		t.Errorf("current after End: %v", err)
	}
	if next := recognise(laptop, alice); next.Key == now.Key || next.Replaced != "" || alive(now.Key) {
		t.Errorf("the same person after End: %+v", next)
	}
	for _, key := range []string{now.Key, third.Key} {
		if session.IdentityKeyOf(key) != alice.Key() {
			t.Errorf("identity of %s", key)
		}
	}
	if !session.IsDevice(now.Key) || session.IsDevice(session.KeyOf(laptop)) {
		t.Error("keys of devices and sessions look the same")
	}
}

// No key lives twice: sockets remember for a while what they were told to end.
func TestDeviceKeysAreNotUsedAgain(t *testing.T) {
	f := newFixture(t, "https://app.example.com")
	d := newDevices(f)
	value, err := d.NewValue()
	must(t, err)
	token := session.Recognition{Identity: alice, CredentialEnds: f.clock().Add(2 * time.Second), Resumable: true}
	first, err := d.Recognise(t.Context(), value, token)
	must(t, err)
	f.step(2 * time.Second)
	token.CredentialEnds = f.clock().Add(time.Minute)
	second, err := d.Recognise(t.Context(), value, token)
	must(t, err)
	if first.Key == second.Key {
		t.Error("the next token has the key of the one that ended")
	}
}

// Requests of a page that loads come together, and must agree.
func TestRequestsThatComeTogetherAreOneDevice(t *testing.T) {
	f := newFixture(t, "https://app.example.com")
	d := newDevices(f)
	value, err := d.NewValue()
	must(t, err)
	bob := identity.Identity{Issuer: alice.Issuer, Subject: "b-1"}
	for round, who := range []identity.Identity{alice, bob, alice} {
		keys := make([]string, 20)
		var wg sync.WaitGroup
		for i := range keys {
			wg.Go(func() {
				got, err := d.Recognise(t.Context(), value, session.Recognition{Identity: who})
				if err != nil {
					t.Error(err)
				}
				keys[i] = got.Key
			})
		}
		wg.Wait()
		if len(slices.Compact(keys)) != 1 {
			t.Errorf("round %d: %d devices", round, len(slices.Compact(keys)))
		}
	}
}

func TestDeviceStandsForACredentialThatCannotComeAlong(t *testing.T) {
	f := newFixture(t, "https://app.example.com")
	d := newDevices(f)
	value, err := d.NewValue()
	must(t, err)
	resume := func() error { _, err := d.Resume(t.Context(), value, anyIssuer); return err }

	if err := resume(); !errors.Is(err, session.ErrNone) {
		t.Errorf("an unknown device: %v", err)
	}
	_, err = d.Recognise(t.Context(), value, session.Recognition{Identity: alice, CredentialEnds: f.clock().Add(time.Hour)})
	must(t, err)
	if err := resume(); !errors.Is(err, session.ErrNone) {
		t.Errorf("a credential that comes with every call: %v", err)
	}
	if key, err := d.Current(t.Context(), value); err != nil || key == "" {
		t.Errorf("current: %q, %v", key, err)
	}

	token := session.Recognition{Identity: alice, CredentialEnds: f.clock().Add(10 * time.Minute), Resumable: true}
	device, err := d.Recognise(t.Context(), value, token)
	must(t, err)
	f.step(9 * time.Minute)
	if ends, err := d.Touch(t.Context(), device.Key); err != nil || !ends.Equal(token.CredentialEnds) {
		t.Errorf("a tunnel may live until %v, %v; the token ends %v", ends, err, token.CredentialEnds)
	}
	if got, err := d.Resume(t.Context(), value, anyIssuer); err != nil || got.Key != device.Key {
		t.Errorf("within the token's life: %+v, %v", got, err)
	}
	token.CredentialEnds = f.clock().Add(10 * time.Minute) // renewed in time
	_, err = d.Recognise(t.Context(), value, token)
	must(t, err)
	f.step(9 * time.Minute)
	if err := resume(); err != nil {
		t.Errorf("after a renewal: %v", err)
	}
	f.step(time.Minute)
	if err := resume(); !errors.Is(err, session.ErrNone) {
		t.Errorf("after the token's end: %v", err)
	}

	// However long: a chat that only listens calls nothing.
	token.CredentialEnds = f.clock().Add(3 * time.Hour)
	_, err = d.Recognise(t.Context(), value, token)
	must(t, err)
	f.step(2 * time.Hour)
	must(t, resume())

	// Without an end, using it keeps it alive.
	token.CredentialEnds = time.Time{}
	_, err = d.Recognise(t.Context(), value, token)
	must(t, err)
	for range 3 {
		f.step(25 * time.Minute)
		must(t, resume())
	}
	f.step(30 * time.Minute)
	if err := resume(); !errors.Is(err, session.ErrNone) {
		t.Errorf("after half an hour: %v", err)
	}
}

func anyIssuer(string, string) bool { return true }

// An issuer that is trusted no more, or not by that source, is not trusted by way of a
// device either.
func TestDeviceDoesNotOutliveTheTrustInItsIssuer(t *testing.T) {
	f := newFixture(t, "https://app.example.com")
	d := newDevices(f)
	value, err := d.NewValue()
	must(t, err)
	source := "bearer"
	trusted := func(s, issuer string) bool { return s == source && issuer == alice.Issuer }
	resumed := func() string { got, _ := d.Resume(t.Context(), value, trusted); return got.Key }

	device, err := d.Recognise(t.Context(), value, session.Recognition{Identity: alice, Resumable: true, Source: "bearer"})
	must(t, err)
	if got := resumed(); got != device.Key {
		t.Errorf("trusted: %q", got)
	}
	source = "introspection"
	if _, err := d.Resume(t.Context(), value, trusted); !errors.Is(err, session.ErrNone) {
		t.Errorf("no more: %v; want ErrNone", err)
	}
	again, err := d.Recognise(t.Context(), value, session.Recognition{Identity: alice, Resumable: true, Source: "introspection"})
	must(t, err)
	if got := resumed(); got != device.Key || again.Key != device.Key {
		t.Errorf("by the next source: %q and %q, want the device of before", got, again.Key)
	}
}
