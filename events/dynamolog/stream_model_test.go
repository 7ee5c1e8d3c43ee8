package dynamolog

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"pgregory.net/rapid"
)

// modelStream is a stream as AWS describes it, which DynamoDB Local hardly shows: many open
// shards, shards that are split, shards that are listed late, and others that leave the listing.
type modelStream struct {
	shards  []*modelShard
	last    int // sequence number
	trimmed int // all records up to this number are gone
}

type modelShard struct {
	id      string
	parent  *modelShard
	first   int
	records []int
	closed  bool
	hidden  bool // not listed yet, nor what comes after it
	gone    bool // nothing of it is left
	forgot  bool // and it has left the listing
}

func (m *modelStream) open(parent *modelShard, hidden bool) {
	m.last++
	m.shards = append(m.shards, &modelShard{
		id: fmt.Sprintf("shard-%d", len(m.shards)), parent: parent, first: m.last, hidden: hidden,
	})
}

func (m *modelStream) write(s *modelShard) {
	m.last++
	s.records = append(s.records, m.last)
}

// split closes a shard, which goes on in others.
func (m *modelStream) split(s *modelShard, hidden ...bool) {
	s.closed = true
	for _, h := range hidden {
		m.open(s, h)
	}
}

// trim takes away the oldest records.
func (m *modelStream) trim(upTo int) { m.trimmed = max(m.trimmed, upTo) }

// purge takes away a shard that has nothing left, as its parents have.
func (m *modelStream) purge(s *modelShard, forget bool) {
	if s.closed && !s.hidden && (s.parent == nil || s.parent.gone) && !slices.ContainsFunc(s.records, func(r int) bool { return r > m.trimmed }) {
		s.gone = true
		s.forgot = s.forgot || forget && (s.parent == nil || s.parent.forgot)
	}
}

func (m *modelStream) openShards() []*modelShard {
	return slices.DeleteFunc(slices.Clone(m.shards), func(s *modelShard) bool { return s.closed })
}

func (m *modelStream) list() listing {
	var shards []listed
	for _, s := range m.shards {
		if s.forgot || s.isHidden() {
			continue
		}
		l := listed{id: s.id, first: strconv.Itoa(s.first)}
		if s.parent != nil {
			l.parent = s.parent.id
		}
		if s.closed {
			l.last = strconv.Itoa(s.end())
		}
		shards = append(shards, l)
	}
	return newListing(shards)
}

func (s *modelShard) isHidden() bool { return s != nil && (s.hidden || s.parent.isHidden()) }

func (s *modelShard) end() int {
	if len(s.records) == 0 {
		return s.first
	}
	return s.records[len(s.records)-1]
}

var (
	errModelTrimmed = errors.New("trimmed")
	errModelGone    = errors.New("gone")
)

// look returns the records after a place.
func (m *modelStream) look(s *modelShard, at place, limit int) (records []int, end bool, err error) {
	if s.gone {
		return nil, false, errModelGone
	}
	after := 0
	if at.kind == upTo {
		after, _ = strconv.Atoi(at.sequence)
	}
	for _, r := range s.records {
		if r <= after {
			continue
		}
		if r <= m.trimmed && at.kind != atOldest {
			return nil, false, errModelTrimmed
		}
		if r > m.trimmed {
			records = append(records, r)
		}
	}
	if len(records) > limit {
		return records[:limit], false, nil
	}
	return records, s.closed, nil
}

// modelReader reads a modelStream with the bookkeeping of a Stream, and checks each record.
type modelReader struct {
	stream *modelStream
	*Stream
	seen map[int]bool // the records up to the checkpoint: false if it is known to be missing

	begin     frontier     // where it began, or went on after a loss
	seenThen  map[int]bool // seen at that time
	losses    int
	snapshots []snapshot
}

// snapshot is what had been seen at a checkpoint.
type snapshot struct {
	checkpoint string
	seen       map[int]bool
}

func (r *modelReader) resume(t *rapid.T, from snapshot) {
	r.Stream = &Stream{identity: testIdentity, cursors: map[string]*cursor{}}
	state, err := r.decode(from.checkpoint)
	if err != nil {
		t.Fatalf("checkpoint %q: %v", from.checkpoint, err)
	}
	r.state, r.seen = state, maps.Clone(from.seen)
	r.begin, r.seenThen = frontier{slices.Clone(state.members)}, maps.Clone(from.seen)
	r.relist(t)
}

// relist does what Stream.discover does.
func (r *modelReader) relist(t *rapid.T) {
	r.listing = r.stream.list()
	r.listAt = time.Now().Add(time.Hour)
	r.recover(t, r.adopt(r.state.join(r.listing)))
}

// recover goes on after a loss.
func (r *modelReader) recover(t *rapid.T, err error) {
	var trimmed *TrimmedError
	if errors.As(err, &trimmed) {
		r.losses++
		r.resume(t, snapshot{trimmed.Resume, r.seen})
	}
}

// look looks at one shard, as Stream.look does.
func (r *modelReader) look(t *rapid.T, m member, limit int) {
	shard := r.shard(m.id)
	records, end, err := r.stream.look(shard, m.at, limit)
	switch {
	case err != nil && m.at.kind == atOldest:
		if errors.Is(err, errModelGone) {
			r.finish(m.id)
		}
	case err != nil:
		r.relist(t)
		if r.state.has(m) {
			r.recover(t, r.trimmed(m.id))
		}
	default:
		for _, record := range records {
			r.check(t, shard, record)
			r.seen[record] = true
			r.state.read(m.id, strconv.Itoa(record))
			r.snapshots = append(r.snapshots, snapshot{r.state.encode(r.identity), maps.Clone(r.seen)})
		}
		if end {
			r.finish(m.id)
		}
	}
	if r.listAt.IsZero() {
		r.relist(t)
	}
}

func (r *modelReader) shard(id string) *modelShard {
	i := slices.IndexFunc(r.stream.shards, func(s *modelShard) bool { return s.id == id })
	return r.stream.shards[i]
}

// check asserts that a record comes in its turn: for the first time, and after all that comes
// before it in its shard and in those before that.
func (r *modelReader) check(t *rapid.T, s *modelShard, record int) {
	if r.seen[record] {
		t.Fatalf("record %d of %s comes twice", record, s.id)
	}
	for ; s != nil; s = s.parent {
		for _, earlier := range s.records {
			if _, accounted := r.seen[earlier]; accounted || earlier >= record {
				continue
			}
			if !r.known(s, earlier) {
				t.Fatalf("record %d comes before record %d of %s; the reader began at %+v, the stream lists %+v", record, earlier, s.id, r.begin, r.listing.shards)
			}
			r.seen[earlier] = false
		}
	}
}

// known reports whether the reader knows, or wants it so, that a record is missing: it asked for
// the oldest there is, and had nothing since that comes before the record. Or it went on after a
// loss in a shard that is known to come after others, and will be told of the loss in this one
// when it looks at it.
func (r *modelReader) known(s *modelShard, record int) bool {
	if record > r.stream.trimmed {
		return false
	}
	asked := true
	for up := s; up != nil; up = up.parent {
		if i := r.begin.index(up.id); i >= 0 {
			kind := r.begin.members[i].at.kind
			asked = kind == atOldest || kind == skipped || up.forgot
			break
		}
	}
	for ; s != nil && asked; s = s.parent {
		for _, earlier := range s.records {
			asked = asked && (earlier > record || !r.seen[earlier] || r.seenThen[earlier])
		}
	}
	return asked
}
