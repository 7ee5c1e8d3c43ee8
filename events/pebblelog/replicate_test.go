package pebblelog

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"parley/events"
)

// generator draws events that often meet under one id.
type generator struct {
	room events.Stream
	ids  []events.ID
}

func newGenerator(t *rapid.T) generator {
	g := generator{room: newRoom(t)}
	for range 5 {
		g.ids = append(g.ids, newID(t))
	}
	return g
}

func (g generator) event(t *rapid.T) events.Event {
	return message(t, g.room,
		rapid.SampledFrom(g.ids).Draw(t, "id"),
		rapid.SampledFrom([]string{"asia", "europe"}).Draw(t, "region"),
		fmt.Sprintf("text %d", rapid.IntRange(0, 2).Draw(t, "text")))
}

func (g generator) records(t *rapid.T) []Record {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Record {
		return Record{Event: g.event(t), At: unixNano(int64(rapid.IntRange(-2, 2).Draw(t, "at")))}
	}), 0, 8).Draw(t, "records")
}

// content is all that a log holds, but for the positions, which are a region's own.
func content(t fatal, l *Log) map[string]string {
	t.Helper()
	rows, more, err := l.scan([]byte{eventKind}, []byte{eventKind + 1}, false, 0)
	if err != nil || more {
		t.Fatalf("scan: more %v, error %v", more, err)
	}
	all := map[string]string{}
	for _, row := range rows {
		setPosition(row.value, 0)
		all[string(row.key)] = string(row.value)
	}
	return all
}

// TestReplicateConverges: logs that were given the same records, in any order, in any groups, any
// number of times, are equal byte for byte.
func TestReplicateConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := newGenerator(t)
		records := g.records(t)
		var want map[string]string
		for range rapid.IntRange(2, 4).Draw(t, "logs") {
			l, err := Open("log", Options{FS: vfs.NewMem()})
			if err != nil {
				t.Fatalf("%v", err)
			}
			defer func() { _ = l.Close() }()
			order := rapid.Permutation(append(records, records...)).Draw(t, "order")
			for len(order) > 0 {
				n := rapid.IntRange(1, len(order)).Draw(t, "group")
				if err := l.Replicate(context.Background(), order[:n]); err != nil {
					t.Fatalf("%v", err)
				}
				order = order[n:]
			}
			checkTail(t, l)
			got := content(t, l)
			if want == nil {
				want = got
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Fatalf("logs differ:\n%s", d)
			}
		}
	})
}

// TestReplicateRegions lets regions accept what they like and then hear of each other through
// their tails, as a region's replicator does.
func TestReplicateRegions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := newGenerator(t)
		names := []string{"asia", "europe", "america"}
		logs, sent := map[string]*Log{}, map[string]uint64{}
		now := int64(0)
		for _, name := range names {
			l, err := Open("log", Options{FS: vfs.NewMem(), Now: func() time.Time { now++; return unixNano(now / 3) }})
			if err != nil {
				t.Fatalf("%v", err)
			}
			defer func() { _ = l.Close() }()
			logs[name] = l
		}
		name := rapid.SampledFrom(names)
		// send passes on the next records that a region has accepted itself.
		send := func(t *rapid.T, from string, limit int) {
			if sent[from] == logs[from].Head() {
				return
			}
			records, err := logs[from].Tail(context.Background(), sent[from], limit)
			if err != nil {
				t.Fatalf("%v", err)
			}
			sent[from] = records[len(records)-1].Position
			var own []Record
			for _, r := range records {
				if r.Event.Region == from {
					own = append(own, r)
				}
			}
			for _, to := range names {
				if to != from {
					if err := logs[to].Replicate(context.Background(), own); err != nil {
						t.Fatalf("%v", err)
					}
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				e, at := g.event(t), name.Draw(t, "name")
				e.Region = at
				_, _, _ = logs[at].Append(context.Background(), e) // some conflict
			},
			"send": func(t *rapid.T) {
				send(t, name.Draw(t, "from"), rapid.IntRange(1, 5).Draw(t, "limit"))
			},
		})
		for _, from := range names {
			for sent[from] < logs[from].Head() {
				send(t, from, 100)
			}
		}
		want := content(t, logs["asia"])
		for _, name := range names[1:] {
			if d := cmp.Diff(want, content(t, logs[name])); d != "" {
				t.Fatalf("%s differs:\n%s", name, d)
			}
		}
	})
}

func TestReplicate(t *testing.T) {
	l := openTemp(t, Options{FS: vfs.NewMem(), Now: func() time.Time { return unixNano(10) }})
	room, id := newRoom(t), newID(t)
	mustAppend(t, l, message(t, room, id, "asia", "hello"))
	for _, step := range []struct {
		name   string
		region string
		text   string
		at     int64
		wins   bool
		heads  uint64
	}{
		{"the same", "asia", "hello", 10, true, 1},
		{"earlier", "europe", "other", 9, false, 1},
		{"later of another region", "europe", "hello", 11, true, 2},
		{"at once of a lesser region", "asia", "zzz", 11, false, 2},
		{"at once with lesser content", "europe", "hell", 11, false, 2},
		{"later with other content", "asia", "other", 12, true, 3},
		{"the same, later", "asia", "other", 14, true, 3},
		{"earlier than that", "europe", "hello", 13, false, 3},
	} {
		before, err := l.Get(t.Context(), room, id)
		if err != nil {
			t.Fatal(err)
		}
		e := message(t, room, id, step.region, step.text)
		if err := l.Replicate(t.Context(), []Record{{Event: e, At: unixNano(step.at)}}); err != nil {
			t.Fatal(err)
		}
		want := before
		if step.wins {
			want = e
		}
		if got, err := l.Get(t.Context(), room, id); err != nil || events.Encode(got) != events.Encode(want) {
			t.Errorf("%s: got %+v, error %v", step.name, got, err)
		}
		if l.Head() != step.heads {
			t.Errorf("%s: head is %d, want %d", step.name, l.Head(), step.heads)
		}
	}
	records := follow(t, l, 1)
	for i, r := range records {
		if r.Modified != (i > 0) {
			t.Errorf("position %d: modified is %v", r.Position, r.Modified)
		}
	}
	checkTail(t, l)

	bad := message(t, room, newID(t), "asia", "hello")
	bad.Stream = "attic"
	if err := l.Replicate(t.Context(), []Record{{Event: bad}}); events.IsInvalid(err) == nil {
		t.Errorf("replicated an invalid stream: %v", err)
	}
	if err := l.Replicate(t.Context(), nil); err != nil {
		t.Errorf("replicate nothing: %v", err)
	}
}

func TestReplicateMany(t *testing.T) {
	l := openTemp(t, Options{})
	room := newRoom(t)
	records := make([]Record, 10*maxRequest+1)
	for i := range records {
		records[i] = Record{Event: newMessage(t, room), At: time.Now()}
	}
	if err := l.Replicate(t.Context(), records); err != nil {
		t.Fatal(err)
	}
	for i, r := range follow(t, l, 100) {
		if r.Event.ID != records[i].Event.ID || !r.At.Equal(records[i].At) {
			t.Fatalf("position %d holds another record", r.Position)
		}
	}
	if l.Head() != uint64(len(records)) {
		t.Errorf("head is %d, want %d", l.Head(), len(records))
	}
}
