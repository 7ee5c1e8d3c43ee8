package projections

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/errgroup"

	"parley/events"
)

const (
	// segmentSize bounds the entries of one segment: about 90 bytes each, so that a full one is
	// far below the 400 KB of a DynamoDB item.
	segmentSize = 512
	// recognised is how many entries back a redelivered event is recognised. A stream redelivers
	// what it has not yet been told is done, which is one batch: at most 1,024 records.
	recognised = 1024
	// knownFeeds bounds the feeds whose end is kept in memory, in about 60 KB each.
	knownFeeds = 1024
	// MaxUnread is where counting unread messages stops.
	MaxUnread = 100
	// unreadScan bounds the entries that are looked through for unread messages.
	unreadScan = 2000
)

// Feed records the events of a stream in the order in which they arrived in this region, each
// at a position: 1, 2, 3 and so on, without a gap. It is the one view that is not a fold.
//
// A feed is a row of segments, each created once under the condition that its first position is
// free, so that two writers can never give one position to two events. The end of a feed is
// remembered between batches; should it be out of date, creating the next segment fails and it
// is read again.
type Feed struct {
	Now func() time.Time // the clock of the journal; set it, if at all, before the feed is used

	views Views
	mu    sync.Mutex // held by Append: a region has one consumer, order is all that matters
	all   bool       // every event is recognised, see RecogniseAll
	ends  *lru.Cache[events.Stream, *feedEnd]
	last  *journalEnd // nil: not known
}

// NewFeed returns the feed writer over views.
func NewFeed(views Views) *Feed {
	ends, err := lru.New[events.Stream, *feedEnd](knownFeeds)
	if err != nil {
		panic(err) // the size is a constant above 0
	}
	return &Feed{Now: time.Now, views: views, ends: ends}
}

// RecogniseAll makes the feeds recognise every event that they hold, however long ago it arrived,
// until it is called with false. It is for the time in which events are told again that are older
// than a stream's usual redelivery, and costs memory and reads by the length of the feeds.
func (f *Feed) RecogniseAll(all bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = all
	f.ends.Purge()
	f.last = nil
}

// FeedEntry is one arrival.
type FeedEntry struct {
	Position uint64    `json:"-"`
	ID       events.ID `json:"id"`
	Type     string    `json:"type"`
	Actor    string    `json:"actor"`
	Replaced bool      `json:"replaced,omitempty"` // see [Arrival]
}

// segment is a part of a feed, the view at its first position.
type segment struct {
	Epoch   string      `json:"epoch"` // of the whole feed; a rebuilt feed has another
	First   uint64      `json:"first"`
	Entries []FeedEntry `json:"entries"`
}

func (s *segment) end() uint64 { return s.First + uint64(len(s.Entries)) }

// arrived tells entries apart: a replaced event arrives a second time under its id.
type arrived struct {
	id       events.ID
	replaced bool
}

// feedEnd is what must be known of a feed to go on with it.
type feedEnd struct {
	epoch  string
	next   uint64             // the position to give next
	last   []arrived          // the last entries, as many as are recognised
	recent map[arrived]uint64 // to their positions
}

func (f *feedEnd) push(s *segment, most int) {
	for i, e := range s.Entries {
		f.last = append(f.last, arrived{e.ID, e.Replaced})
		f.recent[arrived{e.ID, e.Replaced}] = s.First + uint64(i)
	}
	for ; len(f.last) > most; f.last = f.last[1:] {
		delete(f.recent, f.last[0])
	}
	f.epoch, f.next = s.Epoch, s.end()
}

// Append adds a batch to the feeds of its streams and then to the journal, in the order given, and
// returns what the journal says of each arrival. What is there already, as the ends of feeds and
// journal show, is passed over. Beats have no feed; what operators did has none and is not in
// the journal, so that its entry has no number. After an error any part of the batch may have
// been added: append the same batch again.
func (f *Feed) Append(ctx context.Context, batch []Arrival) ([]JournalEntry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]JournalEntry, 0, len(batch))
	for part := range slices.Chunk(batch, recognised) { // of which the ends still show all
		if err := f.extendAll(ctx, part); err != nil {
			return nil, fmt.Errorf("append %d events to their feeds: %w", len(batch), err)
		}
		entries, err := f.entries(ctx, part)
		if err == nil {
			err = f.journal(ctx, entries)
		}
		if err != nil {
			return nil, fmt.Errorf("append %d events to the journal: %w", len(batch), err)
		}
		all = append(all, entries...)
	}
	return all, nil
}

// entries makes the journal's entries of arrivals that are in their feeds.
func (f *Feed) entries(ctx context.Context, batch []Arrival) ([]JournalEntry, error) {
	entries := make([]JournalEntry, len(batch))
	for i, a := range batch {
		entries[i] = JournalEntry{Stream: a.Event.Stream, ID: a.Event.ID, About: memberOf(a.Event), Replaced: a.Replaced}
		if !hasFeed(a.Event.Stream) {
			continue
		}
		end, err := f.end(ctx, a.Event.Stream)
		if err != nil {
			return nil, err
		}
		entries[i].Position = end.recent[arrived{a.Event.ID, a.Replaced}]
	}
	return entries, nil
}

func (f *Feed) extendAll(ctx context.Context, batch []Arrival) error {
	pending := map[events.Stream][]Arrival{}
	for _, a := range batch {
		if hasFeed(a.Event.Stream) {
			pending[a.Event.Stream] = append(pending[a.Event.Stream], a)
		}
	}
	tries := 0
	for len(pending) > 0 {
		if err := backoff(ctx, tries); err != nil {
			return err
		}
		lost, err := f.extend(ctx, pending)
		if err != nil {
			return err
		}
		if !lost {
			tries = 0
		} else if tries++; tries == attempts {
			return errors.New("gave up, another writer is always ahead")
		}
	}
	return nil
}

// addition is a segment to be added to the feed of a stream.
type addition struct {
	stream  events.Stream
	segment *segment
	rest    []Arrival // what is to come behind it
}

// extend adds one segment to each feed, drops from pending what is there, and reports whether
// another writer was ahead on any. It adds no second segment to a feed before the first is known
// to be there: that could leave a gap.
func (f *Feed) extend(ctx context.Context, pending map[events.Stream][]Arrival) (lost bool, err error) {
	additions := map[Key]addition{}
	var views []View
	for stream, arrivals := range pending {
		end, err := f.end(ctx, stream)
		if err != nil {
			return false, err
		}
		s, rest := end.segment(arrivals)
		if len(s.Entries) == 0 {
			delete(pending, stream)
			continue
		}
		body, err := encode(s)
		if err != nil {
			return false, err
		}
		key := segmentKey(stream, s.First)
		additions[key] = addition{stream, s, rest}
		views = append(views, View{Key: key, Body: body})
	}
	if len(views) == 0 {
		return false, nil
	}
	err = f.views.Save(ctx, views...)
	taken := conflicts(err)
	if err != nil && taken == nil {
		for _, a := range additions {
			f.ends.Remove(a.stream) // it may have been saved
		}
		return false, err
	}
	for _, key := range taken {
		f.ends.Remove(additions[key].stream)
		delete(additions, key)
	}
	for _, a := range additions {
		pending[a.stream] = a.rest
		if end, ok := f.ends.Get(a.stream); ok {
			end.push(a.segment, f.recognised())
		}
	}
	return len(taken) > 0, nil
}

// segment makes the next segment of a feed of what is new among the arrivals, as much as one
// holds, and returns the arrivals behind it.
func (f *feedEnd) segment(arrivals []Arrival) (s *segment, rest []Arrival) {
	s = &segment{Epoch: f.epoch, First: f.next}
	seen := map[arrived]bool{}
	for i, a := range arrivals {
		id := arrived{a.Event.ID, a.Replaced}
		if f.recent[id] > 0 || seen[id] {
			continue
		}
		if len(s.Entries) == segmentSize {
			return s, arrivals[i:]
		}
		seen[id] = true
		s.Entries = append(s.Entries, FeedEntry{ID: a.Event.ID, Type: a.Event.Type, Actor: a.Event.Actor, Replaced: a.Replaced})
	}
	return s, nil
}

// end returns the end of a feed, from memory or from its last segments.
func (f *Feed) end(ctx context.Context, stream events.Stream) (*feedEnd, error) {
	if end, ok := f.ends.Get(stream); ok {
		return end, nil
	}
	var last []*segment
	entries := 0
	for s, err := range segments(ctx, f.views, stream, Range{Reverse: true}) {
		if err != nil {
			return nil, err
		}
		last = append(last, s)
		if entries += len(s.Entries); entries >= f.recognised() {
			break
		}
	}
	end := &feedEnd{epoch: rand.Text(), next: 1, recent: map[arrived]uint64{}}
	for _, s := range slices.Backward(last) {
		end.push(s, f.recognised())
	}
	f.ends.Add(stream, end)
	return end, nil
}

// recognised is how many entries back a redelivered event is recognised.
func (f *Feed) recognised() int {
	if f.all {
		return math.MaxInt
	}
	return recognised
}

// Missing returns those events of a stream that are not in its feed, in their order: what this
// region's consumer was never told. What has no feed is never missing.
func (f *Feed) Missing(ctx context.Context, stream events.Stream, of []events.Event) ([]events.Event, error) {
	if !hasFeed(stream) {
		return nil, nil
	}
	told := map[events.ID]bool{}
	for s, err := range segments(ctx, f.views, stream, Range{}) {
		if err != nil {
			return nil, fmt.Errorf("look for events in their feed: %w", err)
		}
		for _, e := range s.Entries {
			told[e.ID] = true
		}
	}
	var missing []events.Event
	for _, e := range of {
		if !told[e.ID] {
			missing = append(missing, e)
		}
	}
	return missing, nil
}

// segments yields the segments of a feed within r, whose Limit it ignores.
func segments(ctx context.Context, views Views, stream events.Stream, r Range) iter.Seq2[*segment, error] {
	return documents(ctx, views, feedPartition(stream), r, func(s *segment, key Key) error {
		if len(s.Entries) == 0 || key != segmentKey(stream, s.First) {
			return errDamaged
		}
		return nil
	})
}

// errDamaged says that a segment of a feed or of the journal holds something else.
var errDamaged = errors.New("a segment is damaged")

// documents yields the segments in a partition within r, whose Limit it ignores. It reads them in
// pages that grow: a segment holds one entry or hundreds. Check refuses one that is not what its
// key says.
func documents[S any](ctx context.Context, views Views, partition string, r Range, check func(*S, Key) error) iter.Seq2[*S, error] {
	return func(yield func(*S, error) bool) {
		const most = 64
		for r.Limit = 2; ; r.Limit = min(2*r.Limit, most) {
			got, err := views.Query(ctx, partition, r)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, view := range got {
				s, err := decode[S](view.Body)
				if err == nil {
					err = check(s, view.Key)
				}
				if !yield(s, err) || err != nil {
					return
				}
				if r.Reverse {
					r.Before = view.Key.Sort
				} else {
					r.From = next(view.Key.Sort)
				}
			}
			if len(got) < r.Limit {
				return
			}
		}
	}
}

// hasFeed reports whether there is somebody to tell of a stream's events.
func hasFeed(stream events.Stream) bool {
	kind, _ := stream.Split()
	return kind != events.KindRegion && kind != events.KindOps
}

func feedPartition(stream events.Stream) string { return "feed/" + string(stream) }

func segmentKey(stream events.Stream, first uint64) Key {
	return Key{feedPartition(stream), fmt.Sprintf("%020d", first)}
}

// ListFeed reads at most limit entries of a stream's feed, those behind a position, and the
// feed's epoch: positions of another epoch mean nothing in this one.
func ListFeed(ctx context.Context, views Views, stream events.Stream, after uint64, limit int) ([]FeedEntry, string, error) {
	after = min(after, math.MaxUint64-2)
	// The segment that holds the next position is the last that does not begin behind it.
	from, err := views.Query(ctx, feedPartition(stream), Range{Before: segmentKey(stream, after+2).Sort, Reverse: true, Limit: 1})
	if err != nil || len(from) == 0 {
		return nil, "", err
	}
	var entries []FeedEntry
	var epoch string
	for s, err := range segments(ctx, views, stream, Range{From: from[0].Key.Sort}) {
		if err != nil {
			return nil, "", err
		}
		epoch = s.Epoch
		for i, e := range s.Entries {
			if e.Position = s.First + uint64(i); e.Position > after && len(entries) < limit {
				entries = append(entries, e)
			}
		}
		if len(entries) >= limit {
			break
		}
	}
	return entries, epoch, nil
}

// topsAtOnce is how many feeds are asked for their ends at the same time.
const topsAtOnce = 32

// LoadTops reads the position of the last event in the feed of each stream, 0 if it has none.
func LoadTops(ctx context.Context, views Views, streams ...events.Stream) ([]uint64, error) {
	tops := make([]uint64, len(streams))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(topsAtOnce)
	for i, stream := range streams {
		group.Go(func() error {
			last, err := views.Query(ctx, feedPartition(stream), Range{Reverse: true, Limit: 1})
			if err != nil || len(last) == 0 {
				return err
			}
			s, err := decode[segment](last[0].Body)
			if err != nil {
				return err
			}
			tops[i] = s.First + uint64(len(s.Entries)) - 1
			return nil
		})
	}
	return tops, group.Wait()
}

// CountUnread counts the messages by others that arrived in this region after the event since,
// up to MaxUnread. A message that arrived late is counted, though it sorts before. Where since
// itself is not found among the last arrivals (it was long ago, or has yet to arrive) what
// sorts after it is counted.
func CountUnread(ctx context.Context, views Views, room, user string, since events.ID) (int, error) {
	arrivedAfter, sortedAfter, scanned := 0, 0, 0
	for s, err := range segments(ctx, views, events.RoomStream(room), Range{Reverse: true}) {
		if err != nil {
			return 0, err
		}
		for _, e := range slices.Backward(s.Entries) {
			switch {
			case e.Replaced: // it came before
			case e.ID == since:
				return min(arrivedAfter, MaxUnread), nil
			case e.Type == "message.posted" && e.Actor != user:
				arrivedAfter++
				if e.ID.Compare(since) > 0 {
					sortedAfter++
				}
			}
		}
		if scanned += len(s.Entries); sortedAfter >= MaxUnread || scanned >= unreadScan {
			break
		}
	}
	return min(sortedAfter, MaxUnread), nil
}
