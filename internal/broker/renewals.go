package broker

import (
	"context"
	"errors"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/upstream"
)

// renewWait is how long a browser's refresh waits for a lock, which is advice: any
// failed refresh signs the person out of the vendor's SDK, and a replica that died
// leaves its locks behind.
const renewWait = time.Second

// sharedFor is how long a new JWT is the answer also to those whose own is still
// good. They may have been told by Whisp that it is not, and then no JWT of
// before would help them.
const sharedFor = 10 * time.Second

func renewLock(session string) string { return "renew:" + session }

// Renew shares what browsers' own refreshes get, as [upstream.Renewals]: the tabs of a
// session hold one refresh token between them, and want a new JWT at the same
// time, above all when their sockets were closed together. One asks Whisp, and the
// grant keeps the answer, so that the next sign-in has it too.
//
// A refresh token that is not the one of the session's grant is nobody's business
// here: such a call goes to Whisp as it is ([upstream.ErrNotShared]).
func (b *Broker) Renew(ctx context.Context, session string, stale upstream.Stale, ask upstream.AskRenewal) (secret.Text, error) {
	held, err := b.heldFor(ctx, session, stale.RefreshToken)
	if err != nil {
		b.renewals.WithLabelValues("alone").Inc()
		return secret.Text{}, err
	}
	if b.newer(held, stale) {
		b.renewals.WithLabelValues("shared").Inc()
		return held.JWT, nil
	}
	asked := false
	// The token need not be in the key: it is the one that the session holds.
	jwt, err := b.renewing.Do(ctx, session, patience, func(ctx context.Context) (secret.Text, error) {
		asked = true
		return b.renewOnce(ctx, session, upstream.Stale{RefreshToken: stale.RefreshToken, JWT: held.JWT, Expires: held.Expires}, ask)
	})
	switch {
	case ctx.Err() != nil: // asked may be written still
	case err != nil:
		b.renewals.WithLabelValues("failed").Inc()
	case asked:
		b.renewals.WithLabelValues("asked").Inc()
	default:
		b.renewals.WithLabelValues("shared").Inc()
	}
	return jwt, err
}

// renewOnce asks, unless another replica just has. It does not hold the lock that
// sign-ins and logouts need, and so must not write over what those did meanwhile.
func (b *Broker) renewOnce(ctx context.Context, session string, stale upstream.Stale, ask upstream.AskRenewal) (secret.Text, error) {
	waiting, cancel := context.WithTimeout(ctx, renewWait)
	defer cancel()
	if lease, err := b.deps.Store.Lock(waiting, renewLock(session), lockLife); err == nil {
		defer func() { _ = lease.Release(context.WithoutCancel(ctx)) }() // it ends by itself otherwise
	}
	held, err := b.heldFor(ctx, session, stale.RefreshToken)
	if err != nil {
		return secret.Text{}, err
	}
	if b.newer(held, stale) {
		return held.JWT, nil
	}
	jwt, expires, err := ask(ctx)
	renewed := *held
	switch {
	case errors.Is(err, upstream.ErrUnauthorized):
		renewed.Expires = time.Time{} // the token is dead: the next sign-in must find out
	case err != nil:
		return secret.Text{}, err
	default:
		renewed.JWT, renewed.Expires, renewed.obtained = jwt, expires, b.deps.Clock()
	}
	// Whisp has spoken: the browser gets that whether or not it can be kept.
	if keepErr := b.grants.swap(ctx, session, *held, renewed); keepErr != nil {
		b.deps.Logger.WarnContext(ctx, "what a browser's refresh brought is not kept; the next sign-in asks again", "error", keepErr)
	}
	return jwt, err
}

// heldFor returns the session's grant if the refresh token is its.
func (b *Broker) heldFor(ctx context.Context, session string, refreshToken secret.Text) (*heldGrant, error) {
	held, err := b.grants.get(ctx, session)
	if err != nil {
		return nil, errors.Join(upstream.ErrNotShared, err)
	}
	if held == nil || !held.RefreshToken.Equal(refreshToken) {
		return nil, upstream.ErrNotShared
	}
	return held, nil
}

// newer reports whether the grant's JWT is what somebody with a stale one needs.
func (b *Broker) newer(held *heldGrant, stale upstream.Stale) bool {
	now := b.deps.Clock()
	justObtained := now.Sub(held.obtained) < sharedFor
	return !held.JWT.Equal(stale.JWT) && b.lifeLeft(held.Grant) > renewAhead && (justObtained || !now.Before(stale.Expires))
}

// Refused notes that Whisp refuses a JWT which is the session's and should be good:
// it is not handed out any more.
func (b *Broker) Refused(ctx context.Context, session string, jwt secret.Text) error {
	held, err := b.grants.get(ctx, session)
	if err != nil || held == nil || !held.JWT.Equal(jwt) || b.lifeLeft(held.Grant) <= 0 {
		return err
	}
	outdated := *held
	outdated.Expires = time.Time{}
	return b.grants.swap(ctx, session, *held, outdated)
}
