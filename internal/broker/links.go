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

// linkState is where an identity stands on its way to an account. No link at
// all is the state before the first.
type linkState string

const (
	// pending: an account may have been registered, but nothing was saved of it.
	pending linkState = "pending"
	// linked: the account is known.
	linked linkState = "linked"
)

// link is the stored fact that an identity is an account. It holds nothing
// secret and, but for a name that was changed, nothing that could not be found
// again.
type link struct {
	// Identity repeats the key, so that a misplaced value is refused.
	Identity string    `json:"identity"`
	State    linkState `json:"state"`
	UserID   string    `json:"user_id,omitempty"`
	// Username is what the account is called now.
	Username string `json:"username,omitempty"`
	// Renaming is what it is about to be called: saved before Whisp is asked, so
	// that a crash in between loses nothing.
	Renaming string `json:"renaming,omitempty"`
	// Tried lists, while pending and separated by spaces, the names under which an
	// account may have been registered.
	Tried string `json:"tried,omitempty"`
	// Mapped is the name that the claims gave last, see follow.
	Mapped string `json:"mapped,omitempty"`
	// Deleted: Whisp deleted an account for the owner, most likely this one. It
	// counts only where the account refuses its credential.
	Deleted bool      `json:"deleted,omitempty"`
	Email   string    `json:"email,omitempty"`
	Master  string    `json:"master,omitempty"` // fingerprint of the master secret
	Created time.Time `json:"created"`
	Changed time.Time `json:"changed"`
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
	return l.findKey(ctx, id.Key())
}

// findKey returns nil if there is no link.
func (l links) findKey(ctx context.Context, identityKey string) (*link, error) {
	raw, err := l.store.Get(ctx, linkKey(identityKey))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if errors.Is(err, store.ErrSealed) {
		// There was a link once: the account exists, and is looked for under every
		// name before another is made.
		return &link{Identity: identityKey, State: pending}, nil
	}
	if err != nil {
		return nil, unavailable(err)
	}
	var found link
	if err := json.Unmarshal(raw, &found); err != nil || found.Identity != identityKey {
		return nil, problem.Internal().Because(errors.New("stored link is not this identity's"))
	}
	return &found, nil
}

func (l links) save(ctx context.Context, id identity.Identity, fact link) error {
	return l.saveKey(ctx, id.Key(), fact)
}

func (l links) saveKey(ctx context.Context, identityKey string, fact link) error {
	// UTC, or two readings of one link would not be equal.
	fact.Identity, fact.Changed = identityKey, l.clock().UTC()
	if fact.Created.IsZero() {
		fact.Created = fact.Changed
	}
	raw, err := json.Marshal(fact)
	if err != nil {
		return fmt.Errorf("encode link: %w", err)
	}
	if err := l.store.Set(ctx, linkKey(fact.Identity), raw, 0); err != nil {
		return unavailable(err)
	}
	return nil
}

// replace saves fact in the place of seen and returns what is stored then: another
// link, untouched, if somebody changed it since it was read. Renaming excludes it.
func (l links) replace(ctx context.Context, identityKey string, seen, fact link) (link, error) {
	return exclusively(ctx, l.store, renameLock(identityKey), func() (link, error) {
		latest, err := l.findKey(ctx, identityKey)
		switch {
		case err != nil:
			return link{}, err
		case latest == nil:
			return link{}, nil
		case *latest != seen:
			return *latest, nil
		}
		return fact, l.saveKey(ctx, identityKey, fact)
	})
}

func renameLock(identityKey string) string { return "rename:" + identityKey }

func (l links) drop(ctx context.Context, identityKey string) error {
	if err := l.store.Delete(ctx, linkKey(identityKey)); err != nil {
		return unavailable(err)
	}
	return nil
}

// linkPrefix is what the keys of links, and of nothing else, begin with.
const linkPrefix = "link:"

func linkKey(identityKey string) string { return linkPrefix + identityKey }

func unavailable(err error) error { return problem.StoreUnavailable().Because(err).After(time.Second) }
