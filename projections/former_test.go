package projections_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"parley/events"
	"parley/events/logtest"
	"parley/projections"
	"parley/projections/viewtest"
)

// saveFormer saves a segment of a feed as the release before wrote it: without a time and a number.
func saveFormer(t *testing.T, views projections.Views, first int, of ...events.Event) {
	t.Helper()
	entries := make([]projections.FeedEntry, len(of))
	for i, e := range of {
		entries[i] = projections.FeedEntry{Ref: e.Ref(), Type: e.Type, Actor: e.Actor}
	}
	body, err := json.Marshal(map[string]any{"epoch": "FORMER", "first": first, "entries": entries})
	if err != nil {
		t.Fatal(err)
	}
	key := projections.Key{Partition: "feed/" + string(of[0].Stream), Sort: fmt.Sprintf("%020d", first)}
	if err := views.Save(t.Context(), projections.View{Key: key, Body: body}); err != nil {
		t.Fatal(err)
	}
}

// A feed that the release before wrote goes on at its positions, and what the change stream delivers again is
// found in it, though its numbers are not known.
func TestFeedOfTheReleaseBefore(t *testing.T) {
	t.Parallel()
	all := slices.DeleteFunc(arriving(4*1024), func(a projections.Arrival) bool { return a.Event.Stream != feedStreams[0] })
	views := viewtest.NewModel()
	handled, fresh := all[:len(all)-10], all[len(all)-10:]
	first := 1
	for some := range slices.Chunk(handled, 100) {
		var of []events.Event
		for _, a := range some {
			of = append(of, a.Event)
		}
		saveFormer(t, views, first, of...)
		first += len(of)
	}
	feed := projections.NewFeed("eu", views)
	again := handled[len(handled)-1000:] // of 1,024 that are searched
	for range 2 {
		if _, _, err := feed.Append(t.Context(), append(slices.Clone(again), fresh...)); err != nil {
			t.Fatal(err)
		}
	}
	eachOnce(t, views, all)
	if _, epoch, err := projections.ListFeed(t.Context(), views, feedStreams[0], 0, 1); err != nil || epoch != "FORMER" {
		t.Errorf("the feed has the epoch %q now, %v", epoch, err)
	}
}

// A client that comes from another region gets what the release before handled here lately.
func TestSyncOfAFeedOfTheReleaseBefore(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	log, views := logtest.NewModel(), viewtest.NewModel()
	var all []events.Event
	for i, minute := range []time.Duration{-40, -5, 1, 2} {
		id := makeID(uint64(at.Add(minute*time.Minute).UnixMilli()), "ada", uint32(i))
		e, err := events.New(id, events.UserStream("ada"), "ada", "eu", events.RoomRead{Room: plain, UpTo: id})
		if err == nil {
			_, _, err = log.Append(t.Context(), e)
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	for i, e := range all[:3] {
		saveFormer(t, views, i+1, e)
	}
	now := func() time.Time { return at.Add(2 * time.Minute) }
	feed := projections.NewFeed("eu", views)
	feed.Now = now
	if _, _, err := feed.Append(t.Context(), []projections.Arrival{{Event: all[3], Number: "7", At: now()}}); err != nil {
		t.Fatal(err)
	}
	s := projections.Syncer{Region: "eu", Log: log, Views: views, Now: now}
	page, err := s.Since(t.Context(), "ada", projections.Cursor{Region: "us", At: at}, 100)
	if err != nil {
		t.Fatal(err)
	}
	var got []events.Ref
	for _, h := range page.Events {
		got = append(got, h.Event.Ref())
	}
	if want := []events.Ref{all[1].Ref(), all[2].Ref(), all[3].Ref()}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if page, err := s.Since(t.Context(), "ada", page.Cursor, 100); err != nil || len(page.Events) > 0 {
		t.Errorf("then %v came again, %v", page.Events, err)
	}
}
