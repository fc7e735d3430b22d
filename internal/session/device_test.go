package session_test

import (
	"errors"
	"log/slog"
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
	if third := recognise(laptop, alice); third.Key != first.Key || third.Replaced != second.Key {
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
	if until, err := d.Touch(t.Context(), first.Key); err != nil || until.Before(f.clock()) {
		t.Errorf("touch: %v, %v", until, err)
	}
	f.step(10 * time.Minute)
	if alive(first.Key) {
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
	if !session.IsDevice(now.Key) || session.IsDevice(session.KeyOf(laptop)) {
		t.Error("keys of devices and sessions look the same")
	}
}

func TestDeviceStandsForACredentialThatCannotComeAlong(t *testing.T) {
	f := newFixture(t, "https://app.example.com")
	d := newDevices(f)
	value, err := d.NewValue()
	must(t, err)
	resume := func() error { _, err := d.Resume(t.Context(), value); return err }

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
	if got, err := d.Resume(t.Context(), value); err != nil || got.Key != device.Key {
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
}
