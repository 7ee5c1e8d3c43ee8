package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"iter"
)

// Log is a set of events that only grows: no event in it is ever changed, and no two share a [Key].
// Every driver passes the suite in logtest.
//
// All methods are safe for concurrent use. A method that was given a context that ends returns
// its error; an Append that was under way may then have happened all the same.
type Log interface {
	// Append inserts e and returns it once it is durable in this region. If it is there already,
	// nothing changes: repeat is true, and the stored event, with the Region of its first acceptance,
	// is returned. Append does not compare e with other events of its id: see [Find].
	// After ErrUnknownOutcome the event may or may not be stored. Appending the same event again
	// is always safe.
	Append(ctx context.Context, e Event) (stored Event, repeat bool, err error)

	// GetMany returns the events of any streams that have these keys, by key. A key that names no
	// event in this region, yet, is not in the map; one may be given twice. It sees every Append
	// that returned in this region.
	GetMany(ctx context.Context, keys []Key) (map[Key]Event, error)

	// Read yields the events of a stream within r in the order of their Refs, reading in pages as
	// it goes. It sees every Append that returned in this region before Read was called, except where
	// r allows a stale read. After an error it yields no more.
	Read(ctx context.Context, stream Stream, r Range) iter.Seq2[Event, error]

	// Scan yields a part of the log: stream by stream in any order, each in the order of its Refs,
	// reading in pages as it goes. It goes on behind after, a key that a Scan of the same part has
	// yielded; the zero Key begins. It sees every Append that returned in this region before Scan
	// was called and lies behind after; of what is appended meanwhile it may see some. After an
	// error it yields no more. It is the only way through the whole log.
	Scan(ctx context.Context, part Part, after Key) iter.Seq2[Event, error]
}

// Find returns the events of a stream that have an id, in the order of their digests: none, one, or
// more where regions accepted different commands under one id. With stale set it may miss what was
// appended within the last second, for half the price on DynamoDB.
func Find(ctx context.Context, log Log, stream Stream, id ID, stale bool) ([]Event, error) {
	var found []Event
	for e, err := range log.Read(ctx, stream, Range{After: PrecedingID(id), Before: FollowingID(id), Stale: stale}) {
		if err != nil {
			return nil, err
		}
		if e.ID == id { // below and above the extreme ids there are no bounds
			found = append(found, e)
		}
	}
	return found, nil
}

// Get returns the event of a stream that counts as the one with an id, that with the least digest, or
// ErrNotFound. It sees every Append that returned in this region.
func Get(ctx context.Context, log Log, stream Stream, id ID) (Event, error) {
	found, err := Find(ctx, log, stream, id, false)
	switch {
	case err != nil:
		return Event{}, fmt.Errorf("get event: %w", err)
	case len(found) == 0:
		return Event{}, fmt.Errorf("get event: %w", ErrNotFound)
	default:
		return found[0], nil
	}
}

// ReadBehind yields what [Log.Read] yields of r, in ascending order, from behind a Ref on; r.After is not
// used. The zero Ref begins.
func ReadBehind(ctx context.Context, log Log, stream Stream, after Ref, r Range) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if r.After = after.ID; r.After != (ID{}) {
			same, err := Find(ctx, log, stream, r.After, r.Stale)
			if err != nil {
				yield(Event{}, err)
				return
			}
			for _, e := range same {
				if e.Ref().Compare(after) > 0 && (r.Before == (ID{}) || e.ID.Compare(r.Before) < 0) && !yield(e, nil) {
					return
				}
			}
		}
		for e, err := range log.Read(ctx, stream, r) {
			if !yield(e, err) {
				return
			}
		}
	}
}

// Key identifies one event of the log. In JSON its ID and Digest are the text of its [Ref].
type Key struct {
	Stream Stream
	ID     ID
	Digest Digest
}

// Ref identifies the event within its stream.
func (k Key) Ref() Ref { return Ref{k.ID, k.Digest} }

// keyJSON is the form of a Key in JSON.
type keyJSON struct {
	Stream Stream `json:"stream"`
	Ref    Ref    `json:"id"`
}

// MarshalJSON implements [json.Marshaler].
func (k Key) MarshalJSON() ([]byte, error) { return json.Marshal(keyJSON{k.Stream, k.Ref()}) }

// UnmarshalJSON implements [json.Unmarshaler].
func (k *Key) UnmarshalJSON(text []byte) error {
	var in keyJSON
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	*k = Key{in.Stream, in.Ref.ID, in.Ref.Digest}
	return nil
}

// Range is a part of a stream.
type Range struct {
	After   ID   // only events with an id greater than this; the zero ID is before all
	Before  ID   // only events with an id less than this; the zero ID is no bound
	Reverse bool // the greatest id first
	Limit   int  // at most so many events; 0 is no limit
	Stale   bool // what was appended within the last second may be missing
}

// Part is a share of the streams of a log: that of Index, counted from 0, of so many. Part{0, 1}
// is all. The parts of one Of hold every stream once, all its events in one part. Which stream
// is in which part is each driver's own choice, and always the same.
type Part struct {
	Index int `json:"index"`
	Of    int `json:"of"`
}

// MaxParts is the greatest Of.
const MaxParts = 1_000_000

// Validate says what is wrong with the part, as an [InvalidError], or nil.
func (p Part) Validate() error {
	if p.Of < 1 || p.Of > MaxParts || p.Index < 0 || p.Index >= p.Of {
		return Invalid("part", "must be i/n with i from 0 to n-1 and n from 1 to 1000000")
	}
	return nil
}

// Holds reports whether a stream is in the part, in a driver whose store has no parts of its own.
func (p Part) Holds(stream Stream) bool {
	if p.Of <= 1 {
		return true
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(stream)) // never fails
	sum := h.Sum64()
	return int((sum^sum>>32)%uint64(p.Of)) == p.Index
}

// The errors of a Log, to be tested with errors.Is.
var (
	// ErrConflict: the id is taken by an event with other content. No Log returns it: who accepts
	// commands does, after a look for the id.
	ErrConflict = errors.New("event id is taken by other content")
	// ErrNotFound: no such event in this region, yet.
	ErrNotFound = errors.New("event not found")
	// ErrThrottled: the store refused for load; nothing was stored; try again later.
	ErrThrottled = errors.New("log is throttled")
	// ErrUnavailable: the log takes no appends, and will not by itself; nothing was stored. Another
	// region may take it.
	ErrUnavailable = errors.New("log takes no appends")
	// ErrUnknownOutcome: the event may have been stored. Append the same event again, or read it
	// by its id; never append another in its place.
	ErrUnknownOutcome = errors.New("outcome of the append is unknown")
)

// Unavailable marks an error as an [ErrUnavailable] and keeps its text.
func Unavailable(err error) error { return &unavailable{err} }

type unavailable struct{ err error }

func (e *unavailable) Error() string { return e.err.Error() }

// Unwrap implements the interface of package errors.
func (e *unavailable) Unwrap() []error { return []error{ErrUnavailable, e.err} }
