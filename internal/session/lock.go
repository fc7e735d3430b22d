package session

import (
	"context"
	"time"
)

const (
	// lockWait is how long one request waits for another that works on the same
	// session or device.
	lockWait = 2 * time.Second
	// lockLife is how long a replica that died keeps the others waiting.
	lockLife = 10 * time.Second
)

// locked runs do while nobody else, on any replica, works on the same. It returns
// an error that wraps store.ErrLocked if somebody did for longer than lockWait.
func locked(ctx context.Context, s Store, key string, do func() error) error {
	waiting, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	lease, err := s.Lock(waiting, key, lockLife)
	if err != nil {
		return unavailable(err)
	}
	defer func() { _ = lease.Release(context.WithoutCancel(ctx)) }() // it ends by itself otherwise
	return do()
}
