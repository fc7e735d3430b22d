package store_test

import (
	"flag"
	"testing"

	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// These tests wait for servers and expiries, not for a processor.
	if err := flag.Set("test.parallel", "20"); err != nil {
		panic(err)
	}
	logging.Disable() // go-redis's own; servers die here all the time
	// After failed dials go-redis's pool tries again each second, and notices that
	// it was closed as late.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}
