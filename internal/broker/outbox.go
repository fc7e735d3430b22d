package broker

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/secret"
	"github.com/whisp-bff/whisp-bff/internal/store"
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
}

type outboxRecord struct {
	JWT          string    `json:"jwt"`
	RefreshToken string    `json:"rt"`
	Expires      time.Time `json:"exp"`
}

// put notes a revocation for later. Noting it twice is noting it once.
func (o outbox) put(ctx context.Context, grant Grant) error {
	sum := sha256.Sum256([]byte(grant.RefreshToken.Reveal()))
	id := base64.RawURLEncoding.EncodeToString(sum[:])
	raw, err := json.Marshal(outboxRecord{JWT: grant.JWT.Reveal(), RefreshToken: grant.RefreshToken.Reveal(), Expires: grant.Expires})
	if err != nil {
		return fmt.Errorf("encode revocation: %w", err)
	}
	if err := o.store.Set(ctx, outboxKey(id), raw, outboxLife); err != nil {
		return unavailable(err)
	}
	if err := o.store.Add(ctx, outboxSet, id, outboxLife); err != nil {
		return unavailable(err)
	}
	return nil
}

// work tries everything that is left, once. It stops at the first that Whisp
// does not answer: the others would fare no better.
func (o outbox) work(ctx context.Context) error {
	left, err := o.store.Members(ctx, outboxSet)
	if err != nil {
		return unavailable(err)
	}
	for _, id := range left {
		if _, err := exclusively(ctx, o.store, "revoke:"+id, func() (struct{}, error) {
			return struct{}{}, o.workOn(ctx, id)
		}); err != nil {
			return err
		}
	}
	return nil
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
	if err := o.revoke(ctx, Grant{JWT: secret.New(r.JWT), RefreshToken: secret.New(r.RefreshToken), Expires: r.Expires}); err != nil {
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
			if err := b.outbox.work(ctx); err != nil && ctx.Err() == nil {
				b.deps.Logger.WarnContext(ctx, "refresh tokens still not revoked at Whisp; trying again", "error", err)
			}
		}
	}
}
