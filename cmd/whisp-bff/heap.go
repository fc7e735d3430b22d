package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// heapFloor is the size in bytes up to which the heap may grow before it is
// collected. Most of the time a proxy keeps a few megabytes alive and makes much
// garbage; with Go's usual doubling it would collect hundreds of times a second.
const heapFloor = 32 << 20

// usualPercent is Go's own default: collect when the heap has doubled.
const usualPercent = 100

// keepHeapFloor makes the collector wait for heapFloor, and behave as usual
// once more than half of that is alive. It does nothing if the operator set
// GOGC. GOMEMLIMIT counts in any case: the runtime puts it above the percentage.
func keepHeapFloor() {
	if os.Getenv("GOGC") != "" {
		return
	}
	c := &collector{percent: percentFor(0)}
	debug.SetGCPercent(c.percent)
	c.watch()
}

type collector struct{ percent int }

// sentinel dies with each collection; it must not be a tiny object, which would
// share its memory with others.
type sentinel struct{ _ [64]byte }

// watch adjusts after the next collection, and then watches on.
func (c *collector) watch() {
	runtime.AddCleanup(new(sentinel), func(c *collector) {
		c.adjust()
		c.watch()
	}, c)
}

func (c *collector) adjust() {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return
	}
	percent := percentFor(sample[0].Value.Uint64())
	// Setting it stops the world for a moment: not for a trifle.
	if difference := percent - c.percent; difference > c.percent/8 || -difference > c.percent/8 {
		c.percent = percent
		debug.SetGCPercent(percent)
	}
}

// leastHeap is the heap below which Go does not collect at 100 percent; it grows
// with the percentage, and is what counts while less is alive.
const leastHeap = 4 << 20

// percentFor returns the growth over live bytes that reaches heapFloor, but not
// less than usual.
func percentFor(live uint64) int {
	if live >= heapFloor/2 {
		return usualPercent
	}
	live = max(live, leastHeap)
	return int(100 * (heapFloor - live) / live) //nolint:gosec // G115: at most 3100
}
