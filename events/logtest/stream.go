package logtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/events"
)

// StreamDriver opens logs of one kind and reads their change streams.
type StreamDriver struct {
	// Open and Volatile are as in [Driver].
	Open     func(t testing.TB, dir string) events.Log
	Volatile bool

	// Follow returns a new reader of the change stream of a log that Open returned.
	Follow func(t testing.TB, log events.Log) events.Replica

	// EmitUndecodable puts a record into the change stream of a log that is not an event.
	EmitUndecodable func(t testing.TB, log events.Log)

	// Trim removes everything that is in the change stream from it. It is nil for a driver whose
	// change stream is never trimmed, or that cannot be made to trim it.
	Trim func(t testing.TB, log events.Log)
}

// RunStream holds a driver to the contracts of [events.Follower] and [events.Replica]. What it calls
// order is that of one stream: the records of different streams may come in any order.
func RunStream(t *testing.T, d StreamDriver) {
	tests := []struct {
		name string
		test func(*testing.T, StreamDriver)
	}{
		{"Order", testStreamOrder},
		{"RepeatsEmitNothing", testStreamRepeats},
		{"Replicas", testStreamReplicas},
		{"Checkpoints", testStreamCheckpoints},
		{"BadCheckpoint", testStreamBadCheckpoint},
		{"Wait", testStreamWait},
		{"ManyWritersAndFollowers", testStreamRace},
		{"Undecodable", testStreamUndecodable},
		{"Unreadable", testStreamUnreadable},
		{"Snapshot", testStreamSnapshot},
		{"ReplicateConverges", testReplicateConverges},
		{"ReplicateRace", testReplicateRace},
		{"ReplicateRefuses", testReplicateRefuses},
		{"Regions", testStreamRegions},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.test(t, d)
		})
	}
	if d.Trim != nil {
		t.Run("Trim", func(t *testing.T) { t.Parallel(); testStreamTrim(t, d) })
	}
	if !d.Volatile {
		t.Run("Reopen", func(t *testing.T) { t.Parallel(); testStreamReopen(t, d) })
	}
}

// open opens a log in a new place, with one reader of its change stream.
func (d StreamDriver) open(t *testing.T) (events.Log, events.Replica) {
	t.Helper()
	log := Driver{Open: d.Open}.open(t)
	return log, d.Follow(t, log)
}

// fullTime bounds the tests: what never comes must not hang.
const fullTime = 2 * time.Minute

// follow reads exactly n records after a checkpoint.
func follow(t fatal, f events.Follower, checkpoint string, limit, n int) []events.Record {
	t.Helper()
	all, err := tryFollow(f, checkpoint, limit, n)
	if err != nil {
		t.Fatalf("after %d of %d records: %v", len(all), n, err)
	}
	return all
}

func tryFollow(f events.Follower, checkpoint string, limit, n int) (all []events.Record, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), fullTime)
	defer cancel()
	for len(all) < n {
		got, err := f.Next(ctx, checkpoint, min(limit, n-len(all)), true)
		if err != nil {
			return all, err
		}
		if len(got) == 0 || len(got) > limit {
			return all, fmt.Errorf("Next returned %d records, want 1 to %d", len(got), limit)
		}
		all = append(all, got...)
		checkpoint = got[len(got)-1].Sequence
	}
	return all, nil
}

// byStream groups events by stream, in their order.
func byStream(all []events.Event) map[events.Stream][]events.Event {
	of := map[events.Stream][]events.Event{}
	for _, e := range all {
		of[e.Stream] = append(of[e.Stream], e)
	}
	return of
}

// wantRecords checks that the records are those of exactly these events, in the order of each stream.
func wantRecords(t fatal, records []events.Record, want []events.Event) {
	t.Helper()
	var got []events.Event
	seen := map[string]bool{}
	for i, r := range records {
		if r.Err != nil {
			t.Fatalf("record %d has error %v", i, r.Err)
		}
		if r.Sequence == "" || seen[r.Sequence] {
			t.Fatalf("record %d has the sequence %q, seen before: %v", i, r.Sequence, seen[r.Sequence])
		}
		seen[r.Sequence] = true
		got = append(got, r.Event)
	}
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	last := map[events.Stream]events.Number{}
	for i, r := range records {
		if r.Number.Compare(last[r.Event.Stream]) <= 0 {
			t.Fatalf("record %d has the number %q behind %q of its stream", i, r.Number, last[r.Event.Stream])
		}
		last[r.Event.Stream] = r.Number
	}
	of := byStream(got)
	for stream, want := range byStream(want) {
		wantEvents(t, of[stream], want)
	}
}

// appendAll appends n new events to some rooms in turn, one after the other.
func appendAll(t fatal, log events.Log, n int, rooms ...events.Stream) []events.Event {
	t.Helper()
	var all []events.Event
	for i := range n {
		e := newMessage(t, rooms[i%len(rooms)], "hello")
		mustAppend(t, log, e)
		all = append(all, e)
	}
	return all
}

func rooms(t fatal, n int) (all []events.Stream) {
	for range n {
		all = append(all, newRoom(t))
	}
	return all
}

func testStreamOrder(t *testing.T, d StreamDriver) {
	log, f := d.open(t)
	before := time.Now()
	want := appendAll(t, log, 60, rooms(t, 5)...)
	records := follow(t, f, "", 7, len(want))
	wantRecords(t, records, want)
	for i, r := range records {
		if !r.At.IsZero() && (r.At.Before(before.Add(-time.Second)) || r.At.After(time.Now())) {
			t.Errorf("record %d was accepted at %v, not just now", i, r.At)
		}
	}
	// A limit that is no limit counts as one.
	if got, err := d.Follow(t, log).Next(t.Context(), "", 0, true); err != nil || len(got) != 1 {
		t.Errorf("with limit 0: %d records, error %v", len(got), err)
	}
}

// An append or a replicated event that is there already does not appear in the change stream.
func testStreamRepeats(t *testing.T, d StreamDriver) {
	log, f := d.open(t)
	room := newRoom(t)
	want := appendAll(t, log, 3, room)
	for _, e := range want {
		if _, repeat, err := log.Append(t.Context(), from("there", e)); err != nil || !repeat {
			t.Fatalf("append again: repeat %v, error %v", repeat, err)
		}
		if err := f.Replicate(t.Context(), []events.Record{{Event: e, At: time.Now()}}); err != nil {
			t.Fatal(err)
		}
	}
	want = append(want, appendAll(t, log, 1, room)...)
	wantRecords(t, follow(t, f, "", 10, len(want)), want)
}

// A record says whether its event was appended here or came from another region. Of an event that came
// both ways it is the first.
func testStreamReplicas(t *testing.T, d StreamDriver) {
	log, f := d.open(t)
	room := newRoom(t)
	var want []events.Event
	for i := range 4 {
		e := from("there", newMessage(t, room, "hello"))
		want = append(want, e)
		if i%2 == 0 {
			mustAppend(t, log, e)
		}
		if err := f.Replicate(t.Context(), []events.Record{{Event: from("elsewhere", e), At: time.Now()}}); err != nil {
			t.Fatal(err)
		}
		if _, repeat, err := log.Append(t.Context(), e); err != nil || !repeat {
			t.Fatalf("append again: repeat %v, error %v", repeat, err)
		}
		if i%2 == 1 {
			want[i].Region = "elsewhere"
		}
	}
	records := follow(t, f, "", 1, len(want))
	wantRecords(t, records, want)
	for i, r := range records {
		if r.Replica != (i%2 == 1) {
			t.Errorf("record %d is of a replica: %v", i, r.Replica)
		}
	}
}

// From the checkpoint of any record a new reader, and one that has read on, return all that follows.
func testStreamCheckpoints(t *testing.T, d StreamDriver) {
	log, f := d.open(t)
	want := appendAll(t, log, 40, rooms(t, 4)...)
	all := follow(t, f, "", 9, len(want))
	wantRecords(t, all, want)
	for _, n := range []int{0, 1, 8, 9, 20, 39} {
		checkpoint := ""
		if n > 0 {
			checkpoint = all[n-1].Sequence
		}
		var rest []events.Event
		for _, r := range all[n:] {
			rest = append(rest, r.Event)
		}
		for name, f := range map[string]events.Follower{"new": d.Follow(t, log), "used": f} {
			for _, limit := range []int{3, 100} {
				got, err := tryFollow(f, checkpoint, limit, len(rest))
				if err != nil {
					t.Fatalf("a %s reader after %d records: %v", name, n, err)
				}
				wantRecords(t, got, rest)
			}
		}
	}
}

func testStreamBadCheckpoint(t *testing.T, d StreamDriver) {
	log, f := d.open(t)
	appendAll(t, log, 1, newRoom(t))
	for _, wait := range []bool{true, false} {
		if _, err := f.Next(t.Context(), "no checkpoint", 1, wait); !errors.Is(err, events.ErrCheckpoint) {
			t.Errorf("error %v, want ErrCheckpoint", err)
		}
	}
}

func testStreamWait(t *testing.T, d StreamDriver) {
	log, f := d.open(t)
	if got, err := f.Next(t.Context(), "", 10, false); err != nil || len(got) != 0 {
		t.Errorf("of an empty change stream: %d records, error %v", len(got), err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if got, err := f.Next(short, "", 10, true); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting until the context ends: %d records, error %v", len(got), err)
	}
	checkpoint := ""
	for range 3 {
		e := newMessage(t, newRoom(t), "hello")
		var got []events.Record
		var g errgroup.Group
		g.Go(func() (err error) { got, err = tryFollow(f, checkpoint, 10, 1); return err })
		mustAppend(t, log, e)
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		wantRecords(t, got, []events.Event{e})
		checkpoint = got[0].Sequence
	}
}

func testStreamRace(t *testing.T, d StreamDriver) {
	const writers, each = 4, 25
	log, _ := d.open(t)
	want := make([][]events.Event, writers)
	got := make([][]events.Record, 3)
	var g errgroup.Group
	for i := range want {
		room := newRoom(t)
		g.Go(func() error {
			for range each {
				id, err := clock.Mint("ada")
				if err != nil {
					return err
				}
				e, err := events.New(id, room, "ada", "here", events.MessagePosted{Text: events.Plain("hello")})
				if err != nil {
					return err
				}
				if _, _, err := log.Append(context.Background(), e); err != nil {
					return err
				}
				want[i] = append(want[i], e)
			}
			return nil
		})
	}
	for i := range got {
		f := d.Follow(t, log)
		g.Go(func() (err error) { got[i], err = tryFollow(f, "", 1+6*i, writers*each); return err })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, records := range got {
		wantRecords(t, records, slices.Concat(want...))
	}
}

// A record that is not an event comes with an error, and what follows it comes.
func testStreamUndecodable(t *testing.T, d StreamDriver) {
	log, f := d.open(t)
	room := newRoom(t)
	want := appendAll(t, log, 2, room)
	d.EmitUndecodable(t, log)
	want = append(want, appendAll(t, log, 2, room)...)
	records := follow(t, f, "", 2, 5)
	bad := slices.IndexFunc(records, func(r events.Record) bool { return r.Err != nil })
	if bad < 0 || records[bad].Sequence == "" || !json.Valid(records[bad].Raw) {
		t.Fatalf("record %d of %+v is undecodable", bad, records)
	}
	rest := follow(t, d.Follow(t, log), records[bad].Sequence, 10, len(records)-bad-1)
	good := slices.Delete(slices.Clone(records), bad, bad+1)
	wantRecords(t, good, want)
	for i, r := range rest {
		if r.Sequence != records[bad+1+i].Sequence {
			t.Errorf("record %d behind the undecodable one has the sequence %q", i, r.Sequence)
		}
	}
}

// An event that this release cannot read is an event all the same.
func testStreamUnreadable(t *testing.T, d StreamDriver) {
	_, f := d.open(t)
	e, err := events.Decode(events.Stored{
		Stream: string(newRoom(t)), ID: newID(t, "ada").String(), Type: "message.sung/7", Actor: "ada", Region: "there", Data: `{"tune":"la"}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	e = e.WithDigest()
	if err := f.Replicate(t.Context(), []events.Record{{Event: e, At: time.Now()}}); err != nil {
		t.Fatal(err)
	}
	r := follow(t, f, "", 1, 1)[0]
	if _, unreadable := r.Event.Payload.(events.Unreadable); r.Err != nil || !unreadable || events.Encode(r.Event) != events.Encode(e) {
		t.Errorf("the record is %+v", r)
	}
}

func testStreamSnapshot(t *testing.T, d StreamDriver) {
	log, f := d.open(t)
	there := appendAll(t, log, 30, rooms(t, 3)...)
	var all []events.Event
	checkpoint, err := f.Snapshot(t.Context(), func(batch []events.Record) error {
		for _, r := range batch {
			all = append(all, r.Event)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	wantSet(t, all, there)
	later := appendAll(t, log, 10, rooms(t, 2)...)
	missing := map[events.ID]bool{}
	for _, e := range later {
		missing[e.ID] = true
	}
	for len(missing) > 0 {
		for _, r := range follow(t, f, checkpoint, 10, 1) {
			delete(missing, r.Event.ID)
			checkpoint = r.Sequence
		}
	}
	stop := errors.New("stop")
	if _, err := f.Snapshot(t.Context(), func([]events.Record) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("a snapshot whose consumer fails: error %v", err)
	}
}

// wantSet checks that the events are these, in any order.
func wantSet(t fatal, got, want []events.Event) {
	t.Helper()
	byRef := func(all []events.Event) []events.Event {
		all = slices.Clone(all)
		slices.SortFunc(all, compareRefs)
		return all
	}
	wantEvents(t, byRef(got), byRef(want))
}

// content returns everything that a log holds.
func content(t fatal, log events.Log) map[events.Key]events.Stored {
	t.Helper()
	all, err := collect(log.Scan(context.Background(), events.Part{Of: 1}, events.Key{}))
	if err != nil {
		t.Fatalf("scan: %v", err)
	}
	of := map[events.Key]events.Stored{}
	for _, e := range all {
		of[e.Key()] = events.Encode(e)
	}
	return of
}

// wantSame checks that two logs hold the same events, whichever region accepted them first.
func wantSame(t fatal, got, want map[events.Key]events.Stored) {
	t.Helper()
	same := func(a, b events.Stored) bool {
		a.Region, b.Region = "", ""
		return a == b
	}
	if !maps.EqualFunc(got, want, same) {
		t.Fatalf("logs differ:\n%v\n%v", got, want)
	}
}

// wantConsistent checks a log against its change stream: one record of each event shows what is in the
// log.
func wantConsistent(t fatal, log events.Log, f events.Follower) {
	t.Helper()
	want := content(t, log)
	last := map[events.Key]events.Stored{}
	for checkpoint := ""; !maps.Equal(last, want); {
		r := follow(t, f, checkpoint, 1, 1)[0]
		checkpoint = r.Sequence
		key := r.Event.Key()
		if _, again := last[key]; again {
			t.Fatalf("an event has two records")
		}
		last[key] = events.Encode(r.Event)
	}
}

// contested returns records that meet under a few ids, with several contents, regions and times, some
// of a former release.
func contested(t fatal, n int) []events.Record {
	t.Helper()
	room := newRoom(t)
	ids := []events.ID{newID(t, "ada"), newID(t, "ada"), newID(t, "ada")}
	var all []events.Record
	for range n {
		same := equivocate(t, room, ids[rand.N(len(ids))], 3)
		e := from([]string{"asia", "europe"}[rand.N(2)], same[rand.N(len(same))])
		all = append(all, events.Record{Event: e, At: time.Unix(0, rand.Int64N(3)).UTC()})
	}
	return all
}

// contentOf is what a log holds that was given these records.
func contentOf(records []events.Record) map[events.Key]events.Stored {
	of := map[events.Key]events.Stored{}
	for _, r := range records {
		of[r.Event.Key()] = events.Encode(r.Event)
	}
	return of
}

// Logs that were given the same records are equal, and nothing is lost, whatever the order, the batches
// and the duplicates.
func testReplicateConverges(t *testing.T, d StreamDriver) {
	for range 5 {
		records := contested(t, 12)
		for range 3 {
			log, f := d.open(t)
			order := slices.Concat(records, records)
			rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
			for len(order) > 0 {
				n := 1 + rand.N(len(order))
				if err := f.Replicate(t.Context(), order[:n]); err != nil {
					t.Fatal(err)
				}
				order = order[n:]
			}
			wantSame(t, content(t, log), contentOf(records))
			wantConsistent(t, log, f)
		}
	}
}

// The same when many write at once.
func testReplicateRace(t *testing.T, d StreamDriver) {
	records := contested(t, 60)
	for _, writers := range []int{1, 6} {
		log, f := d.open(t)
		var g errgroup.Group
		for i := range writers {
			writer := d.Follow(t, log)
			g.Go(func() error {
				for j := range records {
					if err := writer.Replicate(context.Background(), records[(j*7+i*11)%len(records):][:1]); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		wantSame(t, content(t, log), contentOf(records))
		wantConsistent(t, log, f)
	}
}

func testReplicateRefuses(t *testing.T, d StreamDriver) {
	_, f := d.open(t)
	bad := newMessage(t, newRoom(t), "hello")
	bad.Stream = "attic"
	if err := f.Replicate(t.Context(), []events.Record{{Event: bad, At: time.Now()}}); events.IsInvalid(err) == nil {
		t.Errorf("an event of no stream: error %v", err)
	}
	if err := f.Replicate(t.Context(), nil); err != nil {
		t.Errorf("no events: error %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	good := events.Record{Event: newMessage(t, newRoom(t), "hello"), At: time.Now()}
	if err := f.Replicate(ended, []events.Record{good}); !errors.Is(err, context.Canceled) {
		t.Errorf("after the context has ended: error %v", err)
	}
}

// Regions that accept what they like, whichever region it names, and then pass to each other what they
// accepted themselves, end up equal: so a replicator works.
func testStreamRegions(t *testing.T, d StreamDriver) {
	names := []string{"asia", "europe", "us"}
	logs, followers := map[string]events.Log{}, map[string]events.Replica{}
	for _, name := range names {
		logs[name], followers[name] = d.open(t)
	}
	room := newRoom(t)
	ids := []events.ID{newID(t, "ada"), newID(t, "ada"), newID(t, "ada"), newID(t, "ada")}
	checkpoints := map[string]string{}
	var accepted []events.Record
	for range 4 {
		for _, name := range names {
			for range 3 {
				same := equivocate(t, room, ids[rand.N(len(ids))], 2)
				e := from(names[rand.N(len(names))], same[rand.N(len(same))])
				if _, _, err := logs[name].Append(t.Context(), e); err != nil {
					t.Fatal(err)
				}
				accepted = append(accepted, events.Record{Event: e})
			}
			// A sentinel for its own stream shows how far to read.
			sentinel := from(name, newMessage(t, room, "sentinel"))
			mustAppend(t, logs[name], sentinel)
			accepted = append(accepted, events.Record{Event: sentinel})
			var own []events.Record
			for reached := false; !reached; {
				r := follow(t, followers[name], checkpoints[name], 1, 1)[0]
				checkpoints[name] = r.Sequence
				if !r.Replica {
					own = append(own, r)
				}
				reached = r.Event.ID == sentinel.ID
			}
			for _, to := range names {
				if to != name {
					if err := followers[to].Replicate(t.Context(), own); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	for _, name := range names {
		wantSame(t, content(t, logs[name]), contentOf(accepted))
	}
}

// What was trimmed is not skipped in silence, and reading can go on.
func testStreamTrim(t *testing.T, d StreamDriver) {
	log, f := d.open(t)
	places := rooms(t, 4)
	old := appendAll(t, log, 20, places...)
	read := follow(t, f, "", 3, 5)
	all := follow(t, f, "", 100, 20)
	d.Trim(t, log)
	later := appendAll(t, log, 8, places...)
	var trimmed *events.TrimmedError
	if _, err := f.Next(t.Context(), read[4].Sequence, 1, true); !errors.As(err, &trimmed) {
		t.Fatalf("after a checkpoint behind which records were trimmed: error %v", err)
	}
	for name, checkpoint := range map[string]string{"resumed": trimmed.Resume, "the beginning": "", "where nothing is missing": all[19].Sequence} {
		got, err := tryFollow(d.Follow(t, log), checkpoint, 3, len(later))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		wantRecords(t, got, later)
	}
	var found []events.Event
	if _, err := f.Snapshot(t.Context(), func(batch []events.Record) error {
		for _, r := range batch {
			found = append(found, r.Event)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	wantSet(t, found, slices.Concat(old, later))
}

// A checkpoint outlives the log being closed.
func testStreamReopen(t *testing.T, d StreamDriver) {
	dir := t.TempDir()
	log := d.Open(t, dir)
	places := rooms(t, 3)
	want := appendAll(t, log, 30, places...)
	first := follow(t, d.Follow(t, log), "", 4, 10)
	closeLog(t, log)
	log = d.Open(t, dir)
	defer closeLog(t, log)
	want = append(want, appendAll(t, log, 3, places...)...)
	f := d.Follow(t, log)
	wantRecords(t, append(first, follow(t, f, first[9].Sequence, 4, 23)...), want)
	wantRecords(t, follow(t, f, "", 100, 33), want)
}
