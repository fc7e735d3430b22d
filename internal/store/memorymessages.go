package store

import (
	"bytes"
	"context"
	"fmt"
	"sync"
)

// memoryChannels know who listens. A subscription's channel is sent to and
// closed under mu only, and closed when it leaves open.
type memoryChannels struct {
	mu     sync.Mutex
	closed bool
	open   map[string]map[*memorySubscription]struct{}
}

type memorySubscription struct {
	messages chan []byte
	standing func(bool)
}

// Publish implements [Messages].
func (m *Memory) Publish(_ context.Context, channel string, payload []byte) error {
	c := &m.channels
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.open[channel] {
		select {
		case s.messages <- bytes.Clone(payload):
		default: // too slow: at most once, and nobody waits for it
			s.standing(false)
			s.standing(true)
		}
	}
	return nil
}

// Subscribe implements [Messages].
func (m *Memory) Subscribe(ctx context.Context, channel string) (<-chan []byte, error) {
	return m.Watch(ctx, channel, func(bool) {})
}

// Watch implements [Messages].
func (m *Memory) Watch(ctx context.Context, channel string, standing func(bool)) (<-chan []byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("store: subscribe: %w", err)
	}
	s := &memorySubscription{messages: make(chan []byte, backlog), standing: standing}
	c := &m.channels
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	if c.open[channel] == nil {
		c.open[channel] = make(map[*memorySubscription]struct{})
	}
	c.open[channel][s] = struct{}{}
	standing(true)
	context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.end(channel, s)
	})
	return s.messages, nil
}

func (c *memoryChannels) end(channel string, s *memorySubscription) {
	if _, open := c.open[channel][s]; !open {
		return
	}
	close(s.messages)
	s.standing(false)
	delete(c.open[channel], s)
	if len(c.open[channel]) == 0 {
		delete(c.open, channel)
	}
}

func (c *memoryChannels) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for channel, subscriptions := range c.open {
		for s := range subscriptions {
			c.end(channel, s)
		}
	}
}
