package projections_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/events"
	"parley/events/logtest"
	"parley/projections"
	"parley/projections/viewtest"
)

// beatAt is a heartbeat in stream n of a region, some minutes after a fixed time.
func beatAt(region string, n, minutes int) events.Event {
	id := makeID(uint64(goldenTime.Add(time.Duration(minutes)*time.Minute).UnixMilli()), region, uint32(n))
	return newEvent(id, events.BeatStream(region, n), region, region, events.RegionBeat{})
}

func TestFrontiers(t *testing.T) {
	for name, c := range map[string]struct {
		beats     []events.Event
		frontiers map[string]int // minutes
		low       map[int]int    // minutes, by now; absent is zero
	}{
		"none": {nil, map[string]int{}, map[int]int{0: -1}},
		"one stream, as former releases append": {
			[]events.Event{beatAt("eu", 0, 1), beatAt("eu", 0, 3), beatAt("us", 0, 2)},
			map[string]int{"eu": 3, "us": 2},
			map[int]int{3: 2, 62: 2, 63: 3, 64: -1},
		},
		"the least of several streams": {
			[]events.Event{beatAt("eu", 0, 5), beatAt("eu", 1, 1), beatAt("eu", 1, 3), beatAt("eu", 12, 4), beatAt("us", 0, 9)},
			map[string]int{"eu": 3, "us": 9},
			map[int]int{9: 3, 65: 3, 66: 9},
		},
		"a stream that lags for an hour counts, one that lags longer does not": {
			[]events.Event{beatAt("eu", 0, 100), beatAt("eu", 1, 40), beatAt("eu", 2, 39), beatAt("eu", 3, 99)},
			map[string]int{"eu": 40},
			map[int]int{100: 40, 160: 40, 161: -1},
		},
		"a region is judged by its newest heartbeat": {
			[]events.Event{beatAt("eu", 0, 100), beatAt("us", 0, 45), beatAt("us", 1, 10)},
			map[string]int{"eu": 100, "us": 10},
			map[int]int{100: 10, 105: 10, 106: 100},
		},
		"names of regions that begin alike": {
			[]events.Event{beatAt("eu", 1, 7), beatAt("eu-1", 0, 5), beatAt("eu1", 0, 6)},
			map[string]int{"eu": 7, "eu-1": 5, "eu1": 6},
			map[int]int{7: 5},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for range 5 {
				views := viewtest.NewModel()
				engine := projections.NewEngine(logtest.NewModel(), views, projections.Beats)
				for _, i := range rand.Perm(len(c.beats)) {
					if _, err := engine.Apply(t.Context(), []projections.Arrival{{Event: c.beats[i]}, {Event: c.beats[i]}}); err != nil {
						t.Fatal(err)
					}
				}
				frontiers, err := projections.LoadFrontiers(t.Context(), views)
				if err != nil {
					t.Fatal(err)
				}
				minutes := map[string]int{}
				for region, id := range frontiers {
					minutes[region] = int(id.Timestamp().Sub(goldenTime) / time.Minute)
				}
				if diff := cmp.Diff(c.frontiers, minutes); diff != "" {
					t.Error(diff)
				}
				for now, want := range c.low {
					low, err := projections.LoadLow(t.Context(), views, goldenTime.Add(time.Duration(now)*time.Minute))
					if err != nil {
						t.Fatal(err)
					}
					if got := int(low.Sub(goldenTime) / time.Minute); low.IsZero() != (want < 0) || want >= 0 && got != want {
						t.Errorf("at minute %d, the least frontier is %v, want minute %d", now, low, want)
					}
				}
			}
		})
	}
}

func TestFrontiersFail(t *testing.T) {
	views := &viewtest.Faults{Views: viewtest.NewModel(), OnQuery: func(string, projections.Range) error { return viewtest.ErrFault }}
	if _, err := projections.LoadFrontiers(t.Context(), views); err == nil {
		t.Error("frontiers that cannot be read are taken for none")
	}
	if _, err := projections.LoadLow(t.Context(), views, goldenTime); err == nil {
		t.Error("a least frontier that cannot be read is taken for none")
	}
}
