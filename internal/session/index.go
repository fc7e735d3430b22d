package session

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/identity"
	"github.com/whisp-bff/whisp-bff/internal/store"
)

const (
	// indexSlack is how much longer than its session a membership lives, for
	// clocks that do not agree.
	indexSlack = time.Minute
	// endConcurrency is how many sessions of one group are being ended at a time.
	endConcurrency = 8
	// lateLogin is for how long a login that the provider answered before a
	// logout may still arrive: longer than any code or state of ours lives.
	lateLogin = 15 * time.Minute
)

// Group names sessions that end together. The sessions of each are a set in the
// store, under a hash.
//
// Invariant: a session whose cookie somebody holds is in the sets of its groups
// for as long as it lives. It is written down before them, and its cookie goes
// out after them; whoever ends it takes it out last. A member may therefore be a
// session that has ended, never the other way round.
type Group struct{ set string }

// OfIdentity are a person's sessions, in whichever browser.
func OfIdentity(id identity.Identity) Group { return Group{"sessions:" + id.Key()} }

// OfProviderSession are the sessions that began with one sign-in at the provider,
// which its sid claim names (OpenID Connect Front-Channel Logout 1.0 section 3).
func OfProviderSession(issuer, sid string) Group {
	h := sha256.New()
	for _, field := range []string{"whisp-bff provider session v1", issuer, sid} {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(field)))
		h.Write(size[:])
		h.Write([]byte(field))
	}
	return Group{"provider-session:" + base64.RawURLEncoding.EncodeToString(h.Sum(nil))}
}

func groupsOf(s *Session) []Group {
	groups := []Group{OfIdentity(s.Identity)}
	if s.Tokens.SessionID != "" {
		groups = append(groups, OfProviderSession(s.Identity.Issuer, s.Tokens.SessionID))
	}
	return groups
}

// enlist writes the session into the sets of its groups.
func (s *Sessions) enlist(ctx context.Context, of *Session) error {
	for _, group := range groupsOf(of) {
		if err := s.join(ctx, group, of.Key, of.Expires); err != nil {
			return err
		}
	}
	return nil
}

// join makes a session that ends at a time a member of a group.
func (s *Sessions) join(ctx context.Context, group Group, key string, expires time.Time) error {
	if err := s.deps.Store.Add(ctx, group.set, key, expires.Sub(s.deps.Clock())+indexSlack); err != nil {
		return unavailable(err)
	}
	return nil
}

// delist takes an ended session out. What it leaves behind expires.
func (s *Sessions) delist(ctx context.Context, of *Session) {
	for _, group := range groupsOf(of) {
		_ = s.deps.Store.Remove(ctx, group.set, of.Key)
	}
}

// EndGroup ends all sessions of a group, and calls then with the key of each, for
// what hangs on it: also of those that ended by themselves, and of sessions that
// linger behind one of the group. then runs in several goroutines at a time. A
// session whose then fails has ended all the same, and comes again with the next
// call.
//
// It returns how many sessions were alive, and the problem store_unavailable or
// the errors of then.
func (s *Sessions) EndGroup(ctx context.Context, group Group, then func(ctx context.Context, key string) error) (ended int, err error) {
	members, err := s.deps.Store.Members(ctx, group.set)
	if err != nil {
		return 0, unavailable(err)
	}
	return s.endMembers(ctx, group, members, then)
}

// EndOne is EndGroup for the session of the group that has this [Entry].Handle. What
// failed of one that lingered behind it comes again with EndGroup only.
func (s *Sessions) EndOne(ctx context.Context, group Group, handle string, then func(ctx context.Context, key string) error) (ended int, err error) {
	members, err := s.deps.Store.Members(ctx, group.set)
	if err != nil {
		return 0, unavailable(err)
	}
	members = slices.DeleteFunc(members, func(key string) bool { return handleOf(key) != handle })
	return s.endMembers(ctx, group, members, then)
}

func (s *Sessions) endMembers(ctx context.Context, group Group, keys []string, then func(context.Context, string) error) (int, error) {
	var (
		mu      sync.Mutex
		ended   int
		failed  []error
		workers sync.WaitGroup
		places  = make(chan struct{}, endConcurrency)
	)
	for _, key := range keys {
		places <- struct{}{}
		workers.Go(func() {
			defer func() { <-places }()
			alive, err := s.endMember(ctx, group, key, then)
			mu.Lock()
			defer mu.Unlock()
			if alive {
				ended++
			}
			if err != nil {
				failed = append(failed, err)
			}
		})
	}
	workers.Wait()
	return ended, errors.Join(failed...)
}

// endMember ends the session and the one that may linger behind it, all before it
// calls then for any. The record names that other one and goes: so it becomes a
// member of the group itself until its then has succeeded.
func (s *Sessions) endMember(ctx context.Context, group Group, key string, then func(context.Context, string) error) (alive bool, err error) {
	// What cannot be read is ended all the same.
	found, readErr := s.byKey(ctx, key, true)
	alive = readErr == nil
	keys := []string{key}
	if alive && found.Previous != "" {
		if err := s.join(ctx, group, found.Previous, found.Expires); err != nil {
			return false, err
		}
		keys = []string{found.Previous, key}
	}
	for _, each := range keys {
		if err := s.remove(ctx, each); err != nil {
			return false, err
		}
	}
	var failed []error
	for _, each := range keys {
		if err := then(ctx, each); err != nil {
			failed = append(failed, err)
			continue
		}
		if each == key && alive {
			s.delist(ctx, found)
		}
		_ = s.deps.Store.Remove(ctx, group.set, each) // it expires otherwise
	}
	return alive, errors.Join(failed...)
}

// Entry is a session as administrators see it.
type Entry struct {
	// Handle tells the sessions of a person apart; it opens nothing and is not
	// the session's key.
	Handle  string
	Created time.Time
	// Expires is the absolute end; an idle session ends sooner.
	Expires time.Time
	Lingers bool
}

// List returns up to limit live sessions of a group, by handle, beginning after a
// handle; next is where the next page begins, "" after the last. A page may have
// less than limit. Sessions that come or go meanwhile may be missed.
func (s *Sessions) List(ctx context.Context, group Group, after string, limit int) (page []Entry, next string, err error) {
	members, err := s.deps.Store.Members(ctx, group.set)
	if err != nil {
		return nil, "", unavailable(err)
	}
	byHandle := make(map[string]string, len(members))
	var handles []string
	for _, key := range members {
		if handle := handleOf(key); handle > after {
			byHandle[handle] = key
			handles = append(handles, handle)
		}
	}
	slices.Sort(handles)
	if len(handles) > limit {
		handles = handles[:limit]
		next = handles[limit-1]
	}
	for _, handle := range handles {
		found, err := s.byKey(ctx, byHandle[handle], true)
		switch {
		case errors.Is(err, ErrNone): // it ended by itself, and nobody has told the set
			_ = s.deps.Store.Remove(ctx, group.set, byHandle[handle])
		case err != nil:
			return nil, "", err
		default:
			page = append(page, Entry{Handle: handle, Created: found.Created, Expires: found.Expires, Lingers: found.Lingers})
		}
	}
	return page, next, nil
}

func handleOf(key string) string {
	sum := sha256.Sum256([]byte("whisp-bff session handle v1 " + key))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// RefuseLate makes [Sessions.Start] refuse logins to the group for which the
// provider issued the ID token at that time or before: a login may be half done
// when the logout comes that it would undo. A refresh that joins the group is
// refused alike. Times are the provider's, in whole seconds, so a login of the
// logout's second is refused, whichever was first. Logouts may come in any order:
// the latest time counts.
func (s *Sessions) RefuseLate(ctx context.Context, group Group, at time.Time) error {
	mark := func() error { return s.markLate(ctx, group, at.Unix()) }
	err := locked(ctx, s.deps.Store, lateKey(group), mark)
	if errors.Is(err, store.ErrLocked) {
		return mark() // whoever died with the lock must not keep a logout from its work
	}
	return err
}

func (s *Sessions) markLate(ctx context.Context, group Group, until int64) error {
	earlier, marked, err := s.lateUntil(ctx, group)
	if err != nil {
		return err
	}
	if marked {
		until = max(until, earlier)
	}
	if err := s.deps.Store.Set(ctx, lateKey(group), strconv.AppendInt(nil, until, 10), lateLogin); err != nil {
		return unavailable(err)
	}
	return nil
}

// lateUntil is up to which of the provider's seconds logins to the group are
// refused, if any are.
func (s *Sessions) lateUntil(ctx context.Context, group Group) (at int64, marked bool, err error) {
	raw, err := s.deps.Store.Get(ctx, lateKey(group))
	switch {
	case lost(err):
		return 0, false, nil
	case err != nil:
		return 0, false, unavailable(err)
	}
	at, err = strconv.ParseInt(string(raw), 10, 64)
	return at, err == nil, nil
}

// late reports whether a logout overtook the login, or the refresh, that made this of
// the session.
func (s *Sessions) late(ctx context.Context, started *Session) (bool, error) {
	issued := started.Tokens.IssuedAt
	if issued.IsZero() {
		return false, nil
	}
	for _, group := range groupsOf(started) {
		at, marked, err := s.lateUntil(ctx, group)
		if err != nil {
			return false, err
		}
		if marked && issued.Unix() <= at {
			return true, nil
		}
	}
	return false, nil
}

func lateKey(group Group) string { return "logout:" + group.set }
