package projections

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

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
	// Fold takes an event into account that touches the view. It is commutative, associative
	// and idempotent over event ids, reads nothing but its arguments, and trusts no event: that
	// a command was allowed is not its author's say.
	Fold(e events.Event)
	// Body encodes the view. Equal views have equal bodies.
	Body() ([]byte, error)
}

// All returns the projections that a region folds, each into its own partitions.
func All() []Projection {
	return []Projection{Rooms, Members, Timeline, Threads, Inboxes, Users, Beats}
}

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

// latest is a value of which the latest setting wins: the one by the event with the greatest id.
type latest[T any] struct {
	ID    events.ID `json:"id"`
	Value T         `json:"v"`
}

func (l *latest[T]) set(id events.ID, value T) {
	if id.Compare(l.ID) > 0 {
		l.ID, l.Value = id, value
	}
}

// least keeps the smaller of two ids, where the zero id is none.
func least(a, b events.ID) events.ID {
	if a == (events.ID{}) || b != (events.ID{}) && b.Compare(a) < 0 {
		return b
	}
	return a
}
