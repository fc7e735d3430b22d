package main

import "testing"

func TestPercentFor(t *testing.T) {
	const mib = 1 << 20
	for live, heap := range map[uint64]uint64{ // live heap -> size at which it is collected
		4 * mib: 32 * mib, 8 * mib: 32 * mib, 15 * mib: 32 * mib, 16 * mib: 32 * mib,
		20 * mib: 40 * mib, 100 * mib: 200 * mib, 1000 * mib: 2000 * mib,
	} {
		got := live + live*uint64(percentFor(live))/100
		if got > heap || got < heap*95/100 {
			t.Errorf("%d MiB alive: collected at %d MiB, want %d", live/mib, got/mib, heap/mib)
		}
	}
	// The runtime's least heap grows with the percentage, whatever is alive.
	for _, live := range []uint64{0, mib, 2 * mib} {
		if least := leastHeap * percentFor(live) / 100; least > heapFloor {
			t.Errorf("%d MiB alive: the least heap is %d MiB", live/mib, least/mib)
		}
	}
}
