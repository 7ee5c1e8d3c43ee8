package projections_test

import (
	"context"
	"testing"

	"pgregory.net/rapid"

	"parley/events"
	"parley/projections"
	"parley/projections/viewtest"
)

// Reading through WithEvents shows what reading shows once the events are folded.
func TestWithEvents(t *testing.T) {
	for name, types := range map[string][]string{
		"all": events.Types(), "messages": typesOf(t, projections.Timeline), "members": typesOf(t, projections.Members),
		"posts": {"message.posted", "reaction.added"},
	} {
		t.Run(name, rapid.MakeCheck(func(t *rapid.T) { checkWithEvents(t, eventsOf(types, 40).Draw(t, "set")) }))
	}
}

func checkWithEvents(t *rapid.T, set []events.Event) {
	views := viewtest.NewModel()
	engine := projections.NewEngine(nil, views, projections.All()...)
	shuffled := rapid.Permutation(set).Draw(t, "order")
	folded := rapid.IntRange(0, len(set)).Draw(t, "folded")
	apply(t, engine, arrivals(shuffled[:folded]...))
	if _, err := projections.NewFeed(views).Append(context.Background(), arrivals(set...)); err != nil {
		t.Fatal(err)
	}
	begin := rapid.IntRange(0, folded).Draw(t, "begin")
	extra := shuffled[begin:min(len(set), folded+rapid.IntRange(0, 3).Draw(t, "more"))]
	r := events.Range{Reverse: rapid.Bool().Draw(t, "reverse"), Limit: rapid.IntRange(1, 6).Draw(t, "limit")}
	if rapid.Bool().Draw(t, "bounded") {
		r.After, r.Before = makeID(11, "ada", 0), makeID(18, "ada", 0)
	}
	got := readAll(t, projections.WithEvents(views, extra...), r)
	apply(t, engine, arrivals(extra...))
	for i, want := range readAll(t, views, r) {
		same(t, want.what, got[i].value, want.value, nil)
	}
}

type reading struct {
	what  string
	value any
}

// readAll calls every function that reads, with r and its limit where they page.
func readAll(t failer, views projections.Views, r events.Range) []reading {
	t.Helper()
	var all []reading
	add := func(what string, value any, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		all = append(all, reading{what, value})
	}
	ctx := context.Background()
	for _, room := range rooms {
		loaded, err := projections.LoadMessages(ctx, views, room, messages...)
		add("LoadMessages", loaded, err)
		listed, err := projections.ListMessages(ctx, views, room, r)
		add("ListMessages", listed, err)
		for _, id := range messages {
			replies, err := projections.ListReplies(ctx, views, room, id, r)
			add("ListReplies", replies, err)
			n, err := projections.CountReactions(ctx, views, room, id)
			add("CountReactions", n, err)
		}
		for _, after := range []string{"", "ada", "bz"} {
			members, err := projections.ListMembers(ctx, views, room, after, r.Limit)
			add("ListMembers", members, err)
		}
	}
	loaded, err := projections.LoadRooms(ctx, views, rooms...)
	add("LoadRooms", loaded, err)
	for _, user := range users {
		for _, after := range append([]string{""}, rooms...) {
			of, err := projections.ListRoomsOf(ctx, views, user, after, r.Limit)
			add("ListRoomsOf", of, err)
			inbox, next, err := projections.LoadInbox(ctx, views, user, after, r.Limit)
			add("LoadInbox", inbox, err)
			add("LoadInbox next", next, nil)
		}
		markers, err := projections.LoadMarkers(ctx, views, user, rooms...)
		add("LoadMarkers", markers, err)
		profile, err := projections.LoadUser(ctx, views, user)
		add("LoadUser", profile, err)
		for _, room := range rooms {
			r, m, err := (*projections.Known)(nil).LoadAccess(ctx, views, room, user)
			add("LoadAccess", []any{r, m}, err)
		}
	}
	frontiers, err := projections.LoadFrontiers(ctx, views)
	add("LoadFrontiers", frontiers, err)
	return all
}
