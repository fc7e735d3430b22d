package store

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// scanCount is how many keys of all kinds one SCAN looks at: under a millisecond
// of the server's time, in which nobody else is served.
const scanCount = 1000

// errAnotherServer: cursors mean nothing to a server that did not give them out,
// and keys would be missed without a word.
var errAnotherServer = errors.New("the server restarted or failed over meanwhile: start again")

// Keys implements [Values] by SCAN on every master, one after the other. Each
// round trip is bounded like any operation; all together take as long as they
// take. A server that is not the same at the end as at the beginning makes it
// fail. Slots of a Cluster that move meanwhile are not noticed: their keys may
// be missed.
func (r *Redis) Keys(ctx context.Context, prefix string, each func(key string) error) error {
	masters, err := r.masters(ctx)
	if err != nil {
		return failed(ctx, "find masters", err)
	}
	for _, master := range masters {
		before, err := r.runID(ctx, master)
		if err != nil {
			return err
		}
		if err := r.scan(ctx, master, prefix, each); err != nil {
			return err
		}
		after, err := r.runID(ctx, master)
		if err != nil {
			return err
		}
		if before != after {
			return failed(ctx, "list keys", errAnotherServer)
		}
	}
	return nil
}

func (r *Redis) masters(ctx context.Context) ([]redis.Cmdable, error) {
	cluster, ok := r.client.(*redis.ClusterClient)
	if !ok {
		return []redis.Cmdable{r.client}, nil
	}
	limit, cancel := r.within(ctx)
	defer cancel()
	var mu sync.Mutex
	var masters []redis.Cmdable
	err := cluster.ForEachMaster(limit, func(_ context.Context, master *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		masters = append(masters, master)
		return nil
	})
	return masters, err
}

// runID names one run of one server process.
func (r *Redis) runID(ctx context.Context, server redis.Cmdable) (string, error) {
	limit, cancel := r.within(ctx)
	defer cancel()
	info, err := server.Info(limit, "server").Result()
	return infoField(info, "run_id"), failed(ctx, "list keys", err)
}

func (r *Redis) scan(ctx context.Context, server redis.Cmdable, prefix string, each func(key string) error) error {
	start := r.prefix + string(valueKey) + "{"
	pattern := globEscaper.Replace(start+tagEscaper.Replace(prefix)) + "*"
	for cursor := uint64(0); ; {
		keys, next, err := r.scanOnce(ctx, server, cursor, pattern)
		if err != nil {
			return err
		}
		for _, full := range keys {
			if err := each(unescapeTag(strings.TrimSuffix(strings.TrimPrefix(full, start), "}"))); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

func (r *Redis) scanOnce(ctx context.Context, server redis.Cmdable, cursor uint64, pattern string) ([]string, uint64, error) {
	limit, cancel := r.within(ctx)
	defer cancel()
	keys, next, err := server.Scan(limit, cursor, pattern, scanCount).Result()
	return keys, next, failed(ctx, "list keys", err)
}

// globEscaper takes the meaning from what means something in a pattern.
var globEscaper = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`)

// unescapeTag undoes escapeTag.
func unescapeTag(tag string) string {
	if tag == "%" {
		return ""
	}
	return tagUnescaper.Replace(tag)
}

var tagUnescaper = strings.NewReplacer("%25", "%", "%7B", "{", "%7D", "}")
