package window

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// TestNeverWrong holds what Windows says against a plain set: a key that is in it is never said
// to be absent, whatever was forgotten.
func TestNeverWrong(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := New()
		stored := map[[2]string]bool{}
		greatest := map[string]string{}
		saved := 0
		next := rapid.IntRange(0, 50).Draw(t, "start")
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			partition := fmt.Sprint("p", rapid.IntRange(0, 2*partitions).Draw(t, "partition")%rapid.IntRange(1, 2*partitions).Draw(t, "spread"))
			if !w.Tracks(partition) && rapid.Bool().Draw(t, "track") {
				w.Track(partition, greatest[partition])
			}
			next += rapid.IntRange(0, 3).Draw(t, "step")
			for i := range rapid.SampledFrom([]int{1, 1, 1, 1, 1, 1, generation}).Draw(t, "burst") {
				key := fmt.Sprintf("%09d", max(0, next+i-rapid.IntRange(0, 20).Draw(t, "late")))
				if i > 0 { // of a burst only the order counts, not each draw
					key = fmt.Sprintf("%09d", next+i)
				}
				if w.Absent(partition, key) {
					if stored[[2]string{partition, key}] {
						t.Fatalf("%s in %s is stored and said to be absent", key, partition)
					}
					saved++
				}
				w.Add(partition, key)
				stored[[2]string{partition, key}] = true
				greatest[partition] = max(greatest[partition], key)
			}
		}
	})
}

// TestSaves shows that new keys in about their order need no look, though each comes late.
func TestSaves(t *testing.T) {
	w := New()
	w.Track("p", "")
	looks := 0
	for i := range 10 * generation {
		late := i ^ 0xff // out of order by up to 255
		key := fmt.Sprintf("%09d", late)
		if !w.Absent("p", key) {
			looks++
		}
		w.Add("p", key)
	}
	if looks > 0 {
		t.Errorf("%d of %d new keys had to be looked for", looks, 10*generation)
	}
	if !w.Absent("p", fmt.Sprintf("%09d", 20*generation)) || w.Absent("p", fmt.Sprintf("%09d", 1)) {
		t.Error("a key that is new is absent, one that is long there is not")
	}
}

// TestForgets shows that memory is bounded.
func TestForgets(t *testing.T) {
	w := New()
	for i := range 10 * partitions {
		w.Track(fmt.Sprint(i), "")
	}
	if n := len(w.byPartition); n > partitions {
		t.Errorf("%d partitions are tracked", n)
	}
	w.Track("p", "")
	for i := range 10 * generation {
		w.Add("p", fmt.Sprintf("%09d", i))
	}
	if p := w.byPartition["p"]; len(p.older)+len(p.recent) > 2*generation {
		t.Errorf("%d keys are remembered", len(p.older)+len(p.recent))
	}
}
