package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/store"
)

// grants keeps one grant per session. A grant is bound to its session and its
// identity: one that belongs to anybody else is never returned.
type grants struct {
	store Store
	typed *store.Typed[heldGrant]
	clock func() time.Time
}

// heldGrant is a grant as kept.
type heldGrant struct {
	Grant
	identityKey string
	// obtained is when Whisp gave the JWT.
	obtained time.Time
	// until is when the grant is forgotten at the latest.
	until time.Time
}

// grantRecord is a grant as stored.
type grantRecord struct {
	Session      string    `json:"session"`
	Identity     string    `json:"identity"`
	JWT          string    `json:"jwt"`
	RefreshToken string    `json:"rt"`
	UserID       string    `json:"uid"`
	Username     string    `json:"name"`
	Expires      time.Time `json:"exp"`
	Obtained     time.Time `json:"got"`
	Until        time.Time `json:"until"`
}

// decodedLimit bounds the decoded grants remembered: about 1 KiB each.
const decodedLimit = 10_000

func newGrants(s Store, clock func() time.Time) *grants {
	return &grants{store: s, typed: store.NewTyped(s, decodedLimit, decodeGrant), clock: clock}
}

// find returns nil if the session holds no grant of this identity.
func (g *grants) find(ctx context.Context, caller Caller) (*heldGrant, error) {
	held, err := g.typed.Get(ctx, grantKey(caller.Session))
	switch {
	case lost(err):
		return nil, nil
	case err != nil:
		return nil, unavailable(err)
	case held.identityKey != caller.Identity.Key():
		return nil, nil
	}
	return held, nil
}

func (g *grants) save(ctx context.Context, caller Caller, grant Grant) error {
	held := heldGrant{Grant: grant, identityKey: caller.Identity.Key(), obtained: g.clock(), until: caller.Until}
	raw, err := encodeGrant(caller.Session, held)
	if err != nil {
		return err
	}
	if err := g.store.Set(ctx, grantKey(caller.Session), raw, g.ttl(held)); err != nil {
		return unavailable(err)
	}
	if err := g.store.Add(ctx, holdersOf(held.identityKey), caller.Session, g.ttl(held)); err != nil {
		return unavailable(err)
	}
	return nil
}

func (g *grants) ttl(held heldGrant) time.Duration {
	return max(time.Second, held.until.Sub(g.clock()))
}

// outdate makes the next sign-in of the session ask Whisp before it answers: the
// JWT counts as expired. The refresh token is kept: it is asked with, and revoked
// at logout. change, if not nil, may correct what else is known.
func (g *grants) outdate(ctx context.Context, session string, change func(*Grant)) error {
	// A sign-in under way could save a newer grant, which must not be replaced by
	// the older one.
	_, err := exclusively(ctx, g.store, obtainLock(session), func() (struct{}, error) {
		held, err := g.get(ctx, session)
		if err != nil || held == nil {
			return struct{}{}, err
		}
		outdated := *held
		outdated.Expires = time.Time{}
		if change != nil {
			change(&outdated.Grant)
		}
		return struct{}{}, g.replace(ctx, session, outdated)
	})
	return err
}

// swap replaces a grant by another one if it is still as it was seen.
func (g *grants) swap(ctx context.Context, session string, seen, by heldGrant) error {
	ctx, cancel := context.WithTimeout(ctx, renewWait)
	defer cancel()
	_, err := exclusively(ctx, g.store, obtainLock(session), func() (struct{}, error) {
		held, err := g.get(ctx, session)
		if err != nil || held == nil || held.identityKey != seen.identityKey || !held.RefreshToken.Equal(seen.RefreshToken) ||
			!held.JWT.Equal(seen.JWT) || !held.Expires.Equal(seen.Expires) {
			return struct{}{}, err
		}
		return struct{}{}, g.replace(ctx, session, by)
	})
	return err
}

// replace writes a grant in place of the one that is there; a logout that came
// between is not undone. The caller has the lock.
func (g *grants) replace(ctx context.Context, session string, with heldGrant) error {
	raw, err := encodeGrant(session, with)
	if err != nil {
		return err
	}
	if _, err := g.store.Replace(ctx, grantKey(session), raw, g.ttl(with)); err != nil {
		return unavailable(err)
	}
	return nil
}

// get returns what a session holds, whoever it belongs to; nil if nothing.
func (g *grants) get(ctx context.Context, session string) (*heldGrant, error) {
	held, err := g.typed.Get(ctx, grantKey(session))
	if lost(err) {
		return nil, nil
	}
	if err != nil {
		return nil, unavailable(err)
	}
	return held, nil
}

func obtainLock(session string) string { return "obtain:" + session }

// outdatedAtOnce bounds how many sessions of an identity are gone through at a time.
const outdatedAtOnce = 16

// outdateAll does so for all sessions of an identity, side by side: one that is busy
// at a slow Whisp must not keep the others from being noted.
func (g *grants) outdateAll(ctx context.Context, identityKey string, change func(*Grant)) error {
	sessions, err := g.store.Members(ctx, holdersOf(identityKey))
	if err != nil {
		return unavailable(err)
	}
	var all errgroup.Group
	all.SetLimit(outdatedAtOnce)
	errs := make([]error, len(sessions))
	for i, session := range sessions {
		all.Go(func() error {
			errs[i] = g.outdate(ctx, session, change)
			return nil
		})
	}
	_ = all.Wait() // each has its error in errs
	return errors.Join(errs...)
}

// holdersOf names the set of sessions that hold grants of an identity; some may
// have ended.
func holdersOf(identityKey string) string { return "holders:" + identityKey }

// take removes and returns the session's grant; nil if there is none. Of
// several callers one gets it.
func (g *grants) take(ctx context.Context, session string) (*heldGrant, error) {
	key := grantKey(session)
	raw, err := g.store.Take(ctx, key)
	g.typed.Forget(key)
	if lost(err) {
		return nil, nil
	}
	if err != nil {
		return nil, unavailable(err)
	}
	return decodeGrant(key, raw)
}

func (g *grants) drop(ctx context.Context, session string) error {
	g.typed.Forget(grantKey(session))
	if err := g.store.Delete(ctx, grantKey(session)); err != nil {
		return unavailable(err)
	}
	return nil
}

func encodeGrant(session string, held heldGrant) ([]byte, error) {
	raw, err := json.Marshal(grantRecord{
		Session: session, Identity: held.identityKey,
		JWT: held.JWT.Reveal(), RefreshToken: held.RefreshToken.Reveal(),
		UserID: held.UserID, Username: held.Username, Expires: held.Expires, Obtained: held.obtained, Until: held.until,
	})
	if err != nil {
		return nil, fmt.Errorf("encode grant: %w", err)
	}
	return raw, nil
}

func decodeGrant(key string, raw []byte) (*heldGrant, error) {
	var r grantRecord
	// The error text of encoding/json can quote the value.
	if json.Unmarshal(raw, &r) != nil || grantKey(r.Session) != key {
		return nil, errors.New("stored grant is not this session's")
	}
	return &heldGrant{
		Grant: Grant{
			JWT: secret.New(r.JWT), RefreshToken: secret.New(r.RefreshToken),
			UserID: r.UserID, Username: r.Username, Expires: r.Expires,
		},
		identityKey: r.Identity,
		obtained:    r.Obtained,
		until:       r.Until,
	}, nil
}

// lost reports that there is no value, or one that was altered, moved or sealed
// with an unknown key: nobody may use that, and a sign-in makes a new one.
func lost(err error) bool {
	return errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrSealed)
}

func grantKey(session string) string { return "grant:" + session }
