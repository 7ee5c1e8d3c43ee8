package projections

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/events"
)

const (
	// segmentSize bounds the entries of one segment, of about 90 bytes each: the last segment of a feed is
	// read for each batch that adds to it.
	segmentSize = 100
	// saveTime bounds the time from taking the time of a segment to storing it.
	saveTime = 10 * time.Second
	// feedsAtOnce is how many segments are stored at a time, so that saveTime suffices.
	feedsAtOnce = 128
	// redelivery is how much older than the last segment a segment may be that holds an event which the
	// change stream delivers again: DynamoDB keeps a record for 24 hours.
	redelivery = 25 * time.Hour
	// formerSearch is how many of the entries are searched that the release before wrote, without times.
	formerSearch = 1024
	// recordSkew is how far the time of a record may be off.
	recordSkew = time.Minute
)

// Feed records the events of a stream in the order in which they arrived in this region, each
// at a position: 1, 2, 3 and so on, without a gap. It is the one view that is not a fold.
//
// A feed is a row of segments, each created once under the condition that its first position is free,
// so that two writers can never give one position to two events. Nothing of a feed is kept in memory
// between two calls: every process may add to every feed. Its last segment, the head, says all there
// is to know. A record of the change stream with a greater number than the head has is new; of any
// other record the ids of the recent entries decide, never the number.
//
// Beside the feeds of streams each user has one of memberships, which has the events that may have
// changed the user's membership of any room.
type Feed struct {
	Region string           // where it is; of its own events the time of their acceptance is known
	Now    func() time.Time // time.Now if nil
	// Rebuild says that what is appended is read from the log, because the feeds may lack it.
	Rebuild bool

	views Views
}

// NewFeed returns the feed writer of a region over its views.
func NewFeed(region string, views Views) *Feed { return &Feed{Region: region, views: views} }

// Append adds a batch to the feeds of its streams, in the given order, and returns the entry of each
// arrival, and what was late in the segments that hold them. An event that is there already keeps its
// position. Heartbeats and operators' acts have no feed, and position 0. After an error any part of the
// batch may have been added: append the same batch again.
func (f *Feed) Append(ctx context.Context, batch []Arrival) ([]FeedEntry, []Late, error) {
	entries := make([]FeedEntry, len(batch))
	all, items := additions{}, make([]*item, 0, len(batch))
	for i, a := range batch {
		entries[i] = FeedEntry{Ref: a.Event.Ref(), Type: a.Event.Type, Actor: a.Event.Actor}
		if hasFeed(a.Event.Stream) {
			items = append(items, &item{entry: &entries[i], arrival: a})
			all.add(a.Event.Stream, items[len(items)-1])
		}
	}
	// The heads of the feeds of memberships are read before anything is added. What this call then adds to
	// the feed of its stream is new behind them: if another process finds it there and is first to add it
	// here, saving behind them conflicts.
	memberships := additions{}
	for _, it := range items {
		for _, user := range MembersOf(it.arrival.Event) {
			entry := *it.entry
			entry.Stream = it.arrival.Event.Stream
			memberships.add(membershipFeed(user), &item{entry: &entry, arrival: it.arrival, original: it})
		}
	}
	if err := f.loadHeads(ctx, memberships); err != nil {
		return nil, nil, fmt.Errorf("read the heads of feeds of memberships: %w", err)
	}
	late, err := f.extendAll(ctx, all)
	if err != nil {
		return nil, nil, fmt.Errorf("append %d events to their feeds: %w", len(batch), err)
	}
	// What was there already may have failed here.
	for _, of := range memberships {
		for _, it := range of.items {
			it.isNew = it.original.added
		}
	}
	if _, err := f.extendAll(ctx, memberships); err != nil {
		return nil, nil, fmt.Errorf("append to feeds of memberships: %w", err)
	}
	return entries, late, nil
}

// item is an arrival on its way into one feed.
type item struct {
	entry   *FeedEntry // gets its position
	arrival Arrival
	isNew   bool // certainly not behind the head that was read
	added   bool // by this call
	// original is the item of the feed of the event's stream; only set in a feed of memberships.
	original *item
}

// addition is what a batch adds to one feed.
type addition struct {
	items   []*item
	pending []*item  // not known to be there yet
	head    *segment // nil: not read yet
	epoch   string   // of the feed, if this begins it
	// searched says that what was found up to head is no longer pending.
	searched bool
	next     *segment // to be stored behind the head; nil: nothing is new
	late     []Late
}

// additions are those of a batch, by feed.
type additions map[events.Stream]*addition

func (all additions) add(feed events.Stream, it *item) {
	if all[feed] == nil {
		all[feed] = &addition{epoch: rand.Text()}
	}
	all[feed].items = append(all[feed].items, it)
	all[feed].pending = append(all[feed].pending, it)
}

// extendAll adds to feeds, one segment to each at a time, and returns what was late.
func (f *Feed) extendAll(ctx context.Context, all additions) (late []Late, err error) {
	for feeds := range slices.Chunk(slices.Sorted(maps.Keys(all)), feedsAtOnce) {
		left := additions{}
		for _, feed := range feeds {
			left[feed] = all[feed]
		}
		stale := true // where that is wrong the segment is there already
		for len(left) > 0 {
			err := RetryOnConflict(ctx, func() error {
				err := f.extend(ctx, left, stale)
				stale = false
				return err
			})
			if err != nil {
				return nil, err
			}
		}
		for _, feed := range feeds {
			late = append(late, all[feed].late...)
		}
	}
	return late, nil
}

// extend adds a segment to each feed, and takes those out of the list to which there is no more to add.
// The error is a [ConflictError] if another writer extended any of them first. It adds no second segment
// to a feed before the first is known to be stored: that could leave a gap.
func (f *Feed) extend(ctx context.Context, left additions, stale bool) error {
	if err := f.prepare(ctx, left, stale); err != nil {
		return err
	}
	byKey := map[Key]events.Stream{}
	var views []View
	for feed, a := range left {
		if a.next == nil {
			delete(left, feed)
			continue
		}
		body, err := encode(a.next)
		if err != nil {
			return err
		}
		key := segmentKey(feed, a.next.First)
		byKey[key] = feed
		views = append(views, View{Key: key, Body: body})
	}
	if len(views) == 0 {
		return nil
	}
	saving, cancel := context.WithTimeout(ctx, saveTime)
	defer cancel()
	err := f.views.Save(saving, views...)
	taken := conflicts(err)
	if err != nil && taken == nil {
		for _, a := range left {
			a.head = nil // it may have been saved
		}
		return err
	}
	for key, feed := range byKey {
		a := left[feed]
		if slices.Contains(taken, key) {
			a.head = nil
			for _, it := range a.pending {
				it.isNew = false
			}
			continue
		}
		a.head = a.next
		if a.found(feed, a.next, true); len(a.pending) == 0 {
			delete(left, feed)
		}
	}
	return err
}

// prepare reads the heads of feeds that are not known, looks for what may be there already, and makes the
// next segments, side by side.
func (f *Feed) prepare(ctx context.Context, left additions, stale bool) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readAtOnce)
	for feed, a := range left {
		group.Go(func() error {
			if a.head == nil {
				if err := f.loadHead(ctx, feed, a, stale); err != nil {
					return err
				}
			}
			if !a.searched {
				if err := f.find(ctx, feed, a); err != nil {
					return err
				}
				a.searched = true
			}
			var err error
			a.next, err = f.segment(ctx, feed, a)
			return err
		})
	}
	return group.Wait()
}

// loadHeads reads the heads of feeds, side by side.
func (f *Feed) loadHeads(ctx context.Context, all additions) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readAtOnce)
	for feed, a := range all {
		group.Go(func() error { return f.loadHead(ctx, feed, a, true) })
	}
	return group.Wait()
}

// loadHead reads the head of a feed, before which nothing has been looked for.
func (f *Feed) loadHead(ctx context.Context, feed events.Stream, a *addition, stale bool) (err error) {
	a.searched = false
	if a.head, err = loadHead(ctx, f.views, feed, stale); err == nil && a.head == nil {
		a.head = &segment{Epoch: a.epoch, First: 1}
		if kind, _ := feed.Split(); kind == events.KindRoom {
			a.head.Messages = new(int64(0))
		}
	}
	return err
}

// find looks for the arrivals that may be in the feed already, and takes those that are from what is
// pending. The change stream delivers again what is recent, so it goes back only so far.
func (f *Feed) find(ctx context.Context, feed events.Stream, a *addition) error {
	sought := map[feedKey]bool{}
	for _, it := range a.pending {
		if a.head.mayHold(it) {
			sought[it.key()] = true
		}
	}
	if len(sought) == 0 || len(a.head.Entries) == 0 {
		return nil
	}
	former := 0
	for s, err := range segments(ctx, f.views, feed, Range{Reverse: true, Before: segmentKey(feed, a.head.end()).Sort}) {
		if err != nil {
			return err
		}
		a.found(feed, s, false)
		for _, e := range s.Entries {
			delete(sought, feedKey{e.Stream, e.Ref})
		}
		old := s.At < a.head.At-redelivery.Milliseconds()
		if s.former { // how old it is is not known
			former += len(s.Entries)
			old = former >= formerSearch
		}
		if len(sought) == 0 || old {
			break
		}
	}
	return nil
}

// found takes what a segment holds from what is pending.
func (a *addition) found(feed events.Stream, s *segment, added bool) {
	at := make(map[feedKey]int, len(s.Entries))
	for i, e := range s.Entries {
		at[feedKey{e.Stream, e.Ref}] = i
	}
	late := false
	a.pending = slices.DeleteFunc(a.pending, func(it *item) bool {
		i, there := at[it.key()]
		if there {
			it.entry.Position, it.added = s.First+uint64(i), added
			late = late || s.Entries[i].Late
		}
		return there
	})
	if late {
		l := Late{stream: feed, epoch: s.Epoch, first: s.First, at: time.UnixMilli(s.At)}
		for _, e := range s.Entries {
			if e.Late {
				l.events = append(l.events, e.Ref)
			}
		}
		a.late = append(a.late, l)
	}
}

// feedKey identifies an entry of a feed.
type feedKey struct {
	stream events.Stream // only in a feed of memberships
	ref    events.Ref
}

func (it *item) key() feedKey { return feedKey{it.entry.Stream, it.entry.Ref} }

// mayHold reports whether an arrival may be in this segment or one before it.
func (s *segment) mayHold(it *item) bool {
	switch {
	case it.entry.Stream != "": // a feed of memberships, to which many shards add
		return !it.isNew
	case s.former: // its number is not known
		return true
	case it.arrival.Number.Compare(s.Number) <= 0:
		return true
	default:
		at := max(it.arrival.At.UnixMilli(), it.arrival.Event.ID.Timestamp().UnixMilli())
		return s.Unsure > 0 && at <= s.Unsure+recordSkew.Milliseconds()
	}
}

// segment makes the next segment behind the head of what is pending, as much as one holds; nil if nothing
// is.
func (f *Feed) segment(ctx context.Context, feed events.Stream, a *addition) (*segment, error) {
	if len(a.pending) == 0 {
		return nil, nil
	}
	began := int64(0) // what is older was delivered before the feed was lost
	if f.Rebuild {
		var err error
		if began, err = f.began(ctx, feed); err != nil {
			return nil, err
		}
	}
	now := f.now()
	s := &segment{Epoch: a.head.Epoch, First: a.head.end(), At: max(a.head.At, now.UnixMilli()), Number: a.head.Number, Unsure: a.head.Unsure}
	if a.head.Messages != nil {
		s.Messages = new(*a.head.Messages)
	}
	there := map[feedKey]bool{}
	for _, it := range a.pending {
		if there[it.key()] {
			continue
		}
		if len(s.Entries) == segmentSize {
			break
		}
		there[it.key()] = true
		e := *it.entry
		e.Late = it.entry.Stream == "" && f.isLate(it.arrival, now)
		e.Old = it.arrival.Event.ID.Timestamp().UnixMilli() < began-recordSkew.Milliseconds()
		s.Entries = append(s.Entries, e)
		if s.Messages != nil && e.canBeUnread() {
			*s.Messages++
		}
		switch {
		case it.entry.Stream != "":
		case it.arrival.Number == "":
			s.Unsure = s.At
		case it.arrival.Number.Compare(s.Number) > 0:
			s.Number = it.arrival.Number
		}
	}
	return s, nil
}

// began returns when the feed began, Unix ms: now if it does not exist yet.
func (f *Feed) began(ctx context.Context, feed events.Stream) (int64, error) {
	for s, err := range segments(ctx, f.views, feed, Range{}) {
		if err != nil {
			return 0, err
		}
		if s.former {
			return 0, nil // not known
		}
		return s.At, nil
	}
	return f.now().UnixMilli(), nil
}

func (f *Feed) now() time.Time {
	if f.Now == nil {
		return time.Now()
	}
	return f.Now()
}

// countMessages writes into the head of a room's feed how many messages the feed has, if the release that began it
// did not count. What a process appends behind a head that it read before stays uncounted; count again.
func (f *Feed) countMessages(ctx context.Context, stream events.Stream) error {
	if kind, _ := stream.Split(); kind != events.KindRoom {
		return nil
	}
	count := func() (done bool, err error) {
		got, err := f.views.Query(ctx, feedPartition(stream), Range{Reverse: true, Limit: 1})
		if err != nil || len(got) == 0 {
			return true, err
		}
		head, err := decodeSegment(stream, got[0])
		if err != nil || head.Messages != nil {
			return true, err
		}
		messages := int64(0)
		for s, err := range segments(ctx, f.views, stream, Range{Before: next(got[0].Key.Sort)}) {
			if err != nil {
				return true, err
			}
			for _, e := range s.Entries {
				if e.canBeUnread() {
					messages++
				}
			}
		}
		if head.Messages = &messages; head.former {
			head.At = 0
		}
		body, err := encode(head)
		if err != nil {
			return true, err
		}
		return false, f.views.Save(ctx, View{got[0].Key, got[0].Version, body})
	}
	err := RetryOnConflict(ctx, func() error {
		for {
			if done, err := count(); done || err != nil {
				return err
			}
		}
	})
	if err != nil {
		return fmt.Errorf("count the messages of a feed: %w", err)
	}
	return nil
}

// Missing returns which events of a stream are not in its feed, in their order: those that the
// region's consumer has never handled. What has no feed is never missing.
func (f *Feed) Missing(ctx context.Context, stream events.Stream, of []events.Event) ([]events.Event, error) {
	if !hasFeed(stream) {
		return nil, nil
	}
	present := map[events.Ref]bool{}
	for s, err := range segments(ctx, f.views, stream, Range{}) {
		if err != nil {
			return nil, fmt.Errorf("search a feed for events: %w", err)
		}
		for _, e := range s.Entries {
			present[e.Ref] = true
		}
	}
	var missing []events.Event
	for _, e := range of {
		if !present[e.Ref()] {
			missing = append(missing, e)
		}
	}
	return missing, nil
}
