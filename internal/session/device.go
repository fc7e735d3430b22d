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
	"strconv"
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
// A device's key covers cookie, identity and turn, so another person in the same
// browser is another device and can never see what the first one held, nor does
// the first one see it again who comes back, or who signs in after a logout. A
// device nobody was recognised on for Config.Idle ends; one whose credential
// comes once and then stays away (see [Recognition].Resumable) ends with that
// credential.
//
// Invariant: under "device:" + hash of the cookie stands the identity that was
// recognised last, and its turn; a key is alive exactly while it names these. No
// key is ever alive twice: what was ended under it stays ended. Requests that
// come together after a change agree on the key, since a turn is counted and
// the first one set only if there is none.
type Devices struct {
	cfg    Config
	deps   Deps
	cookie cookieShape
	typed  *store.Typed[deviceRecord]
	slide  time.Duration
}

// deviceRecord is who was recognised on a device last.
type deviceRecord struct {
	// Identity is empty after a logout, until somebody is recognised.
	Identity string `json:"identity,omitempty"`
	// Turn counts the identities on this device, beginning with the time of the
	// first in milliseconds.
	Turn uint64 `json:"turn"`
	// Resumable: the credential cannot come with every call, so until
	// CredentialEnds the device's cookie stands for it.
	Resumable      bool      `json:"resumable,omitempty"`
	CredentialEnds time.Time `json:"credential_ends,omitzero"`
	// Source and Issuer gave the resumable credential.
	Source string `json:"source,omitempty"`
	Issuer string `json:"iss,omitempty"`
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
	// Unused is when the device ends if nobody is recognised on it again.
	Unused time.Time
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
	// Source is the name of the source that believed the credential.
	Source string
}

// Recognise notes that the browser with this cookie value is used by the
// identity. An empty or malformed value is a client without cookies: all such
// clients of one identity are one device.
//
// Reading is free of locks; whoever would write takes one and reads again, so that
// a logout that comes between is not undone.
func (d *Devices) Recognise(ctx context.Context, value secret.Text, who Recognition) (Device, error) {
	name := deviceName(value, who.Identity)
	record := deviceRecord{Identity: who.Identity.Key(), Resumable: who.Resumable}
	if who.Resumable {
		record.CredentialEnds, record.Source, record.Issuer = who.CredentialEnds, who.Source, who.Identity.Issuer
	}
	last, err := d.typed.GetSliding(ctx, deviceKey(name), d.sliding())
	if err == nil && last.stands(record) {
		return d.device(name, last), nil
	}
	if err != nil && !lost(err) {
		return Device{}, unavailable(err)
	}
	var device Device
	err = locked(ctx, d.deps.Store, deviceKey(name), func() (err error) {
		device, err = d.recognise(ctx, name, record)
		return err
	})
	return device, err
}

// recognise writes down who was recognised, under the device's lock.
func (d *Devices) recognise(ctx context.Context, name string, record deviceRecord) (Device, error) {
	replaced := ""
	last, err := d.typed.Get(ctx, deviceKey(name))
	switch {
	case err == nil && last.stands(record):
		return d.device(name, last), nil
	case err == nil && last.Identity == record.Identity:
		record.Turn = last.Turn
	case err == nil:
		record.Turn = last.Turn + 1
		if last.Identity != "" {
			replaced = last.key(name)
		}
	case lost(err):
		record.Turn = uint64(d.deps.Clock().UnixMilli())
	default:
		return Device{}, unavailable(err)
	}
	if err := d.save(ctx, name, record); err != nil {
		return Device{}, err
	}
	device := d.device(name, &record)
	device.Replaced = replaced
	return device, nil
}

// stands reports whether a new recognition says nothing that is not known.
func (r *deviceRecord) stands(recognised deviceRecord) bool {
	return r.Identity == recognised.Identity &&
		(!recognised.Resumable || r.Resumable && r.CredentialEnds.Equal(recognised.CredentialEnds) && r.Source == recognised.Source)
}

func (d *Devices) save(ctx context.Context, name string, record deviceRecord) error {
	encoded, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encode device: %w", err)
	}
	if err := d.deps.Store.Set(ctx, deviceKey(name), encoded, d.ttl(&record)); err != nil {
		return unavailable(err)
	}
	return nil
}

func (d *Devices) device(name string, record *deviceRecord) Device {
	now := d.deps.Clock()
	return Device{Key: record.key(name), Until: now.Add(d.cfg.Absolute.D()), Unused: now.Add(d.ttl(record))}
}

// Resume returns the device of a cookie on which a resumable credential was
// recognised that has not ended and whose issuer trusted says yes to; else [ErrNone].
// It counts as a use.
func (d *Devices) Resume(ctx context.Context, value secret.Text, trusted func(source, issuer string) bool) (Device, error) {
	name, record, err := d.current(ctx, value, true)
	if err != nil {
		return Device{}, err
	}
	ends := record.CredentialEnds
	if !record.Resumable || (!ends.IsZero() && !d.deps.Clock().Before(ends)) || !trusted(record.Source, record.Issuer) {
		return Device{}, ErrNone
	}
	return d.device(name, record), nil
}

// Current returns the key of the device of a cookie, or [ErrNone].
func (d *Devices) Current(ctx context.Context, value secret.Text) (string, error) {
	name, record, err := d.current(ctx, value, false)
	if err != nil {
		return "", err
	}
	return record.key(name), nil
}

// CurrentOf returns the key of the device of an identity's clients without
// cookies, or [ErrNone].
func (d *Devices) CurrentOf(ctx context.Context, id identity.Identity) (string, error) {
	name := deviceName(secret.Text{}, id)
	record, err := d.typed.Get(ctx, deviceKey(name))
	if err != nil || record.Identity == "" {
		return "", noneOr(err)
	}
	return record.key(name), nil
}

func (d *Devices) current(ctx context.Context, value secret.Text, slide bool) (name string, record *deviceRecord, err error) {
	if len(value.Reveal()) != cookieValueLength {
		return "", nil, ErrNone
	}
	name = deviceName(value, identity.Identity{})
	if slide {
		record, err = d.typed.GetSliding(ctx, deviceKey(name), d.sliding())
	} else {
		record, err = d.typed.Get(ctx, deviceKey(name))
	}
	if err != nil || record.Identity == "" {
		return "", nil, noneOr(err)
	}
	return name, record, nil
}

func (d *Devices) sliding() store.Sliding[deviceRecord] {
	return store.Sliding[deviceRecord]{Now: d.deps.Clock(), Step: d.slide, TTL: d.ttl}
}

// noneOr is [ErrNone] unless the store failed.
func noneOr(err error) error {
	if err == nil || lost(err) {
		return ErrNone
	}
	return unavailable(err)
}

// ttl is how long an unused device may still live. A resumable credential with a
// known end counts until then, however quiet: the calls that would keep the
// device alive may all stay away, and a chat that nobody writes in would end
// without a word.
func (d *Devices) ttl(record *deviceRecord) time.Duration {
	ttl := d.cfg.Idle.D()
	switch {
	case record.Identity == "": // a logout is remembered longer than anything it ended
		ttl = d.cfg.Absolute.D()
	case !record.CredentialEnds.IsZero():
		ttl = min(d.cfg.Absolute.D(), record.CredentialEnds.Sub(d.deps.Clock()))
	}
	return max(ttl, time.Nanosecond)
}

// Touch returns when the device ends if nobody is recognised on it again;
// [ErrNone] if it has ended. It does not count as being recognised: only a
// credential does.
func (d *Devices) Touch(ctx context.Context, key string) (time.Time, error) {
	record, err := d.alive(ctx, key)
	if err != nil {
		return time.Time{}, err
	}
	return d.deps.Clock().Add(d.ttl(record)), nil
}

// Alive reports whether the identity that key names was the last one recognised
// on its device, has not signed out since, and was there not too long ago.
func (d *Devices) Alive(ctx context.Context, key string) (bool, error) {
	_, err := d.alive(ctx, key)
	if errors.Is(err, ErrNone) {
		return false, nil
	}
	return err == nil, err
}

func (d *Devices) alive(ctx context.Context, key string) (*deviceRecord, error) {
	name, _, _ := strings.Cut(key, ".")
	last, err := d.typed.Get(ctx, deviceKey(name))
	if err != nil || last.Identity == "" || last.key(name) != key {
		return nil, noneOr(err)
	}
	return last, nil
}

// End forgets who used the device. Whoever is recognised next, the same person
// included, has another key.
func (d *Devices) End(ctx context.Context, key string) error {
	name, _, _ := strings.Cut(key, ".")
	return locked(ctx, d.deps.Store, deviceKey(name), func() error {
		last, err := d.alive(ctx, key)
		if errors.Is(err, ErrNone) {
			return nil
		}
		if err != nil {
			return err
		}
		return d.save(ctx, name, deviceRecord{Turn: last.Turn})
	})
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
	_, rest, _ := strings.Cut(key, ".")
	identityKey, _, _ := strings.Cut(rest, ".")
	return identityKey
}

// key of the device with that name, as the record has it.
func (r *deviceRecord) key(name string) string {
	return name + "." + r.Identity + "." + strconv.FormatUint(r.Turn, 36)
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
