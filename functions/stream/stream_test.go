package stream_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"parley/events"
	"parley/events/logtest"
	"parley/functions/stream"
	"parley/projections"
	"parley/projections/viewtest"
)

var errFault = errors.New("a fault that a test asked for")

// bus takes what the limits allow, and fails as it is told.
type bus struct {
	mu      sync.Mutex
	calls   [][]stream.Entry                      // as they came
	taken   []string                              // the ids of the events on the bus
	refuse  func(call int, e stream.Entry) error  // nil: takes all
	failing func(call int) (taken int, err error) // fails the call, after it took some
}

func (b *bus) Publish(_ context.Context, entries []stream.Entry) ([]error, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, slices.Clone(entries))
	size := 0
	for _, e := range entries {
		size += len(e.Source) + len(e.DetailType) + len(e.Detail) + 14
	}
	if len(entries) == 0 || len(entries) > 10 || size > 1<<20 {
		panic(fmt.Sprintf("a call of %d entries and %d bytes", len(entries), size))
	}
	if b.failing != nil {
		if taken, err := b.failing(len(b.calls)); err != nil {
			for _, e := range entries[:min(taken, len(entries))] {
				b.taken = append(b.taken, idOf(e))
			}
			return nil, err
		}
	}
	refused := make([]error, len(entries))
	for i, e := range entries {
		if b.refuse != nil {
			refused[i] = b.refuse(len(b.calls), e)
		}
		if refused[i] == nil {
			b.taken = append(b.taken, idOf(e))
		}
	}
	return refused, nil
}

func idOf(e stream.Entry) string {
	var detail struct{ ID string }
	if err := json.Unmarshal(e.Detail, &detail); err != nil {
		panic(err)
	}
	return detail.ID
}

// setup is a stream function over a log, views and a bus that can fail.
type setup struct {
	*stream.Handler
	t     *testing.T
	bus   *bus
	views *viewtest.Faults
	room  string
	clock *events.Clock
}

func newSetup(t *testing.T) *setup {
	t.Helper()
	s := &setup{t: t, bus: &bus{}, views: &viewtest.Faults{Views: viewtest.NewModel()}, clock: events.NewClock(time.Now)}
	s.Handler = &stream.Handler{
		Region: "eu", Engine: projections.NewEngine(logtest.NewModel(), s.views, projections.All()...),
		Feed: projections.NewFeed(s.views), Views: s.views, Bus: s.bus,
	}
	s.room = s.mint().String()
	return s
}

func (s *setup) mint() events.ID {
	s.t.Helper()
	id, err := s.clock.Mint("ada")
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

// posts makes the records of n messages, each with a text of so many bytes.
func (s *setup) posts(n, size int) []stream.Record {
	s.t.Helper()
	records := make([]stream.Record, n)
	for i := range records {
		e, err := events.New(s.mint(), events.RoomStream(s.room), "ada", "eu", events.MessagePosted{Text: events.Content(strings.Repeat("x", size))})
		if err != nil {
			s.t.Fatal(err)
		}
		records[i] = stream.Record{Event: e, Sequence: fmt.Sprint(i)}
	}
	return records
}

func ids(records []stream.Record) []string {
	var all []string
	for _, r := range records {
		all = append(all, r.Event.ID.String())
	}
	return all
}

func (s *setup) handle(records []stream.Record, done int, cause error) {
	s.t.Helper()
	got, err := s.Handle(context.Background(), records)
	if got != done || !errors.Is(err, cause) {
		s.t.Fatalf("%d of %d records handled, error %v; want %d, %v", got, len(records), err, done, cause)
	}
}

func (s *setup) wantTaken(want ...string) {
	s.t.Helper()
	if !slices.Equal(s.bus.taken, want) {
		s.t.Errorf("on the bus are\n%v, want\n%v", s.bus.taken, want)
	}
}

// wantFeed checks what arrived in the room, and that each of it is in the timeline.
func (s *setup) wantFeed(want ...string) {
	s.t.Helper()
	entries, _, err := projections.ListFeed(context.Background(), s.views, events.RoomStream(s.room), 0, 10_000)
	if err != nil {
		s.t.Fatal(err)
	}
	var got []string
	for i, e := range entries {
		if e.Position != uint64(i+1) {
			s.t.Errorf("entry %d has position %d", i, e.Position)
		}
		got = append(got, e.ID.String())
		if m, err := projections.LoadMessages(context.Background(), s.views, s.room, e.ID); err != nil || len(m) != 1 {
			s.t.Errorf("%s is in the feed and not in the views: %v", e.ID, err)
		}
	}
	if !slices.Equal(got, want) {
		s.t.Errorf("in the feed are\n%v, want\n%v", got, want)
	}
}

func (s *setup) parked() map[string]projections.Parked {
	s.t.Helper()
	list, err := projections.ListParked(context.Background(), s.views, "", 100)
	if err != nil {
		s.t.Fatal(err)
	}
	byKey := map[string]projections.Parked{}
	for _, p := range list {
		byKey[p.Key] = p
	}
	return byKey
}

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
	e, err := events.New(s.mint(), events.RoomStream(s.room), "ada", "us", events.MessagePosted{Text: `<b> & "é"`})
	if err != nil {
		t.Fatal(err)
	}
	s.handle([]stream.Record{{Event: e}}, 1, nil)
	got := s.bus.calls[0][0]
	want := `{"id":"` + e.ID.String() + `","stream":"room/` + s.room + `","type":"message.posted","version":1,"actor":"ada","region":"us",` +
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
	entry := func(size int) stream.Record {
		escapes := (size - overhead) / 6
		if escapes > 20_000-6 {
			t.Fatal("too large")
		}
		text := strings.Repeat("\x01", escapes) + strings.Repeat("x", (size-overhead)%6)
		e, err := events.New(s.mint(), events.RoomStream(s.room), "ada", "eu", events.MessagePosted{Text: events.Content(text)})
		if err != nil {
			t.Fatal(err)
		}
		return stream.Record{Event: e}
	}
	const tenth = 1 << 20 / 10 // with 6 bytes over
	for over, calls := range map[int]int{6: 1, 7: 2} {
		s.bus.calls, s.bus.taken = nil, nil
		var records []stream.Record
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
	batch := []stream.Record{
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
		if err := json.Unmarshal(u.Record, &again); err != nil || events.Encode(again) != events.Encode(unknown) {
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
	batch := []stream.Record{records[0], {Err: errFault, Sequence: "1"}, records[1]}
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
	if p := s.parked(); len(p) != 1 || p["project/"+records[1].Event.ID.String()+"/room/"+s.room].Stage != "project" {
		t.Errorf("parked are %v", p)
	}
}

// brittle is a projection that panics at one event.
type brittle struct{ at events.ID }

func (brittle) Name() string                    { return "brittle" }
func (brittle) Since(projections.Key) events.ID { return events.ID{} }
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
		if p := s.parked(); len(p) != 1 || p["publish/"+never+"/room/"+s.room].Error != errFault.Error() {
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
			poison := stream.Record{Err: errFault, Sequence: "1"}
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
			s.wantAll(slices.DeleteFunc(slices.Clone(records), func(r stream.Record) bool { return r.Event.Region == "us" }))
			s.wantFeed(ids(records)...)
		}
	})
}

// wantAll checks that each of the records is on the bus, at least once.
func (s *setup) wantAll(records []stream.Record) {
	s.t.Helper()
	for _, id := range ids(records) {
		if !slices.Contains(s.bus.taken, id) {
			s.t.Errorf("%s is not on the bus", id)
		}
	}
}

// A call that fails now and then is tried again; nobody hears of it.
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

// An event that took another's place is folded again and arrives a second time.
func TestReplaced(t *testing.T) {
	s := newSetup(t)
	log := logtest.NewModel()
	s.Engine = projections.NewEngine(log, s.views, projections.All()...)
	first := s.posts(1, 10)
	s.handle(first, 1, nil)
	other, err := events.New(first[0].Event.ID, first[0].Event.Stream, "ada", "us", events.MessagePosted{Text: "other"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := log.Append(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	s.handle([]stream.Record{{Event: other, Replaced: true}}, 1, nil)
	m, err := projections.LoadMessages(t.Context(), s.views, s.room, other.ID)
	if err != nil || len(m) != 1 || m[0].Text != "other" {
		t.Errorf("the message is %+v, %v", m, err)
	}
	s.wantFeed(other.ID.String(), other.ID.String())
	s.wantTaken(other.ID.String(), other.ID.String())
}
