//go:build !linux

package sockproxy

// loops exist on Linux only; elsewhere every flow has a goroutine.
type (
	loops   struct{}
	loop    struct{}
	watched struct{}
)

func newLoops(*bufferPool) *loops { return &loops{} }

func (*loops) pick() *loop { return nil }

func (*loop) prepare(*flow) {}

func (*flow) watch([]byte) bool { return false }

func (*flow) unwatch() {}

func (*flow) abandon() {}
