package window

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// TestNeverWrong compares Windows with a plain set: Absent is never true for a stored key, whatever was
// dropped from the cache.
func TestNeverWrong(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := New()
		stored := map[string]map[string]bool{}
		greatest := map[string]string{}
		next := rapid.IntRange(0, 50).Draw(t, "start")
		store := func(partition string, n int) {
			key := fmt.Sprintf("%09d", max(0, n))
			absent := w.Absent(partition, key)
			if absent && stored[partition][key] {
				t.Fatalf("%s in %s is stored, but Absent is true", key, partition)
			}
			if !absent && !stored[partition][key] {
				w.Missed(partition)
			}
			w.Add(partition, key)
			if stored[partition] == nil {
				stored[partition] = map[string]bool{}
			}
			stored[partition][key] = true
			greatest[partition] = max(greatest[partition], key)
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			partition := fmt.Sprint("p", rapid.IntRange(0, 3).Draw(t, "partition"))
			next += rapid.IntRange(0, 3).Draw(t, "step")
			burst := rapid.SampledFrom([]int{1, 1, 1, 1, 1, trackAfter, generation}).Draw(t, "burst")
			for i := range burst {
				store(partition, next+i)
			}
			next += burst
			store(partition, next-rapid.IntRange(0, 3*generation).Draw(t, "late"))
			for _, partition := range w.Due() {
				w.Track(partition, greatest[partition])
			}
		}
	})
}

// TestSaves: new keys in approximate order need no read of the store.
func TestSaves(t *testing.T) {
	w := New()
	looks := 0
	for i := range 10 * generation {
		key := fmt.Sprintf("%09d", i^0xff) // out of order by up to 255
		if !w.Absent("p", key) {
			looks++
			w.Missed("p")
		}
		for _, partition := range w.Due() {
			w.Track(partition, fmt.Sprintf("%09d", 0xff))
		}
		w.Add("p", key)
	}
	if looks > 256 { // those of the beginning, until it was tracked and above the floor
		t.Errorf("%d of %d new keys had to be looked for", looks, 10*generation)
	}
	if !w.Absent("p", fmt.Sprintf("%09d", 20*generation)) || w.Absent("p", fmt.Sprintf("%09d", 1)) {
		t.Error("a key that is new is absent, one that is long there is not")
	}
}

// TestForgets shows that memory is bounded.
func TestForgets(t *testing.T) {
	w := New()
	for i := range 2 * mostPartitions {
		w.Track(fmt.Sprint(i), "")
		for j := range 2 * generation / 16 {
			w.Add(fmt.Sprint(i), fmt.Sprint(j))
		}
		w.Missed(fmt.Sprint("m", i))
		if len(w.tracked) > mostPartitions || w.keys > mostKeys+generation || len(w.missed) > mostPartitions {
			t.Fatalf("%d partitions are tracked, %d keys, %d looks", len(w.tracked), w.keys, len(w.missed))
		}
	}
	keys := 0
	for _, window := range w.tracked {
		keys += len(window.older) + len(window.recent)
	}
	if keys != w.keys {
		t.Errorf("it counts %d keys and holds %d", w.keys, keys)
	}
}
