package broker

import (
	"context"
	"errors"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/upstream"
)

// follow keeps a link true to a sign-in that just succeeded, and, with
// profile_sync, the account's name true to the claims. A name that cannot be
// had is left as it is: nobody is kept out of the chat for it.
func (a *accounts) follow(ctx context.Context, id identity.Identity, l *link, in upstream.SignedIn) (upstream.SignedIn, error) {
	if l.UserID != in.UserID || l.Deleted {
		// Deleted and made again with the same credential, which is ours alone; or
		// it was another account that was deleted.
		a.logger.InfoContext(ctx, "linked account is not the one of before, or not deleted", "identity", logName(id), "user_id", in.UserID)
		seen := *l
		l.UserID, l.Deleted = in.UserID, false
		if _, err := a.links.replace(ctx, id.Key(), seen, *l); err != nil {
			return upstream.SignedIn{}, err
		}
	}
	if !a.sync {
		return in, nil
	}
	wanted := a.mapping.Profile(id).Usernames
	// Only a change at the provider is followed: a name that its owner chose in
	// the chat stays until then.
	if l.Mapped == wanted[0] {
		return in, nil
	}
	renamed, err := a.renaming.Do(ctx, id.Key(), patience, func(ctx context.Context) (link, error) {
		return exclusively(ctx, a.links.store, renameLock(id.Key()), func() (link, error) {
			return a.rename(ctx, id, in.JWT, wanted)
		})
	})
	if err != nil {
		return upstream.SignedIn{}, err
	}
	// The JWT still says the old name, which is good until it is refreshed.
	if renamed.Username != "" {
		in.Username = renamed.Username
	}
	return in, nil
}

// rename gives the account the first of the wanted names that is free. It runs
// once for all sessions of the identity, and reads the link again: the run before
// may have done it.
func (a *accounts) rename(ctx context.Context, id identity.Identity, jwt secret.Text, wanted []string) (link, error) {
	l, err := a.links.find(ctx, id)
	if err != nil || l == nil || l.Mapped == wanted[0] {
		if l == nil {
			l = &link{} // dropped meanwhile: nothing to rename
		}
		return *l, err
	}
	for _, name := range wanted {
		if name == l.Username {
			break
		}
		l.Renaming = name
		if err := a.links.save(ctx, id, *l); err != nil {
			return link{}, err
		}
		err := a.changeUsername(ctx, jwt, name)
		if _, taken := errors.AsType[*upstream.InvalidError](err); taken {
			l.Renaming = ""
			continue
		}
		if err != nil {
			// It may have happened all the same: Renaming stays, and the next
			// sign-in finds out.
			a.logger.WarnContext(ctx, "account not renamed", "identity", logName(id), "error", err)
			return *l, nil
		}
		a.logger.InfoContext(ctx, "account renamed as at the provider", "identity", logName(id), "user_id", l.UserID)
		l.Username, l.Renaming = name, ""
		break
	}
	l.Mapped = wanted[0]
	return *l, a.links.save(ctx, id, *l)
}

// changeUsername returns an [upstream.InvalidError] if the name cannot be had. That
// it is taken can also mean that an earlier try succeeded and its answer was lost.
func (a *accounts) changeUsername(ctx context.Context, jwt secret.Text, name string) error {
	_, _, err := a.tokens.ChangeUsername(ctx, jwt, name)
	if _, taken := errors.AsType[*upstream.InvalidError](err); !taken {
		return err
	}
	user, lookErr := a.whisp.User(ctx, jwt)
	switch {
	case lookErr != nil:
		return lookErr
	case user.Username == name:
		return nil
	}
	return err
}
