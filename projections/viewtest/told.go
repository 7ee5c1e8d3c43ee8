package viewtest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"parley/events"
	"parley/events/logtest"
	"parley/projections"
)

// told is a region with a log and the views of it.
type told struct {
	t      *testing.T
	log    events.Log
	views  projections.Views
	gens   *projections.Generations
	engine *projections.Engine
	n      uint32
	rooms  []events.Stream
}

func tell(t *testing.T, v projections.Views) *told {
	r := &told{t: t, log: logtest.NewModel(), views: v, gens: projections.NewGenerations(v)}
	r.gens.Fresh = time.Millisecond
	r.engine = projections.NewEngine(r.log, v, projections.All()...).In(r.gens)
	for range 3 {
		id := r.id("ada")
		room := events.RoomStream(id.String())
		r.rooms = append(r.rooms, room)
		r.happen(id, room, "ada", events.RoomCreated{Name: "a room"})
	}
	r.talk(20)
	return r
}

// id is the next id of an actor: of a millisecond of its own.
func (r *told) id(actor string) events.ID {
	var id events.ID
	r.n++
	if err := id.SetTime(1_700_000_000_000 + uint64(r.n)); err != nil {
		r.t.Fatal(err)
	}
	mark := events.Mark(actor)
	copy(id[6:], mark[:])
	binary.BigEndian.PutUint32(id[12:], r.n)
	return id
}

// happen appends an event and folds it.
func (r *told) happen(id events.ID, stream events.Stream, actor string, p events.Payload) {
	r.t.Helper()
	e, err := events.New(id, stream, actor, "eu", p)
	if err == nil {
		_, _, err = r.log.Append(r.t.Context(), e)
	}
	if err == nil {
		_, err = r.engine.Apply(r.t.Context(), []projections.Arrival{{Event: e}})
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// talk lets something of every kind happen, so often.
func (r *told) talk(times int) {
	r.t.Helper()
	for i := range times {
		room, actor := r.rooms[i%len(r.rooms)], []string{"ada", "bob"}[i%2]
		id := r.id(actor)
		r.happen(id, room, actor, events.MessagePosted{Text: events.Plain("hello")})
		r.happen(r.id(actor), room, actor, events.MessagePosted{Text: events.Plain("a reply"), Thread: &id})
		r.happen(r.id(actor), room, actor, events.MessageEdited{Message: id, Text: events.Plain("edited")})
		r.happen(r.id("eve"), room, "eve", events.ReactionAdded{Message: id, Emoji: ":tada:"})
		r.happen(r.id(actor), room, actor, events.MemberJoined{User: fmt.Sprint("guest-", i), Role: events.RoleMember})
		r.happen(r.id(actor), events.UserStream(actor), actor, events.RoomRead{Room: room.Name(), UpTo: id})
		r.happen(r.id(actor), events.UserStream(actor), actor, events.UserProfileSet{Name: events.Plain("who")})
		r.happen(r.id("eu"), events.RegionStream("eu"), "eu", events.RegionBeat{})
	}
}

func (r *told) rebuilder() *projections.Rebuilder {
	gens := projections.NewGenerations(r.views)
	b := projections.NewRebuilder(r.log, r.views, gens)
	b.Grace, b.Settle, b.Slice, b.Parts = 20*time.Millisecond, 20*time.Millisecond, time.Millisecond, 2
	return b
}

// run steps to the end, every step by another who knows what was kept only, while more happens.
func (r *told) run(b *projections.Rebuild, err error) *projections.Rebuild {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
	for b.Phase != projections.Done {
		if err := r.rebuilder().Step(r.t.Context(), b); err != nil {
			r.t.Fatalf("step: %v", err)
		}
		text, err := json.Marshal(b)
		if err != nil {
			r.t.Fatal(err)
		}
		b = new(projections.Rebuild)
		if err := json.Unmarshal(text, b); err != nil {
			r.t.Fatal(err)
		}
		if !b.Audit {
			r.talk(1)
		}
	}
	return b
}

// wantReads checks that what is read is what the log adds up to.
func (r *told) wantReads() {
	r.t.Helper()
	time.Sleep(2 * r.gens.Fresh)
	want := NewModel()
	engine := projections.NewEngine(r.log, want, projections.All()...)
	for e, err := range r.log.Scan(r.t.Context(), events.Part{Of: 1}, events.Key{}) {
		if err == nil {
			_, err = engine.Apply(r.t.Context(), []projections.Arrival{{Event: e}})
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
	for partition, views := range byPartition(scan(r.t, want, 1000)) {
		got, err := r.gens.Views().Query(r.t.Context(), partition, projections.Range{Limit: 10_000})
		if err != nil {
			r.t.Fatal(err)
		}
		if len(got) != len(views) {
			r.t.Fatalf("%d views are read, want %d", len(got), len(views))
		}
		for i := range got {
			if got[i].Key != views[i].Key || string(got[i].Body) != string(views[i].Body) {
				r.t.Fatalf("a view is read as\n     %v %s\nwant %v %s", got[i].Key, got[i].Body, views[i].Key, views[i].Body)
			}
		}
	}
}

func byPartition(views []projections.View) map[string][]projections.View {
	all := map[string][]projections.View{}
	for _, v := range views {
		all[v.Key.Partition] = append(all[v.Key.Partition], v)
	}
	return all
}
