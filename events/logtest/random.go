package logtest

import (
	"context"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"parley/events"
)

// testModel does the same random calls on a driver's log and on the [Model], and wants the same
// answers.
func testModel(t *testing.T, d Driver) {
	dir := t.TempDir()
	log := d.Open(t, dir)
	t.Cleanup(func() { closeLog(t, log) })
	rapid.Check(t, func(rt *rapid.T) {
		m := newMachine(rt)
		actions := map[string]func(*rapid.T){
			"append": func(rt *rapid.T) { m.append(rt, log) },
			"find":   func(rt *rapid.T) { m.find(rt, log) },
			"get":    func(rt *rapid.T) { m.get(rt, log) },
			"read":   func(rt *rapid.T) { m.read(rt, log) },
		}
		if !d.Volatile && rapid.IntRange(0, 9).Draw(rt, "reopen") == 0 {
			closeLog(t, log)
			log = d.Open(t, dir)
		}
		rt.Repeat(actions)
	})
}

// machine draws calls from few streams and ids, so that they meet.
type machine struct {
	model   *Model
	streams []events.Stream
	ids     []events.ID
}

// newMachine takes streams of its own: the driver's log is shared by all runs.
func newMachine(t *rapid.T) *machine {
	m := &machine{model: NewModel()}
	name := newID(t, "ada").String()
	for _, user := range []string{name, name + "0", name + "-"} {
		m.streams = append(m.streams, events.UserStream(user))
	}
	for i := range 12 { // neighbours, and some further apart
		id := events.ID{5: 1, 14: byte(i / 4), 15: byte(i % 4 * 85)}
		m.ids = append(m.ids, id)
	}
	return m
}

func (m *machine) stream(t *rapid.T) events.Stream {
	return rapid.SampledFrom(m.streams).Draw(t, "stream")
}

func (m *machine) id(t *rapid.T) events.ID { return rapid.SampledFrom(m.ids).Draw(t, "id") }

// event draws an event. Many have one id, and some are of a former release, whose log held one of
// each id.
func (m *machine) event(t *rapid.T) events.Event {
	stream := m.stream(t)
	content := rapid.IntRange(0, 3).Draw(t, "content")
	region := rapid.SampledFrom([]string{"here", "there"}).Draw(t, "region")
	e, err := events.New(m.id(t), stream, stream.Name(), region, events.UserProfileSet{Name: events.Plain(fmt.Sprint("name ", content))})
	if err != nil {
		t.Fatal(err)
	}
	if content == 0 {
		return former(e)
	}
	return e
}

func (m *machine) append(t *rapid.T, log events.Log) {
	e := m.event(t)
	got, gotRepeat, gotErr := log.Append(context.Background(), e)
	want, wantRepeat, wantErr := m.model.Append(context.Background(), e)
	if gotRepeat != wantRepeat || gotErr != nil || wantErr != nil {
		t.Fatalf("repeat is %v, want %v; error %v, want %v", gotRepeat, wantRepeat, gotErr, wantErr)
	}
	wantEqual(t, got, want)
}

func (m *machine) find(t *rapid.T, log events.Log) {
	stream, id := m.stream(t), m.id(t)
	got, gotErr := events.Find(context.Background(), log, stream, id, rapid.Bool().Draw(t, "stale"))
	want, wantErr := events.Find(context.Background(), m.model, stream, id, false)
	if gotErr != nil || wantErr != nil {
		t.Fatalf("error is %v, want %v", gotErr, wantErr)
	}
	wantEvents(t, got, want)
}

func (m *machine) get(t *rapid.T, log events.Log) {
	key := m.event(t).Key()
	got, gotErr := log.GetMany(context.Background(), []events.Key{key})
	want, wantErr := m.model.GetMany(context.Background(), []events.Key{key})
	if gotErr != nil || wantErr != nil || len(got) != len(want) {
		t.Fatalf("%d events, want %d; error %v, want %v", len(got), len(want), gotErr, wantErr)
	}
	if len(want) > 0 {
		wantEqual(t, got[key], want[key])
	}
}

func (m *machine) read(t *rapid.T, log events.Log) {
	stream := m.stream(t)
	bound := rapid.SampledFrom(append([]events.ID{{}}, m.ids...))
	r := events.Range{
		After:   bound.Draw(t, "after"),
		Before:  bound.Draw(t, "before"),
		Reverse: rapid.Bool().Draw(t, "reverse"),
		Limit:   rapid.IntRange(0, 5).Draw(t, "limit"),
		Stale:   rapid.Bool().Draw(t, "stale"),
	}
	wantEvents(t, read(t, log, stream, r), read(t, m.model, stream, r))
}
