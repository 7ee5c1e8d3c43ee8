package projections

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"

	"parley/events"
)

// The journal is the row of all that arrived in this region, whatever its stream: what somebody
// who was away goes through, however many rooms there are. It has no content: where the feeds say
// that, and the log what. Like a feed it is a row of segments, each created once under the
// condition that its first number is free.
const journalPartition = "journal"

// JournalEntry is one arrival.
type JournalEntry struct {
	Number   uint64 // 1, 2, 3 and so on in this region, without a gap
	Stream   events.Stream
	Position uint64 // in the feed of its stream; 0: it has none
	ID       events.ID
	About    string // the user whose membership it changes
	Replaced bool
}

// journalSegment is a part of the journal, the view at its first number.
type journalSegment struct {
	Epoch   string          `json:"epoch"` // of the whole journal; a rebuilt one has another
	First   uint64          `json:"first"`
	At      int64           `json:"at"` // when it was written, Unix ms; never less than the one before
	Streams []events.Stream `json:"streams"`
	Rows    []journalRow    `json:"rows"`
	// Frontiers is, by region, the time in the latest beat that came before or in this segment.
	Frontiers map[string]int64 `json:"frontiers,omitempty"`
}

// journalRow is an entry as it is stored, in about 45 bytes: every arrival of the region is here.
type journalRow struct {
	Stream   int       `json:"s,omitempty"` // index in Streams
	Position uint64    `json:"p,omitempty"`
	ID       events.ID `json:"i"`
	About    string    `json:"a,omitempty"`
	Replaced bool      `json:"r,omitempty"`
}

func (s *journalSegment) end() uint64 { return s.First + uint64(len(s.Rows)) }

// add adds an entry. Index is where its Streams are, by name.
func (s *journalSegment) add(e JournalEntry, index map[events.Stream]int) {
	at, there := index[e.Stream]
	if !there {
		at = len(s.Streams)
		index[e.Stream] = at
		s.Streams = append(s.Streams, e.Stream)
	}
	s.Rows = append(s.Rows, journalRow{at, e.Position, e.ID, e.About, e.Replaced})
}

// entries returns the entries behind a number.
func (s *journalSegment) entries(after uint64) []JournalEntry {
	var all []JournalEntry
	for i, r := range s.Rows {
		if n := s.First + uint64(i); n > after {
			all = append(all, JournalEntry{n, s.Streams[r.Stream], r.Position, r.ID, r.About, r.Replaced})
		}
	}
	return all
}

// check refuses a segment that was not written here, or not at this key.
func (s *journalSegment) check(key Key) error {
	outside := func(r journalRow) bool { return r.Stream < 0 || r.Stream >= len(s.Streams) }
	if len(s.Rows) == 0 || key != journalKey(s.First) || slices.ContainsFunc(s.Rows, outside) {
		return errDamaged
	}
	return nil
}

var errGap = errors.New("the journal has a gap")

func journalKey(first uint64) Key { return Key{journalPartition, fmt.Sprintf("%020d", first)} }

// journalID tells entries of the journal apart.
type journalID struct {
	stream events.Stream
	arrived
}

// journalEnd is what must be known of the journal to go on with it.
type journalEnd struct {
	epoch     string
	next      uint64
	at        int64
	frontiers map[string]int64
	last      []journalID
	recent    map[journalID]uint64 // to their numbers
}

func (j *journalEnd) push(s *journalSegment, most int) {
	for _, e := range s.entries(0) {
		id := journalID{e.Stream, arrived{e.ID, e.Replaced}}
		j.last = append(j.last, id)
		j.recent[id] = e.Number
	}
	for ; len(j.last) > most; j.last = j.last[1:] {
		delete(j.recent, j.last[0])
	}
	j.epoch, j.next, j.at, j.frontiers = s.Epoch, s.end(), s.At, s.Frontiers
}

// journal adds a batch that is in its feeds to the journal, and gives each entry its number. What
// the journal's end shows to be there already keeps the number it has.
func (f *Feed) journal(ctx context.Context, entries []JournalEntry) error {
	tries := 0
	for {
		if err := backoff(ctx, tries); err != nil {
			return err
		}
		end, err := f.journalEnd(ctx)
		if err != nil {
			return err
		}
		s := end.segment(entries, f.Now())
		if len(s.Rows) == 0 {
			for i, e := range entries {
				entries[i].Number = end.recent[journalID{e.Stream, arrived{e.ID, e.Replaced}}]
			}
			return nil
		}
		body, err := encode(s)
		if err != nil {
			return err
		}
		err = f.views.Save(ctx, View{Key: journalKey(s.First), Body: body})
		switch {
		case err == nil:
			end.push(s, f.recognised())
			tries = 0
		case conflicts(err) != nil:
			f.last = nil // another writer was ahead
			if tries++; tries == attempts {
				return errors.New("append to the journal: gave up, another writer is always ahead")
			}
		default:
			f.last = nil // it may have been saved
			return err
		}
	}
}

// segment makes the next segment of what is new among the entries, as much as one holds.
func (j *journalEnd) segment(entries []JournalEntry, now time.Time) *journalSegment {
	s := &journalSegment{Epoch: j.epoch, First: j.next, At: max(j.at, now.UnixMilli()), Frontiers: map[string]int64{}}
	for region, at := range j.frontiers {
		s.Frontiers[region] = at
	}
	seen, index := map[journalID]bool{}, map[events.Stream]int{}
	for _, e := range entries {
		if kind, _ := e.Stream.Split(); kind == events.KindOps {
			continue
		}
		id := journalID{e.Stream, arrived{e.ID, e.Replaced}}
		if _, there := j.recent[id]; there || seen[id] {
			continue
		}
		if len(s.Rows) == segmentSize {
			break
		}
		seen[id] = true
		s.add(e, index)
		if kind, region := e.Stream.Split(); kind == events.KindRegion {
			s.Frontiers[region] = max(s.Frontiers[region], e.ID.Timestamp().UnixMilli())
		}
	}
	return s
}

// journalEnd returns the end of the journal, from memory or from its last segments.
func (f *Feed) journalEnd(ctx context.Context) (*journalEnd, error) {
	if f.last != nil {
		return f.last, nil
	}
	var last []*journalSegment
	entries := 0
	for s, err := range journal(ctx, f.views, Range{Reverse: true}) {
		if err != nil {
			return nil, err
		}
		last = append(last, s)
		if entries += len(s.Rows); entries >= f.recognised() {
			break
		}
	}
	end := &journalEnd{epoch: rand.Text(), next: 1, recent: map[journalID]uint64{}}
	for i := len(last) - 1; i >= 0; i-- {
		end.push(last[i], f.recognised())
	}
	f.last = end
	return end, nil
}

// journal yields the segments of the journal within r, whose Limit it ignores.
func journal(ctx context.Context, views Views, r Range) iter.Seq2[*journalSegment, error] {
	return documents(ctx, views, journalPartition, r, (*journalSegment).check)
}

// lastJournal returns the segment that holds a number, or the last before it; nil if there is none.
func lastJournal(ctx context.Context, views Views, number uint64) (*journalSegment, error) {
	got, err := views.Query(ctx, journalPartition, Range{Before: journalKey(min(number, math.MaxUint64-1) + 1).Sort, Reverse: true, Limit: 1})
	if err != nil || len(got) == 0 {
		return nil, err
	}
	s, err := decode[journalSegment](got[0].Body)
	if err == nil {
		err = s.check(got[0].Key)
	}
	return s, err
}

// journalBefore returns the greatest number such that all that was written to the journal at a
// time or later stands behind it.
func journalBefore(ctx context.Context, views Views, head *journalSegment, at time.Time) (uint64, error) {
	// In low everything is older, behind high nothing is.
	low, high := uint64(0), head.end()-1
	for low < high {
		s, err := lastJournal(ctx, views, low+(high-low+1)/2)
		if err != nil {
			return 0, err
		}
		if s == nil {
			return 0, errGap
		}
		if s.At >= at.UnixMilli() {
			high = s.First - 1
		} else {
			low = max(low, min(high, s.end()-1))
		}
	}
	return low, nil
}
