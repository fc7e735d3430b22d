package broker

import (
	"context"
	"errors"

	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/upstream"
)

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
		return exclusively(ctx, b.deps.Store, obtainLock(session), func() (secret.Text, error) {
			return b.renewOnce(ctx, session, refreshToken, held.JWT, ask)
		})
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

// renewOnce asks, unless another replica has meanwhile. The caller has the lock.
func (b *Broker) renewOnce(ctx context.Context, session string, refreshToken, expired secret.Text, ask upstream.AskRenewal) (secret.Text, error) {
	held, err := b.heldFor(ctx, session, refreshToken)
	if err != nil {
		return secret.Text{}, err
	}
	if b.newer(held, expired) {
		return held.JWT, nil
	}
	jwt, expires, err := ask(ctx)
	if err != nil {
		return secret.Text{}, err
	}
	renewed := *held
	renewed.JWT, renewed.Expires = jwt, expires
	// The browser has its JWT whether or not it can be kept.
	if err := b.grants.replace(ctx, session, renewed); err != nil {
		return jwt, nil //nolint:nilerr // the next one asks again
	}
	return jwt, nil
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
