package broker

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/upstream"
)

// establish finds the identity's account, or registers it, and saves the link.
//
// With a durable store, no link means that nobody ever tried to make an account:
// registering first costs a new person two calls. Everywhere else the account
// may exist — a link that says "pending" was interrupted, and without a durable
// store no link means nothing — so every name it could have is tried before a
// new one is made: neither a restart nor a crash may give anybody a second one.
func (a *accounts) establish(ctx context.Context, caller Caller) (established, error) {
	known, err := a.links.find(ctx, caller.Identity)
	if err != nil {
		return established{}, err
	}
	if known != nil && known.State == linked {
		return established{link: *known}, nil // somebody was faster
	}
	attempt := attempt{accounts: a, caller: caller, profile: a.mapping.Profile(caller.Identity)}
	tried := attempt.profile.Usernames
	if known != nil {
		tried = union(strings.Fields(known.Tried), tried)
	}
	if known != nil || !a.links.durable() {
		if found, err := attempt.open(ctx, tried...); found != nil || err != nil {
			return attempt.finish(ctx, found, err)
		}
	}
	// Before anything is registered: when this is interrupted, the claims may
	// give other names by the next try.
	if names := strings.Join(tried, " "); a.links.durable() && (known == nil || known.Tried != names) {
		if err := a.links.save(ctx, caller.Identity, link{State: pending, Tried: names}); err != nil {
			return established{}, err
		}
	}
	return attempt.finish(attempt.register(ctx))
}

// union returns the names of both, each once, in order.
func union(first, second []string) []string {
	all := slices.Clone(first)
	for _, name := range second {
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

// attempt is one run of establish.
type attempt struct {
	*accounts
	caller  Caller
	profile Profile
}

// open tries to sign in under each name with each master secret, newest first.
// It returns nil if none opens.
func (t *attempt) open(ctx context.Context, usernames ...string) (*established, error) {
	for _, username := range usernames {
		for _, m := range t.credentials.masters {
			found, err := t.openWith(ctx, username, m)
			if found != nil || err != nil {
				return found, err
			}
		}
	}
	return nil, nil
}

func (t *attempt) openWith(ctx context.Context, username string, m master) (*established, error) {
	password, err := m.password(t.caller.Identity)
	if err != nil {
		return nil, err
	}
	in, err := t.whisp.SignIn(ctx, username, password)
	switch {
	case errors.Is(err, upstream.ErrUnauthorized):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &established{
		link:     link{State: linked, UserID: in.UserID, Username: username, Email: in.Email, Master: m.fingerprint, Mapped: t.profile.Usernames[0]},
		signedIn: in,
		by:       t.caller.Session,
	}, nil
}

// register makes the account. A 400 means that the name is taken, the e-mail
// is taken, or a field is bad, and Whisp does not say which: so the name is
// tried with our own credential, and then the next candidate is taken. It is
// tried again even if it was before registering: a registration that was given
// up may have arrived in between.
func (t *attempt) register(ctx context.Context) (context.Context, *established, error) {
	var refusal error
	for _, c := range t.candidates() {
		found, err := t.registerAs(ctx, c.username, c.email)
		if invalid, ok := errors.AsType[*upstream.InvalidError](err); ok {
			refusal = invalid
			continue
		}
		return ctx, found, err
	}
	if t.mapping.onConflict == Fail {
		return ctx, nil, problem.AccountConflict().Because(refusal)
	}
	return ctx, nil, problem.AccountInvalid().Because(refusal)
}

type candidate struct{ username, email string }

// candidates: the plain name, then the name that only this identity can have.
// If even that is refused, the e-mail address must be the reason, and both
// come again with the address that only this identity can have.
func (t *attempt) candidates() []candidate {
	var list []candidate
	for _, email := range []string{t.profile.Email, t.profile.FallbackEmail} {
		for _, username := range t.profile.Usernames {
			list = append(list, candidate{username, email})
		}
		if t.profile.Email == t.profile.FallbackEmail {
			break
		}
	}
	return list
}

// registerAs returns an [upstream.InvalidError] if another candidate should be
// tried.
func (t *attempt) registerAs(ctx context.Context, username, email string) (*established, error) {
	m := t.credentials.newest()
	password, err := m.password(t.caller.Identity)
	if err != nil {
		return nil, err
	}
	registerErr := t.whisp.Register(ctx, upstream.Registration{
		Username: username, Email: email, Password: password,
		FirstName: t.profile.FirstName, SurName: t.profile.SurName,
	})
	_, invalid := errors.AsType[*upstream.InvalidError](registerErr)
	switch {
	case registerErr == nil:
		found, err := t.openWith(ctx, username, m)
		if err != nil {
			return nil, err
		}
		if found == nil {
			return nil, asBadAnswer(upstream.ErrUnauthorized, "an account just registered refuses its credential")
		}
		found.registered = true
		return found, nil
	case invalid:
		if found, err := t.open(ctx, username); found != nil || err != nil {
			return found, err
		}
		return nil, registerErr
	}
	// No answer, or a fault: the account may have been made all the same.
	// If it was, its own credential opens it; if not, the first error stands.
	if found, err := t.openWith(ctx, username, m); err == nil && found != nil {
		found.registered = true
		return found, nil
	}
	return nil, registerErr
}

// finish saves the link of what was found.
func (t *attempt) finish(ctx context.Context, found *established, err error) (established, error) {
	if err != nil {
		return established{}, err
	}
	if err := t.links.save(ctx, t.caller.Identity, found.link); err != nil {
		return established{}, err
	}
	t.logger.InfoContext(ctx, "account linked", "identity", logName(t.caller.Identity), "user_id", found.link.UserID, "registered", found.registered)
	return *found, nil
}
