// Package store keeps expiring values by key — sessions, grants, links, used
// login states — and lets replicas agree: locks, sets, messages.
//
// There is one contract, [Store], and one conformance suite that runs over every
// implementation of it:
//
//   - [Memory], the embedded default, for one process. It is bounded: at its
//     limit the least recently used entry makes room, so that no flood of
//     visitors can take the process down. It is not durable: a restart forgets
//     everything, and whatever is kept here must be something that can be
//     derived or asked for again (Durable).
//   - [Redis], for any number of replicas: a single server, Sentinel or Cluster.
//     Every operation takes at most Config.Redis.Timeout, dialling and retries
//     included. It never lives on a copy: with Redis gone it says
//     [ErrUnavailable] and is back when Redis is.
//   - [Sealed], around either: values and messages are encrypted and bound to
//     the key they belong to.
//   - [Observed], between the two: counts and times what is asked of Redis.
//   - [Cached], around that: values that are read all the time are remembered
//     for a moment, for callers who ask by Recent.
//
// [Open] builds what a [Config] describes; Redis only ever behind Sealed and Cached.
// [Typed] is a view on a store that decodes each stored value once.
//
// # Four kinds of "no"
//
// [ErrNotFound]: the store answered that there is nothing. [ErrUnavailable]: no
// answer, so nobody knows; it must never be taken for the first, or every
// hiccup of Redis signs everybody out. [ErrSealed]: something is there, and it
// is not what was put there. [ErrLocked]: somebody else held the lock for as
// long as the caller would wait. A caller who gives up (context.Canceled) gets
// that error, and none of these.
//
// # What an unavailable store may have done
//
// After ErrUnavailable a write may or may not have happened. Writes that can be
// repeated without harm (Set, Replace, Touch, Delete, the sets, taking a lock)
// are repeated within the time limit where the connection broke; SetIfAbsent
// and Take are not, because their second run would answer "somebody was there
// before you" when that somebody was the first run. Take may therefore lose a
// value, and never gives it twice.
//
// # Locks are advice, tokens are proof
//
// A lock with an expiry excludes others only while its holder is not paused for
// longer than the expiry, and Redis promises nothing across a failover. Hence
// [Lease.Token]: it grows with every acquisition of one key, across restarts and
// failovers too (it is based on the time of the Redis server), so that a
// resource which remembers the highest token it saw can refuse a late one.
//
// # Keys
//
// Keys are chosen by the packages that use the store; anything secret in a key,
// a set's name or member, or a channel must be hashed first: those are not
// sealed. Values are opaque bytes.
package store

import (
	"context"
	"errors"
	"time"
)

var (
	// ErrNotFound: no value under that key, or none any more.
	ErrNotFound = errors.New("store: not found")
	// ErrUnavailable: the store gave no usable answer in time.
	ErrUnavailable = errors.New("store: unavailable")
	// ErrSealed: a value that was altered, moved from another key, or sealed
	// with a key that is not in the ring. Sealed logs it; callers treat the value
	// as lost and never see it.
	ErrSealed = errors.New("store: sealed value refused")
	// ErrLocked: the lock is, and stays, somebody else's.
	ErrLocked = errors.New("store: locked")
)

// Values are expiring values. A ttl of zero or less means no expiry; others
// count in milliseconds, at least one.
type Values interface {
	// Get returns the value, which the caller must not modify, or ErrNotFound.
	Get(ctx context.Context, key string) ([]byte, error)
	// Recent is Get for those who can do with what another replica changed a
	// moment ago: see [Cached]. Whoever reads in order to write uses Get.
	Recent(ctx context.Context, key string) ([]byte, error)
	// Set stores value, which the store owns from then on.
	Set(ctx context.Context, key string, value []byte, ttl time.Duration) error
	// SetIfAbsent stores value only where there is none, and reports whether it did.
	SetIfAbsent(ctx context.Context, key string, value []byte, ttl time.Duration) (bool, error)
	// Replace stores value only where there is one already, and reports whether
	// it did: a slow writer must not bring a deleted session back to life.
	Replace(ctx context.Context, key string, value []byte, ttl time.Duration) (bool, error)
	// Touch gives a live value a new ttl, and reports whether there was one.
	Touch(ctx context.Context, key string, ttl time.Duration) (bool, error)
	// Take returns a value and deletes it, so that of several callers one gets
	// it; the others get ErrNotFound.
	Take(ctx context.Context, key string) ([]byte, error)
	// Delete removes the value if there is one.
	Delete(ctx context.Context, key string) error
	// Keys calls each, one call at a time and in no order, with the keys that
	// begin with prefix. A key that is there all the while comes at least once;
	// one that comes or goes meanwhile may be missed, and any may be repeated. It
	// looks at everything in the store, so it is for people who wait, not for
	// requests. The first error, of each too, ends it and is returned.
	Keys(ctx context.Context, prefix string, each func(key string) error) error
}

// Sets are sets of strings whose members expire one by one.
type Sets interface {
	// Add puts member into set for ttl from now, replacing the ttl it had.
	Add(ctx context.Context, set, member string, ttl time.Duration) error
	// Remove takes member out of set if it is there.
	Remove(ctx context.Context, set, member string) error
	// Members lists the live members, in no order; an unknown set is empty.
	Members(ctx context.Context, set string) ([]string, error)
}

// Messages tell other replicas something, at most once and in no promised
// order (nodes of a Cluster overtake each other): a message reaches who
// is subscribed at that moment and keeps up. One sent while a connection is
// down, or to a subscriber 256 messages behind, is lost without notice.
// Whatever must not be missed needs a look at the store now and then as well.
type Messages interface {
	Publish(ctx context.Context, channel string, payload []byte) error
	// Subscribe returns once the subscription stands: a message published after
	// that arrives, if nothing breaks. The channel is closed when ctx ends or
	// the store is closed; broken connections are renewed meanwhile.
	Subscribe(ctx context.Context, channel string) (<-chan []byte, error)
	// Watch is Subscribe that tells what it knows of lost messages: standing is
	// called with true once the subscription stands, before Watch returns, with
	// false when one may have been lost from now on or just before, and with true
	// when it stands again. It is called by one goroutine at a time and must not
	// block. What breaks without a word is noticed a few seconds later.
	Watch(ctx context.Context, channel string, standing func(bool)) (<-chan []byte, error)
}

// Store is everything a store can do. Consumers ask for the few methods they
// need; this is for whoever builds the parts.
type Store interface {
	Values
	Sets
	Messages
	// Lock waits for the lock on key until ctx ends, at most 30 s, and then gives
	// up with an error that wraps ErrLocked (and ctx's error, if it was that).
	// The lock is held until [Lease.Release], for ttl (at least 30 ms, or it is
	// made that) at a time.
	Lock(ctx context.Context, key string, ttl time.Duration) (*Lease, error)
	// Durable reports whether values survive a restart of this process.
	Durable() bool
	// Ready asks the store for a sign of life.
	Ready(ctx context.Context) error
	// Close stops subscriptions and leases and closes connections.
	Close() error
}

var (
	_ Store = (*Memory)(nil)
	_ Store = (*Redis)(nil)
	_ Store = (*Sealed)(nil)
	_ Store = (*Cached)(nil)
	_ Store = (*Observed)(nil)
)
