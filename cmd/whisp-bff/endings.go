package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/broker"
	"github.com/whisp-bff/whisp-bff/internal/sockproxy"
	"github.com/whisp-bff/whisp-bff/internal/store"
)

// endedChannel carries the keys of sessions and devices that ended.
const endedChannel = "ended"

// endings tells every replica when a session ends, so that its tunnels close
// wherever they are. A message that is lost is made up for by the tunnels
// themselves, which ask for their session every check_interval.
type endings struct {
	messages store.Messages // nil: there is one replica only
	logger   *slog.Logger
	// Set once the parts exist, before anything is served.
	tunnels *sockproxy.Proxy
	grants  *broker.Broker
}

func newEndings(s *stores, logger *slog.Logger) *endings {
	e := &endings{logger: logger}
	if s.shared() {
		e.messages = s.sessions
	}
	return e
}

// announce tells the other replicas; this one has closed its tunnels already.
func (e *endings) announce(ctx context.Context, key string) {
	if e.messages == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := e.messages.Publish(ctx, endedChannel, []byte(key)); err != nil {
		e.logger.WarnContext(ctx, "other replicas not told that a session ended", "error", err)
	}
}

// ended does all that is to be done when a session ends by itself.
func (e *endings) ended(ctx context.Context, key string) {
	e.tunnels.EndSession(key)
	e.announce(ctx, key)
	if err := e.grants.SignOut(ctx, key); err != nil {
		e.logger.WarnContext(ctx, "refresh token not revoked at Whisp", "error", err)
	}
}

// listen closes the tunnels of sessions that ended elsewhere, until stop is called.
// With the store down at start it tries again until it is there.
func (e *endings) listen(ctx context.Context) (stop func()) {
	if e.messages == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			messages, err := e.messages.Subscribe(ctx, endedChannel)
			if err != nil {
				e.logger.WarnContext(ctx, "not listening for sessions that end elsewhere; trying again", "error", err)
				select {
				case <-ctx.Done():
				case <-time.After(time.Second):
				}
				continue
			}
			for key := range messages {
				e.tunnels.EndSession(string(key))
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}
