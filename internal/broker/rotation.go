package broker

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/whisp-bff/whisp-bff/internal/store"
)

// SecretState says what is known about the master secret of some links.
type SecretState string

const (
	// SecretListed: it is the one at Position.
	SecretListed SecretState = "listed"
	// SecretUnlisted: it is none of those in account.master_secrets, so these
	// people cannot sign in.
	SecretUnlisted SecretState = "unlisted"
	// SecretPending: making the account was begun and its end not noted. If there
	// is an account, it was made with any of the secrets.
	SecretPending SecretState = "pending"
	// SecretUnreadable: the link was altered, or sealed with a key that is not in
	// store.seal_keys. Any of the secrets.
	SecretUnreadable SecretState = "unreadable"
)

// SecretUse is how many links rely on one master secret, or share one other
// state. Neither the secret nor its fingerprint is in it.
type SecretUse struct {
	State SecretState
	// Position is the secret's place in account.master_secrets, from 1; 0 unless
	// State is SecretListed.
	Position int
	Links    int
}

// countReads is how many links are read at a time while they are counted.
const countReads = 16

// CountBySecret counts all links by the master secret that their accounts were
// made with: first the secrets listed, in order, then the other states, each
// also when its count is zero. It reads every link, one by one, and keeps none.
//
// Links that come or go meanwhile may be missed, or counted twice; one that was
// there all the while is counted at least once, so that zero means zero. What
// it cannot count is an account that has no link.
//
// The error is store_unavailable, or ctx's; there is no half a count.
func (b *Broker) CountBySecret(ctx context.Context) ([]SecretUse, error) {
	count := newSecretCount(b.deps.Credentials)
	links := b.accounts.links
	readers, ctx := errgroup.WithContext(ctx)
	readers.SetLimit(countReads)
	listErr := links.store.Keys(ctx, linkPrefix, func(key string) error {
		readers.Go(func() error {
			raw, err := links.store.Get(ctx, key)
			switch {
			case errors.Is(err, store.ErrNotFound): // released meanwhile
			case errors.Is(err, store.ErrSealed):
				count.add(SecretUse{State: SecretUnreadable})
			case err != nil:
				return err
			default:
				count.add(count.use(strings.TrimPrefix(key, linkPrefix), raw))
			}
			return nil
		})
		return ctx.Err()
	})
	err := readers.Wait()
	if err == nil { // a reader that failed ended ctx and with it the listing
		err = listErr
	}
	switch {
	case errors.Is(err, store.ErrUnavailable):
		return nil, unavailable(err)
	case err != nil:
		return nil, err
	}
	return count.uses, nil
}

// secretCount counts links, from several readers.
type secretCount struct {
	credentials *Credentials
	mu          sync.Mutex
	uses        []SecretUse
}

func newSecretCount(credentials *Credentials) *secretCount {
	c := &secretCount{credentials: credentials}
	for i := range credentials.masters {
		c.uses = append(c.uses, SecretUse{State: SecretListed, Position: i + 1})
	}
	for _, state := range []SecretState{SecretUnlisted, SecretPending, SecretUnreadable} {
		c.uses = append(c.uses, SecretUse{State: state})
	}
	return c
}

// use says where a stored link counts. Of a secret that is listed twice the
// first place counts, as in sign-ins.
func (c *secretCount) use(identityKey string, raw []byte) SecretUse {
	var l link
	switch err := json.Unmarshal(raw, &l); {
	case err != nil || l.Identity != identityKey:
		return SecretUse{State: SecretUnreadable}
	case l.State == pending:
		return SecretUse{State: SecretPending}
	}
	for i, m := range c.credentials.masters {
		if m.fingerprint == l.Master {
			return SecretUse{State: SecretListed, Position: i + 1}
		}
	}
	return SecretUse{State: SecretUnlisted}
}

func (c *secretCount) add(one SecretUse) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.uses {
		if c.uses[i].State == one.State && c.uses[i].Position == one.Position {
			c.uses[i].Links++
		}
	}
}
