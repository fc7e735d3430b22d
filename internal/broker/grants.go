package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

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
	raw, err := json.Marshal(grantRecord{
		Session: caller.Session, Identity: caller.Identity.Key(),
		JWT: grant.JWT.Reveal(), RefreshToken: grant.RefreshToken.Reveal(),
		UserID: grant.UserID, Username: grant.Username, Expires: grant.Expires,
	})
	if err != nil {
		return fmt.Errorf("encode grant: %w", err)
	}
	ttl := max(time.Second, caller.Until.Sub(g.clock()))
	if err := g.store.Set(ctx, grantKey(caller.Session), raw, ttl); err != nil {
		return unavailable(err)
	}
	if err := g.store.Add(ctx, holdersOf(caller.Identity.Key()), caller.Session, ttl); err != nil {
		return unavailable(err)
	}
	return nil
}

// dropAll drops the grants of all sessions of an identity.
func (g *grants) dropAll(ctx context.Context, identityKey string) error {
	sessions, err := g.store.Members(ctx, holdersOf(identityKey))
	if err != nil {
		return unavailable(err)
	}
	for _, session := range sessions {
		if err := g.drop(ctx, session); err != nil {
			return err
		}
	}
	return nil
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
	}, nil
}

// lost reports that there is no value, or one that was altered, moved or sealed
// with an unknown key: nobody may use that, and a sign-in makes a new one.
func lost(err error) bool {
	return errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrSealed)
}

func grantKey(session string) string { return "grant:" + session }
