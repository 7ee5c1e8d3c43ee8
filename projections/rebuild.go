package projections

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"parley/events"
)

// FeedName stands for the feeds where a rebuild names projections. They have no generations: a
// rebuild appends what they lack.
const FeedName = "feed"

// Rebuild is how far a rebuild has come. It is all there is to know, so keep it, as JSON, after
// each step: whoever steps on from what was kept, after a crash too, comes to the same end. Make
// one with [NewRebuild], [NewRoomRebuild] or [NewAudit].
type Rebuild struct {
	// ID tells it from all others, for good.
	ID string `json:"id"`
	// Projections are the names of what is built; "feed" stands alone.
	Projections []string `json:"projections"`
	// Room is the room whose views alone are built; "" is all.
	Room string `json:"room,omitempty"`
	// Audit says that what is built is compared and dropped, and Heal that views which differ are
	// folded again from the log.
	Audit bool `json:"audit,omitempty"`
	Heal  bool `json:"heal,omitempty"`

	Phase Phase `json:"phase"`
	// Since is when the phase began, if it waits.
	Since time.Time `json:"since,omitzero"`
	// Numbers are the generations that are built, by projection.
	Numbers map[string]int `json:"numbers,omitempty"`
	// Parts are the shares of the log and how far each is folded.
	Parts []Folded `json:"parts,omitempty"`
	// Compared is how far the generations are compared.
	Compared Compared `json:"compared,omitzero"`
	// Drop is how far the generation of an audit, or of a rebuild that was cancelled, is dropped.
	Drop *Drop `json:"drop,omitempty"`
}

// Phase is what a rebuild does next. The phases follow one another; a phase may take many steps.
type Phase string

// The phases of a rebuild. That of a room folds only, as does one of the feeds.
const (
	Announce Phase = "announce" // register the generation to be built; live events go to it from now on
	Wait     Phase = "wait"     // until every process has seen that
	Fold     Phase = "fold"     // the log into it
	Compare  Phase = "compare"  // it with the live generation
	Switch   Phase = "switch"   // make it the live one, and the live one the previous
	Dropping Phase = "drop"     // delete it: of an audit, or after Cancel
	Done     Phase = "done"
)

// Folded is how far one part of the log is folded.
type Folded struct {
	Part   events.Part `json:"part"`
	After  events.Key  `json:"after,omitzero"` // the last event that is folded
	Events int64       `json:"events"`         // so many
	// Failed is how many of them make a fold fail and were left out, as they are by the stream.
	Failed int64 `json:"failed,omitempty"`
	Done   bool  `json:"done,omitempty"`
}

// NewRebuild returns a rebuild of the projections of these names, none for all, that is yet to
// begin. Two rebuilds must not have one id; that of a job is a good one.
func NewRebuild(id string, names ...string) (*Rebuild, error) {
	if len(names) == 1 && names[0] == FeedName {
		return &Rebuild{ID: id, Projections: names, Phase: Fold}, nil
	}
	if len(names) == 0 {
		for _, p := range All() {
			names = append(names, p.Name())
		}
	}
	if _, err := projectionsNamed(names); err != nil {
		return nil, err
	}
	names = slices.Sorted(slices.Values(names))
	return &Rebuild{ID: id, Projections: slices.Compact(names), Phase: Announce}, nil
}

// NewRoomRebuild returns a rebuild of the views of one room: they are folded again from the
// room's stream, in place. Views that no event of the room touches are left alone.
func NewRoomRebuild(id, room string, names ...string) (*Rebuild, error) {
	b, err := NewRebuild(id, names...)
	if err != nil {
		return nil, err
	}
	b.Room, b.Phase = room, Fold
	return b, nil
}

// Events is how many events of the log are folded.
func (b *Rebuild) Events() (n int64) {
	for _, part := range b.Parts {
		n += part.Events
	}
	return n
}

// Cancel makes the steps to come drop what was built. It comes too late after the switch.
func (b *Rebuild) Cancel() {
	switch {
	case b.Phase == Done || b.Phase == Dropping:
	case len(b.Numbers) == 0 && b.Phase != Announce: // in place
		b.Phase = Done
	default:
		b.drop()
	}
}

// drop goes on with dropping what was built.
func (b *Rebuild) drop() {
	b.Phase, b.Drop = Dropping, &Drop{Projections: b.Projections, By: b.ID}
}

// Rebuilder builds generations of views from the log, compares them and drops them. It publishes
// and pushes nothing. Make one with [NewRebuilder]; the settings may be changed before use.
type Rebuilder struct {
	// Grace is how long it takes until every process folds into a generation that was announced:
	// more than [Generations.Fresh] and the longest fold of a batch together. 5 s.
	Grace time.Duration
	// Settle is how long two views must differ to be called different: the stream's usual delay,
	// and more. 5 s.
	Settle time.Duration
	// Slice is about how long a step works. 2 s.
	Slice time.Duration
	// Parts are folded side by side: as many as there are processors.
	Parts int

	log         events.Log
	views       Views
	generations *Generations
	now         func() time.Time
	pause       func(context.Context, time.Duration) error
	sizes       sizes
}

// sizes bound what is in memory and done at a time.
type sizes struct {
	chunk int // events of a chunk
	room  int // events of a room that name the views which one step folds again, all in memory
	page  int // views that are read, and compared or deleted, together
}

var usualSizes = sizes{chunk: 8192, room: 20_000, page: 512}

// NewRebuilder returns a rebuilder of the views of a region, those below [Generations.Views].
func NewRebuilder(log events.Log, views Views, generations *Generations) *Rebuilder {
	return &Rebuilder{
		Grace: 5 * time.Second, Settle: 5 * time.Second, Slice: 2 * time.Second, Parts: runtime.GOMAXPROCS(0),
		log: log, views: views, generations: generations, now: time.Now, pause: pause, sizes: usualSizes,
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// Step does a piece of a rebuild, about a slice long, and moves b on; b is over in the phase Done.
// After an error b may have moved on by less, and can be stepped on with. The errors
// [ErrRebuilding], [ErrPreviousKept] and [ErrWithdrawn] are final; those of the stores pass.
func (r *Rebuilder) Step(ctx context.Context, b *Rebuild) error {
	phase := b.Phase
	steps := map[Phase]func(context.Context, *Rebuild) error{
		Announce: r.announce, Wait: r.wait, Fold: r.foldOn, Compare: r.compareOn, Switch: r.switchOver, Dropping: r.dropOn,
	}
	if phase == Done {
		return nil
	}
	step := steps[phase]
	if step == nil {
		return fmt.Errorf("rebuild: there is no phase %q", phase)
	}
	if err := step(ctx, b); err != nil {
		return fmt.Errorf("rebuild, %s: %w", phase, err)
	}
	return nil
}
