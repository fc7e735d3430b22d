package broker

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/store"
	"github.com/whisp-bff/whisp-bff/internal/upstream"
)

const (
	// outboxSet lists the revocations that are still to be done.
	outboxSet = "revocations"
	// outboxLife is how long one is tried for. Whisp does not say how long a
	// refresh token lives; after a week a forgotten one is taken for dead.
	outboxLife = 7 * 24 * time.Hour
	// outboxInterval is how often what is left is tried again.
	outboxInterval = 15 * time.Second
)

// outbox keeps refresh tokens that could not be revoked because Whisp did not
// answer: a logout is not undone by Whisp being down. In a durable store it
// survives restarts.
type outbox struct {
	store  Store
	revoke func(context.Context, Grant) error
	logger *slog.Logger
	due    chan struct{} // something should be done before the next interval
}

type outboxRecord struct {
	JWT          string    `json:"jwt"`
	RefreshToken string    `json:"rt"`
	Expires      time.Time `json:"exp"`
}

// put notes a revocation for later and returns what done strikes it off by. Noting
// it twice is noting it once.
func (o outbox) put(ctx context.Context, grant Grant) (id string, err error) {
	sum := sha256.Sum256([]byte(grant.RefreshToken.Reveal()))
	id = base64.RawURLEncoding.EncodeToString(sum[:])
	raw, err := json.Marshal(outboxRecord{JWT: grant.JWT.Reveal(), RefreshToken: grant.RefreshToken.Reveal(), Expires: grant.Expires})
	if err != nil {
		return "", fmt.Errorf("encode revocation: %w", err)
	}
	if err := o.store.Set(ctx, outboxKey(id), raw, outboxLife); err != nil {
		return "", unavailable(err)
	}
	if err := o.store.Add(ctx, outboxSet, id, outboxLife); err != nil {
		return "", unavailable(err)
	}
	return id, nil
}

// work tries everything that is left, once. It stops where Whisp or the store does
// not answer, since the others would fare no better; what Whisp refuses for
// reasons of its own keeps nothing behind it waiting.
func (o outbox) work(ctx context.Context) error {
	left, err := o.store.Members(ctx, outboxSet)
	if err != nil {
		return unavailable(err)
	}
	var failed []error
	for _, id := range left {
		_, err := exclusively(ctx, o.store, "revoke:"+id, func() (struct{}, error) {
			return struct{}{}, o.workOn(ctx, id)
		})
		if err == nil || errors.Is(err, store.ErrLocked) { // another replica is at it
			continue
		}
		failed = append(failed, err)
		if down(err) {
			break
		}
	}
	return errors.Join(failed...)
}

// down reports that nobody answers, as opposed to an answer nobody wanted.
func down(err error) bool {
	switch problem.From(err).Code {
	case problem.WhispUnreachable().Code, problem.WhispTimeout().Code, problem.WhispRateLimited().Code, problem.StoreUnavailable().Code:
		return true
	}
	return false
}

func (o outbox) workOn(ctx context.Context, id string) error {
	raw, err := o.store.Get(ctx, outboxKey(id))
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrSealed):
		return o.done(ctx, id) // another replica has done it, or nobody can
	case err != nil:
		return unavailable(err)
	}
	var r outboxRecord
	if json.Unmarshal(raw, &r) != nil {
		return o.done(ctx, id)
	}
	err = o.revoke(ctx, Grant{JWT: secret.New(r.JWT), RefreshToken: secret.New(r.RefreshToken), Expires: r.Expires})
	if _, refused := errors.AsType[*upstream.InvalidError](err); refused {
		o.logger.WarnContext(ctx, "Whisp takes a refresh token for malformed; its revocation is given up", "revocation", id[:8])
		return o.done(ctx, id)
	}
	if err != nil {
		return err
	}
	return o.done(ctx, id)
}

func (o outbox) done(ctx context.Context, id string) error {
	if err := o.store.Delete(ctx, outboxKey(id)); err != nil {
		return unavailable(err)
	}
	if err := o.store.Remove(ctx, outboxSet, id); err != nil {
		return unavailable(err)
	}
	return nil
}

// hurry has the outbox looked at now.
func (o outbox) hurry() {
	select {
	case o.due <- struct{}{}:
	default: // it will be
	}
}

func outboxKey(id string) string { return "revocation:" + id }

// Run revokes what could not be revoked at once, until ctx ends.
func (b *Broker) Run(ctx context.Context) {
	ticker := time.NewTicker(outboxInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-b.outbox.due:
		}
		if err := b.outbox.work(ctx); err != nil && ctx.Err() == nil {
			b.deps.Logger.WarnContext(ctx, "refresh tokens still not revoked at Whisp; trying again", "error", err)
		}
	}
}
