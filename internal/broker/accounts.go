package broker

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/flight"
	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/upstream"
)

// AccountService is the part of Whisp that makes and opens accounts.
type AccountService interface {
	Register(ctx context.Context, account upstream.Registration) error
	SignIn(ctx context.Context, username string, password secret.Text) (upstream.SignedIn, error)
	// ProbeKey returns nil if Whisp accepts the API key.
	ProbeKey(ctx context.Context) error
	User(ctx context.Context, jwt secret.Text) (upstream.User, error)
}

// TokenService is the part of Whisp that renews and ends tokens.
type TokenService interface {
	Refresh(ctx context.Context, refreshToken, expiredJWT secret.Text) (jwt secret.Text, expires time.Time, err error)
	Logout(ctx context.Context, jwt, refreshToken secret.Text) error
	ChangeUsername(ctx context.Context, jwt secret.Text, newUsername string) (newJWT secret.Text, expires time.Time, err error)
}

// accounts finds or makes the one account of an identity.
//
// The invariant: whatever is lost, raced or interrupted, an identity reaches
// the account it reached before, and no account is reached that the identity's
// own credential does not open. Everything tried is derived from the identity
// alone, so every replica tries the same in the same order.
type accounts struct {
	whisp        AccountService
	links        links
	credentials  *Credentials
	tokens       TokenService
	held         *grants
	mapping      *Mapping
	onLost       OnLost
	sync         bool
	logger       *slog.Logger
	establishing flight.Group[established]
	renaming     flight.Group[link]
}

// established is the result of one establishing, shared between the sessions of
// one identity. The sign-in in it belongs to the session that did it.
type established struct {
	link       link
	signedIn   upstream.SignedIn
	by         string
	registered bool
}

func newAccounts(cfg AccountConfig, deps Deps, held *grants) *accounts {
	kept := newLinks(deps.Store, deps.Clock)
	return &accounts{
		whisp: deps.Accounts, tokens: deps.Tokens, held: held, links: kept,
		credentials: deps.Credentials, mapping: deps.Mapping, logger: deps.Logger,
		// Without a durable store a renamed account could not be found again.
		onLost: cfg.OnLost, sync: cfg.ProfileSync && kept.durable(),
	}
}

// restarts is how often a sign-in begins anew because the ground moved under
// it: Whisp refused the API key and another took its place, or the account is
// being renamed.
const restarts = 3

// signIn signs the caller in to its account, making the account if there is
// none; registered tells that.
func (a *accounts) signIn(ctx context.Context, caller Caller) (in upstream.SignedIn, registered bool, err error) {
	for range restarts {
		in, registered, err = a.signInOnce(ctx, caller)
		if !errors.Is(err, upstream.ErrKeyChanged) {
			break
		}
	}
	return in, registered, err
}

// signInOnce is the state machine of docs/accounts.md: one decision for each state
// of the link, one function for each transition.
func (a *accounts) signInOnce(ctx context.Context, caller Caller) (in upstream.SignedIn, registered bool, err error) {
	known, err := a.links.find(ctx, caller.Identity)
	if err != nil {
		return upstream.SignedIn{}, false, err
	}
	if known == nil || known.State == pending {
		return a.signInNew(ctx, caller)
	}
	in, err = a.signInLinked(ctx, caller.Identity, known)
	if errors.Is(err, upstream.ErrUnauthorized) {
		in, err = a.signInChanged(ctx, caller.Identity, known)
	}
	if errors.Is(err, upstream.ErrUnauthorized) {
		in, err = a.investigate(ctx, caller, known)
	}
	if errors.Is(err, errReleased) {
		return a.signInNew(ctx, caller)
	}
	if err != nil {
		return upstream.SignedIn{}, false, err
	}
	in, err = a.follow(ctx, caller.Identity, known, in)
	return in, false, err
}

// signInNew establishes the account, once for all sessions that ask.
func (a *accounts) signInNew(ctx context.Context, caller Caller) (in upstream.SignedIn, registered bool, err error) {
	found, err := a.establishing.Do(ctx, caller.Identity.Key(), patience, func(ctx context.Context) (established, error) {
		return exclusively(ctx, a.links.store, "establish:"+caller.Identity.Key(), func() (established, error) {
			return a.establish(ctx, caller)
		})
	})
	if err != nil {
		return upstream.SignedIn{}, false, err
	}
	if found.by == caller.Session {
		return found.signedIn, found.registered, nil
	}
	in, err = a.signInLinked(ctx, caller.Identity, &found.link)
	return in, false, asBadAnswer(err, "an account just established refuses its credential")
}

// signInLinked signs in to the account of a link, under the name it is being
// renamed to if the old one is not known any more.
func (a *accounts) signInLinked(ctx context.Context, id identity.Identity, l *link) (upstream.SignedIn, error) {
	m, known := a.credentials.byFingerprint(l.Master)
	if !known {
		return upstream.SignedIn{}, problem.Internal().Because(errors.New("the account was made with a master secret that is no longer listed: add it to account.master_secrets"))
	}
	password, err := m.password(id)
	if err != nil {
		return upstream.SignedIn{}, err
	}
	in, err := a.whisp.SignIn(ctx, l.Username, password)
	if !errors.Is(err, upstream.ErrUnauthorized) || l.Renaming == "" {
		return in, err
	}
	in, err = a.whisp.SignIn(ctx, l.Renaming, password)
	if err != nil {
		return upstream.SignedIn{}, err
	}
	seen := *l
	l.Username, l.Renaming = l.Renaming, ""
	_, err = a.links.replace(ctx, id.Key(), seen, *l)
	return in, err
}

// signInChanged signs in again if the link was changed since it was read: another
// session of the identity may just have renamed the account.
func (a *accounts) signInChanged(ctx context.Context, id identity.Identity, l *link) (upstream.SignedIn, error) {
	for range restarts {
		latest, err := a.links.find(ctx, id)
		switch {
		case err != nil:
			return upstream.SignedIn{}, err
		case latest == nil || latest.State == pending:
			return upstream.SignedIn{}, errReleased
		case *latest == *l:
			return upstream.SignedIn{}, upstream.ErrUnauthorized
		}
		*l = *latest
		in, err := a.signInLinked(ctx, id, l)
		if !errors.Is(err, upstream.ErrUnauthorized) {
			return in, err
		}
	}
	return upstream.SignedIn{}, upstream.ErrUnauthorized
}

// errReleased: the link is gone, the identity may have a new account.
var errReleased = errors.New("link released")

// investigate finds out why a linked account refuses its credential: the API key was
// revoked, the account was renamed, or nobody can tell.
func (a *accounts) investigate(ctx context.Context, caller Caller, l *link) (upstream.SignedIn, error) {
	// Only a good key makes the refusal mean something about the account.
	if err := a.whisp.ProbeKey(ctx); err != nil {
		return upstream.SignedIn{}, err
	}
	name, err := a.renamedTo(ctx, caller, l)
	if err != nil {
		return upstream.SignedIn{}, err
	}
	if name != "" && name != l.Username {
		a.logger.InfoContext(ctx, "account was renamed elsewhere", "identity", logName(caller.Identity), "user_id", l.UserID)
		seen := *l
		l.Username, l.Renaming = name, ""
		if _, err := a.links.replace(ctx, caller.Identity.Key(), seen, *l); err != nil {
			return upstream.SignedIn{}, err
		}
		in, err := a.signInLinked(ctx, caller.Identity, l)
		if errors.Is(err, upstream.ErrUnauthorized) {
			in, err = a.signInChanged(ctx, caller.Identity, l)
		}
		return in, asBadAnswer(err, "an account refuses its credential under its own name")
	}
	if a.onLost == LostFails && !l.Deleted {
		return upstream.SignedIn{}, problem.AccountLost().Because(errors.New("renamed or deleted elsewhere; release it with DELETE /admin/accounts if it is gone"))
	}
	a.logger.WarnContext(ctx, "linked account is taken for deleted; making another", "identity", logName(caller.Identity), "user_id", l.UserID)
	if err := a.links.drop(ctx, caller.Identity.Key()); err != nil {
		return upstream.SignedIn{}, err
	}
	return upstream.SignedIn{}, errReleased
}

// renamedTo asks with the refresh token that the caller's session still holds
// what its account is called now; "" if there is none that Whisp takes.
func (a *accounts) renamedTo(ctx context.Context, caller Caller, l *link) (string, error) {
	held, err := a.held.find(ctx, caller)
	if err != nil || held == nil || held.UserID != l.UserID {
		return "", err
	}
	jwt, _, err := a.tokens.Refresh(ctx, held.RefreshToken, held.JWT)
	if errors.Is(err, upstream.ErrUnauthorized) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	user, err := a.whisp.User(ctx, jwt)
	switch {
	case errors.Is(err, upstream.ErrUnauthorized):
		return "", nil
	case err != nil:
		return "", err
	case user.ID != l.UserID:
		return "", nil
	}
	return user.Username, nil
}

// asBadAnswer turns a refusal that cannot be into whisp_bad_answer: a 401 must
// never reach the browser for a fault that is not the session's.
func asBadAnswer(err error, why string) error {
	if errors.Is(err, upstream.ErrUnauthorized) {
		return problem.WhispBadAnswer().Because(errors.New(why))
	}
	return err
}

// logName names an identity in logs without telling who it is.
func logName(id identity.Identity) string { return id.Key()[:12] }
