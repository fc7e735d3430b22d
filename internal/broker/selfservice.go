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

// LoggedOut drops the session's grant without a word to Whisp: the browser has
// just ended its refresh token itself.
func (b *Broker) LoggedOut(ctx context.Context, session string) error {
	return b.grants.drop(ctx, session)
}

// LoggedOutEverywhere drops the grants of all sessions of the identity: the
// browser has just ended all refresh tokens of its account.
func (b *Broker) LoggedOutEverywhere(ctx context.Context, session, identityKey string) error {
	if err := b.grants.drop(ctx, session); err != nil {
		return err
	}
	return b.grants.dropAll(ctx, identityKey)
}

// Renamed notes the new name of the account that a changeUsername was about. jwt
// is what Whisp answered with; a call about another account than the session's
// own changes nothing here.
func (b *Broker) Renamed(ctx context.Context, session, identityKey string, jwt secret.Text) error {
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
		known.Username, known.Renaming = user.Username, ""
		stored, err := b.accounts.links.replace(ctx, identityKey, seen, *known)
		if err != nil {
			return err
		}
		if stored == *known {
			break
		}
	}
	// The grant's JWT says the old name.
	return b.grants.drop(ctx, session)
}

// Deleted drops grant and link of an account that its owner has just deleted. If
// the session's own refresh token still works, it was another account.
func (b *Broker) Deleted(ctx context.Context, session, identityKey string) error {
	held, err := b.grants.take(ctx, session)
	if err != nil {
		return err
	}
	known, err := b.accounts.links.findKey(ctx, identityKey)
	if err != nil || known == nil || held == nil || held.identityKey != identityKey || held.UserID != known.UserID {
		return err // nothing shows that it was this account
	}
	if _, _, err := b.deps.Tokens.Refresh(ctx, held.RefreshToken, held.JWT); !errors.Is(err, upstream.ErrUnauthorized) {
		return err
	}
	return b.accounts.links.drop(ctx, identityKey)
}
