package session

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/store"
)

const (
	// DeviceCookieName is the device cookie's name on https.
	DeviceCookieName = "__Host-whisp-device"
	// LoopbackDeviceCookieName is its name on http://localhost.
	LoopbackDeviceCookieName = "whisp-device"
	// deviceMaxAge keeps the cookie across browser restarts. It names a browser
	// and opens nothing: the credential that comes with it does.
	deviceMaxAge = 90 * 24 * time.Hour
)

// Devices keep browsers apart whose sign-in is not ours (a bearer token, an
// identity header, the app's own session): a random cookie, bound to the
// identity that came with it.
//
// A device's key covers cookie and identity, so another person in the same
// browser is another device and can never see what the first one held. A device
// nobody was recognised on for Config.Idle ends.
//
// Invariant: under "device:" + hash of the cookie stands the identity that was
// recognised last; a key is alive exactly while that is the identity it names.
type Devices struct {
	cfg    Config
	deps   Deps
	cookie cookieShape
	typed  *store.Typed[deviceRecord]
	slide  time.Duration
}

// deviceRecord is who was recognised on a device last.
type deviceRecord struct {
	Identity string `json:"identity"`
	// Resumable: the credential cannot come with every call, so until
	// CredentialEnds the device's cookie stands for it.
	Resumable      bool      `json:"resumable,omitempty"`
	CredentialEnds time.Time `json:"credential_ends,omitzero"`
}

// NewDevices returns devices kept in deps.Store; deps.Provider is not used.
func NewDevices(cfg Config, deps Deps) *Devices {
	if deps.Rand == nil {
		deps.Rand = rand.Reader
	}
	shape := newCookieShape(deps.PublicURL)
	shape.name = DeviceCookieName
	if !shape.secure {
		shape.name = LoopbackDeviceCookieName
	}
	return &Devices{
		cfg: cfg, deps: deps, cookie: shape,
		typed: store.NewTyped(deps.Store, decodedLimit, func(_ string, raw []byte) (*deviceRecord, error) {
			record := new(deviceRecord)
			return record, json.Unmarshal(raw, record)
		}),
		slide: min(time.Minute, cfg.Idle.D()/20),
	}
}

// Device is one browser as one identity uses it.
type Device struct {
	// Key names the device as a holder of grants, tickets and tunnels.
	Key string
	// Until is when a grant made now should be forgotten at the latest.
	Until time.Time
	// Replaced is the key of the device this browser was until just now, if
	// another identity used it. Its grant must be revoked.
	Replaced string
}

// NewValue makes a device cookie's value.
func (d *Devices) NewValue() (secret.Text, error) {
	var raw [32]byte
	if _, err := io.ReadFull(d.deps.Rand, raw[:]); err != nil {
		return secret.Text{}, fmt.Errorf("read randomness for a device id: %w", err)
	}
	return secret.New(base64.RawURLEncoding.EncodeToString(raw[:])), nil
}

// Recognition is what a credential said about the browser it came from.
type Recognition struct {
	Identity identity.Identity
	// CredentialEnds is when the credential expires; zero if it does not say.
	CredentialEnds time.Time
	// Resumable: calls of the Whisp SDK from this browser cannot carry the
	// credential (it came in Authorization), see [Devices.Resume].
	Resumable bool
}

// Recognise notes that the browser with this cookie value is used by the
// identity. An empty or malformed value is a client without cookies: all such
// clients of one identity are one device.
func (d *Devices) Recognise(ctx context.Context, value secret.Text, who Recognition) (Device, error) {
	name := deviceName(value, who.Identity)
	record := deviceRecord{Identity: who.Identity.Key(), Resumable: who.Resumable}
	if who.Resumable {
		record.CredentialEnds = who.CredentialEnds
	}
	device := Device{Key: name + "." + record.Identity, Until: d.deps.Clock().Add(d.cfg.Absolute.D())}
	last, err := d.typed.GetSliding(ctx, deviceKey(name), d.deps.Clock(), d.slide, d.ttl)
	switch {
	case err == nil && last.Identity == record.Identity:
		if !record.Resumable || (last.Resumable && last.CredentialEnds.Equal(record.CredentialEnds)) {
			return device, nil
		}
	case err == nil:
		device.Replaced = name + "." + last.Identity
	case !errors.Is(err, store.ErrNotFound):
		return Device{}, unavailable(err)
	}
	encoded, err := json.Marshal(record)
	if err != nil {
		return Device{}, fmt.Errorf("encode device: %w", err)
	}
	if err := d.deps.Store.Set(ctx, deviceKey(name), encoded, d.ttl(&record)); err != nil {
		return Device{}, unavailable(err)
	}
	return device, nil
}

// Resume returns the device of a cookie on which a resumable credential was
// recognised that has not ended; else [ErrNone].
func (d *Devices) Resume(ctx context.Context, value secret.Text) (Device, error) {
	name, record, err := d.current(ctx, value)
	if err != nil {
		return Device{}, err
	}
	ends := record.CredentialEnds
	if !record.Resumable || (!ends.IsZero() && !d.deps.Clock().Before(ends)) {
		return Device{}, ErrNone
	}
	return Device{Key: name + "." + record.Identity, Until: d.deps.Clock().Add(d.cfg.Absolute.D())}, nil
}

// Current returns the key of the device of a cookie, or [ErrNone].
func (d *Devices) Current(ctx context.Context, value secret.Text) (string, error) {
	name, record, err := d.current(ctx, value)
	if err != nil {
		return "", err
	}
	return name + "." + record.Identity, nil
}

func (d *Devices) current(ctx context.Context, value secret.Text) (name string, record *deviceRecord, err error) {
	if len(value.Reveal()) != cookieValueLength {
		return "", nil, ErrNone
	}
	name = deviceName(value, identity.Identity{})
	record, err = d.typed.Get(ctx, deviceKey(name))
	if errors.Is(err, store.ErrNotFound) {
		return "", nil, ErrNone
	}
	if err != nil {
		return "", nil, unavailable(err)
	}
	return name, record, nil
}

func (d *Devices) ttl(record *deviceRecord) time.Duration {
	ttl := d.cfg.Idle.D()
	if !record.CredentialEnds.IsZero() {
		ttl = min(ttl, record.CredentialEnds.Sub(d.deps.Clock()))
	}
	return max(ttl, time.Nanosecond)
}

// Touch returns when the device ends if nobody is recognised on it again;
// [ErrNone] if it has ended. It does not count as being recognised: only a
// credential does.
func (d *Devices) Touch(ctx context.Context, key string) (time.Time, error) {
	alive, err := d.Alive(ctx, key)
	if err == nil && !alive {
		err = ErrNone
	}
	return d.deps.Clock().Add(d.cfg.Idle.D()), err
}

// Alive reports whether the identity that key names was the last one recognised
// on its device, and not too long ago.
func (d *Devices) Alive(ctx context.Context, key string) (bool, error) {
	name, identityKey, _ := strings.Cut(key, ".")
	last, err := d.typed.Get(ctx, deviceKey(name))
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, unavailable(err)
	}
	return last.Identity == identityKey, nil
}

// End forgets who used the device.
func (d *Devices) End(ctx context.Context, key string) error {
	alive, err := d.Alive(ctx, key)
	if err != nil || !alive {
		return err
	}
	name, _, _ := strings.Cut(key, ".")
	if err := d.deps.Store.Delete(ctx, deviceKey(name)); err != nil {
		return unavailable(err)
	}
	return nil
}

// FromRequest returns the device cookie's value; none and several are empty.
func (d *Devices) FromRequest(r *http.Request) secret.Text {
	return cookieValue(r, d.cookie.name)
}

// Cookie carries a device's value.
func (d *Devices) Cookie(value secret.Text) *http.Cookie {
	return &http.Cookie{
		Name: d.cookie.name, Value: value.Reveal(), Path: "/", MaxAge: int(deviceMaxAge.Seconds()),
		Secure: d.cookie.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}

// IsDevice tells a device's key from a session's.
func IsDevice(key string) bool { return strings.Contains(key, ".") }

// IdentityKeyOf returns the identity's key that a device's key names.
func IdentityKeyOf(key string) string {
	_, identityKey, _ := strings.Cut(key, ".")
	return identityKey
}

// deviceName is the hash of the cookie, or of the identity where there is none.
// The two cannot meet: they are hashes of differently prefixed values.
func deviceName(value secret.Text, id identity.Identity) string {
	text := "no cookie " + id.Key()
	if len(value.Reveal()) == cookieValueLength {
		text = "cookie " + value.Reveal()
	}
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func deviceKey(name string) string { return "device:" + name }
