package flight_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/flight"
)

func TestManyCallersOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g flight.Group[int]
		calls := 0
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				got, err := g.Do(t.Context(), "k", time.Minute, func(context.Context) (int, error) {
					calls++
					time.Sleep(time.Second) // in the bubble: until all hundred wait
					return 42, nil
				})
				if got != 42 || err != nil {
					t.Errorf("got %d, %v", got, err)
				}
			})
		}
		wg.Wait()
		if calls != 1 {
			t.Errorf("%d calls", calls)
		}
	})
}

func TestACallerThatLeavesFailsNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g flight.Group[string]
		call := func(ctx context.Context) (string, error) {
			select {
			case <-ctx.Done():
				return "", ctx.Err()
			case <-time.After(time.Second):
				return "done", nil
			}
		}
		first, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := g.Do(first, "k", time.Minute, call); !errors.Is(err, context.Canceled) {
				t.Errorf("the one that left got %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if got, err := g.Do(t.Context(), "k", time.Minute, call); got != "done" || err != nil {
				t.Errorf("the one that stayed got %q, %v", got, err)
			}
		})
		leave()
		wg.Wait()
		g.Wait()
	})
}

func TestACallIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g flight.Group[string]
		_, err := g.Do(t.Context(), "k", time.Second, func(ctx context.Context) (string, error) {
			<-ctx.Done()
			return "", ctx.Err()
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}
