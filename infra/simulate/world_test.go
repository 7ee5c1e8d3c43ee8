package main

import "testing"

// The same schedule gives the same run, and no run finds anything.
func TestWorlds(t *testing.T) {
	for seed := range uint64(60) {
		s := Generate(seed, 100)
		first := Run(t, s, Options{})
		if first.Failure != nil {
			t.Errorf("seed %d: %+v", seed, *first.Failure)
		}
		if seed%3 != 0 {
			continue
		}
		if second := Run(t, s, Options{}); first.Hash != second.Hash {
			t.Errorf("seed %d: the hash of the trace is %x, and then %x", seed, first.Hash, second.Hash)
		}
	}
}
