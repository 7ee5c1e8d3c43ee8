package events

import (
	"context"
	"errors"
	"iter"
)

// Log is a set of events that only grows. Every driver passes the suite in logtest.
//
// All methods are safe for concurrent use. A method that was given a context that ends returns
// its error; an Append that was under way may then have happened all the same.
type Log interface {
	// Append inserts e and returns it once it is durable in this region. The log holds at most
	// one event per stream and id:
	//   - not there yet: e is stored; repeat is false.
	//   - there with the same content ([Same]): nothing changes; the stored event is returned
	//     and repeat is true. Its Region is that of the first acceptance.
	//   - there with other content: nothing changes; ErrConflict.
	// After ErrUnknownOutcome the event may or may not be stored. Appending the same event again
	// is always safe.
	Append(ctx context.Context, e Event) (stored Event, repeat bool, err error)

	// Get returns one event of a stream, or ErrNotFound. It sees every Append that returned in
	// this region.
	Get(ctx context.Context, stream Stream, id ID) (Event, error)

	// GetMany returns the events of any streams that have these keys, by key. A key that names no
	// event in this region, yet, is not in the map; one may be given twice. It sees every Append
	// that returned in this region.
	GetMany(ctx context.Context, keys []Key) (map[Key]Event, error)

	// Read yields the events of a stream within r in the order of their ids, reading in pages as
	// it goes. It sees every Append that returned in this region before Read was called. After
	// an error it yields no more.
	Read(ctx context.Context, stream Stream, r Range) iter.Seq2[Event, error]

	// Scan yields a part of the log: stream by stream in any order, each in the order of its ids,
	// reading in pages as it goes. It goes on behind after, a key that a Scan of the same part has
	// yielded; the zero Key begins. It sees every Append that returned in this region before Scan
	// was called and lies behind after; of what is appended meanwhile it may see some. After an
	// error it yields no more. It is the only way through the whole log.
	Scan(ctx context.Context, part Part, after Key) iter.Seq2[Event, error]
}

// Key names one event of the log.
type Key struct {
	Stream Stream `json:"stream"`
	ID     ID     `json:"id"`
}

// Range is a part of a stream.
type Range struct {
	After   ID   // only events with an id greater than this; the zero ID is before all
	Before  ID   // only events with an id less than this; the zero ID is no bound
	Reverse bool // the greatest id first
	Limit   int  // at most so many events; 0 is no limit
}

// The errors of a Log, to be tested with errors.Is.
var (
	// ErrConflict: the id is taken by an event with other content.
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
