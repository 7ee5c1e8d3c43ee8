package main

import (
	"flag"
	"testing"
)

var samplePebble = flag.Int("sim.pebble", 10, "how many seeds TestPebble runs")

// The models that worlds are stored in are as unkind as a real store: on the embedded one the same schedule has the
// same trace, call by call, and finds nothing either.
func TestPebble(t *testing.T) {
	seeds := *samplePebble
	if testing.Short() {
		seeds = min(seeds, 2)
	}
	for seed := range uint64(seeds) {
		s := Generate(seed, 100)
		model, stored := Run(t, s, Options{}), Run(t, s, Options{Stores: "pebble"})
		if f := stored.Failure; f != nil {
			t.Errorf("seed %d: %s, in step %d: %s", seed, f.Check, f.Step, f.Text)
		}
		if model.Hash != stored.Hash {
			t.Errorf("seed %d: in memory the trace has the hash %x, on Pebble %x", seed, model.Hash, stored.Hash)
		}
	}
}
