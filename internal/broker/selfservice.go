package broker

import (
	"context"
	"errors"

	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/upstream"
)

// What browsers do to their own accounts and tokens passes through the proxy;
// these keep links and grants true to it. session is who called, identityKey
// whose session it is.

// LoggedOut notes that the browser has just ended a refresh token itself, most
// likely the one of its grant: the next sign-in finds out.
func (b *Broker) LoggedOut(ctx context.Context, session string) error {
	return b.grants.outdate(ctx, session, nil)
}

// LoggedOutEverywhere notes that all refresh tokens of the account have ended,
// for all sessions of the identity.
func (b *Broker) LoggedOutEverywhere(ctx context.Context, identityKey string) error {
	return b.grants.outdateAll(ctx, identityKey, nil)
}

// Renamed notes the new name of the account that a changeUsername was about, for
// all sessions of the identity. jwt is what Whisp answered with; a call about
// another account than the identity's own changes nothing here.
func (b *Broker) Renamed(ctx context.Context, identityKey string, jwt secret.Text) error {
	var name string
	for range restarts { // profile_sync may be renaming it as well
		known, err := b.accounts.links.findKey(ctx, identityKey)
		if err != nil || known == nil || known.State != linked {
			return err
		}
		user, err := b.deps.Accounts.User(ctx, jwt)
		if err != nil || user.ID != known.UserID {
			return err // the next sign-in finds out: see investigate
		}
		seen := *known
		name = user.Username
		known.Username, known.Renaming = user.Username, ""
		stored, err := b.accounts.links.replace(ctx, identityKey, seen, *known)
		if err != nil {
			return err
		}
		if stored == *known {
			break
		}
	}
	// The grants' JWTs say the old name; their refresh tokens live on.
	return b.grants.outdateAll(ctx, identityKey, func(g *Grant) { g.Username = name })
}

// Deleted drops grant and link of an account that its owner has just deleted. If
// the session's own refresh token still works, it was another account. If Whisp
// cannot be asked, the link remembers what happened: see investigate.
func (b *Broker) Deleted(ctx context.Context, session, identityKey string) error {
	held, err := b.grants.get(ctx, session)
	if err != nil {
		return err
	}
	known, err := b.accounts.links.findKey(ctx, identityKey)
	if err != nil || known == nil || held == nil || held.identityKey != identityKey || held.UserID != known.UserID {
		return err // nothing shows that it was this account
	}
	_, _, err = b.deps.Tokens.Refresh(ctx, held.RefreshToken, held.JWT)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, upstream.ErrUnauthorized):
		return errors.Join(b.grants.drop(ctx, session), b.accounts.links.drop(ctx, identityKey))
	}
	doubtful := *known
	doubtful.Deleted = true
	_, saveErr := b.accounts.links.replace(context.WithoutCancel(ctx), identityKey, *known, doubtful)
	return errors.Join(err, saveErr)
}
