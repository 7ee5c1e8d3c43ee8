package stream_test

import (
	"encoding/json"
	"strings"
	"testing"

	"parley/events"
	"parley/events/logtest"
	"parley/projections"
	"parley/projections/viewtest"
)

func TestHandle(t *testing.T) {
	s := newSetup(t)
	records := s.posts(25, 10)
	s.handle(records, 25, nil)
	s.wantTaken(ids(records)...)
	s.wantFeed(ids(records)...)
	if len(s.bus.calls) != 3 || len(s.bus.calls[0]) != 10 || len(s.bus.calls[2]) != 5 {
		t.Errorf("there were %d calls", len(s.bus.calls))
	}
	s.handle(records, 25, nil) // redelivered: the feed knows it, the bus gets it again
	s.wantFeed(ids(records)...)
	if len(s.bus.taken) != 50 {
		t.Errorf("%d entries are on the bus", len(s.bus.taken))
	}
	s.handle(nil, 0, nil)
}

// The envelope that subscribers get.
func TestEntry(t *testing.T) {
	s := newSetup(t)
	e, err := events.New(s.mint(), events.RoomStream(s.room), "ada", "us", events.MessagePosted{Text: events.Plain(`<b> & "é"`)})
	if err != nil {
		t.Fatal(err)
	}
	s.handle([]events.Record{{Event: e}}, 1, nil)
	got := s.bus.calls[0][0]
	want := `{"id":"` + e.ID.String() + `","stream":"room/` + s.room + `","type":"message.posted","version":2,"actor":"ada","region":"us",` +
		`"data":{"text":"<b> & \"é\""},"published_by":"eu"}`
	if got.Source != "parley" || got.DetailType != "message.posted" || string(got.Detail) != want || !got.Time.Equal(e.ID.Timestamp()) {
		t.Errorf("the entry is %s %s %v\n%s, want\n%s", got.Source, got.DetailType, got.Time, got.Detail, want)
	}
}

// A call holds 1 MiB at most, to the byte.
func TestCallSize(t *testing.T) {
	s := newSetup(t)
	probe := s.posts(1, 1)
	s.handle(probe, 1, nil)
	e := s.bus.calls[0][0]
	overhead := len(e.Source) + len(e.DetailType) + len(e.Detail) + 14 - 1

	// Escapes make an entry larger than its text: six bytes each.
	entry := func(size int) events.Record {
		escapes := (size - overhead) / 6
		if escapes > 20_000-6 {
			t.Fatal("too large")
		}
		text := strings.Repeat("\x01", escapes) + strings.Repeat("x", (size-overhead)%6)
		e, err := events.New(s.mint(), events.RoomStream(s.room), "ada", "eu", events.MessagePosted{Text: events.Plain(text)})
		if err != nil {
			t.Fatal(err)
		}
		return events.Record{Event: e}
	}
	const tenth = 1 << 20 / 10 // with 6 bytes over
	for over, calls := range map[int]int{6: 1, 7: 2} {
		s.bus.calls, s.bus.taken = nil, nil
		var records []events.Record
		for range 9 {
			records = append(records, entry(tenth))
		}
		records = append(records, entry(tenth+over))
		s.handle(records, 10, nil)
		s.wantTaken(ids(records)...)
		if len(s.bus.calls) != calls {
			t.Errorf("%d over: %d calls, want %d", over, len(s.bus.calls), calls)
		}
	}
}

func TestOwnOnly(t *testing.T) {
	s := newSetup(t)
	s.OwnOnly = true
	records := s.posts(30, 10)
	var own []string
	for i := range records {
		if i%3 == 0 {
			own = append(own, records[i].Event.ID.String())
		} else {
			records[i].Event.Region = "us"
		}
	}
	s.handle(records, 30, nil)
	s.wantTaken(own...)
	s.wantFeed(ids(records)...)
	if len(s.bus.calls) != 1 {
		t.Errorf("%d calls for 10 entries", len(s.bus.calls))
	}
	s.handle(s.posts(1, 1), 1, nil)
	foreign := s.posts(2, 1)
	foreign[0].Event.Region, foreign[1].Event.Region = "us", "us"
	calls := len(s.bus.calls)
	if s.handle(foreign, 2, nil); len(s.bus.calls) != calls {
		t.Error("the bus is called for nothing")
	}
}

// What cannot be read is parked, whole, and the rest is handled.
func TestPoison(t *testing.T) {
	s := newSetup(t)
	records := s.posts(4, 10)
	unknown, err := events.Decode(events.Stored{
		Stream: "room/" + s.room, ID: s.mint().String(), Type: "message.sung/1", Actor: "ada", Region: "eu", Data: `{"tune":"la"}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	damaged, err := events.Decode(events.Stored{Stream: "room/" + s.room, ID: s.mint().String(), Type: "message.posted/1", Actor: "ada", Region: "eu", Data: `{"te`})
	if err != nil {
		t.Fatal(err)
	}
	batch := []events.Record{
		records[0],
		{Event: unknown, Sequence: "u"},
		records[1],
		{Err: errFault, Raw: json.RawMessage(`{"broken":1}`), Sequence: "77"},
		records[2],
		{Event: damaged, Sequence: "d"},
		records[3],
		{Err: errFault, Raw: json.RawMessage("\xff not JSON"), Sequence: "78"},
	}
	for tries := 1; tries <= 2; tries++ {
		s.bus.taken = nil
		s.handle(batch, 8, nil)
		s.wantTaken(ids(records)...)
		s.wantFeed(ids(records)...)
		parked := s.parked()
		u := parked["decode/"+unknown.ID.String()+"/room/"+s.room]
		if u.Stage != "decode" || u.Tries != tries || u.ID != unknown.ID.String() || u.Stream != "room/"+s.room || !strings.Contains(string(u.Record), `"tune":"la"`) {
			t.Errorf("parked as %+v", u)
		}
		var again events.Event
		if err := json.Unmarshal(u.Record, &again); err != nil || events.Encode(again) != events.Encode(unknown.WithDigest()) {
			t.Errorf("the parked event reads %+v, %v", again, err)
		}
		if d := parked["decode/"+damaged.ID.String()+"/room/"+s.room]; d.Tries != tries || strings.Contains(d.Error, `{"te`) {
			t.Errorf("parked as %+v", d)
		}
		if p := parked["decode/77"]; string(p.Record) != `{"broken":1}` || p.Tries != tries || p.Error != errFault.Error() {
			t.Errorf("parked as %+v", p)
		}
		if _, ok := parked["decode/78"]; !ok || len(parked) != 4 {
			t.Errorf("parked are %v", parked)
		}
	}
}

// Parking that fails stops nothing for good: the batch comes again.
func TestParkFails(t *testing.T) {
	s := newSetup(t)
	records := s.posts(2, 10)
	batch := []events.Record{records[0], {Err: errFault, Sequence: "1"}, records[1]}
	s.views.OnSave = func([]projections.View) viewtest.Fault { return viewtest.NotStored }
	s.handle(batch, 0, viewtest.ErrFault)
	s.wantTaken()
	s.views.OnSave = nil
	s.handle(batch, 3, nil)
	s.wantTaken(ids(records)...)
	if len(s.parked()) != 1 {
		t.Errorf("parked are %v", s.parked())
	}
}

// A fold that panics parks its event; the rest is projected and published.
func TestFoldFails(t *testing.T) {
	s := newSetup(t)
	records := s.posts(3, 10)
	s.Engine = projections.NewEngine(logtest.NewModel(), s.views, append(projections.All(), brittle{at: records[1].Event.ID})...)
	s.handle(records, 3, nil)
	s.wantTaken(records[0].Event.ID.String(), records[2].Event.ID.String())
	if p := s.parked(); len(p) != 1 || p["project/"+records[1].Event.Ref().String()+"/room/"+s.room].Stage != "project" {
		t.Errorf("parked are %v", p)
	}
}

// brittle is a projection that panics at one event.
type brittle struct{ at events.ID }

func (brittle) Name() string                         { return "brittle" }
func (brittle) Since(projections.Key) events.ID      { return events.ID{} }
func (brittle) Stream(projections.Key) events.Stream { return "" }
func (b brittle) Keys(e events.Event) []projections.Key {
	if e.ID == b.at {
		panic(errFault)
	}
	return nil
}
func (brittle) Open(projections.Key, []byte) (projections.Document, error) { return nil, errFault }

// Views that fail fail the batch before anything is published; the next try does it all.
func TestProjectFails(t *testing.T) {
	for _, fault := range []viewtest.Fault{viewtest.NotStored, viewtest.HalfStored, viewtest.Stored} {
		for nth := range 2 { // the first Save is the engine's, the second the feed's
			s := newSetup(t)
			records := s.posts(12, 10)
			s.views.OnSave = viewtest.Script(append(make([]viewtest.Fault, nth), fault)...)
			s.handle(records, 0, viewtest.ErrFault)
			s.wantTaken()
			s.handle(records, 12, nil)
			s.wantTaken(ids(records)...)
			s.wantFeed(ids(records)...)
		}
	}
}
