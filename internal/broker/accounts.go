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
}

// TokenService is the part of Whisp that renews and ends tokens.
type TokenService interface {
	Refresh(ctx context.Context, refreshToken, expiredJWT secret.Text) (jwt secret.Text, expires time.Time, err error)
	Logout(ctx context.Context, jwt, refreshToken secret.Text) error
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
	mapping      *Mapping
	logger       *slog.Logger
	establishing flight.Group[established]
}

// established is the result of one establishing, shared between the sessions of
// one identity. The sign-in in it belongs to the session that did it.
type established struct {
	link       link
	signedIn   upstream.SignedIn
	by         string
	registered bool
}

func newAccounts(deps Deps) *accounts {
	return &accounts{
		whisp: deps.Accounts, links: newLinks(deps.Store, deps.Clock),
		credentials: deps.Credentials, mapping: deps.Mapping, logger: deps.Logger,
	}
}

// keyChanges is how often a sign-in begins anew because Whisp refused the API
// key and another took its place.
const keyChanges = 3

// signIn signs the caller in to its account, making the account if there is
// none; registered tells that.
func (a *accounts) signIn(ctx context.Context, caller Caller) (in upstream.SignedIn, registered bool, err error) {
	for range keyChanges {
		in, registered, err = a.signInOnce(ctx, caller)
		if !errors.Is(err, upstream.ErrKeyChanged) {
			break
		}
	}
	return in, registered, err
}

func (a *accounts) signInOnce(ctx context.Context, caller Caller) (in upstream.SignedIn, registered bool, err error) {
	known, err := a.links.find(ctx, caller.Identity)
	if err != nil {
		return upstream.SignedIn{}, false, err
	}
	if known != nil {
		in, err := a.signInLinked(ctx, caller.Identity, *known)
		if !errors.Is(err, upstream.ErrUnauthorized) {
			return in, false, err
		}
		// Renamed or deleted at Whisp, or the API key was revoked. Only a good
		// key makes the refusal mean something about the account.
		if err := a.whisp.ProbeKey(ctx); err != nil {
			return upstream.SignedIn{}, false, err
		}
		a.logger.WarnContext(ctx, "linked account refuses its credential; looking for it again", "identity", logName(caller.Identity))
		if err := a.links.drop(ctx, caller.Identity.Key()); err != nil {
			return upstream.SignedIn{}, false, err
		}
	}
	found, err := a.establishing.Do(ctx, caller.Identity.Key(), patience, func(ctx context.Context) (established, error) {
		return a.establish(ctx, caller)
	})
	if err != nil {
		return upstream.SignedIn{}, false, err
	}
	if found.by == caller.Session {
		return found.signedIn, found.registered, nil
	}
	in, err = a.signInLinked(ctx, caller.Identity, found.link)
	return in, false, asBadAnswer(err, "an account just established refuses its credential")
}

func (a *accounts) signInLinked(ctx context.Context, id identity.Identity, l link) (upstream.SignedIn, error) {
	m, known := a.credentials.byFingerprint(l.Master)
	if !known {
		return upstream.SignedIn{}, problem.Internal().Because(errors.New("the account was made with a master secret that is no longer listed: add it to account.master_secrets"))
	}
	password, err := m.password(id)
	if err != nil {
		return upstream.SignedIn{}, err
	}
	return a.whisp.SignIn(ctx, l.Username, password)
}

// establish finds the identity's account, or registers it, and saves the link.
//
// With a durable store, no link means that there was no account (or that the
// link was evicted): registering first costs a new person two calls. Without
// one, no link means nothing, so every name the account could have is tried
// before a new one is made: a restart must not give anybody a second account.
func (a *accounts) establish(ctx context.Context, caller Caller) (established, error) {
	if l, err := a.links.find(ctx, caller.Identity); err != nil || l != nil {
		if err != nil {
			return established{}, err
		}
		return established{link: *l}, nil // somebody was faster
	}
	attempt := attempt{accounts: a, caller: caller, profile: a.mapping.Profile(caller.Identity), refused: map[string]bool{}}
	if !a.links.durable() {
		if found, err := attempt.open(ctx, attempt.profile.Usernames...); found != nil || err != nil {
			return attempt.finish(ctx, found, err)
		}
	}
	return attempt.finish(attempt.register(ctx))
}

// attempt is one run of establish.
type attempt struct {
	*accounts
	caller  Caller
	profile Profile
	// refused names accounts that none of our credentials open.
	refused map[string]bool
}

// open tries to sign in under each name with each master secret, newest first.
// It returns nil if none opens.
func (t *attempt) open(ctx context.Context, usernames ...string) (*established, error) {
	for _, username := range usernames {
		if t.refused[username] {
			continue
		}
		for _, m := range t.credentials.masters {
			found, err := t.openWith(ctx, username, m)
			if found != nil || err != nil {
				return found, err
			}
		}
		t.refused[username] = true
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
		link:     link{UserID: in.UserID, Username: username, Email: in.Email, Master: m.fingerprint},
		signedIn: in,
		by:       t.caller.Session,
	}, nil
}

// register makes the account. A 400 means that the name is taken, the e-mail
// is taken, or a field is bad, and Whisp does not say which: so the name is
// tried with our own credential, and then the next candidate is taken.
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
