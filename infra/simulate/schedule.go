package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
)

// Schedule is everything that a run of the world depends on: the same schedule gives the same run.
// Steps are data. Any sub-list of them is a valid schedule, which is why one that fails can be shrunk.
type Schedule struct {
	// Seed decides what no step says: the faults of ports, how clocks differ, what is reordered.
	Seed uint64 `json:"seed"`
	// Interleaved lets the calls that run at the same time proceed one by one, in an order that the
	// seed decides. Otherwise each call runs to its end before the next begins.
	Interleaved bool `json:"interleaved"`

	Regions   int `json:"regions"`
	Shards    int `json:"shards"`    // of each region's change stream
	Processes int `json:"processes"` // of each region that handle its change stream
	Users     int `json:"users"`
	// Faults is how many of a thousand calls of ports fail.
	Faults int `json:"faults"`

	// Note is for the readers of a kept schedule: what it once found.
	Note  string `json:"note,omitempty"`
	Steps []Step `json:"steps"`
}

// Step is one thing that happens in the world. What A, B and C name is up to its kind. They are taken
// modulo what exists, so that every step can be taken in every state.
type Step struct {
	// N is the number of the step in the list that it was generated in. The faults of a step are looked
	// up by it: they stay the same if other steps are removed.
	N    int    `json:"n"`
	Kind string `json:"kind"`
	A    int    `json:"a,omitempty"`
	B    int    `json:"b,omitempty"`
	C    int    `json:"c,omitempty"`
	// Calm switches off the faults of ports during the step.
	Calm bool `json:"calm,omitempty"`
}

// The limits of a schedule.
const (
	maxArgument     = 999 // of A, B and C
	maxRegions      = 5
	maxShards       = 16
	maxProcesses    = 8
	maxUsers        = 20
	maxFaults       = 500
	maxSteps        = 100_000
	maxScheduleSize = 16 << 20
)

// group is who takes a step.
type group string

const (
	byUser     group = "user"
	byOperator group = "operator"
	byFault    group = "fault"
)

// kind is a kind of step, a row of [kinds].
type kind struct {
	name string
	// weight is how often [Generate] draws the kind, relative to the others.
	weight int
	group  group
	about  string
	do     func(w *world, s Step)
}

// kindOf returns the kind with a name, nil if there is none.
func kindOf(name string) *kind {
	for i := range kinds {
		if kinds[i].name == name {
			return &kinds[i]
		}
	}
	return nil
}

// The kinds that [swizzle] draws by itself. A is the region from which a link leads, B the one to which.
const (
	cutLink  = "link.cut"
	healLink = "link.heal"
)

// The kinds that cut and heal all links of the region A.
const (
	cutRegion  = "region.isolate"
	healRegion = "region.heal"
)

// Generate returns the schedule of a seed, with so many steps. The first steps of a longer one are the same.
//
// The seeds differ in what they do at all: each leaves some kinds of steps out and does others more often.
// What two kinds of steps bring about together is found sooner where the other kinds do not undo it.
func Generate(seed uint64, steps int) Schedule {
	r := seeded(seed)
	s := Schedule{
		Seed:        seed,
		Interleaved: r.IntN(20) == 0,
		Regions:     pick(r, 1, 2, 2, 3, 3, 3, 3),
		Shards:      pick(r, 1, 2, 4),
		Processes:   pick(r, 1, 2, 3),
		Users:       pick(r, 2, 3, 4, 5),
		Faults:      pick(r, 0, 0, 5, 20, 60),
		Steps:       make([]Step, 0, steps),
	}
	weights, total := make([]int, len(kinds)), 0
	for total == 0 {
		for i, k := range kinds {
			weights[i] = k.weight * pick(r, 0, 1, 1, 3)
			total += weights[i]
		}
	}
	var planned []planned
	for n := range steps {
		step := Step{N: n, A: r.IntN(maxArgument + 1), B: r.IntN(maxArgument + 1), C: r.IntN(maxArgument + 1)}
		drawn := draw(r, weights, total)
		if len(planned) == 0 && s.Regions > 1 && r.IntN(60) == 0 {
			planned = swizzle(r, n, s.Regions)
		}
		if len(planned) > 0 && n >= planned[0].due {
			step.Kind, step.A, step.B = planned[0].kind, planned[0].from, planned[0].to
			planned = planned[1:]
		} else {
			step.Kind = kinds[drawn].name
		}
		s.Steps = append(s.Steps, step)
	}
	return s
}

// seeded returns the random numbers of a seed.
func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x5061726c6579)) }

func pick(r *rand.Rand, of ...int) int { return of[r.IntN(len(of))] }

// draw returns an index with a probability in proportion to its weight, where total is their sum.
func draw(r *rand.Rand, weights []int, total int) int {
	left := r.IntN(total)
	for i, w := range weights {
		if left -= w; left < 0 {
			return i
		}
	}
	panic("weights do not add up to their total")
}

// planned is a step of a swizzle, which becomes due at the step with this number.
type planned struct {
	due      int
	kind     string
	from, to int
}

// swizzle plans to cut some links one by one and to heal them in another order, with other steps between.
// FoundationDB found more faults by this than by cuts of one link (there it is called swizzle-clogging).
func swizzle(r *rand.Rand, n, regions int) []planned {
	var links []planned
	for from := range regions {
		for to := range regions {
			if from != to {
				links = append(links, planned{from: from, to: to})
			}
		}
	}
	r.Shuffle(len(links), func(i, j int) { links[i], links[j] = links[j], links[i] })
	links = links[:1+r.IntN(len(links))]
	var plan []planned
	for _, kind := range []string{cutLink, healLink} {
		for _, link := range links {
			n += 1 + r.IntN(4)
			link.due, link.kind = n, kind
			plan = append(plan, link)
		}
		r.Shuffle(len(links), func(i, j int) { links[i], links[j] = links[j], links[i] })
	}
	return plan
}

// Encode returns the schedule as JSON, with a line for each step.
func (s Schedule) Encode() []byte {
	var b bytes.Buffer
	steps := s.Steps
	s.Steps = []Step{}
	head := encodeLine(s)
	b.Write(bytes.TrimSuffix(head, []byte("]}")))
	for i, step := range steps {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
		b.Write(encodeLine(step))
	}
	b.WriteString("\n]}\n")
	return b.Bytes()
}

func encodeLine(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // numbers and texts
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// DecodeSchedule reads what [Schedule.Encode] wrote, or somebody edited since. The error names the field
// and what is allowed.
func DecodeSchedule(text []byte) (Schedule, error) {
	if len(text) > maxScheduleSize {
		return Schedule{}, fmt.Errorf("schedule has %d bytes; at most %d are allowed", len(text), maxScheduleSize)
	}
	var in struct {
		Schedule
		Steps []json.RawMessage `json:"steps"` // in place of those of Schedule
	}
	if err := decodeStrictly(text, &in); err != nil {
		return Schedule{}, fmt.Errorf("schedule is not valid: %w", err)
	}
	s := in.Schedule
	if err := s.validate(len(in.Steps)); err != nil {
		return Schedule{}, err
	}
	s.Steps = make([]Step, len(in.Steps))
	for i, text := range in.Steps {
		err := decodeStrictly(text, &s.Steps[i])
		if err == nil {
			err = s.Steps[i].validate()
		}
		if err != nil {
			return Schedule{}, fmt.Errorf("steps[%d]: %w", i, err)
		}
	}
	return s, nil
}

// decodeStrictly decodes one JSON value without fields that v does not have and without anything behind it.
func decodeStrictly(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	wrong, is := errors.AsType[*json.UnmarshalTypeError](err)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it ends too early")
	case is && wrong.Field != "":
		return fmt.Errorf("%s: must be %s, not a %s", strings.TrimPrefix(wrong.Field, "Schedule."), article(wrong.Type.String()), wrong.Value)
	case is:
		return fmt.Errorf("must be a JSON object, not a %s", wrong.Value)
	case err != nil:
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("nothing may follow the closing bracket")
	}
	return nil
}

// article names a type of a field for people.
func article(goType string) string {
	switch goType {
	case "int", "uint64":
		return "an integer that is not too large"
	case "bool":
		return "true or false"
	case "string":
		return "a text"
	}
	return "a list"
}

func (s Schedule) validate(steps int) error {
	for _, f := range []struct {
		field               string
		value, least, great int
	}{
		{"regions", s.Regions, 1, maxRegions},
		{"shards", s.Shards, 1, maxShards},
		{"processes", s.Processes, 1, maxProcesses},
		{"users", s.Users, 1, maxUsers},
		{"faults", s.Faults, 0, maxFaults},
		{"the number of steps", steps, 0, maxSteps},
	} {
		if f.value < f.least || f.value > f.great {
			return fmt.Errorf("%s: must be from %d to %d, not %d", f.field, f.least, f.great, f.value)
		}
	}
	return nil
}

func (s Step) validate() error {
	if kindOf(s.Kind) == nil {
		names := make([]string, len(kinds))
		for i, k := range kinds {
			names[i] = k.name
		}
		slices.Sort(names)
		return fmt.Errorf("kind: must be one of %s; not %q", strings.Join(names, ", "), s.Kind)
	}
	for _, f := range []struct {
		field        string
		value, great int
	}{{"n", s.N, maxSteps}, {"a", s.A, maxArgument}, {"b", s.B, maxArgument}, {"c", s.C, maxArgument}} {
		if f.value < 0 || f.value > f.great {
			return fmt.Errorf("%s: must be from 0 to %d, not %d", f.field, f.great, f.value)
		}
	}
	return nil
}
