package session

import (
	"context"
	"time"
)

// Holders are sessions and devices under one roof: whatever can hold a grant or
// a tunnel, by key.
type Holders struct {
	Sessions *Sessions
	Devices  *Devices
}

// Alive reports whether the holder with that key still exists; an error means
// that nobody knows.
func (h Holders) Alive(ctx context.Context, key string) (bool, error) {
	if IsDevice(key) {
		return h.Devices.Alive(ctx, key)
	}
	return h.Sessions.Alive(ctx, key)
}

// Ended returns those of keys whose holder no longer exists. It counts as a use
// of none. With an error nothing is known of the keys it did not return.
func (h Holders) Ended(ctx context.Context, keys []string) (ended []string, err error) {
	for _, key := range keys {
		alive, failed := h.Alive(ctx, key)
		switch {
		case failed != nil:
			err = failed
			if ctx.Err() != nil {
				return ended, err
			}
		case !alive:
			ended = append(ended, key)
		}
	}
	return ended, err
}

// Touch returns when the holder ends if it is not used again, or [ErrNone]. It
// counts as a use of a session, and not of a device.
func (h Holders) Touch(ctx context.Context, key string) (time.Time, error) {
	if IsDevice(key) {
		return h.Devices.Touch(ctx, key)
	}
	return h.Sessions.Touch(ctx, key)
}

// IdentityKey returns the key of the identity that the holder belongs to, or
// [ErrNone].
func (h Holders) IdentityKey(ctx context.Context, key string) (string, error) {
	if IsDevice(key) {
		return IdentityKeyOf(key), nil
	}
	found, err := h.Sessions.byKey(ctx, key, true)
	if err != nil {
		return "", err
	}
	return found.Identity.Key(), nil
}
