package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/store"
)

// link is the stored fact that an identity is an account. It holds nothing
// secret and nothing that could not be found again.
type link struct {
	// Identity repeats the key, so that a misplaced value is refused.
	Identity string    `json:"identity"`
	UserID   string    `json:"user_id"`
	Username string    `json:"username"`
	Email    string    `json:"email,omitempty"`
	Master   string    `json:"master"` // fingerprint of the master secret
	Created  time.Time `json:"created"`
}

// links keeps links by identity key, without expiry.
type links struct {
	store Store
	clock func() time.Time
}

func newLinks(store Store, clock func() time.Time) links { return links{store: store, clock: clock} }

// durable reports whether a missing link means something.
func (l links) durable() bool { return l.store.Durable() }

func (l links) find(ctx context.Context, id identity.Identity) (*link, error) {
	raw, err := l.store.Get(ctx, linkKey(id.Key()))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, unavailable(err)
	}
	var found link
	if err := json.Unmarshal(raw, &found); err != nil || found.Identity != id.Key() {
		return nil, problem.Internal().Because(errors.New("stored link is not this identity's"))
	}
	return &found, nil
}

func (l links) save(ctx context.Context, id identity.Identity, fact link) error {
	fact.Identity, fact.Created = id.Key(), l.clock()
	raw, err := json.Marshal(fact)
	if err != nil {
		return fmt.Errorf("encode link: %w", err)
	}
	if err := l.store.Set(ctx, linkKey(fact.Identity), raw, 0); err != nil {
		return unavailable(err)
	}
	return nil
}

func (l links) drop(ctx context.Context, identityKey string) error {
	if err := l.store.Delete(ctx, linkKey(identityKey)); err != nil {
		return unavailable(err)
	}
	return nil
}

func linkKey(identityKey string) string { return "link:" + identityKey }

func unavailable(err error) error { return problem.StoreUnavailable().Because(err).After(time.Second) }
