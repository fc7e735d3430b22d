// Package broker turns identities into Whisp accounts and sessions into grants.
//
// An identity — issuer and subject — owns one Whisp account. Its user name comes
// from claims, its password is derived from a master secret ([Credentials]),
// and a link remembers which account it is. A session holds one grant: the JWT
// and refresh token of its own sign-in at Whisp.
//
// # Getting a grant
//
//	live grant?  ── yes ─────────────────────────────► answer (no call)
//	     │ no
//	grant with refresh token? ── refresh 200 ────────► save, answer
//	     │ no, or 401
//	link? ── sign in 200 ────────────────────────────► save, answer
//	     │ no              └ 401 ─► renamed, deleted, or the key? (accounts.go)
//	establish the account (establish.go) ────────────► save link and grant, answer
//
// However many requests ask at once, each step is one call: grants are shared
// per session, establishing is shared per identity.
//
// # What it refuses to do
//
// It never looks an account up by name or e-mail, never links to an account
// that its own derived credential does not open, and never takes credentials
// from a browser. It keeps no password anywhere.
package broker

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/whisp-bff/whisp-bff/internal/flight"
	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/store"
	"github.com/whisp-bff/whisp-bff/internal/upstream"
)

const (
	// renewAhead: a JWT with less life left is not handed out any more. The
	// vendor's SDK takes the JWT before it fetches its ticket, so one about to
	// expire would fail its first socket.
	renewAhead = 60 * time.Second
	// lastResort: a JWT with this much life is handed out when Whisp cannot be
	// asked for a new one.
	lastResort = 10 * time.Second
	// patience bounds one trip to Whisp on behalf of a session.
	patience = 30 * time.Second
)

// Store is what the broker needs of a store.
type Store interface {
	store.Backend
	Set(ctx context.Context, key string, value []byte, ttl time.Duration) error
	Replace(ctx context.Context, key string, value []byte, ttl time.Duration) (bool, error)
	Delete(ctx context.Context, key string) error
	Take(ctx context.Context, key string) ([]byte, error)
	Lock(ctx context.Context, key string, ttl time.Duration) (*store.Lease, error)
	Keys(ctx context.Context, prefix string, each func(key string) error) error
	store.Sets
	// Durable reports whether values survive a restart.
	Durable() bool
}

// Sessions tells whether a session still exists.
type Sessions interface {
	Alive(ctx context.Context, key string) (bool, error)
}

// Deps are the parts a broker works with.
type Deps struct {
	Accounts    AccountService
	Tokens      TokenService
	Store       Store
	Sessions    Sessions
	Credentials *Credentials
	Mapping     *Mapping
	Clock       func() time.Time
	Logger      *slog.Logger
	Metrics     prometheus.Registerer
}

// Caller is who asks: one session of one identity.
type Caller struct {
	// Session is the session's key; the grant belongs to it.
	Session  string
	Identity identity.Identity
	// Until is when the session ends at the latest; the grant is not kept longer.
	Until time.Time
}

// Grant is what one session holds at Whisp.
type Grant struct {
	JWT, RefreshToken secret.Text
	UserID, Username  string
	// Expires is the JWT's end.
	Expires time.Time
}

// Broker signs sessions in and out at Whisp. All methods may be called
// concurrently.
type Broker struct {
	deps     Deps
	accounts *accounts
	grants   *grants
	flights  flight.Group[Grant]
	renewing flight.Group[secret.Text]
	outbox   outbox
	outcomes *prometheus.CounterVec
	renewals *prometheus.CounterVec
}

// New returns a broker. cfg must be valid.
func New(cfg AccountConfig, deps Deps) *Broker {
	b := &Broker{
		deps:   deps,
		grants: newGrants(deps.Store, deps.Clock),
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "whisp_bff_broker_sign_ins_total",
			Help: "Sign-ins by how the grant was obtained, or the code of the problem.",
		}, []string{"outcome"}),
		renewals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "whisp_bff_broker_renewals_total",
			Help: "Refreshes that browsers asked for: asked of Whisp; shared with one that was; alone, since not of the session's own refresh token or because the store is down; failed.",
		}, []string{"outcome"}),
	}
	b.outbox = outbox{store: deps.Store, revoke: b.revoke, logger: deps.Logger, due: make(chan struct{}, 1)}
	b.accounts = newAccounts(cfg, deps, b.grants)
	deps.Metrics.MustRegister(b.outcomes, b.renewals)
	return b
}

// SignIn returns the caller's grant, with a JWT that has life left in it. fresh
// asks for a new grant even if the present one is good; the old refresh token
// is revoked then.
//
// Errors are or wrap a problem of internal/problem; whisp_* when Whisp is at
// fault, account_* when the identity cannot be an account, session_required
// when the session ended meanwhile.
func (b *Broker) SignIn(ctx context.Context, caller Caller, fresh bool) (Grant, error) {
	if !fresh {
		held, err := b.grants.find(ctx, caller)
		if err != nil {
			return Grant{}, b.failed(err)
		}
		if held != nil && b.lifeLeft(held.Grant) > renewAhead {
			b.outcomes.WithLabelValues("cached").Inc()
			return held.Grant, nil
		}
	}
	key := caller.Session + " " + caller.Identity.Key()
	if fresh {
		key += " fresh"
	}
	grant, err := b.flights.Do(ctx, key, patience, func(ctx context.Context) (Grant, error) {
		return exclusively(ctx, b.deps.Store, obtainLock(caller.Session), func() (Grant, error) {
			return b.obtain(ctx, caller, fresh)
		})
	})
	if err != nil {
		return Grant{}, b.failed(err)
	}
	return grant, nil
}

// SignOut revokes the session's grant at Whisp. The grant is forgotten in any
// case. The error tells that Whisp could not be told yet: [Broker.Run] goes on
// trying.
func (b *Broker) SignOut(ctx context.Context, session string) error {
	held, noted, err := b.forget(ctx, session)
	if err != nil || held == nil {
		return err
	}
	return b.revokeNoted(ctx, held.Grant, noted)
}

// SignOutSoon is SignOut that asks nobody but the store: [Broker.Run] tells Whisp,
// as soon as it can. The error is the store's.
func (b *Broker) SignOutSoon(ctx context.Context, session string) error {
	held, _, err := b.forget(ctx, session)
	if err == nil && held != nil {
		b.outbox.hurry()
	}
	return err
}

// forget returns nil if the session holds no grant.
func (b *Broker) forget(ctx context.Context, session string) (held *heldGrant, noted string, err error) {
	held, err = b.grants.get(ctx, session)
	if err != nil || held == nil {
		return nil, "", err
	}
	// Noted before it is forgotten: a crash in between loses nothing.
	if noted, err = b.outbox.put(ctx, held.Grant); err != nil {
		return nil, "", err
	}
	return held, noted, b.grants.drop(ctx, session)
}

// Holders returns the keys of sessions and devices that hold a grant of the
// identity; some may have ended.
func (b *Broker) Holders(ctx context.Context, id identity.Identity) ([]string, error) {
	holders, err := b.deps.Store.Members(ctx, holdersOf(id.Key()))
	if err != nil {
		return nil, unavailable(err)
	}
	return holders, nil
}

// Inherit hands the grant of a session over to the one that superseded it in the
// same browser. One of another identity, and one that cannot be kept, is revoked.
func (b *Broker) Inherit(ctx context.Context, from string, to Caller) error {
	_, err := exclusively(ctx, b.deps.Store, obtainLock(from), func() (struct{}, error) {
		held, err := b.grants.take(ctx, from)
		if err != nil || held == nil {
			return struct{}{}, err
		}
		if held.identityKey != to.Identity.Key() {
			return struct{}{}, b.revokeSurely(ctx, held.Grant)
		}
		if err := b.grants.save(ctx, to, held.Grant); err != nil {
			return struct{}{}, errors.Join(err, b.revokeSurely(ctx, held.Grant))
		}
		// Whoever ended both sessions meanwhile found the grant at neither.
		alive, err := b.deps.Sessions.Alive(ctx, to.Session)
		if err != nil || alive {
			return struct{}{}, err
		}
		return struct{}{}, errors.Join(b.grants.drop(ctx, to.Session), b.revokeSurely(ctx, held.Grant))
	})
	return err
}

// Wait returns when nothing is under way at Whisp any more. No SignIn may start
// meanwhile.
func (b *Broker) Wait() {
	b.flights.Wait()
	b.renewing.Wait()
	b.accounts.establishing.Wait()
	b.accounts.renaming.Wait()
}

// obtain gets a grant the long way. It starts by looking again: the flight
// before this one may have left a good grant.
func (b *Broker) obtain(ctx context.Context, caller Caller, fresh bool) (Grant, error) {
	held, err := b.grants.find(ctx, caller)
	if err != nil {
		return Grant{}, err
	}
	if held != nil && !fresh {
		grant, done, err := b.renew(ctx, caller, held.Grant)
		if done || err != nil {
			return grant, err
		}
	}
	signedIn, registered, err := b.accounts.signIn(ctx, caller)
	if err != nil {
		return Grant{}, err
	}
	grant := Grant{
		JWT: signedIn.JWT, RefreshToken: signedIn.RefreshToken,
		UserID: signedIn.UserID, Username: signedIn.Username, Expires: signedIn.Expires,
	}
	if err := b.keep(ctx, caller, grant); err != nil {
		return Grant{}, err
	}
	if registered {
		b.outcomes.WithLabelValues("registered").Inc()
	} else {
		b.outcomes.WithLabelValues("signed_in").Inc()
	}
	if held != nil {
		// The new JWT is the same user's, so it may end the old refresh token.
		old := held.Grant
		old.JWT, old.Expires = grant.JWT, grant.Expires
		b.revokeLoudly(ctx, old)
	}
	return grant, nil
}

// renew returns done if the held grant is good or could be made good.
func (b *Broker) renew(ctx context.Context, caller Caller, held Grant) (grant Grant, done bool, err error) {
	if b.lifeLeft(held) > renewAhead {
		b.outcomes.WithLabelValues("cached").Inc()
		return held, true, nil
	}
	jwt, expires, err := b.deps.Tokens.Refresh(ctx, held.RefreshToken, held.JWT)
	switch {
	case errors.Is(err, upstream.ErrUnauthorized):
		return Grant{}, false, nil // the refresh token is dead: sign in anew
	case err != nil && b.lifeLeft(held) > lastResort:
		b.outcomes.WithLabelValues("last_resort").Inc()
		return held, true, nil
	case err != nil:
		return Grant{}, false, err
	}
	held.JWT, held.Expires = jwt, expires
	if err := b.keep(ctx, caller, held); err != nil {
		return Grant{}, false, err
	}
	b.outcomes.WithLabelValues("refreshed").Inc()
	return held, true, nil
}

// keep saves a grant, unless the session ended while Whisp was asked: then
// nobody would ever revoke it, so it is revoked here.
func (b *Broker) keep(ctx context.Context, caller Caller, grant Grant) error {
	if err := b.grants.save(ctx, caller, grant); err != nil {
		return err
	}
	alive, err := b.deps.Sessions.Alive(ctx, caller.Session)
	switch {
	case err != nil:
		return err
	case alive:
		return nil
	}
	if err := b.grants.drop(ctx, caller.Session); err != nil {
		return err
	}
	b.revokeLoudly(ctx, grant)
	return problem.SessionRequired().Because(errors.New("session ended during sign-in"))
}

// revoke ends a refresh token at Whisp. logout wants a live JWT, so an expired
// one is renewed with the very token that is about to end; a token that Whisp
// refuses is dead already, which is what was wanted.
func (b *Broker) revoke(ctx context.Context, grant Grant) error {
	if b.lifeLeft(grant) > lastResort {
		err := b.deps.Tokens.Logout(ctx, grant.JWT, grant.RefreshToken)
		if !errors.Is(err, upstream.ErrUnauthorized) {
			return err
		}
	}
	jwt, _, err := b.deps.Tokens.Refresh(ctx, grant.RefreshToken, grant.JWT)
	if errors.Is(err, upstream.ErrUnauthorized) {
		return nil
	}
	if err != nil {
		return err
	}
	return b.deps.Tokens.Logout(ctx, jwt, grant.RefreshToken)
}

// revokeSurely revokes now, or as soon as Whisp answers. The error is why it was
// not done now.
func (b *Broker) revokeSurely(ctx context.Context, grant Grant) error {
	noted, err := b.outbox.put(context.WithoutCancel(ctx), grant)
	if err != nil {
		return errors.Join(err, b.revoke(ctx, grant))
	}
	return b.revokeNoted(ctx, grant, noted)
}

// revokeNoted revokes what stands in the outbox, and strikes it off.
func (b *Broker) revokeNoted(ctx context.Context, grant Grant, noted string) error {
	if err := b.revoke(ctx, grant); err != nil {
		return err
	}
	return b.outbox.done(context.WithoutCancel(ctx), noted)
}

func (b *Broker) revokeLoudly(ctx context.Context, grant Grant) {
	if err := b.revokeSurely(ctx, grant); err != nil {
		b.deps.Logger.WarnContext(ctx, "refresh token not revoked at Whisp", "error", err)
	}
}

func (b *Broker) lifeLeft(grant Grant) time.Duration {
	return grant.Expires.Sub(b.deps.Clock())
}

func (b *Broker) failed(err error) error {
	if errors.Is(err, context.Canceled) {
		return err // the browser left; nothing failed
	}
	b.outcomes.WithLabelValues(problem.From(err).Code).Inc()
	return err
}
