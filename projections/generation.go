package projections

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"parley/events"
)

// Generation names the builds of a projection's views. The first build has the partitions that the
// projection names ("timeline/<room>"), the n-th has the same with "g<n>/" before them.
type Generation struct {
	Projection string `json:"projection"`
	// Live is the one that is read. Previous was read before the last switch and can be switched
	// back to. Next is being built. All three are written; 0 is none.
	Live     int `json:"live"`
	Previous int `json:"previous,omitempty"`
	Next     int `json:"next,omitempty"`
	// By is the id of the rebuild or audit that builds Next.
	By string `json:"by,omitempty"`
	// Dropped are neither read nor written, and still have rows.
	Dropped []int `json:"dropped,omitempty"`
	// Since is when any of this changed last; zero if it never did.
	Since time.Time `json:"since,omitzero"`
	// Last is the greatest number that was ever assigned.
	Last int `json:"last"`
}

// The errors of generations, to be tested with errors.Is.
var (
	// ErrRebuilding: another rebuild or audit of the same projection is under way.
	ErrRebuilding = errors.New("projection is being rebuilt or audited already")
	// ErrPreviousKept: the generation before the last switch must be dropped first.
	ErrPreviousKept = errors.New("previous generation is still kept: drop it first, or switch back to it")
	// ErrNoPrevious: there is no generation to switch back to, or to drop.
	ErrNoPrevious = errors.New("projection has no previous generation")
	// ErrWithdrawn: the generation that a rebuild builds was dropped by another process.
	ErrWithdrawn = errors.New("generation that was being built has been dropped")
	// ErrUnknownProjection: no projection has the name.
	ErrUnknownProjection = errors.New("no such projection")
)

// Generations knows which generation of each projection is read and which are written. A region
// stores it as one document among its views, so that it changes atomically. It is safe for
// concurrent use.
type Generations struct {
	// Fresh is how long the document is cached, 1 s: set it, if at all, before use. The Grace of a
	// [Rebuilder] must be longer: every process of a region must have seen a change by then.
	Fresh time.Duration

	views Views
	now   func() time.Time

	loading singleflight.Group // so that reads side by side load the document once
	mu      sync.Mutex
	cached  *generations
	read    time.Time // when cached was read
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

// Back switches the live and the previous generation of a projection. It takes effect when the
// processes of the region have read it: within Fresh.
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
		g.cached, g.read = state, at
	}
	return state, got[0], nil
}

// recent returns the document from the cache while it is fresh.
func (g *Generations) recent(ctx context.Context) (*generations, error) {
	g.mu.Lock()
	cached := g.cached
	fresh := cached != nil && g.now().Sub(g.read) < g.Fresh
	g.mu.Unlock()
	if fresh {
		return cached, nil
	}
	loading := g.loading.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTimeout)
		defer cancel()
		state, _, err := g.load(ctx)
		return state, err
	})
	select {
	case loaded := <-loading:
		state, _ := loaded.Val.(*generations)
		return state, loaded.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// loadTimeout bounds a load that several calls wait for: it does not end with the call that began it.
const loadTimeout = 5 * time.Second

// change changes the generations of some projections, all or none. After a conflict it calls f again,
// with what the other writer saved. It saves nothing if nothing changes.
func (g *Generations) change(ctx context.Context, names []string, f func(*Generation) error) error {
	err := RetryOnConflict(ctx, func() error {
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
		if err != nil || string(body) == string(stored.Body) {
			return err
		}
		err = g.views.Save(ctx, View{generationsKey, stored.Version, body})
		g.mu.Lock()
		g.cached = nil
		g.mu.Unlock()
		return err
	})
	if err != nil {
		return fmt.Errorf("change the generations: %w", err)
	}
	return nil
}

func (one Generation) equal(other Generation) bool {
	return one.Live == other.Live && one.Previous == other.Previous && one.Next == other.Next &&
		one.By == other.By && slices.Equal(one.Dropped, other.Dropped)
}

// written returns the projections to fold into, each in all generations that are written, the live
// one first.
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

// prefix is the beginning of the partitions of the n-th generation.
func prefix(n int) string {
	if n <= 1 {
		return ""
	}
	return "g" + strconv.Itoa(n) + "/"
}

// splitPartition returns the generation of a partition and its name in the first.
func splitPartition(partition string) (n int, base string) {
	if strings.HasPrefix(partition, "g") {
		number, rest, ok := strings.Cut(partition[1:], "/")
		if n, err := strconv.Atoi(number); ok && err == nil && n > 1 && strconv.Itoa(n) == number {
			return n, rest
		}
	}
	return 1, partition
}

// ownerOf is the first part of a partition: the name of its projection, if it has one.
func ownerOf(base string) string {
	name, _, _ := strings.Cut(base, "/")
	return name
}

// built is a projection in a later generation than the first.
type built struct {
	Projection
	prefix string
}

func generationOf(p Projection, n int) Projection {
	if n <= 1 {
		return p
	}
	return built{p, prefix(n)}
}

func (b built) base(key Key) Key {
	key.Partition = strings.TrimPrefix(key.Partition, b.prefix)
	return key
}

// Keys implements [Projection].
func (b built) Keys(e events.Event) []Key {
	keys := slices.Clone(b.Projection.Keys(e))
	for i := range keys {
		keys[i].Partition = b.prefix + keys[i].Partition
	}
	return keys
}

// Since implements [Projection].
func (b built) Since(key Key) events.ID { return b.Projection.Since(b.base(key)) }

// Stream implements [Projection].
func (b built) Stream(key Key) events.Stream { return b.Projection.Stream(b.base(key)) }

// Open implements [Projection].
func (b built) Open(key Key, body []byte) (Document, error) {
	return b.Projection.Open(b.base(key), body)
}

// projectionsNamed returns the projections of these names.
func projectionsNamed(names []string) ([]Projection, error) {
	var found []Projection
	for _, name := range names {
		i := slices.IndexFunc(All(), func(p Projection) bool { return p.Name() == name })
		if i < 0 {
			return nil, fmt.Errorf("%w: %q", ErrUnknownProjection, name)
		}
		found = append(found, All()[i])
	}
	return found, nil
}

// Views returns the views as queries read them: the live generation of each projection, under the
// keys of the first. Views of no projection (feeds, parked events and so on) are the same. Its Save
// and Delete refuse the views of projections, which only an [Engine] writes; its Scan reads all
// generations, by their own keys.
func (g *Generations) Views() Views { return &liveViews{g.views, g} }

// liveViews are the views that are read.
type liveViews struct {
	Views
	generations *Generations
}

// Get implements [Views].
func (v *liveViews) Get(ctx context.Context, keys ...Key) ([]View, error) {
	state, err := v.generations.recent(ctx)
	if err != nil {
		return nil, err
	}
	if len(state.Of) == 0 {
		return v.Views.Get(ctx, keys...)
	}
	live := make([]Key, len(keys))
	for i, key := range keys {
		live[i] = Key{state.live(key.Partition), key.Sort}
	}
	got, err := v.Views.Get(ctx, live...)
	for i := range got {
		got[i].Key = keys[i]
	}
	return got, err
}

// Query implements [Views].
func (v *liveViews) Query(ctx context.Context, partition string, r Range) ([]View, error) {
	state, err := v.generations.recent(ctx)
	if err != nil {
		return nil, err
	}
	got, err := v.Views.Query(ctx, state.live(partition), r)
	for i := range got {
		got[i].Key.Partition = partition
	}
	return got, err
}

// live returns the partition of the live generation for one of the first.
func (s *generations) live(partition string) string {
	if len(s.Of) == 0 {
		return partition
	}
	return prefix(s.of(ownerOf(partition)).Live) + partition
}

var errNotWritable = errors.New("only an engine writes the views of projections")

// Save implements [Views].
func (v *liveViews) Save(ctx context.Context, views ...View) error {
	if slices.ContainsFunc(views, isProjected) {
		return fmt.Errorf("save views: %w", errNotWritable)
	}
	return v.Views.Save(ctx, views...)
}

// Delete implements [Views].
func (v *liveViews) Delete(ctx context.Context, views ...View) error {
	if slices.ContainsFunc(views, isProjected) {
		return fmt.Errorf("delete views: %w", errNotWritable)
	}
	return v.Views.Delete(ctx, views...)
}

func isProjected(view View) bool {
	_, base := splitPartition(view.Key.Partition)
	_, err := projectionsNamed([]string{ownerOf(base)})
	return err == nil
}
