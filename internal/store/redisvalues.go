package store

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// once is a command that must not run twice: go-redis repeats others where a
// connection broke before the reply.
type once struct{ redis.Cmder }

// NoRetry implements [redis.Cmder].
func (once) NoRetry() bool { return true }

// Get implements [Values].
func (r *Redis) Get(ctx context.Context, key string) ([]byte, error) {
	limit, cancel := r.within(ctx)
	defer cancel()
	value, err := r.client.Get(limit, r.key(valueKey, key)).Bytes()
	if err != nil {
		return nil, failed(ctx, "get", err)
	}
	return value, nil
}

// Recent implements [Values]; it asks Redis.
func (r *Redis) Recent(ctx context.Context, key string) ([]byte, error) { return r.Get(ctx, key) }

// Set implements [Values].
func (r *Redis) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	limit, cancel := r.within(ctx)
	defer cancel()
	return failed(ctx, "set", r.client.Do(limit, r.setArgs(key, value, ttl)...).Err())
}

// SetIfAbsent implements [Values].
func (r *Redis) SetIfAbsent(ctx context.Context, key string, value []byte, ttl time.Duration) (bool, error) {
	limit, cancel := r.within(ctx)
	defer cancel()
	cmd := redis.NewStatusCmd(limit, append(r.setArgs(key, value, ttl), "nx")...)
	return done(ctx, "set if absent", r.client.Process(limit, once{cmd}))
}

// Replace implements [Values].
func (r *Redis) Replace(ctx context.Context, key string, value []byte, ttl time.Duration) (bool, error) {
	limit, cancel := r.within(ctx)
	defer cancel()
	return done(ctx, "replace", r.client.Do(limit, append(r.setArgs(key, value, ttl), "xx")...).Err())
}

// Touch implements [Values].
func (r *Redis) Touch(ctx context.Context, key string, ttl time.Duration) (bool, error) {
	limit, cancel := r.within(ctx)
	defer cancel()
	if ttl <= 0 { // PERSIST does not tell "no value" from "no expiry"
		return done(ctx, "touch", r.client.Do(limit, "getex", r.key(valueKey, key), "persist").Err())
	}
	alive, err := r.client.Do(limit, "pexpire", r.key(valueKey, key), milliseconds(ttl)).Int()
	if err != nil {
		return false, failed(ctx, "touch", err)
	}
	return alive == 1, nil
}

// Take implements [Values].
func (r *Redis) Take(ctx context.Context, key string) ([]byte, error) {
	limit, cancel := r.within(ctx)
	defer cancel()
	cmd := redis.NewStringCmd(limit, "getdel", r.key(valueKey, key))
	if err := r.client.Process(limit, once{cmd}); err != nil {
		return nil, failed(ctx, "take", err)
	}
	value, err := cmd.Bytes()
	if err != nil {
		return nil, failed(ctx, "take", err)
	}
	return value, nil
}

// Delete implements [Values].
func (r *Redis) Delete(ctx context.Context, key string) error {
	limit, cancel := r.within(ctx)
	defer cancel()
	// UNLINK would not be faster for values this small.
	return failed(ctx, "delete", r.client.Del(limit, r.key(valueKey, key)).Err())
}

// setArgs spells the expiry out: go-redis's own Set reads a ttl of -1 as "keep
// the ttl there is".
func (r *Redis) setArgs(key string, value []byte, ttl time.Duration) []any {
	args := make([]any, 0, 6)
	args = append(args, "set", r.key(valueKey, key), value)
	if ttl > 0 {
		args = append(args, "px", milliseconds(ttl))
	}
	return args
}

// done reads the reply of a command that answers nil for "condition not met".
func done(ctx context.Context, operation string, err error) (bool, error) {
	switch err := failed(ctx, operation, err); err {
	case nil:
		return true, nil
	case ErrNotFound: //nolint:errorlint // failed returns it bare
		return false, nil
	default:
		return false, err
	}
}

// milliseconds is what Redis counts in; a positive ttl never becomes zero.
func milliseconds(ttl time.Duration) int64 { return max(1, ttl.Milliseconds()) }
