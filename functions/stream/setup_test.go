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
	"time"

	"parley/events"
	"parley/events/logtest"
	"parley/functions/stream"
	"parley/projections"
	"parley/projections/viewtest"
)

var errFault = errors.New("a fault that a test asked for")

// bus takes what the limits allow, and fails as the test says.
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
	log   *logtest.Model
	bus   *bus
	views *viewtest.Faults
	room  string
	clock *events.Clock
}

func newSetup(t *testing.T) *setup {
	t.Helper()
	s := &setup{t: t, log: logtest.NewModel(), bus: &bus{}, views: &viewtest.Faults{Views: viewtest.NewModel()}, clock: events.NewClock(time.Now, events.NewMarks(nil))}
	s.Handler = &stream.Handler{
		Region: "eu", Engine: projections.NewEngine(s.log, s.views, projections.All()...),
		Feed: projections.NewFeed("eu", s.views), Views: s.views, Bus: s.bus, Log: s.log,
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
func (s *setup) posts(n, size int) []events.Record {
	s.t.Helper()
	records := make([]events.Record, n)
	for i := range records {
		e, err := events.New(s.mint(), events.RoomStream(s.room), "ada", "eu", events.MessagePosted{Text: events.Plain(strings.Repeat("x", size))})
		if err != nil {
			s.t.Fatal(err)
		}
		records[i] = events.Record{Event: e, Sequence: fmt.Sprint(i)}
	}
	return records
}

func ids(records []events.Record) []string {
	var all []string
	for _, r := range records {
		all = append(all, r.Event.ID.String())
	}
	return all
}

func (s *setup) handle(records []events.Record, done int, cause error) {
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
		got = append(got, e.Ref.ID.String())
		if m, err := projections.LoadMessages(context.Background(), s.views, s.room, e.Ref.ID); err != nil || len(m) != 1 {
			s.t.Errorf("%s is in the feed and not in the views: %v", e.Ref.ID, err)
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
