package projections

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"

	"parley/events"
)

// Projection folds events into one kind of view.
//
// Every event that touches a view belongs to one stream, so that a view can be folded again
// from that stream alone.
type Projection interface {
	// Name is the projection's name and the first part of its partitions.
	Name() string
	// Keys names the views that e touches, none if it does not concern the projection.
	Keys(e events.Event) []Key
	// Since returns an id below which no event touches the view of key.
	Since(key Key) events.ID
	// Stream names the stream whose events touch the view of key.
	Stream(key Key) events.Stream
	// Open decodes the body of a view; an empty one is the view before any event.
	Open(key Key, body []byte) (Document, error)
}

// Document is a view opened for folding.
type Document interface {
	// Fold folds an event that touches the view. It is commutative, associative and idempotent over
	// events, of which any number may share an id, reads nothing but its arguments, and trusts no
	// event: it checks authorship itself.
	Fold(e events.Event)
	// Body encodes the view. Equal views have equal bodies.
	Body() ([]byte, error)
}

// All returns the projections that a region folds, each into its own partitions.
func All() []Projection {
	return []Projection{Rooms, Members, Timeline, Threads, Inboxes, Users, Beats}
}

// Access returns the projections that decide over access, and what else a client must find changed
// as soon as its command is accepted. A command folds its event into them at once; the stream folds
// the same again later.
func Access() []Projection { return []Projection{Rooms, Members, Users, Inboxes} }

// state is what a projection's documents hold: a struct that is encoded as JSON.
type state[S any] interface {
	*S
	fold(key Key, e events.Event)
}

// projection is a [Projection] made of a key function and a state with a fold.
type projection[S any, P state[S]] struct {
	name   string
	keys   func(events.Event) []Key
	since  func(Key) events.ID // nil: the stream's beginning
	stream func(Key) events.Stream
}

func (p *projection[S, P]) Name() string                 { return p.name }
func (p *projection[S, P]) Keys(e events.Event) []Key    { return p.keys(e) }
func (p *projection[S, P]) Stream(key Key) events.Stream { return p.stream(key) }

func (p *projection[S, P]) Since(key Key) events.ID {
	if p.since == nil {
		return events.ID{}
	}
	return p.since(key)
}

func (p *projection[S, P]) Open(key Key, body []byte) (Document, error) {
	state, err := decode[S](body)
	if err != nil {
		return nil, fmt.Errorf("decode a view of %s: %w", p.name, err)
	}
	return &document[S, P]{key: key, state: state}, nil
}

// document is a state at its key.
type document[S any, P state[S]] struct {
	key   Key
	state *S
}

func (d *document[S, P]) Fold(e events.Event)   { P(d.state).fold(d.key, e) }
func (d *document[S, P]) Body() ([]byte, error) { return encode(d.state) }

// hides reports whether the view says that an event's text must not be shown.
func (d *document[S, P]) hides(e events.Event) bool {
	message, is := any(d.state).(*message)
	if !is {
		return false
	}
	key, has := textOf(e)
	return has && key.Sort == d.key.Sort && message.hides(e)
}

// decode reads a view's body; an empty one gives the zero state.
func decode[S any](body []byte) (*S, error) {
	state := new(S)
	if len(body) == 0 {
		return state, nil
	}
	if err := json.Unmarshal(body, state); err != nil {
		return nil, fmt.Errorf("view is damaged: %w", err)
	}
	return state, nil
}

// encode writes a view's body. Go sorts the keys of maps, so equal states have equal bodies.
func encode(state any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(state); err != nil {
		return nil, fmt.Errorf("encode a view: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// roomOf is the stream of the room that a partition names first: "timeline/<room>".
func roomOf(key Key) events.Stream {
	_, names, _ := strings.Cut(key.Partition, "/")
	room, _, _ := strings.Cut(names, "/")
	return events.RoomStream(room)
}

// userOf is the stream of the user that a partition names: "inbox/<user>".
func userOf(key Key) events.Stream {
	_, user, _ := strings.Cut(key.Partition, "/")
	return events.UserStream(user)
}

// latest is a value whose latest setting wins: that of the event with the greatest Ref. Of a release
// that stored events under their ids alone, views have ids here, which are Refs without a digest.
type latest[T any] struct {
	Ref   events.Ref `json:"id"`
	Value T          `json:"v"`
}

func (l *latest[T]) set(ref events.Ref, value T) {
	if ref.Compare(l.Ref) > 0 {
		l.Ref, l.Value = ref, value
	}
}

// least keeps the smaller of two ids or Refs, where the zero one is none.
func least[R interface {
	comparable
	Compare(other R) int
}](a, b R) R {
	var none R
	if a == none || b != none && b.Compare(a) < 0 {
		return b
	}
	return a
}

// load reads and decodes views of one kind, in the order of their keys.
func load[S any](ctx context.Context, views Views, keys []Key) ([]*S, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	got, err := views.Get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	states := make([]*S, len(got))
	for i, view := range got {
		if states[i], err = decode[S](view.Body); err != nil {
			return nil, err
		}
	}
	return states, nil
}

// each calls f for 0 to n-1, atOnce at a time, and returns the first error.
func each(ctx context.Context, n, atOnce int, f func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i := range n {
		group.Go(func() error { return f(ctx, i) })
	}
	return group.Wait()
}

// withKey sets a key of a map that may be nil, and returns the map.
func withKey[V any](m map[string]V, key string, value V) map[string]V {
	if m == nil {
		m = map[string]V{}
	}
	m[key] = value
	return m
}

// next returns the least sort key above one; "" stands for the beginning.
func next(sort string) string {
	if sort == "" {
		return ""
	}
	return sort + "\x00"
}

// idRange is the range of sort keys of a range of ids.
func idRange(r events.Range, limit int) Range {
	out := Range{Reverse: r.Reverse, Limit: limit}
	if r.After != (events.ID{}) {
		out.From = next(r.After.String())
	}
	if r.Before != (events.ID{}) {
		out.Before = r.Before.String()
	}
	return out
}

// behind returns the part of a range that comes behind an id, in the range's order.
func behind(r events.Range, id events.ID) events.Range {
	if r.Reverse {
		r.Before = id
	} else {
		r.After = id
	}
	return r
}

// sortID reads the id that is a view's sort key; zero if it is none.
func sortID(key Key) events.ID {
	id, _ := events.ParseID("sort", key.Sort)
	return id
}
