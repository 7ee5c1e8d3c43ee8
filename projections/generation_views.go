package projections

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"parley/events"
)

// prefix is what the partitions of the n-th generation begin with.
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

// inGeneration returns a key of the first generation in that of a projection.
func inGeneration(p Projection, key Key) Key {
	if b, ok := p.(built); ok {
		key.Partition = b.prefix + key.Partition
	}
	return key
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

// Views returns the views as queries read them: of each projection the live generation, under
// the keys of the first. What is no projection's (feeds, what is parked and so on) is as it is.
// Its Save and Delete refuse the views of projections, which an [Engine] folds into by itself; its
// Scan goes through all generations, by their own keys.
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

// live is the partition that is read in place of one of the first generation.
func (s *generations) live(partition string) string {
	if len(s.Of) == 0 {
		return partition
	}
	return prefix(s.of(ownerOf(partition)).Live) + partition
}

var errNotWritable = errors.New("views of projections are saved by an engine only")

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
