package projections

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Generation says which builds there are of a projection's views. The first has the partitions
// that the projection names ("timeline/<room>"), the n-th the same with "g<n>/" before them.
type Generation struct {
	Projection string `json:"projection"`
	// Live is read. Previous was, before the last switch, and can be switched back to; Next is
	// being built. All three are written; 0 is none.
	Live     int `json:"live"`
	Previous int `json:"previous,omitempty"`
	Next     int `json:"next,omitempty"`
	// By is the id of the rebuild or audit that builds Next.
	By string `json:"by,omitempty"`
	// Dropped are neither read nor written, and still have rows.
	Dropped []int `json:"dropped,omitempty"`
	// Since is when any of this changed last; zero if never.
	Since time.Time `json:"since,omitzero"`
	// Last is the greatest number that was ever given.
	Last int `json:"last"`
}

// The errors of generations, to be tested with errors.Is.
var (
	// ErrRebuilding: another rebuild or audit of the same projection is under way.
	ErrRebuilding = errors.New("the projection is being rebuilt or audited already")
	// ErrPreviousKept: the generation before the last switch must be dropped first.
	ErrPreviousKept = errors.New("the previous generation is still kept: drop it first, or switch back to it")
	// ErrNoPrevious: there is no generation to switch back to, or to drop.
	ErrNoPrevious = errors.New("the projection has no previous generation")
	// ErrWithdrawn: the generation that a rebuild builds has been dropped by somebody else.
	ErrWithdrawn = errors.New("the generation that was being built has been dropped")
	// ErrUnknownProjection: no projection has the name.
	ErrUnknownProjection = errors.New("no such projection")
)

// Generations knows which generation of each projection is read and which are written. All that
// a region has of it is one document among its views, so that it changes as a whole. It is safe
// for concurrent use.
type Generations struct {
	// Fresh is how long what was read is relied on, 1 s: set it, if at all, before use. Every
	// process of a region must have seen a change after the grace of a [Rebuilder], which is
	// therefore longer.
	Fresh time.Duration

	views Views
	now   func() time.Time

	mu    sync.Mutex
	known *generations
	read  time.Time // when known was read
}

// NewGenerations returns the generations of the views of a region.
func NewGenerations(views Views) *Generations {
	return &Generations{Fresh: time.Second, views: views, now: time.Now}
}

// generations is the document.
type generations struct {
	Of map[string]Generation `json:"of,omitempty"` // by projection; one that is missing has the first alone
}

var generationsKey = Key{"generations", "all"}

func (s *generations) of(projection string) Generation {
	if g, ok := s.Of[projection]; ok {
		return g
	}
	return Generation{Projection: projection, Live: 1, Last: 1}
}

// List returns the generations of all projections, in their order, as they are now.
func (g *Generations) List(ctx context.Context) ([]Generation, error) {
	state, _, err := g.load(ctx)
	if err != nil {
		return nil, err
	}
	var list []Generation
	for _, p := range All() {
		list = append(list, state.of(p.Name()))
	}
	return list, nil
}

// Back makes the previous generation of a projection the one that is read, and the one that is
// read the previous. It takes effect at once, but in processes that have yet to see it.
func (g *Generations) Back(ctx context.Context, projection string) error {
	if _, err := projectionsNamed([]string{projection}); err != nil {
		return err
	}
	return g.change(ctx, []string{projection}, func(one *Generation) error {
		if one.Previous == 0 {
			return ErrNoPrevious
		}
		one.Live, one.Previous = one.Previous, one.Live
		return nil
	})
}

// load reads the document.
func (g *Generations) load(ctx context.Context) (*generations, View, error) {
	at := g.now()
	got, err := g.views.Get(ctx, generationsKey)
	if err != nil {
		return nil, View{}, fmt.Errorf("load the generations: %w", err)
	}
	state, err := decode[generations](got[0].Body)
	if err != nil {
		return nil, View{}, fmt.Errorf("load the generations: %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if at.After(g.read) {
		g.known, g.read = state, at
	}
	return state, got[0], nil
}

// recent is the document as it was a short time ago.
func (g *Generations) recent(ctx context.Context) (*generations, error) {
	g.mu.Lock()
	known := g.known
	fresh := known != nil && g.now().Sub(g.read) < g.Fresh
	g.mu.Unlock()
	if fresh {
		return known, nil
	}
	state, _, err := g.load(ctx)
	return state, err
}

// change changes some projections' generations, all or none, as often as another is ahead. It
// saves nothing if nothing changes.
func (g *Generations) change(ctx context.Context, names []string, f func(*Generation) error) error {
	for try := range attempts {
		if err := backoff(ctx, try); err != nil {
			return err
		}
		state, stored, err := g.load(ctx)
		if err != nil {
			return err
		}
		after := &generations{Of: maps.Clone(state.Of)}
		if after.Of == nil {
			after.Of = map[string]Generation{}
		}
		for _, name := range names {
			one := state.of(name)
			one.Dropped = slices.Clone(one.Dropped)
			if err := f(&one); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if !one.equal(state.of(name)) {
				one.Since = g.now().UTC()
			}
			after.Of[name] = one
		}
		body, err := encode(after)
		if err != nil {
			return err
		}
		if string(body) == string(stored.Body) {
			return nil
		}
		err = g.views.Save(ctx, View{generationsKey, stored.Version, body})
		if conflicts(err) == nil {
			g.forget()
			return err
		}
	}
	return fmt.Errorf("change the generations: gave up after %d conflicts with other writers", attempts)
}

func (one Generation) equal(other Generation) bool {
	return one.Live == other.Live && one.Previous == other.Previous && one.Next == other.Next &&
		one.By == other.By && slices.Equal(one.Dropped, other.Dropped)
}

func (g *Generations) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.known = nil
}

// written are the projections that are to be folded into: each in all generations that are
// written, the live one first.
func (g *Generations) written(ctx context.Context, projections []Projection) ([]Projection, error) {
	state, err := g.recent(ctx)
	if err != nil {
		return nil, err
	}
	return state.written(projections), nil
}

func (s *generations) written(projections []Projection) []Projection {
	if len(s.Of) == 0 {
		return projections
	}
	var all []Projection
	for _, p := range projections {
		one := s.of(p.Name())
		for _, n := range []int{one.Live, one.Next, one.Previous} {
			if n > 0 {
				all = append(all, generationOf(p, n))
			}
		}
	}
	return all
}
