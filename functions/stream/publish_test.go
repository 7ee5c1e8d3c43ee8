package stream_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"parley/events"
	"parley/events/keys"
	"parley/events/keys/keystest"
	"parley/functions/stream"
	"parley/projections"
	"parley/projections/viewtest"
)

// What the bus refuses is sent again alone, and then parked; its neighbours are there once.
func TestBusRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		records := s.posts(12, 10)
		slow, never := records[3].Event.ID.String(), records[5].Event.ID.String()
		s.bus.refuse = func(call int, e stream.Entry) error {
			if id := idOf(e); id == never || id == slow && call < 3 {
				return errFault
			}
			return nil
		}
		s.handle(records, 12, nil)
		want := slices.Delete(ids(records), 5, 6)
		got := slices.Clone(s.bus.taken)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("on the bus are %v, want %v", got, want)
		}
		var sizes []int
		for _, call := range s.bus.calls {
			sizes = append(sizes, len(call))
		}
		if !slices.Equal(sizes, []int{10, 2, 2, 1, 1, 2}) {
			t.Errorf("the calls had %v entries", sizes)
		}
		if p := s.parked(); len(p) != 1 || p["publish/"+records[5].Event.Ref().String()+"/room/"+s.room].Error != errFault.Error() {
			t.Errorf("parked are %v", p)
		}
		s.wantFeed(ids(records)...)
	})
}

// A bus that is away fails the batch from the first record that is not known to be there.
func TestBusAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for failing, done := range map[int]int{1: 0, 2: 10, 3: 20} {
			s := newSetup(t)
			poison := events.Record{Err: errFault, Sequence: "1"}
			records := s.posts(25, 10)
			s.bus.failing = func(call int) (int, error) {
				if call >= failing && call < failing+5 {
					return 4, errFault
				}
				return 0, nil
			}
			s.handle(records, done, errFault)
			s.handle(records[done:], 25-done, nil)
			s.wantAll(records)

			// With records that are not published among them the count is that of all records.
			s = newSetup(t)
			s.OwnOnly = true
			records = s.posts(25, 10)
			records[0].Event.Region, records[12].Event.Region = "us", "us"
			batch := slices.Insert(slices.Clone(records), 5, poison)
			s.bus.failing = func(call int) (int, error) {
				if call >= 2 && call < 7 {
					return 0, errFault
				}
				return 0, nil
			}
			s.handle(batch, 12, errFault) // one foreign, one poison, ten published
			s.handle(batch[12:], len(batch)-12, nil)
			s.wantAll(slices.DeleteFunc(slices.Clone(records), func(r events.Record) bool { return r.Event.Region == "us" }))
			s.wantFeed(ids(records)...)
		}
	})
}

// wantAll checks that each of the records is on the bus, at least once.
func (s *setup) wantAll(records []events.Record) {
	s.t.Helper()
	for _, id := range ids(records) {
		if !slices.Contains(s.bus.taken, id) {
			s.t.Errorf("%s is not on the bus", id)
		}
	}
}

// Entries that the bus refuses for now, however often, are not parked: they come again until it takes them.
func TestBusBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		records := s.posts(25, 10)
		busy := map[string]bool{records[11].Event.ID.String(): true, records[17].Event.ID.String(): true}
		s.bus.refuse = func(_ int, e stream.Entry) error {
			if busy[idOf(e)] {
				return fmt.Errorf("%w: ThrottlingException", stream.ErrBusy)
			}
			return nil
		}
		for range 10 {
			s.handle(records, 10, stream.ErrBusy)
		}
		clear(busy)
		s.handle(records[10:], 15, nil)
		s.wantAll(records)
		s.wantFeed(ids(records)...)
		if p := s.parked(); len(p) > 0 {
			t.Errorf("parked are %v", p)
		}
	})
}

// A call that fails now and then is retried, without any other effect.
func TestBusHiccups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		records := s.posts(15, 10)
		s.bus.failing = func(call int) (int, error) {
			if call%3 != 0 {
				return 0, errFault
			}
			return 0, nil
		}
		s.handle(records, 15, nil)
		s.wantTaken(ids(records)...)
	})
}

// Parking what the bus refuses may fail as well: then the batch comes again from its call on.
func TestRefusedAndParkFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		records := s.posts(12, 10)
		bad := records[11].Event.ID.String()
		s.bus.refuse = func(_ int, e stream.Entry) error {
			if idOf(e) == bad {
				s.views.OnSave = func([]projections.View) viewtest.Fault { return viewtest.NotStored }
				return errFault
			}
			return nil
		}
		s.handle(records, 10, viewtest.ErrFault)
		s.views.OnSave = nil
		s.bus.refuse = nil
		s.handle(records[10:], 2, nil)
		s.wantAll(records)
	})
}

// A context that ends fails the batch, at once even while waiting to try again.
func TestCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		records := s.posts(15, 10)
		ctx, cancel := context.WithCancel(t.Context())
		s.bus.failing = func(call int) (int, error) {
			if call == 2 {
				cancel()
				return 0, errFault
			}
			return 0, nil
		}
		start := time.Now()
		done, err := s.Handle(ctx, records)
		if done != 10 || !errors.Is(err, context.Canceled) || time.Since(start) != 0 {
			t.Errorf("%d handled, %v, after %v", done, err, time.Since(start))
		}
		if done, err := s.Handle(ctx, records); done != 0 || !errors.Is(err, context.Canceled) {
			t.Errorf("%d handled, %v", done, err)
		}
	})
}

// Two events with one id, which two regions accepted, arrive and are published one by one; of the two
// messages the one with the lesser digest shows.
func TestOneIDTwoContents(t *testing.T) {
	s := newSetup(t)
	first := s.posts(1, 10)[0].Event
	other, err := events.New(first.ID, first.Stream, "ada", "us", events.MessagePosted{Text: events.Plain("other")})
	if err != nil {
		t.Fatal(err)
	}
	s.handle([]events.Record{{Event: first}}, 1, nil)
	s.handle([]events.Record{{Event: other}, {Event: first}}, 2, nil)
	shows := events.Plain("other")
	if first.Ref().Compare(other.Ref()) < 0 {
		shows = first.Payload.(events.MessagePosted).Text
	}
	m, err := projections.LoadMessages(t.Context(), s.views, s.room, other.ID)
	if err != nil || len(m) != 1 || m[0].Text != shows {
		t.Errorf("the message is %+v, %v", m, err)
	}
	s.wantFeed(first.ID.String(), other.ID.String())
	s.wantTaken(first.ID.String(), other.ID.String(), first.ID.String())
}

// Each outcome of an event is observed once, when it is known and not before.
func TestPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		records := s.posts(12, 10)
		batch := append([]events.Record{{Err: errFault, Sequence: "poison"}}, records...)
		reported := map[stream.Outcome]int{}
		s.Passed = func(_ context.Context, e events.Event, outcome stream.Outcome) {
			if (e.ID == events.ID{}) != (outcome == stream.Parked && reported[stream.Parked] == 0) {
				t.Errorf("%s is said of event %s", outcome, e.ID)
			}
			reported[outcome]++
		}
		never := records[5].Event.ID.String()
		s.bus.refuse = func(_ int, e stream.Entry) error {
			if idOf(e) == never {
				return errFault
			}
			return nil
		}
		s.bus.failing = func(call int) (int, error) {
			if call > 5 { // the second ten
				return 0, errFault
			}
			return 0, nil
		}
		s.handle(batch, 11, errFault)
		want := map[stream.Outcome]int{stream.Projected: 12, stream.Published: 9, stream.Parked: 2}
		if !maps.Equal(reported, want) {
			t.Errorf("reported %v, want %v", reported, want)
		}
	})
}

// What was imported is on the bus under a source and detail type of its own, whatever its type and age, and
// what happens beside it is not.
func TestImportedIsApart(t *testing.T) {
	p := stream.Publisher{Region: "eu-west-1", Source: stream.Source}
	replay := stream.Publisher{Region: "eu-west-1", Source: stream.ReplaySource, Prefix: "billing/"}
	room := events.RoomStream(events.ImportedID(0, 1, 1).String())
	now := uint64(time.Now().UnixMilli())
	for _, ms := range []uint64{0, 1577900001000, now} {
		for _, payload := range []events.Payload{events.MessagePosted{Text: events.Plain("old")}, events.MemberJoined{User: "ada", Role: events.RoleMember}} {
			imported, err := events.New(events.ImportedID(ms, 2, 3), room, "ada", "eu-west-1", payload)
			if err != nil {
				t.Fatal(err)
			}
			live, err := events.New(events.NewClock(func() time.Time { return time.UnixMilli(int64(ms)) }, events.NewMarks(nil)).MintAfter("ada"), room, "ada", "eu-west-1", payload)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct {
				p            stream.Publisher
				e            events.Event
				source, kind string
			}{
				{p, imported, stream.ImportSource, "import/" + imported.Type},
				{p, live, stream.Source, live.Type},
				{replay, imported, stream.ReplaySource, "billing/" + imported.Type},
			} {
				if entry, err := c.p.Entry(t.Context(), c.e); err != nil || entry.Source != c.source || entry.DetailType != c.kind {
					t.Errorf("%s of %d is published as %s, %s (%v), want %s, %s", c.e.Type, ms, entry.Source, entry.DetailType, err, c.source, c.kind)
				}
			}
		}
	}
	if stream.ValidPrefix("import") {
		t.Error("a replay may call itself an import")
	}
}

// slowKeys is a store of keys in which a read takes a while.
type slowKeys struct{ *keystest.Model }

func (s slowKeys) Load(ctx context.Context, user string) (keys.Keys, error) {
	if err := events.Sleep(ctx, 20*time.Millisecond); err != nil {
		return keys.Keys{}, err
	}
	return s.Model.Load(ctx, user)
}

// The keys of many authors are read side by side: a batch of theirs ends within the function's time.
func TestManyAuthors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		root, err := keys.NewRoot(make([]byte, 32))
		if err != nil {
			t.Fatal(err)
		}
		store := keystest.NewModel()
		writers := keys.NewRing(store, root, nil)
		var records []events.Record
		for i := range 500 {
			author := fmt.Sprint("user-", i)
			e, err := events.New(s.mint(), events.RoomStream(s.room), author, "eu", events.MessagePosted{Text: events.Plain("hello")})
			if err == nil {
				e, err = writers.Seal(t.Context(), e)
			}
			if err != nil {
				t.Fatal(err)
			}
			records = append(records, events.Record{Event: e, Sequence: fmt.Sprint(i)})
		}
		s.Keys = keys.NewRing(slowKeys{store}, root, nil)
		start := time.Now()
		s.handle(records, len(records), nil)
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("it took %v, as if each key were read alone", took)
		}
		s.wantTaken(ids(records)...)
	})
}
