package broker

import (
	"context"

	"github.com/whisp-bff/whisp-bff/internal/identity"
)

// Account is what an identity has at Whisp.
type Account struct {
	UserID, Username string
	// Created: this very call made it.
	Created bool
}

// Ensure makes sure that an identity has an account, before the person ever
// signs in: a chat can only be started with somebody who exists. It may be
// called any number of times, and from several replicas.
//
// Errors are those of [Broker.SignIn].
func (b *Broker) Ensure(ctx context.Context, id identity.Identity) (Account, error) {
	if known, err := b.accounts.links.find(ctx, id); err != nil || (known != nil && known.State == linked) {
		if err != nil {
			return Account{}, err
		}
		return Account{UserID: known.UserID, Username: known.Username}, nil
	}
	// The sign-in that finds out the user id leaves a refresh token that nobody
	// holds: it is ended again.
	caller := Caller{Session: "ensure " + id.Key(), Identity: id}
	in, registered, err := b.accounts.signIn(ctx, caller)
	if err != nil {
		return Account{}, err
	}
	b.revokeLoudly(ctx, Grant{JWT: in.JWT, RefreshToken: in.RefreshToken, Expires: in.Expires})
	return Account{UserID: in.UserID, Username: in.Username, Created: registered}, nil
}

// Find returns the account that an identity is linked to, or false. It asks the
// store only.
func (b *Broker) Find(ctx context.Context, id identity.Identity) (Account, bool, error) {
	known, err := b.accounts.links.find(ctx, id)
	if err != nil || known == nil || known.State != linked {
		return Account{}, false, err
	}
	return Account{UserID: known.UserID, Username: known.Username}, true, nil
}

// Release drops the link of an identity, so that its next sign-in looks for the
// account again and makes a new one if it finds none: what an administrator does
// when account_lost is shown and the account is known to be gone. The account
// itself is not touched.
func (b *Broker) Release(ctx context.Context, id identity.Identity) error {
	return b.accounts.links.drop(ctx, id.Key())
}

// Preview returns what an identity would be registered as. It asks nobody and
// writes nothing; whether a name is free it cannot tell.
func (b *Broker) Preview(id identity.Identity) Profile { return b.deps.Mapping.Profile(id) }
