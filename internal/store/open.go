package store

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/whisp-bff/whisp-bff/internal/secret"
)

// Deps are what stores work with.
type Deps struct {
	Logger *slog.Logger
	// Metrics may be nil: then nothing is counted.
	Metrics prometheus.Registerer
	// Recent are the prefixes of the keys that somebody reads by Recent, the same
	// in every replica. Only those are remembered.
	Recent []string
	// Rand is the source of nonces and lock owners; nil means crypto/rand.
	Rand io.Reader
}

// Open returns the store that cfg, which must be valid, describes: a Memory,
// or a Redis, Sealed and Cached. Each Memory has its own bound, so parts that must not push
// out each other's values open one each; of Redis one is enough for all, and
// several share everything but connections.
//
// Redis need not be there yet: Open tries it once, logs what it finds, and
// leaves the rest to [Store].Ready. An error is a mistake in cfg, such as a CA
// file that cannot be read, or the end of ctx.
//
// go-redis has one logger for all clients: it becomes deps.Logger, at level
// debug, since everything that matters is also in the errors of the operations.
func Open(ctx context.Context, cfg Config, clock func() time.Time, deps Deps) (Store, error) {
	if deps.Rand == nil {
		deps.Rand = rand.Reader
	}
	if cfg.Kind != KindRedis {
		return NewMemory(cfg, clock), nil
	}
	redis.SetLogger(libraryLog{deps.Logger})
	onRedis, err := NewRedis(cfg.Redis, deps)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	var inner Store = onRedis
	if deps.Metrics != nil {
		inner = NewObserved(onRedis, clock, deps.Metrics)
	}
	keys := make([]secret.Text, len(cfg.SealKeys))
	for i, key := range cfg.SealKeys {
		keys[i] = key.Text()
	}
	sealed, err := NewSealed(inner, keys, cfg.Redis.Prefix, deps)
	if err != nil {
		_ = inner.Close()
		return nil, err
	}
	if err := sealed.Ready(ctx); err != nil {
		if ctx.Err() != nil {
			_ = sealed.Close()
			return nil, err
		}
		deps.Logger.WarnContext(ctx, "redis does not answer yet", "error", err.Error())
	}
	cached, err := NewCached(sealed, cfg.Redis.ReadCache.D(), clock, deps) //nolint:contextcheck // it lives as long as the store
	if err != nil {
		_ = sealed.Close()
		return nil, err
	}
	return cached, nil
}

// libraryLog implements go-redis's logger.
type libraryLog struct{ logger *slog.Logger }

// Printf keeps the formatted text out of the message, which stays the same.
func (l libraryLog) Printf(ctx context.Context, format string, args ...any) {
	l.logger.DebugContext(ctx, "redis client", "text", fmt.Sprintf(format, args...))
}
