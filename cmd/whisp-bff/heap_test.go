package main

import "testing"

func TestPercentFor(t *testing.T) {
	const mib = 1 << 20
	for live, heap := range map[uint64]uint64{ // live heap -> size at which it is collected
		2 * mib: 32 * mib, 4 * mib: 32 * mib, 8 * mib: 32 * mib, 15 * mib: 32 * mib, 16 * mib: 32 * mib,
		20 * mib: 40 * mib, 100 * mib: 200 * mib, 1000 * mib: 2000 * mib,
	} {
		got := live + live*uint64(percentFor(live))/100
		if got > heap || got < heap*95/100 {
			t.Errorf("%d MiB alive: collected at %d MiB, want %d", live/mib, got/mib, heap/mib)
		}
	}
	if percentFor(0) > 10_000 {
		t.Errorf("an empty heap gives %d", percentFor(0))
	}
}
