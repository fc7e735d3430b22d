package store_test

import (
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/whisp-bff/whisp-bff/internal/store"
)

func lost(l *store.Lease) bool {
	select {
	case <-l.Lost():
		return true
	default:
		return false
	}
}

func TestLeasesRenewThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := store.NewMemory(store.DefaultConfig(), time.Now)
		lease, err := m.Lock(t.Context(), "work", time.Second)
		must(t, err)
		time.Sleep(4 * time.Minute)
		if kept, err := lease.Renew(t.Context()); !kept || err != nil || lost(lease) {
			t.Errorf("after four minutes: %t, %v", kept, err)
		}
		begun := time.Now()
		if _, err := m.Lock(t.Context(), "work", time.Second); !errors.Is(err, store.ErrLocked) || time.Since(begun) != 30*time.Second {
			t.Errorf("waited %s: %v", time.Since(begun), err)
		}
		time.Sleep(time.Minute) // nobody works that long: the holder forgot it
		if !lost(lease) {
			t.Error("renewed for ever")
		}
		next, err := m.Lock(t.Context(), "work", time.Second)
		must(t, err)
		must(t, lease.Release(t.Context()))
		if kept, err := next.Renew(t.Context()); !kept || err != nil {
			t.Errorf("the next holder's Renew = %t, %v", kept, err)
		}
		must(t, next.Release(t.Context()))
		time.Sleep(time.Minute)
		if lost(next) {
			t.Error("a released lease says that it was lost")
		}
		must(t, m.Close())
	})
}

func TestLeasesRenewThemselvesInRedis(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	s := open(t, redisConfig("renew:", server.addr))
	lease, err := s.Lock(t.Context(), "work", 6*time.Second)
	must(t, err)
	left, risen := 6001, false
	if err := poll(10*time.Second, func() bool {
		now, err := strconv.Atoi(server.do("pttl", "renew:l{work}"))
		must(t, err)
		risen, left = now > left, now
		return risen || now < 0
	}); err != nil || !risen || lost(lease) {
		t.Errorf("%d ms left, lost: %t, %v", left, lost(lease), err)
	}
	must(t, lease.Release(t.Context()))
	if got := server.do("exists", "renew:l{work}"); got != "0" {
		t.Error("the lock is still there")
	}
}
