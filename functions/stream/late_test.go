package stream_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"parley/events"
	"parley/events/logtest"
	"parley/functions/stream"
	"parley/projections"
)

// lateSetup is a setup whose feeds have a time of their own.
type lateSetup struct {
	*setup
	at     time.Time
	number int // of the last record
}

func newLateSetup(t *testing.T) *lateSetup {
	t.Helper()
	s := &lateSetup{setup: newSetup(t), at: time.Now().Truncate(time.Millisecond)}
	s.Feed.Now = func() time.Time { return s.at }
	return s
}

// another returns the handler of another process over the same log and views.
func (s *lateSetup) another() *stream.Handler {
	h := *s.Handler
	h.Engine = projections.NewEngine(s.log, s.views, projections.All()...)
	h.Feed = projections.NewFeed("eu", s.views)
	h.Feed.Now = s.Feed.Now
	return &h
}

// message makes the record of a message of a region, of which the id is so old.
func (s *lateSetup) message(region string, age time.Duration) events.Record {
	s.t.Helper()
	return s.record(region, age, events.RoomStream(s.room), events.MessagePosted{Text: events.Plain("hello")})
}

func (s *lateSetup) record(region string, age time.Duration, stream events.Stream, p events.Payload) events.Record {
	s.t.Helper()
	id, err := events.NewClock(func() time.Time { return s.at.Add(-age) }, events.NewMarks(nil)).Mint("ada")
	if err != nil {
		s.t.Fatal(err)
	}
	e, err := events.New(id, stream, "ada", region, p)
	if err != nil {
		s.t.Fatal(err)
	}
	s.number++
	return events.Record{Event: e, Sequence: strconv.Itoa(s.number), Number: events.Number(strconv.Itoa(s.number))}
}

// accepted says when a record's event was accepted, so long ago, and whether a replica says so.
func (s *lateSetup) accepted(r events.Record, age time.Duration, replica bool) events.Record {
	r.At, r.Replica = s.at.Add(-age), replica
	return r
}

// notices returns the late notices of a stream.
func (s *lateSetup) notices(stream events.Stream) (list []events.Event) {
	s.t.Helper()
	for e, err := range s.log.Read(s.t.Context(), stream, events.Range{}) {
		if err != nil {
			s.t.Fatal(err)
		}
		if _, is := e.Payload.(events.EventLate); !is {
			s.t.Errorf("the stream function appended %s", e.Type)
			continue
		}
		if e.Actor != "eu" || e.Region != "eu" || e.Stream != stream {
			s.t.Errorf("the notice is %+v", e)
		}
		list = append(list, e)
	}
	return list
}

// wantNotices checks what the notices of the room name, each a list of events.
func (s *lateSetup) wantNotices(want ...[]events.Record) {
	s.t.Helper()
	got := s.notices(events.RoomStream(s.room))
	if len(got) != len(want) {
		s.t.Fatalf("there are %d late notices, want %d", len(got), len(want))
	}
	for _, records := range want {
		var refs []events.Ref
		for _, r := range records {
			refs = append(refs, r.Event.Ref())
		}
		there := slices.ContainsFunc(got, func(e events.Event) bool {
			return slices.Equal(e.Payload.(events.EventLate).Events(), refs)
		})
		if !there {
			s.t.Errorf("no notice names %v: %v", refs, got)
		}
	}
}

// Late is what is handled more than ten minutes after its acceptance, whichever region accepted it: by the
// time of its record if that tells, else by its id.
func TestLate(t *testing.T) {
	const minute, day = time.Minute, 24 * time.Hour
	for what, tt := range map[string]struct {
		region   string
		id       time.Duration // its age
		accepted time.Duration // 0: the record does not say
		replica  bool
		late     bool
	}{
		"of another region, by its id":                     {region: "us", id: 11 * minute, late: true},
		"of another region, in time":                       {region: "us", id: 9 * minute},
		"of another region, nearly a day":                  {region: "us", id: day - minute, late: true},
		"of another region, imported":                      {region: "us", id: day + minute},
		"of another region, where the time is this one's":  {region: "us", id: 11 * minute, accepted: time.Second, late: true},
		"of another region, replicated late":               {region: "us", id: 11 * minute, accepted: 11 * minute, replica: true, late: true},
		"of another region, made long before acceptance":   {region: "us", id: 5 * time.Hour, accepted: minute, replica: true},
		"of another region, replicated after days":         {region: "us", id: 9 * day, accepted: 9 * day, replica: true, late: true},
		"of this region, handled late":                     {region: "eu", id: 11 * minute, accepted: 11 * minute, late: true},
		"of this region, handled after days":               {region: "eu", id: 2 * day, accepted: 2 * day, late: true},
		"of this region, in time":                          {region: "eu", id: 9 * minute, accepted: 9 * minute},
		"of this region, made long before acceptance":      {region: "eu", id: 5 * time.Hour, accepted: time.Second},
		"of this region, by its id, where nothing else is": {region: "eu", id: 11 * minute, late: true},
	} {
		t.Run(what, func(t *testing.T) {
			s := newLateSetup(t)
			r := s.message(tt.region, tt.id)
			if tt.accepted > 0 {
				r = s.accepted(r, tt.accepted, tt.replica)
			}
			s.handle([]events.Record{r}, 1, nil)
			if tt.late {
				s.wantNotices([]events.Record{r})
			} else {
				s.wantNotices()
			}
		})
	}
}

// What is late is named once, however it is delivered again: whole or in part, to the same process or to
// another, with new events and without.
func TestLateNoticeOnce(t *testing.T) {
	s := newLateSetup(t)
	a, b := s.message("us", 11*time.Minute), s.accepted(s.message("eu", time.Hour), time.Hour, false)
	inTime := s.message("us", time.Minute)
	c, d := s.message("ap", 12*time.Minute), s.message("us", 13*time.Minute)
	batch := []events.Record{a, inTime, b}
	s.handle(batch, 3, nil)
	first := []events.Record{a, b}
	s.wantNotices(first)
	ids := s.notices(a.Event.Stream)

	processes := []*stream.Handler{s.Handler, s.another(), s.another()}
	for i, again := range [][]events.Record{batch, batch[1:], batch[2:], {a}, batch, {inTime}} {
		s.at = s.at.Add(time.Minute)
		if done, err := processes[i%3].Handle(t.Context(), again); done != len(again) || err != nil {
			t.Fatalf("%d handled: %v", done, err)
		}
		s.wantNotices(first)
	}
	if got := s.notices(a.Event.Stream); got[0].Ref() != ids[0].Ref() {
		t.Errorf("the notice was %s, is %s", ids[0].Ref(), got[0].Ref())
	}
	// What is new has a segment of its own.
	for _, h := range processes {
		more := []events.Record{b, c, inTime, d}
		if done, err := h.Handle(t.Context(), more); done != len(more) || err != nil {
			t.Fatalf("%d handled: %v", done, err)
		}
		s.wantNotices(first, []events.Record{c, d})
	}
	// The notices themselves are handled like other events.
	var notices []events.Record
	for _, e := range s.notices(a.Event.Stream) {
		s.number++
		notices = append(notices, events.Record{Event: e, At: s.at, Number: events.Number(strconv.Itoa(s.number))})
	}
	s.handle(notices, 2, nil)
	s.wantNotices(first, []events.Record{c, d})
}

// Many late events of a room have few notices: one for each segment of its feed.
func TestLateNoticesAreFew(t *testing.T) {
	for n, want := range map[int]int{1: 1, 2: 1, events.MaxLate: 1, events.MaxLate + 1: 2, 250: 3} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			s := newLateSetup(t)
			var batch []events.Record
			for range n {
				batch = append(batch, s.message("us", 11*time.Minute))
			}
			for _, h := range []*stream.Handler{s.Handler, s.another()} {
				if done, err := h.Handle(t.Context(), batch); done != n || err != nil {
					t.Fatalf("%d handled: %v", done, err)
				}
				named := map[events.Ref]bool{}
				notices := s.notices(batch[0].Event.Stream)
				for _, e := range notices {
					for _, ref := range e.Payload.(events.EventLate).Events() {
						if named[ref] {
							t.Error("an event is named twice")
						}
						named[ref] = true
					}
				}
				if len(notices) != want || len(named) != n {
					t.Errorf("%d notices name %d events, want %d and %d", len(notices), len(named), want, n)
				}
			}
		})
	}
}

// Late events of a user are named in the user's stream; each stream has its own notice.
func TestLateNoticeOfUser(t *testing.T) {
	s := newLateSetup(t)
	own := s.record("us", 11*time.Minute, events.UserStream("ada"), events.RoomRead{Room: s.room, UpTo: s.mint()})
	message := s.message("us", 11*time.Minute)
	s.handle([]events.Record{own, message}, 2, nil)
	s.wantNotices([]events.Record{message})
	got := s.notices(events.UserStream("ada"))
	if len(got) != 1 || !slices.Equal(got[0].Payload.(events.EventLate).Events(), []events.Ref{own.Event.Ref()}) {
		t.Errorf("the notices in the user's stream are %+v", got)
	}
}

// Heartbeats have no feed, and are never late.
func TestHeartbeatIsNeverLate(t *testing.T) {
	s := newLateSetup(t)
	id := s.message("us", time.Hour).Event.ID
	beat, err := events.New(id, events.RegionStream("us"), "us", "us", events.RegionBeat{})
	if err != nil {
		t.Fatal(err)
	}
	s.handle([]events.Record{{Event: beat}}, 1, nil)
	if got := s.notices(events.RegionStream("us")); len(got) > 0 {
		t.Errorf("a heartbeat is late: %+v", got)
	}
}

// A notice that cannot be appended fails the batch, and comes when that is delivered again: to this process
// or to another.
func TestLateNoticeFails(t *testing.T) {
	for _, fault := range []logtest.Fault{logtest.NotStored, logtest.Stored} {
		s := newLateSetup(t)
		late := []events.Record{s.message("us", 11*time.Minute), s.message("us", 11*time.Minute)}
		log := &logtest.Faults{Log: s.log}
		s.Log = log
		failing := true
		log.OnAppend = func(events.Event) logtest.Fault {
			if failing {
				return fault
			}
			return logtest.Pass
		}
		if done, err := s.Handle(context.Background(), late); done != 0 || err == nil {
			t.Fatalf("%d handled, error %v", done, err)
		}
		s.wantTaken()
		failing = false
		if done, err := s.another().Handle(context.Background(), late); done != 2 || err != nil {
			t.Fatalf("%d handled, error %v", done, err)
		}
		s.wantNotices(late)
	}
}
