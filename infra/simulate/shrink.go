package main

import "slices"

// shrinker looks for a smaller schedule that fails the same check, by delta debugging (ddmin, Zeller and
// Hildebrandt 2002): it removes parts of the steps, large ones first, and keeps what still fails.
type shrinker struct {
	run   func(Schedule) *Failure // nil: the schedule does not fail, or was not run
	check string                  // that must fail
	tries int                     // that are left
	best  Schedule
}

// Shrink returns the smallest schedule found that fails the same check as s, its failure, and how often it
// called run: at most so many times. If not even s fails in the first run, it returns s and nil.
//
// As far as the tries suffice, the result needs every one of its steps: without it, the check does not fail.
func Shrink(s Schedule, tries int, run func(Schedule) *Failure) (Schedule, *Failure, int) {
	if tries < 1 {
		return s, nil, 0
	}
	failure := run(s)
	if failure == nil {
		return s, nil, 1
	}
	k := &shrinker{run: run, check: failure.Check, tries: tries - 1, best: s}
	last := failure
	k.run = func(s Schedule) *Failure {
		f := run(s)
		if f != nil && f.Check == k.check {
			last = f
		}
		return f
	}
	k.cutBehind(failure)
	for before := -1; before != k.tries && k.tries > 0; {
		before = k.tries
		smaller := k.simplifyWorld()
		smaller = k.removeSteps() || smaller
		smaller = k.removePairs() || smaller
		smaller = k.simplifySteps() || smaller
		if !smaller {
			break
		}
	}
	return k.best, last, tries - k.tries
}

// try runs a candidate, and keeps it if it fails the same check.
func (k *shrinker) try(s Schedule) bool {
	if k.tries < 1 {
		return false
	}
	k.tries--
	failure := k.run(s)
	if failure == nil || failure.Check != k.check {
		return false
	}
	k.best = s
	return true
}

// with returns the best schedule after a change.
func (k *shrinker) with(change func(s *Schedule)) Schedule {
	s := k.best
	s.Steps = slices.Clone(s.Steps)
	change(&s)
	return s
}

// cutBehind removes the steps behind that at which the check failed.
func (k *shrinker) cutBehind(f *Failure) {
	at := slices.IndexFunc(k.best.Steps, func(s Step) bool { return s.N == f.Step })
	if at >= 0 && at+1 < len(k.best.Steps) {
		k.try(k.with(func(s *Schedule) { s.Steps = s.Steps[:at+1] }))
	}
}

// simplifyWorld tries fewer faults, one call at a time, and a smaller world.
func (k *shrinker) simplifyWorld() (smaller bool) {
	if k.best.Interleaved {
		smaller = k.try(k.with(func(s *Schedule) { s.Interleaved = false }))
	}
	for _, f := range []struct {
		of    func(s *Schedule) *int
		least int
	}{
		{func(s *Schedule) *int { return &s.Faults }, 0},
		{func(s *Schedule) *int { return &s.Regions }, 1},
		{func(s *Schedule) *int { return &s.Shards }, 1},
		{func(s *Schedule) *int { return &s.Processes }, 1},
		{func(s *Schedule) *int { return &s.Users }, 1},
	} {
		smaller = k.lower(f.of, f.least) || smaller
	}
	return smaller
}

// lower tries smaller values of a number: the least ones first, and then it halves the distance to them.
func (k *shrinker) lower(of func(s *Schedule) *int, least int) (smaller bool) {
	set := func(value int) bool {
		return value < *of(&k.best) && k.try(k.with(func(s *Schedule) { *of(s) = value }))
	}
	for value := least; value < least+10; value++ {
		if set(value) {
			return true
		}
	}
	for low, high := least+10, *of(&k.best); low < high; {
		if middle := (low + high) / 2; set(middle) {
			high, smaller = middle, true
		} else {
			low = middle + 1
		}
	}
	return smaller
}

// removeSteps removes chunks of steps, from half of them down to single ones, until no single step can be
// removed.
func (k *shrinker) removeSteps() (smaller bool) {
	for size := max(1, len(k.best.Steps)/2); ; size = max(1, size/2) {
		removed := false
		// From the end: what happened last depends on what happened before, and seldom the other way round.
		for from := len(k.best.Steps) - size; from > -size && k.tries > 0; from -= size {
			if k.remove(max(0, from), from+size) {
				removed, smaller = true, true
			}
		}
		if size == 1 && !removed || k.tries == 0 || len(k.best.Steps) == 0 {
			return smaller
		}
	}
}

// maxPairs bounds the steps of which pairs are removed: it takes a try for each pair.
const maxPairs = 40

// removePairs removes two steps at once, such as a cut and its healing, neither of which can go alone.
func (k *shrinker) removePairs() (smaller bool) {
	for i := 0; i < len(k.best.Steps) && len(k.best.Steps) <= maxPairs; i++ {
		for j := i + 1; j < len(k.best.Steps) && k.tries > 0; j++ {
			without := k.with(func(s *Schedule) {
				s.Steps = slices.Delete(s.Steps, j, j+1)
				s.Steps = slices.Delete(s.Steps, i, i+1)
			})
			if k.try(without) {
				smaller = true
				j = i // another pair begins there now
			}
		}
	}
	return smaller
}

func (k *shrinker) remove(from, to int) bool {
	return k.try(k.with(func(s *Schedule) { s.Steps = slices.Delete(s.Steps, from, to) }))
}

// simplifySteps makes single steps simpler: without faults of ports, and with smaller numbers.
func (k *shrinker) simplifySteps() (smaller bool) {
	for i := range k.best.Steps {
		if k.best.Faults > 0 && !k.best.Steps[i].Calm {
			smaller = k.try(k.with(func(s *Schedule) { s.Steps[i].Calm = true })) || smaller
		}
		for _, of := range []func(s *Schedule) *int{
			func(s *Schedule) *int { return &s.Steps[i].A },
			func(s *Schedule) *int { return &s.Steps[i].B },
			func(s *Schedule) *int { return &s.Steps[i].C },
		} {
			smaller = k.lower(of, 0) || smaller
		}
	}
	return smaller
}
