package projections

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"parley/events"
)

// FeedName stands for the feeds where a rebuild names projections. They have no generations: a
// rebuild appends what they lack.
const FeedName = "feed"

// Rebuild is the progress of a rebuild or an audit, and all its state: store it, as JSON, after
// each step. Another process can continue from what was stored, after a crash too, with the same
// result. Make one with [NewRebuild], [NewRoomRebuild] or [NewAudit].
type Rebuild struct {
	// ID is unique among all rebuilds and audits, for good.
	ID string `json:"id"`
	// Projections are the names of what is built; "feed" stands alone.
	Projections []string `json:"projections"`
	// Room restricts the rebuild to the views of one room; "" is all.
	Room string `json:"room,omitempty"`
	// Audit says that what is built is compared and then dropped, Heal that views which differ are
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
	// Drop is how far the generation of an audit, or of a cancelled rebuild, is dropped.
	Drop *Drop `json:"drop,omitempty"`
}

// Phase is what a rebuild does next. The phases follow one another; a phase may take many steps.
type Phase string

// The phases of a rebuild. The rebuild of a room, or of the feeds, folds only.
const (
	Announce Phase = "announce" // register the generation to build; live events are folded into it from now on
	Wait     Phase = "wait"     // until every process has seen that
	Fold     Phase = "fold"     // the log into it
	Compare  Phase = "compare"  // it with the live generation
	Switch   Phase = "switch"   // make it the live one, and the live one the previous
	Dropping Phase = "drop"     // delete it: after an audit, or after Cancel
	Done     Phase = "done"
)

// Folded is how far one part of the log is folded.
type Folded struct {
	Part   events.Part `json:"part"`
	After  events.Key  `json:"after,omitzero"` // the last event that is folded
	Events int64       `json:"events"`         // how many are folded
	// Failed is how many of them made a fold fail and were left out; the stream parks them.
	Failed int64 `json:"failed,omitempty"`
	Done   bool  `json:"done,omitempty"`
}

// NewRebuild returns a rebuild of the named projections, of all if none is named. It has not begun
// yet. No two rebuilds may share an id; use that of the job. The error is [ErrUnknownProjection].
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

// NewAudit returns an audit of the views of the named projections, of all if none is named: they
// are built from the log beside the live ones, the two are compared, and what was built is
// dropped. The findings are in its Compared. With heal, views that differ are folded again from
// the log. Call [Rebuilder.Step] until it is done. No two audits or rebuilds may share an id.
func NewAudit(id string, heal bool, names ...string) (*Rebuild, error) {
	b, err := NewRebuild(id, names...)
	if err != nil {
		return nil, err
	}
	if b.ofFeed() {
		return nil, fmt.Errorf("%w: %q has no generations to compare; rebuild it", ErrUnknownProjection, FeedName)
	}
	b.Audit, b.Heal = true, heal
	return b, nil
}

// Events returns how many events of the log are folded.
func (b *Rebuild) Events() (n int64) {
	for _, part := range b.Parts {
		n += part.Events
	}
	return n
}

// Cancel makes the following steps drop what was built. After the switch it has no effect.
func (b *Rebuild) Cancel() {
	switch {
	case b.Phase == Done || b.Phase == Dropping:
	case len(b.Numbers) == 0 && b.Phase != Announce: // in place
		b.Phase = Done
	default:
		b.startDrop()
	}
}

func (b *Rebuild) startDrop() {
	b.Phase, b.Drop = Dropping, &Drop{Projections: b.Projections, By: b.ID}
}

func (b *Rebuild) ofFeed() bool { return slices.Equal(b.Projections, []string{FeedName}) }

// Rebuilder builds generations of views from the log, compares them and drops them. It neither
// publishes nor notifies. Make one with [NewRebuilder]; the settings may be changed before use.
type Rebuilder struct {
	// Grace is how long to wait until every process folds into a generation that was announced: more
	// than [Generations.Fresh] and the longest fold of a batch together. 5 s.
	Grace time.Duration
	// Confirm is how long two views must differ to be reported: more than the usual lag of the
	// stream. 5 s.
	Confirm time.Duration
	// Slice is about how long a step works. 2 s.
	Slice time.Duration
	// Parts is how many parts of the log are folded in parallel: as many as there are processors.
	Parts int

	log         events.Log
	views       Views
	generations *Generations
	now         func() time.Time
	sleep       func(context.Context, time.Duration) error
	sizes       sizes
}

// sizes bound what is in memory and done at a time.
type sizes struct {
	chunk int // events of a chunk
	room  int // events of a room whose views one step folds again, all in memory
	page  int // views that are read, and compared or deleted, together
}

var usualSizes = sizes{chunk: 8192, room: 20_000, page: 512}

// NewRebuilder returns a rebuilder of the views of a region, those below [Generations.Views].
func NewRebuilder(log events.Log, views Views, generations *Generations) *Rebuilder {
	return &Rebuilder{
		Grace: 5 * time.Second, Confirm: 5 * time.Second, Slice: 2 * time.Second, Parts: runtime.GOMAXPROCS(0),
		log: log, views: views, generations: generations, now: time.Now, sleep: events.Sleep, sizes: usualSizes,
	}
}

// Step does a piece of a rebuild, about a slice long, and advances b, which ends in the phase Done.
// After an error b may have advanced by less; call Step again. The errors [ErrRebuilding],
// [ErrPreviousKept] and [ErrWithdrawn] are final; those of the stores may pass.
func (r *Rebuilder) Step(ctx context.Context, b *Rebuild) (err error) {
	phase := b.Phase
	switch phase {
	case Announce:
		err = r.announce(ctx, b)
	case Wait:
		var passed bool
		if passed, err = r.hasPassed(ctx, b.Since, r.Grace); passed {
			b.Phase, b.Since = Fold, time.Time{}
		}
	case Fold:
		err = r.foldLog(ctx, b)
	case Compare:
		err = r.compare(ctx, b)
	case Switch:
		err = r.switchLive(ctx, b)
	case Dropping:
		if err = r.StepDrop(ctx, b.Drop); err == nil && b.Drop.Phase == Done {
			b.Phase = Done
		}
	case Done:
	default:
		err = errors.New("unknown phase")
	}
	if err != nil {
		return fmt.Errorf("rebuild, phase %q: %w", phase, err)
	}
	return nil
}

// announce registers the generations to be built. Done again it finds them registered.
func (r *Rebuilder) announce(ctx context.Context, b *Rebuild) error {
	numbers, since := map[string]int{}, r.now().UTC()
	err := r.generations.change(ctx, b.Projections, func(one *Generation) error {
		switch {
		case one.Next > 0 && one.By != b.ID:
			return ErrRebuilding
		case one.Next == 0 && one.Previous > 0 && !b.Audit:
			return ErrPreviousKept
		case one.Next == 0:
			one.Last++
			one.Next, one.By = one.Last, b.ID
		}
		numbers[one.Projection] = one.Next
		return nil
	})
	if err == nil {
		b.Numbers, b.Phase, b.Since = numbers, Wait, since
	}
	return err
}

// switchLive makes what was built the live generation. Done again it finds it live.
func (r *Rebuilder) switchLive(ctx context.Context, b *Rebuild) error {
	err := r.generations.change(ctx, b.Projections, func(one *Generation) error {
		switch number := b.Numbers[one.Projection]; {
		case one.Next == number:
			one.Live, one.Previous, one.Next, one.By = number, one.Live, 0, ""
		case one.Live != number && one.Previous != number:
			return ErrWithdrawn
		}
		return nil
	})
	if err == nil {
		b.Phase = Done
	}
	return err
}

// hasPassed reports whether so much time has passed since then. It waits for it, for a second at
// most.
func (r *Rebuilder) hasPassed(ctx context.Context, since time.Time, d time.Duration) (bool, error) {
	left := d - r.now().Sub(since)
	if left > 0 {
		if err := r.sleep(ctx, min(left, time.Second)); err != nil {
			return false, err
		}
	}
	return left <= time.Second, nil
}

// stillBuilt returns the generations, and fails if what b builds was dropped meanwhile.
func (r *Rebuilder) stillBuilt(ctx context.Context, b *Rebuild) (*generations, error) {
	state, _, err := r.generations.load(ctx)
	if err != nil {
		return nil, err
	}
	for name, number := range b.Numbers {
		if one := state.of(name); one.Next != number || one.By != b.ID {
			return nil, fmt.Errorf("%s: %w", name, ErrWithdrawn)
		}
	}
	return state, nil
}

// Drop is the progress of a deletion of generations. Store it, as JSON, after each step, like a
// [Rebuild]. Make one with [NewDrop] or [NewWithdrawal].
type Drop struct {
	Projections []string `json:"projections"`
	// By is the rebuild whose generation is dropped; "" drops the previous ones.
	By string `json:"by,omitempty"`
	// Phase is Announce (or "") while the generations are in use, then Wait, Dropping and Done.
	Phase Phase     `json:"phase,omitempty"`
	Since time.Time `json:"since,omitzero"`
	// Numbers are the generations that are deleted, by projection.
	Numbers map[string][]int `json:"numbers,omitempty"`
	After   Key              `json:"after,omitzero"` // the last view that was scanned
	Deleted int64            `json:"deleted"`        // how many views are deleted
}

// NewDrop returns the deletion of the previous generations of the named projections. After its
// first step there is no switching back.
func NewDrop(names ...string) (*Drop, error) {
	_, err := projectionsNamed(names)
	return &Drop{Projections: names}, err
}

// NewWithdrawal returns the deletion of what an abandoned rebuild or audit was building: By of a
// [Generation] names it. If it continues all the same, it fails with [ErrWithdrawn].
func NewWithdrawal(by string, names ...string) (*Drop, error) {
	if by == "" {
		return nil, errors.New("withdraw a generation: the id of its rebuild is missing")
	}
	d, err := NewDrop(names...)
	if err == nil {
		d.By = by
	}
	return d, err
}

// StepDrop does a piece of a drop, about a slice long; d ends in the phase Done. First the
// generation is taken out of use, then every process gets the time to see that, then the views
// are deleted.
func (r *Rebuilder) StepDrop(ctx context.Context, d *Drop) (err error) {
	switch d.Phase {
	case "", Announce:
		err = r.withdraw(ctx, d)
	case Wait:
		var passed bool
		if passed, err = r.hasPassed(ctx, d.Since, r.Grace); passed {
			d.Phase, d.Since = Dropping, time.Time{}
		}
	case Dropping:
		err = r.deleteViews(ctx, d)
	case Done:
	default:
		err = fmt.Errorf("unknown phase %q", d.Phase)
	}
	if err != nil {
		return fmt.Errorf("drop a generation: %w", err)
	}
	return nil
}

// withdraw takes generations out of use. Done again it finds them withdrawn.
func (r *Rebuilder) withdraw(ctx context.Context, d *Drop) error {
	numbers, since := map[string][]int{}, r.now().UTC()
	err := r.generations.change(ctx, d.Projections, func(one *Generation) error {
		switch {
		case d.By != "" && one.By == d.By && one.Next > 0:
			one.Dropped = append(one.Dropped, one.Next)
			one.Next, one.By = 0, ""
		case d.By == "" && one.Previous > 0:
			one.Dropped = append(one.Dropped, one.Previous)
			one.Previous = 0
		case d.By == "" && len(one.Dropped) == 0:
			return ErrNoPrevious
		}
		numbers[one.Projection] = one.Dropped
		return nil
	})
	if err == nil {
		d.Numbers, d.Phase, d.Since = numbers, Wait, since
	}
	return err
}

// deleteViews deletes the views of the generations, for a slice, and at the end takes the
// generations off the list.
func (r *Rebuilder) deleteViews(ctx context.Context, d *Drop) error {
	var prefixes []string
	for _, name := range d.Projections {
		for _, n := range d.Numbers[name] {
			prefixes = append(prefixes, prefix(n)+name)
		}
	}
	for until := r.now().Add(r.Slice); len(prefixes) > 0; {
		views, next, err := r.views.Scan(ctx, prefixes, d.After, r.sizes.page)
		if err != nil {
			return err
		}
		views = slices.DeleteFunc(views, func(v View) bool {
			n, base := splitPartition(v.Key.Partition)
			return !slices.Contains(d.Numbers[ownerOf(base)], n)
		})
		// A process that has not read the generations for long may still write to this one. Nobody
		// reads what it leaves behind, and the number is never given again.
		if err := r.views.Delete(ctx, views...); err != nil && conflicts(err) == nil {
			return err
		}
		d.Deleted += int64(len(views))
		if d.After = next; next == (Key{}) {
			break
		}
		if !r.now().Before(until) {
			return nil
		}
	}
	err := r.generations.change(ctx, d.Projections, func(one *Generation) error {
		one.Dropped = slices.DeleteFunc(one.Dropped, func(n int) bool { return slices.Contains(d.Numbers[one.Projection], n) })
		return nil
	})
	if err == nil {
		d.Phase = Done
	}
	return err
}
