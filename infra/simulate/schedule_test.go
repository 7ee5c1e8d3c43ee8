package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A schedule is the same after it was written and read.
func TestEncodeDecode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Generate(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(0, 30).Draw(t, "steps"))
		s.Note = rapid.StringMatching(`[ -~é"\\<]*`).Draw(t, "note")
		for i := range s.Steps {
			s.Steps[i].Calm = rapid.Bool().Draw(t, "calm")
		}
		text := s.Encode()
		read, err := DecodeSchedule(text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if !reflect.DeepEqual(s, read) {
			t.Fatalf("it was\n%+v\nand is\n%+v", s, read)
		}
		if lines := strings.Count(string(text), "\n"); lines != len(s.Steps)+2 {
			t.Fatalf("%d steps have %d lines:\n%s", len(s.Steps), lines, text)
		}
	})
}

// Any sub-list of steps is a valid schedule.
func TestSublists(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Generate(rapid.Uint64().Draw(t, "seed"), 20)
		s.Steps = slices.DeleteFunc(s.Steps, func(Step) bool { return rapid.Bool().Draw(t, "removed") })
		if _, err := DecodeSchedule(s.Encode()); err != nil {
			t.Fatal(err)
		}
	})
}

// The first steps of a seed do not depend on how many there are.
func TestGenerate(t *testing.T) {
	drawn := map[string]int{}
	for seed := range uint64(300) {
		long, short := Generate(seed, 200), Generate(seed, 50)
		if !reflect.DeepEqual(long.Steps[:50], short.Steps) {
			t.Fatalf("seed %d: the first 50 of 200 steps are others than those of 50", seed)
		}
		for i, step := range long.Steps {
			if drawn[step.Kind]++; step.N != i {
				t.Fatalf("seed %d: step %d has the number %d", seed, i, step.N)
			}
		}
	}
	for _, k := range kinds {
		if (drawn[k.name] > 0) != (k.weight > 0) && k.name != cutLink && k.name != healLink {
			t.Errorf("%s has the weight %d and was drawn %d times", k.name, k.weight, drawn[k.name])
		}
	}
}

// A swizzle cuts links one by one and heals the same ones, in general in another order.
func TestSwizzle(t *testing.T) {
	other := 0
	for seed := range uint64(200) {
		plan := swizzle(seeded(seed), 10, 3)
		half := len(plan) / 2
		var cuts, heals []string
		for i, p := range plan {
			link := fmt.Sprint(p.from, p.to)
			switch {
			case p.from == p.to, p.from > 2, p.to > 2, i > 0 && p.due <= plan[i-1].due:
				t.Fatalf("seed %d: %+v", seed, plan)
			case i < half && p.kind == cutLink:
				cuts = append(cuts, link)
			case i >= half && p.kind == healLink:
				heals = append(heals, link)
			}
		}
		if !slices.Equal(cuts, heals) {
			other++
		}
		slices.Sort(cuts)
		slices.Sort(heals)
		if len(cuts) == 0 || !slices.Equal(cuts, heals) {
			t.Fatalf("seed %d: cuts %v and heals %v", seed, cuts, heals)
		}
	}
	if other < 50 {
		t.Errorf("only %d of 200 heal in another order", other)
	}
}

// An error names the field and what is allowed.
func TestDecodeErrors(t *testing.T) {
	const head = `{"seed":1,"interleaved":false,"regions":3,"shards":1,"processes":1,"users":2,"faults":0,"steps":[`
	for text, want := range map[string]string{
		``:                             "schedule is not valid: it ends too early",
		`{`:                            "schedule is not valid: it ends too early",
		`[]`:                           "schedule is not valid: must be a JSON object, not a array",
		head + `]} x`:                  "schedule is not valid: nothing may follow the closing bracket",
		`{"sed":1}`:                    `schedule is not valid: unknown field "sed"`,
		`{"seed":-1}`:                  "schedule is not valid: seed: must be an integer that is not too large, not a number -1",
		`{"interleaved":1}`:            "schedule is not valid: interleaved: must be true or false, not a number",
		`{"seed":1}`:                   "regions: must be from 1 to 5, not 0",
		`{"regions":6}`:                "regions: must be from 1 to 5, not 6",
		head + `{"kind":"post","a":1}`: "schedule is not valid: it ends too early",
		head + `7]}`:                   "steps[0]: must be a JSON object, not a number",
		head + `{"n":0,"kind":"post"},{"n":1,"kind":"fly"}]}`:     "steps[1]: kind: must be one of ",
		head + `{"n":0,"kind":"post","a":1000}]}`:                 "steps[0]: a: must be from 0 to 999, not 1000",
		head + `{"n":0,"kind":"post","b":-1}]}`:                   "steps[0]: b: must be from 0 to 999, not -1",
		head + `{"n":0,"kind":"post","c":"x"}]}`:                  "steps[0]: c: must be an integer that is not too large, not a string",
		head + `{"n":0,"kind":"post","d":1}]}`:                    `steps[0]: unknown field "d"`,
		head + `{"n":-1,"kind":"post"}]}`:                         "steps[0]: n: must be from 0 to 100000, not -1",
		strings.Replace(head, `"users":2`, `"users":0`, 1) + `]}`: "users: must be from 1 to 20, not 0",
	} {
		if _, err := DecodeSchedule([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s\ngives %v,\nwant  %s", text, err, want)
		}
	}
}

// FuzzDecodeSchedule holds that what is decoded is valid, and the same after it was written again.
func FuzzDecodeSchedule(f *testing.F) {
	for seed := range uint64(3) {
		f.Add(Generate(seed, 5).Encode())
	}
	f.Add([]byte(`{"steps":[{}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := DecodeSchedule(text)
		if err != nil {
			return
		}
		again, err := DecodeSchedule(s.Encode())
		if err != nil || !reflect.DeepEqual(s, again) {
			t.Fatalf("%+v\n%+v\n%v", s, again, err)
		}
		for _, step := range s.Steps {
			if kindOf(step.Kind) == nil || step.A < 0 || step.A > maxArgument {
				t.Fatalf("%+v", step)
			}
		}
	})
}
