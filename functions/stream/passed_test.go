package stream_test

import (
	"context"
	"maps"
	"testing"
	"testing/synctest"

	"parley/events"
	"parley/functions/stream"
)

// What has become of each event is told once, as it has come to be and not before.
func TestPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		records := s.posts(12, 10)
		batch := append([]stream.Record{{Err: errFault, Sequence: "poison"}}, records...)
		told := map[stream.Outcome]int{}
		s.Passed = func(_ context.Context, e events.Event, outcome stream.Outcome) {
			if (e.ID == events.ID{}) != (outcome == stream.Parked && told[stream.Parked] == 0) {
				t.Errorf("%s is said of event %s", outcome, e.ID)
			}
			told[outcome]++
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
		if !maps.Equal(told, want) {
			t.Errorf("told %v, want %v", told, want)
		}
	})
}
