package store

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// fenceLife is how long a key's last token is remembered. Past that, the clock
// of the server alone makes the next one larger.
const fenceLife = time.Hour

// A lock is a string "owner:token" that expires. The token is the server's
// time in microseconds, or one more than the last; Lua's numbers hold it
// exactly until the year 2255.
var (
	lockScript = redis.NewScript(`
local held = redis.call('GET', KEYS[1])
if held then
  local owner, token = string.match(held, '^(%x+):(%d+)$')
  if owner ~= ARGV[1] then return '' end
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return token
end
local time = redis.call('TIME')
local token = time[1] * 1000000 + time[2]
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
if last >= token then token = last + 1 end
token = string.format('%.0f', token)
redis.call('SET', KEYS[2], token, 'PX', ARGV[3])
redis.call('SET', KEYS[1], ARGV[1] .. ':' .. token, 'PX', ARGV[2])
return token`)

	renewScript = redis.NewScript(`
local owner = string.match(redis.call('GET', KEYS[1]) or '', '^(%x+):')
if owner ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`)

	unlockScript = redis.NewScript(`
local owner = string.match(redis.call('GET', KEYS[1]) or '', '^(%x+):')
if owner ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])`)
)

// Lock implements [Store].
func (r *Redis) Lock(ctx context.Context, key string, ttl time.Duration) (*Lease, error) {
	var owner [16]byte
	if _, err := io.ReadFull(r.rand, owner[:]); err != nil {
		return nil, fmt.Errorf("store: lock: %w", err)
	}
	return r.leases.acquire(ctx, redisEngine{r}, key, hex.EncodeToString(owner[:]), ttl)
}

type redisEngine struct{ *Redis }

func (r redisEngine) tryLock(ctx context.Context, key, owner string, ttl time.Duration) (uint64, bool, error) {
	limit, cancel := r.within(ctx)
	defer cancel()
	keys := []string{r.key(lockKey, key), r.key(fenceKey, key)}
	text, err := lockScript.Run(limit, r.client, keys, owner, milliseconds(ttl), milliseconds(max(fenceLife, 2*ttl))).Text()
	if err != nil {
		return 0, false, failed(ctx, "lock", err)
	}
	if text == "" {
		return 0, true, nil
	}
	token, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, false, fmt.Errorf("%w: lock: unexpected reply", ErrUnavailable)
	}
	return token, false, nil
}

func (r redisEngine) renewLock(ctx context.Context, key, owner string, ttl time.Duration) (bool, error) {
	limit, cancel := r.within(ctx)
	defer cancel()
	kept, err := renewScript.Run(limit, r.client, []string{r.key(lockKey, key)}, owner, milliseconds(ttl)).Int()
	if err != nil {
		return false, failed(ctx, "renew lock", err)
	}
	return kept == 1, nil
}

func (r redisEngine) unlock(ctx context.Context, key, owner string) error {
	limit, cancel := r.within(ctx)
	defer cancel()
	return failed(ctx, "unlock", unlockScript.Run(limit, r.client, []string{r.key(lockKey, key)}, owner).Err())
}
