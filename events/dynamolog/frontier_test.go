package dynamolog

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parley/events"
)

// No shard is read before its parent is finished, none is forgotten, every record comes exactly
// once, from any checkpoint, however shards are split and however late they are listed.
func TestStreamFrontier(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, r := newModel(t)
		t.Repeat(actions(m, r))
		drain(t, m, r)
		if r.losses > 0 {
			t.Fatalf("the reader believes %d times that something was lost", r.losses)
		}
	})
}

// The same while records are trimmed: the reader never skips any unknowingly.
func TestStreamFrontierTrimmed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, r := newModel(t)
		all := actions(m, r)
		all["trim"] = func(t *rapid.T) { m.trim(rapid.IntRange(0, m.last).Draw(t, "up to")) }
		all["purge"] = func(t *rapid.T) {
			for _, s := range m.shards {
				m.purge(s, rapid.Bool().Draw(t, "forget"))
			}
		}
		t.Repeat(all)
		drain(t, m, r)
	})
}

func newModel(t *rapid.T) (*modelStream, *modelReader) {
	m := &modelStream{}
	for range rapid.IntRange(1, 3).Draw(t, "shards") {
		m.open(nil, false)
	}
	r := &modelReader{stream: m}
	r.snapshots = []snapshot{{"", map[int]bool{}}}
	r.resume(t, r.snapshots[0])
	return m, r
}

func actions(m *modelStream, r *modelReader) map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"write": func(t *rapid.T) {
			s := rapid.SampledFrom(m.openShards()).Draw(t, "shard")
			for range rapid.IntRange(1, 5).Draw(t, "records") {
				m.write(s)
			}
		},
		"split": func(t *rapid.T) {
			s := rapid.SampledFrom(m.openShards()).Draw(t, "shard")
			m.split(s, rapid.SliceOfN(rapid.Bool(), 1, 2).Draw(t, "hidden")...)
		},
		"reveal": func(t *rapid.T) { rapid.SampledFrom(m.shards).Draw(t, "shard").hidden = false },
		"list":   func(t *rapid.T) { r.relist(t) },
		"look": func(t *rapid.T) {
			limit := rapid.IntRange(1, 4).Draw(t, "limit")
			if open := r.state.readable(); len(open) > 0 {
				r.look(t, rapid.SampledFrom(open).Draw(t, "member"), limit)
			}
		},
		"round": func(t *rapid.T) {
			for _, member := range r.state.readable() {
				if r.state.has(member) {
					r.look(t, member, 2)
				}
			}
		},
		"cut": func(t *rapid.T) { r.resume(t, rapid.SampledFrom(r.snapshots).Draw(t, "checkpoint")) },
	}
}

// drain reads all there is. Nothing happens to the stream meanwhile.
func drain(t *rapid.T, m *modelStream, r *modelReader) {
	for _, s := range m.shards {
		s.hidden = false
	}
	losses := r.losses
	for range 2*len(m.shards) + 4 {
		r.relist(t)
		for _, member := range r.state.readable() {
			if r.state.has(member) {
				r.look(t, member, m.last)
			}
		}
	}
	for _, s := range m.shards {
		for _, record := range s.records {
			if record > m.trimmed && !r.seen[record] {
				t.Fatalf("record %d of %s never came; the reader is at %+v of %+v", record, s.id, r.state, r.listing.shards)
			}
		}
	}
	if r.losses > losses+len(m.shards) {
		t.Fatalf("%d losses are reported without a trim", r.losses-losses)
	}
	if members, shards := len(r.state.members), len(m.openShards()); members != shards {
		t.Fatalf("a frontier of %d members for %d open shards: %+v", members, shards, r.state)
	}
}

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
	*ChangeReader
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
	r.ChangeReader = &ChangeReader{identity: testIdentity, cursors: map[string]*cursor{}}
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
	var trimmed *events.TrimmedError
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

// known reports whether the reader knows that a record is missing: it asked for the oldest record, and
// has read nothing since that precedes the record. Or it resumed after a loss in a shard that is known
// to follow others, and detects the loss in this one when it reads it.
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

const testIdentity = "0123456789abcdef"

func FuzzCheckpoint(f *testing.F) {
	for _, seed := range []string{
		"", "s1", "s1//", "s1/0123456789abcdef/",
		"s1/0123456789abcdef/shardId-00000001795476538855-7a94a7ce=000000000000000000501",
		"s1/0123456789abcdef/a=oldest,b=first,c=done,d=gone,e=1",
		"s1/0123456789abcdef/a=1,a=2", "s1/0123456789abcdef/a=1,", "s1/0123456789abcdef/a", "s2/0123456789abcdef/a=1",
		"s1/fedcba9876543210/a=1", "s1/0123456789abcdef/a=" + strings.Repeat("9", 41),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		decoded, err := decodeFrontier(text, testIdentity)
		if err != nil {
			if !errors.Is(err, events.ErrCheckpoint) && !errors.Is(err, ErrOtherStream) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if again := decoded.encode(testIdentity); again != text {
			t.Fatalf("%q was read and written as %q", text, again)
		}
	})
}

func TestStreamCheckpointOfAnother(t *testing.T) {
	f := frontier{[]member{{"shardId-00000001795476538855-7a94a7ce", place{upTo, "000000000000000000501"}}}}
	text := f.encode(testIdentity)
	if len(text) != 79 {
		t.Errorf("a usual checkpoint takes %d bytes: %s", len(text), text)
	}
	if _, err := decodeFrontier(text, streamIdentity("here", "arn")); !errors.Is(err, ErrOtherStream) {
		t.Errorf("the checkpoint of another stream: error %v", err)
	}
	if streamIdentity("here", "arn") == streamIdentity("there", "arn") {
		t.Error("streams of two regions have one identity")
	}
	for _, bad := range []string{"x", "12", "s0" + text[2:], text[:50], text + ",", text + "x", strings.ToUpper(text)} {
		if _, err := decodeFrontier(bad, testIdentity); !errors.Is(err, events.ErrCheckpoint) {
			t.Errorf("%q: error %v", bad, err)
		}
	}
}

func TestCompareSequences(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"000000000000000000009", "000000000000000000010", -1},
		{"820400000000000001192334", "20500000000000000910398", 1},
		{"07", "7", 0},
		{"0", "00", 0},
	} {
		if got := compareSequences(tt.a, tt.b); got != tt.want {
			t.Errorf("%s and %s compare as %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestStreamPace(t *testing.T) {
	quick := NewChangeReader(at("http://localhost"), "events", PollEvery(50*time.Millisecond)).pace
	for _, tt := range []struct{ idle, quick, aws time.Duration }{
		{0, time.Millisecond, 250 * time.Millisecond},
		{80 * time.Millisecond, 10 * time.Millisecond, 250 * time.Millisecond},
		{time.Hour, 50 * time.Millisecond, 250 * time.Millisecond},
	} {
		if q, a := quick.after(tt.idle), awsPace.after(tt.idle); q != tt.quick || a != tt.aws {
			t.Errorf("after %v idle: again after %v, on AWS %v; want %v and %v", tt.idle, q, a, tt.quick, tt.aws)
		}
	}
}
