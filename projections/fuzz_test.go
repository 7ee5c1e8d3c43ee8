package projections_test

import (
	"context"
	"testing"
	"time"

	"parley/events"
	"parley/events/logtest"
	"parley/projections"
	"parley/projections/viewtest"
)

// touchingAll are events that touch views of every projection.
func touchingAll() []events.Event {
	root := messages[0]
	on := func(n uint32, actor string, p events.Payload) events.Event { return inPlain(n, actor, p) }
	inRoom, ofAda := events.RoomStream(plain), events.UserStream("ada")
	return []events.Event{
		newEvent(makeID(5, "ada", 1), inRoom, "ada", "eu", events.RoomCreated{Name: "Plain", Topic: "All"}),
		newEvent(root, inRoom, "ada", "eu", events.MessagePosted{Text: events.Plain("root")}),
		on(1, "bob", events.MemberJoined{User: "bob", Role: events.RoleMember}),
		on(2, "eve", events.MemberBanned{User: "eve"}),
		on(3, "bob", events.MessagePosted{Text: events.Plain("reply"), Thread: &root}),
		on(4, "ada", events.MessageEdited{Message: root, Text: events.Plain("edited")}),
		on(5, "bob", events.ReactionAdded{Message: root, Emoji: "👍"}),
		on(6, "bob", events.MessagePinned{Message: root}),
		on(7, "bob", events.MessageDeleted{Message: messages[1]}),
		on(8, "ada", events.RoomArchived{}),
		newEvent(makeID(40, "ada", 9), ofAda, "ada", "eu", events.RoomRead{Room: plain, UpTo: root}),
		newEvent(makeID(40, "ada", 10), ofAda, "ada", "eu", events.UserProfileSet{Name: events.Plain("Ada"), About: events.Plain("x")}),
		newEvent(makeID(40, "eu", 11), events.RegionStream("eu"), "eu", "eu", events.RegionBeat{}),
	}
}

// Whatever a view's body holds, folding into it and reading it neither panics nor stops.
func FuzzFoldIntoAnyBody(f *testing.F) {
	set := touchingAll()
	views := viewtest.NewModel()
	apply(f, projections.NewEngine(nil, views, projections.All()...), arrivals(set...))
	for i, p := range projections.All() {
		for _, body := range bodies(f, views, keysOf(set, p)) {
			f.Add(uint8(i), body)
		}
		for _, body := range []string{
			"", "null", "{", "{}", "[]", `{"post":null,"edits":null,"reactions":{"👍":null}}`,
			`{"replies":["7ZZZZZZZZZZZZZZZZZZZZZZZZZ","00000000000000000000000001"],"takebacks":{"":""}}`,
			`{"direct":["ada"],"in":{"id":"00000000000000000000000001","v":true}}`,
		} {
			f.Add(uint8(i), []byte(body))
		}
	}
	log := logOf(f, set...)
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		all := projections.All()
		views := viewtest.NewModel()
		for _, key := range keysOf(set, all[int(which)%len(all)]) {
			if err := views.Save(t.Context(), projections.View{Key: key, Body: body}); err != nil {
				t.Fatal(err)
			}
		}
		apply(t, projections.NewEngine(log, views, all...), arrivals(set...))
		readAll(t, views, events.Range{Limit: 5})
		readAll(t, projections.WithEvents(views, set...), events.Range{Limit: 5, Reverse: true})
	})
}

// Whatever a feed's segment holds, appending and reading either works, densely, or is an error.
func FuzzFeedOverAnySegment(f *testing.F) {
	stream := events.RoomStream(plain)
	views := viewtest.NewModel()
	if _, _, err := projections.NewFeed("eu", views).Append(context.Background(), arriving(3)); err != nil {
		f.Fatal(err)
	}
	first := projections.Key{Partition: "feed/" + string(stream), Sort: "00000000000000000001"}
	f.Add(bodies(f, views, []projections.Key{first})[0])
	for _, body := range []string{"", "null", "{}", `{"epoch":"a","first":1,"entries":[]}`, `{"first":18446744073709551615,"entries":[{}]}`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		views := viewtest.NewModel()
		if err := views.Save(t.Context(), projections.View{Key: first, Body: body}); err != nil {
			t.Fatal(err)
		}
		_, _, err := projections.NewFeed("eu", views).Append(t.Context(), arriving(9))
		if err == nil {
			dense(t, views, stream)
			if _, err := projections.CountUnread(t.Context(), views, projections.Member{Room: plain, User: "bob"}, projections.ReadMarker{Seen: 2}, nil); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Whatever a segment holds, catching up over it either works or is an error.
func FuzzSyncOverAnySegment(f *testing.F) {
	views := viewtest.NewModel()
	if _, _, err := projections.NewFeed("eu", views).Append(context.Background(), arriving(3)); err != nil {
		f.Fatal(err)
	}
	key := func(feed string) projections.Key {
		return projections.Key{Partition: "feed/" + feed, Sort: "00000000000000000001"}
	}
	f.Add(bodies(f, views, []projections.Key{key(string(feedStreams[2]))})[0])
	for _, body := range []string{
		"", "null", "{}", `{"epoch":"a","first":1,"entries":[]}`, `{"first":1,"entries":[{}]}`,
		`{"first":18446744073709551615,"entries":[{"stream":"nonsense"}]}`,
		`{"first":1,"at":-9223372036854775808,"entries":[{"id":"01BX5ZZKBKACTAV9WEVGEMMVRZ","stream":"room/x","type":"member.unbanned"}]}`,
		`{"first":1,"at":9223372036854775807,"number":"x","unsure":9223372036854775807,"entries":[{"id":"01BX5ZZKBKACTAV9WEVGEMMVRZ","late":true,"old":true}]}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		views, log := viewtest.NewModel(), logtest.NewModel()
		for _, feed := range []string{"user/ada", "membership/ada"} {
			if err := views.Save(t.Context(), projections.View{Key: key(feed), Body: body}); err != nil {
				t.Fatal(err)
			}
		}
		here := projections.Syncer{Region: "here", Log: log, Views: views}
		for _, from := range []string{"here", "there"} {
			_, _ = here.Since(t.Context(), "ada", projections.Cursor{Region: from}, 10)
			_, _ = here.Since(t.Context(), "ada", projections.Cursor{Region: from, At: time.Now(), Low: time.Now()}, 10)
		}
		_, _ = here.Current(t.Context(), "ada")
		_, _, _ = projections.NewFeed("here", views).Append(t.Context(), arriving(9))
	})
}
