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

func renewLock(session string) string { return "renew:" + session }

// Renew shares what browsers' own refreshes get, as [upstream.Renewals]: the tabs of a
// session hold one refresh token between them, and want a new JWT at the same
// time, above all when their sockets were closed together. One asks Whisp, and the
// grant keeps the answer, so that the next sign-in has it too.
//
// A refresh token that is not the one of the session's grant is nobody's business
// here: such a call goes to Whisp as it is ([upstream.ErrNotShared]).
func (b *Broker) Renew(ctx context.Context, session string, refreshToken, expired secret.Text, ask upstream.AskRenewal) (secret.Text, error) {
	held, err := b.heldFor(ctx, session, refreshToken)
	if err != nil {
		b.renewals.WithLabelValues("alone").Inc()
		return secret.Text{}, err
	}
	if b.newer(held, expired) {
		b.renewals.WithLabelValues("shared").Inc()
		return held.JWT, nil
	}
	asked := false
	// The token need not be in the key: it is the one that the session holds.
	jwt, err := b.renewing.Do(ctx, session, patience, func(ctx context.Context) (secret.Text, error) {
		asked = true
		return b.renewOnce(ctx, session, refreshToken, held.JWT, ask)
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
func (b *Broker) renewOnce(ctx context.Context, session string, refreshToken, expired secret.Text, ask upstream.AskRenewal) (secret.Text, error) {
	waiting, cancel := context.WithTimeout(ctx, renewWait)
	defer cancel()
	if lease, err := b.deps.Store.Lock(waiting, renewLock(session), lockLife); err == nil {
		defer func() { _ = lease.Release(context.WithoutCancel(ctx)) }() // it ends by itself otherwise
	}
	held, err := b.heldFor(ctx, session, refreshToken)
	if err != nil {
		return secret.Text{}, err
	}
	if b.newer(held, expired) {
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
		renewed.JWT, renewed.Expires = jwt, expires
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

// newer reports whether the grant's JWT is what somebody with the expired one needs.
func (b *Broker) newer(held *heldGrant, expired secret.Text) bool {
	return !held.JWT.Equal(expired) && b.lifeLeft(held.Grant) > renewAhead
}
