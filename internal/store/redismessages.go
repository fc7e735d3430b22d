package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

// silentBeats is after how many beats without a word from Redis a subscription
// is moved to a new connection: a dead peer would otherwise look like a quiet
// channel for as long as TCP likes. A beat lasts Config.Redis.Timeout.
const silentBeats = 3

// Publish implements [Messages]. In a Cluster every node passes it on, so it
// reaches subscribers wherever they are connected.
func (r *Redis) Publish(ctx context.Context, channel string, payload []byte) error {
	limit, cancel := r.within(ctx)
	defer cancel()
	return failed(ctx, "publish", r.client.Publish(limit, r.channel(channel), payload).Err())
}

func (r *Redis) channel(name string) string { return r.prefix + "c{" + escapeTag(name) + "}" }

// Subscribe implements [Messages]. It takes one connection of its own.
func (r *Redis) Subscribe(ctx context.Context, channel string) (<-chan []byte, error) {
	return r.Watch(ctx, channel, func(bool) {})
}

// Watch implements [Messages].
func (r *Redis) Watch(ctx context.Context, channel string, standing func(bool)) (<-chan []byte, error) {
	conn, err := r.subscribe(ctx, channel)
	if err != nil {
		return nil, err
	}
	r.ending.Lock()
	defer r.ending.Unlock()
	if r.life.Err() != nil {
		_ = conn.Close()
		return nil, failed(ctx, "subscribe", errClosed)
	}
	standing(true)
	l := &listener{redis: r, channel: channel, standing: standing, conn: conn, messages: make(chan []byte, backlog)}
	l.ctx, l.stop = context.WithCancel(r.life)
	unfollow := context.AfterFunc(ctx, l.stop)
	r.listeners.Go(func() { //nolint:contextcheck // l.ctx ends with ctx and with the store
		defer close(l.messages)
		defer standing(false)
		defer l.stop()
		defer unfollow()
		l.listen()
	})
	return l.messages, nil
}

// subscribe returns a connection on which Redis has confirmed the subscription.
func (r *Redis) subscribe(ctx context.Context, channel string) (*redis.PubSub, error) {
	if err := ctx.Err(); err != nil { // go-redis does not look
		return nil, failed(ctx, "subscribe", err)
	}
	limit, cancel := r.within(ctx)
	defer cancel()
	conn := r.client.Subscribe(limit, r.channel(channel))
	if _, err := conn.ReceiveTimeout(limit, r.timeout); err != nil {
		_ = conn.Close()
		if cluster, ok := r.client.(*redis.ClusterClient); ok {
			remap{cluster}.after(ctx, err)
		}
		return nil, failed(ctx, "subscribe", err)
	}
	return conn, nil
}

// listener carries one subscription over as many connections as it takes.
type listener struct {
	redis    *Redis
	channel  string
	standing func(bool)
	ctx      context.Context // the life of the subscription
	stop     context.CancelFunc
	conn     *redis.PubSub // nil: there is none
	messages chan []byte
}

func (l *listener) listen() {
	for l.ctx.Err() == nil {
		if l.conn == nil && !l.reconnect() {
			continue
		}
		conn := l.conn
		hangUp := context.AfterFunc(l.ctx, func() { _ = conn.Close() })
		err := l.receive(conn)
		l.standing(false)
		hangUp()
		_ = conn.Close()
		l.conn = nil
		if l.ctx.Err() == nil {
			l.redis.logger.WarnContext(l.ctx, "subscription to redis interrupted, messages may be lost", "channel", l.channel, "error", err.Error())
		}
	}
}

// reconnect waits a little, so that a thousand replicas do not return at once.
func (l *listener) reconnect() bool {
	timer := time.NewTimer(50*time.Millisecond + rand.N(100*time.Millisecond)) //nolint:gosec // spreads load, keeps no secret
	defer timer.Stop()
	select {
	case <-l.ctx.Done():
		return false
	case <-timer.C:
	}
	conn, err := l.redis.subscribe(l.ctx, l.channel)
	if err != nil {
		return false
	}
	l.conn = conn
	l.standing(true)
	l.redis.logger.InfoContext(l.ctx, "subscription to redis stands again", "channel", l.channel)
	return true
}

var errSilent = errors.New("no answer to ping")

// receive returns when the connection is of no use any more.
func (l *listener) receive(conn *redis.PubSub) error {
	for silent := 0; ; {
		message, err := conn.ReceiveTimeout(l.ctx, l.redis.timeout)
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() && l.ctx.Err() == nil {
			if silent++; silent >= silentBeats {
				return errSilent
			}
			limit, cancel := l.redis.within(l.ctx)
			err = conn.Ping(limit)
			cancel()
			if err != nil {
				return fmt.Errorf("ping: %w", err)
			}
			continue
		}
		if err != nil {
			return err
		}
		silent = 0
		if m, ok := message.(*redis.Message); ok {
			select {
			case l.messages <- []byte(m.Payload):
			default: // too slow: at most once, and nobody waits for it
				l.standing(false)
				l.standing(true)
			}
		}
	}
}
