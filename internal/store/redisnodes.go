package store

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// remap asks a Cluster who has which slot as soon as a node does not answer.
// go-redis alone asks once a minute, or when a node says that a slot is another's,
// which one that is dead never does: what a failover has given to a replica would
// stay unavailable for up to that minute. However often it is called, go-redis
// asks five times a second at most.
type remap struct{ cluster *redis.ClusterClient }

var _ redis.Hook = remap{}

// DialHook implements [redis.Hook].
func (m remap) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements [redis.Hook].
func (m remap) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		m.after(ctx, err)
		return err
	}
}

// ProcessPipelineHook implements [redis.Hook].
func (m remap) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next // nothing here uses pipelines
}

// after looks at an error: one that Redis itself gave is an answer.
func (m remap) after(ctx context.Context, err error) {
	if _, answered := errors.AsType[redis.Error](err); err == nil || answered || errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	m.cluster.ReloadState(ctx)
}
