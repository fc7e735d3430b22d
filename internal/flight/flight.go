// Package flight lets many callers wait for one call.
//
// It adds to golang.org/x/sync/singleflight what a server needs: the call is
// not tied to the request that happened to start it (so a browser that goes
// away fails nobody else), it is bounded in time, each caller can stop waiting,
// and the owner can wait for what is still under way.
//
// Keys must name everything that makes two calls the same; a key that leaves
// out the identity hands one person's result to another (CVE-2026-71326).
package flight

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// Group shares calls by key. The zero value is ready to use.
type Group[T any] struct {
	calls   singleflight.Group
	running sync.WaitGroup
}

// Do runs call, or waits for the one already running under key. call gets a
// context with the values of ctx that ends after patience and not with ctx.
// If ctx ends first, Do returns its error and the call goes on.
func (g *Group[T]) Do(ctx context.Context, key string, patience time.Duration, call func(context.Context) (T, error)) (T, error) {
	done := g.calls.DoChan(key, func() (any, error) {
		g.running.Add(1)
		defer g.running.Done()
		detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		return call(detached)
	})
	var none T
	select {
	case <-ctx.Done():
		return none, ctx.Err()
	case result := <-done:
		if result.Err != nil {
			return none, result.Err
		}
		value, _ := result.Val.(T) // a nil interface is no T, and the zero value is just that
		return value, nil
	}
}

// Wait returns when no call is running. No Do may start meanwhile.
func (g *Group[T]) Wait() { g.running.Wait() }
