package main

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// needs is a condition under which a made-up check fails: steps that must be there in this order, with arguments
// that give these remainders.
type needs struct {
	kinds       []string
	modulo      int
	remainders  []int
	interleaved bool
	faults      int // at least
	regions     int // at least
}

func (c needs) fails(s Schedule) bool {
	if c.interleaved && !s.Interleaved || s.Faults < c.faults || s.Regions < c.regions {
		return false
	}
	left := c.kinds
	for _, step := range s.Steps {
		if len(left) > 0 && step.Kind == left[0] && step.A%c.modulo == c.remainders[len(c.kinds)-len(left)] && (c.faults == 0 || !step.Calm) {
			left = left[1:]
		}
	}
	return len(left) == 0
}

// What is shrunk fails the same check, is a part of what it was made from, and is minimal.
func TestShrink(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Generate(rapid.Uint64().Draw(t, "seed"), 100)
		c := needs{modulo: rapid.IntRange(1, 7).Draw(t, "modulo"), interleaved: s.Interleaved && rapid.Bool().Draw(t, "interleaved")}
		c.faults = rapid.IntRange(0, s.Faults).Draw(t, "faults")
		c.regions = rapid.IntRange(1, s.Regions).Draw(t, "regions")
		for at := rapid.IntRange(0, 30).Draw(t, "first"); at < len(s.Steps) && len(c.kinds) < 5; at += rapid.IntRange(1, 30).Draw(t, "distance") {
			c.kinds, c.remainders = append(c.kinds, s.Steps[at].Kind), append(c.remainders, s.Steps[at].A%c.modulo)
		}
		const tries = 20_000
		runs := 0
		small, failure, used := Shrink(s, tries, func(candidate Schedule) *Failure {
			runs++
			last := -1
			for _, step := range candidate.Steps {
				if step.N <= last {
					t.Fatal("the steps are out of order")
				}
				last = step.N
			}
			switch {
			case c.fails(candidate):
				return &Failure{Step: last, Check: "made up"}
			case len(candidate.Steps)%3 == 0: // another check fails meanwhile
				return &Failure{Check: "other"}
			}
			return nil
		})
		switch {
		case failure == nil || failure.Check != "made up" || !c.fails(small):
			t.Fatalf("it fails no more: %v %+v", failure, small)
		case runs != used || used > tries:
			t.Fatalf("%d runs of %d, and %d are named", runs, tries, used)
		case len(small.Steps) != len(c.kinds):
			t.Fatalf("%d steps are left, want %d", len(small.Steps), len(c.kinds))
		case small.Faults != c.faults || small.Regions != c.regions || small.Interleaved != c.interleaved || small.Users != 1:
			t.Fatalf("the world could be simpler: %+v", small)
		}
		for i, step := range small.Steps {
			if step.Kind != c.kinds[i] || step.A != c.remainders[i] || step.B != 0 || step.C != 0 {
				t.Fatalf("step %d could be simpler: %+v, of %+v", i, step, c)
			}
			if !slices.ContainsFunc(s.Steps, func(from Step) bool { return from.N == step.N && from.Kind == step.Kind }) {
				t.Fatalf("step %d is not one of those given", i)
			}
		}
	})
}

// Two steps that only go together, such as a cut and its healing, are removed together.
func TestShrinkPairs(t *testing.T) {
	s := Generate(1, 30)
	small, _, _ := Shrink(s, 5000, func(s Schedule) *Failure {
		balance, post := 0, false
		for _, step := range s.Steps {
			switch {
			case step.N == 7:
				post = true
			case step.N%2 == 0:
				balance++
			default:
				balance--
			}
		}
		if post && balance == 1 || post && len(s.Steps) == 1 {
			return &Failure{Step: -2, Check: "balance"}
		}
		return nil
	})
	if len(small.Steps) > 2 {
		t.Errorf("%d steps are left: %+v", len(small.Steps), small.Steps)
	}
}

// The number of runs is bounded, and a schedule that does not fail stays as it is.
func TestShrinkBounds(t *testing.T) {
	s := Generate(2, 100)
	for _, tries := range []int{0, 1, 2, 10, 100} {
		runs := 0
		small, failure, used := Shrink(s, tries, func(Schedule) *Failure { runs++; return &Failure{Check: "always"} })
		if runs > tries || used != runs || (failure == nil) != (tries == 0) || len(small.Steps) > len(s.Steps) {
			t.Errorf("%d tries: %d runs, %v", tries, runs, failure)
		}
	}
	if small, failure, _ := Shrink(s, 100, func(Schedule) *Failure { return nil }); failure != nil || len(small.Steps) != len(s.Steps) {
		t.Errorf("it does not fail, and was shrunk: %v", failure)
	}
}
