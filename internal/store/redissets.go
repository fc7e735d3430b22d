package store

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// A set is a sorted set: the score of a member is when it expires, by the
// clock of the Redis server, in Unix milliseconds. The whole key expires with
// its last member.
var (
	addScript = redis.NewScript(`
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local ttl = tonumber(ARGV[2])
redis.call('ZADD', KEYS[1], ttl > 0 and string.format('%.0f', now + ttl) or '+inf', ARGV[1])
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
if last == 'inf' then
  redis.call('PERSIST', KEYS[1])
else
  redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', tonumber(last)))
end
return 1`)

	membersScript = redis.NewScript(`
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%.0f', now), '+inf')`)
)

// Add implements [Sets].
func (r *Redis) Add(ctx context.Context, set, member string, ttl time.Duration) error {
	limit, cancel := r.within(ctx)
	defer cancel()
	count := int64(0)
	if ttl > 0 {
		count = milliseconds(ttl)
	}
	return failed(ctx, "add to set", addScript.Run(limit, r.client, []string{r.key(setKey, set)}, member, count).Err())
}

// Remove implements [Sets].
func (r *Redis) Remove(ctx context.Context, set, member string) error {
	limit, cancel := r.within(ctx)
	defer cancel()
	return failed(ctx, "remove from set", r.client.ZRem(limit, r.key(setKey, set), member).Err())
}

// Members implements [Sets].
func (r *Redis) Members(ctx context.Context, set string) ([]string, error) {
	limit, cancel := r.within(ctx)
	defer cancel()
	members, err := membersScript.Run(limit, r.client, []string{r.key(setKey, set)}).StringSlice()
	if err != nil {
		return nil, failed(ctx, "list set", err)
	}
	return members, nil
}
