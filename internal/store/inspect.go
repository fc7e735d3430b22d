package store

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Inspection is what a Redis tells about itself.
type Inspection struct {
	// Version as "Redis 7.2.4" or "Valkey 8.0.1"; empty if INFO is forbidden.
	Version string
	// Old tells that it is a Redis before 6.2, which lacks commands we need.
	Old bool
	// Nodes that answer: 1, or the masters of a Cluster.
	Nodes int
	// Latency is the median of a few PINGs.
	Latency time.Duration
	// Advice says which settings can lose sessions or links, and what to do.
	Advice []string
}

// OpenRedis is [NewRedis], with go-redis's own messages at level debug of
// deps.Logger as in [Open].
func OpenRedis(cfg RedisConfig, deps Deps) (*Redis, error) {
	redis.SetLogger(libraryLog{deps.Logger})
	return NewRedis(cfg, deps)
}

// pings is how often Inspect asks for a sign of life.
const pings = 7

// Inspect looks at a Redis, for whoever sets whisp-bff up. The error is about the
// first contact; it never contains the password.
func (r *Redis) Inspect(ctx context.Context, clock func() time.Time) (Inspection, error) {
	var seen Inspection
	if err := r.pinged(ctx); err != nil { // opens the connection
		return seen, err
	}
	var took []time.Duration
	for range pings {
		began := clock()
		if err := r.pinged(ctx); err != nil {
			return seen, err
		}
		took = append(took, clock().Sub(began))
	}
	slices.Sort(took)
	seen.Latency, seen.Nodes = took[pings/2], 1
	limit, cancel := r.within(ctx)
	defer cancel()
	info, _ := r.client.Info(limit, "server").Result() // forbidden to some; then nothing is known
	seen.Version, seen.Old = serverVersion(info)
	if cluster, ok := r.client.(*redis.ClusterClient); ok {
		count := make(chan int, 1)
		count <- 0
		if err := cluster.ForEachMaster(limit, func(ctx context.Context, master *redis.Client) error {
			count <- <-count + 1
			return master.Ping(ctx).Err()
		}); err != nil {
			return seen, failed(ctx, "ping every master", err)
		}
		seen.Nodes = <-count
	}
	seen.Advice = r.Advice(ctx)
	return seen, nil
}

func (r *Redis) pinged(ctx context.Context) error {
	limit, cancel := r.within(ctx)
	defer cancel()
	return failed(ctx, "ping", r.client.Ping(limit).Err())
}

var versionNumber = regexp.MustCompile(`^(\d+)\.(\d+)`)

func serverVersion(info string) (name string, old bool) {
	if valkey := infoField(info, "valkey_version"); valkey != "" {
		return "Valkey " + valkey, false
	}
	text := infoField(info, "redis_version")
	parts := versionNumber.FindStringSubmatch(text)
	if parts == nil {
		return "", false
	}
	major, _ := strconv.Atoi(parts[1]) // digits, as matched
	minor, _ := strconv.Atoi(parts[2])
	return "Redis " + text, major < 6 || major == 6 && minor < 2
}

// Rehearse does everything that is ever done in a store, under a key of that name
// and with a life of seconds, and returns the first step that fails: with an ACL,
// one that the user may not do.
func Rehearse(ctx context.Context, s Store, name string) error {
	const ttl = 10 * time.Second
	steps := []struct {
		what string
		do   func() error
	}{
		{"set", func() error { return s.Set(ctx, name, []byte("1"), ttl) }},
		{"get", func() error { _, err := s.Get(ctx, name); return err }},
		{"set if absent", func() error { _, err := s.SetIfAbsent(ctx, name, []byte("2"), ttl); return err }},
		{"replace", func() error { _, err := s.Replace(ctx, name, []byte("3"), ttl); return err }},
		{"touch", func() error { _, err := s.Touch(ctx, name, ttl); return err }},
		{"take", func() error { _, err := s.Take(ctx, name); return err }},
		{"delete", func() error { return s.Delete(ctx, name) }},
		{"add to a set", func() error { return s.Add(ctx, name, "1", ttl) }},
		{"read a set", func() error { _, err := s.Members(ctx, name); return err }},
		{"remove from a set", func() error { return s.Remove(ctx, name, "1") }},
		{"lock", func() error {
			lease, err := s.Lock(ctx, name, ttl)
			if err != nil {
				return err
			}
			return lease.Release(ctx)
		}},
		{"publish", func() error { return s.Publish(ctx, name, []byte("1")) }},
		{"subscribe", func() error {
			ctx, cancel := context.WithTimeout(ctx, ttl)
			defer cancel()
			_, err := s.Subscribe(ctx, name)
			return err
		}},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// Refusal is the code that a Redis which answers refuses with, such as NOPERM or
// LOADING; WRONGPASS for everything about passwords. Empty if it did not answer.
func Refusal(err error) string {
	refused, ok := errors.AsType[redis.Error](err)
	if !ok || errors.Is(err, redis.Nil) {
		return ""
	}
	code, _, _ := strings.Cut(refused.Error(), " ")
	switch {
	case !errorCode.MatchString(code):
		return ""
	case code == "ERR" && (strings.Contains(refused.Error(), "AUTH") || strings.Contains(refused.Error(), "invalid password")):
		return "WRONGPASS"
	}
	return code
}

var errorCode = regexp.MustCompile(`^[A-Z]{3,20}$`)
