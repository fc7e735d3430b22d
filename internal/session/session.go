// Package session keeps browsers' sign-ins on the server.
//
// A browser holds one cookie with 256 random bits. The store holds the session
// under the SHA-256 of those bits, so that a dump of the store gives nobody a
// cookie that works. Every login makes a new id and ends the session whose
// cookie came along, at once if it was another person's, which rules out session
// fixation.
//
// A session ends when nobody used it for Config.Idle, at the latest
// Config.Absolute after its login, at logout, when the OpenID Provider refuses to
// refresh it or logs it out ([Sessions.EndGroup]), and when an administrator says
// so. Idle time lives in the store's expiry and not in the
// record, so that using a session never rewrites it and can never undo what
// another request changed.
//
// Two kinds of "no": [ErrNone] means that there is no such session; a problem
// with code store_unavailable means that nobody knows, and must never be taken
// for the first.
package session

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/flight"
	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/setting"
	"github.com/whisp-bff/whisp-bff/internal/store"
)

// ErrNone: no session, or one that has ended.
var ErrNone = errors.New("session: none")

// Session is one browser's sign-in. Values are shared between requests: read
// only.
type Session struct {
	// Key names the session inside this process and its store: the base64url
	// SHA-256 of the cookie's id. It is no credential, but stays out of answers.
	Key      string
	Identity identity.Identity
	Tokens   identity.ProviderTokens
	// Created is the time of the login.
	Created time.Time
	// Expires is the absolute end.
	Expires time.Time
	// Previous is the key of the session that the browser had before, which may
	// linger; it ends with this one.
	Previous string
	// Lingers: another session of the same person has taken this one's place, see
	// [Lingering].
	Lingers bool
}

// Store is what sessions need of a store.
type Store interface {
	store.Backend
	Set(ctx context.Context, key string, value []byte, ttl time.Duration) error
	// SetIfAbsent and Replace report whether they did: one sets what is not there,
	// the other what is.
	SetIfAbsent(ctx context.Context, key string, value []byte, ttl time.Duration) (bool, error)
	Replace(ctx context.Context, key string, value []byte, ttl time.Duration) (bool, error)
	Delete(ctx context.Context, key string) error
	Lock(ctx context.Context, key string, ttl time.Duration) (*store.Lease, error)
	store.Sets
	Durable() bool
}

// Provider refreshes what the OpenID Provider gave. It returns an error that
// wraps [ErrNone] only when the provider says that the sign-in has ended
// (RFC 6749 section 5.2, invalid_grant).
type Provider interface {
	Refresh(ctx context.Context, tokens identity.ProviderTokens, subject string) (identity.ProviderTokens, error)
}

// Deps are the parts sessions work with.
type Deps struct {
	Store  Store
	Clock  func() time.Time
	Logger *slog.Logger
	// Provider may be nil: then sessions are never refreshed.
	Provider  Provider
	PublicURL setting.URL
	// Ended, if not nil, is called with the key of a session that the provider
	// ended.
	Ended func(ctx context.Context, key string)
	// Rand is the source of ids; nil means crypto/rand.
	Rand io.Reader
}

// Sessions starts, finds and ends sessions. All methods may be called
// concurrently.
type Sessions struct {
	cfg       Config
	deps      Deps
	cookie    cookieShape
	typed     *store.Typed[Session]
	slide     time.Duration
	refreshes flight.Group[*Session]
	failures  backoff
}

// decodedLimit bounds the decoded sessions remembered: about 2 KiB each.
const decodedLimit = 10_000

// New returns sessions kept in deps.Store.
func New(cfg Config, deps Deps) *Sessions {
	if deps.Rand == nil {
		deps.Rand = rand.Reader
	}
	return &Sessions{
		cfg:    cfg,
		deps:   deps,
		cookie: newCookieShape(deps.PublicURL),
		typed:  store.NewTyped(deps.Store, decodedLimit, decode),
		slide:  min(time.Minute, cfg.Idle.D()/20),
	}
}

// Start begins a session and returns the value of its cookie. previous is the
// cookie value that came along, if any: the caller ends that session with
// [Sessions.Supersede]. Errors: store_unavailable, and login_rejected for a login
// that a logout overtook, see [Sessions.RefuseLate].
func (s *Sessions) Start(ctx context.Context, id identity.Identity, tokens identity.ProviderTokens, previous secret.Text) (*Session, secret.Text, error) {
	var raw [32]byte
	if _, err := io.ReadFull(s.deps.Rand, raw[:]); err != nil {
		return nil, secret.Text{}, fmt.Errorf("read randomness for a session id: %w", err)
	}
	value := secret.New(base64.RawURLEncoding.EncodeToString(raw[:]))
	now := s.deps.Clock()
	started := &Session{
		Key:      KeyOf(value),
		Identity: id.Keyed(),
		Tokens:   tokens,
		Created:  now,
		Expires:  now.Add(s.cfg.Absolute.D()),
		Previous: KeyOf(previous),
	}
	encoded, err := encode(started)
	if err != nil {
		return nil, secret.Text{}, err
	}
	if err := s.deps.Store.Set(ctx, storeKey(started.Key), encoded, s.ttl(started)); err != nil {
		return nil, secret.Text{}, unavailable(err)
	}
	if err := s.admit(ctx, started); err != nil {
		_ = s.End(context.WithoutCancel(ctx), started.Key) // nobody has its cookie
		return nil, secret.Text{}, err
	}
	return started, value, nil
}

// admit makes sure that a new session can be found by its groups, and that none
// of them was logged out while the login was on its way. In this order: a logout
// either finds the session or is found by it.
func (s *Sessions) admit(ctx context.Context, started *Session) error {
	if err := s.enlist(ctx, started); err != nil {
		return err
	}
	late, err := s.late(ctx, started)
	if late {
		return problem.LoginRejected().Because(errors.New("the provider ended the sign-in before the login had finished"))
	}
	return err
}

// Lingering is how long a session outlives the next login of the same person in
// the same browser: other tabs may be in the middle of something with its cookie.
const Lingering = 30 * time.Second

// Superseded is what became of a browser's previous session.
type Superseded struct {
	// Key of that session, empty if there was none.
	Key string
	// Lingers: it was the same person's and lives for half a minute more, whatever
	// it is used for. Otherwise it has ended.
	Lingers bool
}

// Supersede ends the session of a previous cookie value in favour of one that was
// just started.
func (s *Sessions) Supersede(ctx context.Context, previous secret.Text, by *Session) (Superseded, error) {
	key := KeyOf(previous)
	if key == "" || key == by.Key {
		return Superseded{}, nil
	}
	what := Superseded{Key: key}
	err := locked(ctx, s.deps.Store, refreshLock(key), func() (err error) {
		what.Lingers, err = s.shorten(ctx, key, by)
		return err
	})
	if errors.Is(err, store.ErrLocked) {
		// It is being refreshed, which would write its old end back.
		return what, s.End(ctx, key)
	}
	return what, err
}

// shorten lets a session linger, or ends it if it is not by's identity's.
func (s *Sessions) shorten(ctx context.Context, key string, by *Session) (lingers bool, err error) {
	old, err := s.byKey(ctx, key, true)
	if errors.Is(err, ErrNone) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if old.Identity.Key() != by.Identity.Key() {
		return false, s.End(ctx, key)
	}
	short := *old
	short.Lingers = true
	short.Tokens = identity.ProviderTokens{SessionID: old.Tokens.SessionID} // nothing is refreshed for it any more
	if end := s.deps.Clock().Add(Lingering); end.Before(short.Expires) {
		short.Expires = end
	}
	encoded, err := encode(&short)
	if err != nil {
		return false, err
	}
	replaced, err := s.deps.Store.Replace(ctx, storeKey(key), encoded, s.ttl(&short))
	if err != nil {
		return false, unavailable(err)
	}
	return replaced, nil
}

// Find returns the session of a cookie value. It counts as a use unless peek is
// set. Errors: [ErrNone], or a problem store_unavailable.
//
// If the provider's access token has run out and a refresh token is there, Find
// refreshes it first: a person disabled at the provider loses the session
// then. Trouble on the way to the provider never ends a session.
func (s *Sessions) Find(ctx context.Context, value secret.Text, peek bool) (*Session, error) {
	key := KeyOf(value)
	if key == "" {
		return nil, ErrNone
	}
	found, err := s.recent(ctx, key, peek)
	if err != nil {
		return nil, err
	}
	if s.refreshDue(found) {
		return s.refreshed(ctx, found)
	}
	return found, nil
}

// Use counts as a use of the session of a cookie value, if there is one. It never
// waits for the provider.
func (s *Sessions) Use(ctx context.Context, value secret.Text) (*Session, error) {
	key := KeyOf(value)
	if key == "" {
		return nil, ErrNone
	}
	return s.recent(ctx, key, false)
}

// Touch counts as a use of the session with that key and returns when it will
// end if it is not used again: what a long-lived connection calls.
func (s *Sessions) Touch(ctx context.Context, key string) (time.Time, error) {
	found, err := s.byKey(ctx, key, false)
	if err != nil {
		return time.Time{}, err
	}
	if s.refreshDue(found) {
		if found, err = s.refreshed(ctx, found); err != nil {
			return time.Time{}, err
		}
	}
	return s.UnusedUntil(found.Expires), nil
}

// Alive reports whether the session with that key still exists; an error means
// that nobody knows.
func (s *Sessions) Alive(ctx context.Context, key string) (bool, error) {
	_, err := s.byKey(ctx, key, true)
	if errors.Is(err, ErrNone) {
		return false, nil
	}
	return err == nil, err
}

// End deletes the session. Ending one that does not exist is no error.
func (s *Sessions) End(ctx context.Context, key string) error {
	if key == "" {
		return nil
	}
	found, err := s.byKey(ctx, key, true)
	if removeErr := s.remove(ctx, key); removeErr != nil {
		return removeErr
	}
	if err == nil {
		s.delist(ctx, found)
	}
	return nil
}

// remove deletes the session and leaves it in the sets of its groups.
func (s *Sessions) remove(ctx context.Context, key string) error {
	if err := s.deps.Store.Delete(ctx, storeKey(key)); err != nil {
		return unavailable(err)
	}
	s.typed.Forget(storeKey(key))
	return nil
}

// UnusedUntil is when a session used just now, whose absolute end is expires, ends
// if it is not used again.
func (s *Sessions) UnusedUntil(expires time.Time) time.Time {
	now := s.deps.Clock()
	return now.Add(min(s.cfg.Idle.D(), expires.Sub(now)))
}

// KeyOf returns the key for a cookie value, or "" for one that cannot be an id
// of ours (so that a junk cookie costs no store access).
func KeyOf(value secret.Text) string {
	if len(value.Reveal()) != cookieValueLength {
		return ""
	}
	sum := sha256.Sum256([]byte(value.Reveal()))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (s *Sessions) byKey(ctx context.Context, key string, peek bool) (found *Session, err error) {
	now := s.deps.Clock()
	if peek {
		found, err = s.typed.Get(ctx, storeKey(key))
	} else {
		found, err = s.typed.GetSliding(ctx, storeKey(key), s.sliding(now))
	}
	return standing(now, found, err)
}

// recent is byKey for requests, which can do with what another replica changed a
// moment ago (see store.Cached). Whoever decides about the session itself asks
// byKey: a stale refresh token would end it.
func (s *Sessions) recent(ctx context.Context, key string, peek bool) (found *Session, err error) {
	now := s.deps.Clock()
	if peek {
		found, err = s.typed.Recent(ctx, storeKey(key))
	} else {
		found, err = s.typed.RecentSliding(ctx, storeKey(key), s.sliding(now))
	}
	return standing(now, found, err)
}

func (s *Sessions) sliding(now time.Time) store.Sliding[Session] {
	by := store.Sliding[Session]{Now: now, Step: s.slide, TTL: s.ttl}
	if !s.deps.Store.Durable() {
		// One that is not drops the memberships added longest ago when it has too
		// many: those of a session in use must not be among them.
		by.Kept = func(ctx context.Context, of *Session) { _ = s.enlist(ctx, of) } // they stand there already
	}
	return by
}

// standing says what a look-up means.
func standing(now time.Time, found *Session, err error) (*Session, error) {
	switch {
	case lost(err):
		return nil, ErrNone
	case err != nil:
		return nil, unavailable(err)
	case !now.Before(found.Expires):
		return nil, ErrNone
	}
	return found, nil
}

// ttl is how long an unused session may still live.
func (s *Sessions) ttl(of *Session) time.Duration {
	return max(time.Nanosecond, min(s.cfg.Idle.D(), of.Expires.Sub(s.deps.Clock())))
}

// StorePrefix is what the keys of sessions, and of nothing else, begin with in the
// store: values that are asked for by Recent.
const StorePrefix = "session:"

func storeKey(key string) string { return StorePrefix + key }

func unavailable(err error) error {
	return problem.StoreUnavailable().Because(err).After(time.Second)
}
