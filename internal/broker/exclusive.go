package broker

import (
	"context"
	"errors"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/problem"
	"github.com/whisp-bff/whisp-bff/internal/store"
)

// lockLife is how long a replica that died keeps the others waiting.
const lockLife = 10 * time.Second

// exclusively runs do while no other replica does the same. Inside one process a
// flight has made sure of that already; whatever do decides by it must read
// again, because another replica may just have been here.
//
// The lock is advice (see store.Lease): a holder that is paused for longer than
// lockLife may find that it was not alone. That nobody reaches another's account
// or grant does therefore not rest on it, but on derived credentials and bound
// values; what does is that Whisp is not asked twice, and that a stale write to a
// link or grant does not win.
func exclusively[T any](ctx context.Context, s Store, key string, do func() (T, error)) (T, error) {
	var none T
	lease, err := s.Lock(ctx, key, lockLife)
	switch {
	case errors.Is(err, store.ErrLocked):
		return none, problem.WhispTimeout().Because(err).After(time.Second)
	case err != nil:
		return none, unavailable(err)
	}
	defer func() { _ = lease.Release(context.WithoutCancel(ctx)) }() // it ends by itself otherwise
	return do()
}
