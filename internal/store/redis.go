package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Redis keeps values in Redis 6.2 or later (GETDEL, GETEX), or Valkey: one
// server, a master found by Sentinels, or a Cluster. All methods may be called
// concurrently.
//
// What a key is called there: prefix, a letter for what it is (v value, s set,
// l lock, f fencing token), and the caller's key in braces, which are the hash
// tag: all keys of one name lie in one slot of a Cluster. Braces inside the
// caller's key are escaped.
//
// Values are stored as they are given: seal them ([Sealed]).
//
// About replies that reach the wrong request (CVE-2025-29923): go-redis is past
// the fixed version, sends nothing but what we ask for (no CLIENT SETINFO, no
// maintenance notifications, RESP2, so no push frames between replies), and a
// connection on which a request timed out is closed. The binding of [Sealed]
// is for the next such mistake.
type Redis struct {
	client  redis.UniversalClient
	prefix  string
	timeout time.Duration
	logger  *slog.Logger
	rand    io.Reader
	leases  leases

	// life ends with Close; listeners are the goroutines of subscriptions. None
	// begins after ending, which locks against it.
	life      context.Context // the life of the store
	end       context.CancelFunc
	ending    sync.Mutex
	listeners sync.WaitGroup
	advised   sync.Once
}

// NewRedis reads cfg.TLS.CAFile, if one is named, and connects to nothing yet:
// connections are made when they are needed, again after every failure.
func NewRedis(cfg RedisConfig, deps Deps) (*Redis, error) {
	tlsConfig, err := cfg.TLS.load()
	if err != nil {
		return nil, err
	}
	timeout := cfg.Timeout.D()
	client := redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs:            cfg.Addresses,
		MasterName:       cfg.SentinelMaster,
		SentinelUsername: cfg.SentinelUsername,
		SentinelPassword: cfg.SentinelPassword.Text().Reveal(),
		IsClusterMode:    cfg.Cluster,
		Username:         cfg.Username,
		Password:         cfg.Password.Text().Reveal(),
		DB:               cfg.DB,
		TLSConfig:        tlsConfig,
		PoolSize:         cfg.PoolSize,

		// The context of an operation is the limit; these only follow it.
		ContextTimeoutEnabled: true,
		DialTimeout:           timeout,
		ReadTimeout:           timeout,
		WriteTimeout:          timeout,
		PoolTimeout:           timeout,
		MaxRetries:            2,
		MinRetryBackoff:       5 * time.Millisecond,
		MaxRetryBackoff:       50 * time.Millisecond,
		DialerRetries:         1, // the retries above dial again
		FailingTimeoutSeconds: 1,

		Protocol:                 2,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		PipelinePoolSize:         -1,
	})
	if cluster, ok := client.(*redis.ClusterClient); ok {
		cluster.AddHook(remap{cluster})
	}
	r := &Redis{client: client, prefix: cfg.Prefix, timeout: timeout, logger: deps.Logger, rand: deps.Rand}
	r.life, r.end = context.WithCancel(context.Background())
	r.leases.init()
	return r, nil
}

func (c RedisTLSConfig) load() (*tls.Config, error) {
	if !c.Enabled {
		return nil, nil //nolint:nilnil // no TLS, which is what go-redis takes nil for
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile == "" {
		return config, nil
	}
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("redis.tls.ca_file: %w", err)
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("redis.tls.ca_file: no certificate found in %s", c.CAFile)
	}
	return config, nil
}

// Durable is true: a restart of this process forgets nothing. Whether one of
// Redis does is Redis's configuration, which [Redis.Ready] looks at.
func (r *Redis) Durable() bool { return true }

// Close ends subscriptions and renewals, waits for them and closes all
// connections. Later calls fail with ErrUnavailable.
func (r *Redis) Close() error {
	r.leases.close()
	r.ending.Lock()
	r.end()
	r.ending.Unlock()
	r.listeners.Wait()
	if err := r.client.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
		return fmt.Errorf("close redis: %w", err)
	}
	return nil
}

type keyKind string

const (
	valueKey keyKind = "v"
	setKey   keyKind = "s"
	lockKey  keyKind = "l"
	fenceKey keyKind = "f"
)

func (r *Redis) key(kind keyKind, name string) string {
	return r.prefix + string(kind) + "{" + escapeTag(name) + "}"
}

// escapeTag keeps a name in one piece as a hash tag: a Cluster takes what is
// between the first "{" and the first "}" after it.
func escapeTag(name string) string {
	if name != "" && !strings.ContainsAny(name, "{}%") {
		return name
	}
	if name == "" {
		return "%" // an empty tag is none
	}
	return tagEscaper.Replace(name)
}

var tagEscaper = strings.NewReplacer("%", "%25", "{", "%7B", "}", "%7D")

// within bounds one operation.
func (r *Redis) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, r.timeout)
}

// failed makes a store error of what go-redis returned; ctx is the caller's.
func failed(ctx context.Context, operation string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, redis.Nil):
		return ErrNotFound
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("store: %s: %w", operation, ctx.Err())
	default:
		return fmt.Errorf("%w: %s: %w", ErrUnavailable, operation, err)
	}
}
