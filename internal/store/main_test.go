package store_test

import (
	"testing"

	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	logging.Disable() // go-redis's own; servers die here all the time
	goleak.VerifyTestMain(m)
}
