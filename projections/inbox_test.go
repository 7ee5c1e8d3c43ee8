package projections_test

import (
	"context"
	"testing"

	"pgregory.net/rapid"

	"parley/events"
	"parley/projections"
	"parley/projections/viewtest"
)

// unreadByRule counts from the whole feed: what arrived behind the marker's event or, where that
// is not in the feed, what sorts after it; of messages with one id the first that arrived.
func unreadByRule(feed []projections.FeedEntry, user string, since events.ID) int {
	begin := 0
	for i, e := range feed {
		if e.Ref.ID == since {
			begin = i + 1
		}
	}
	n, before := 0, map[events.ID]bool{}
	for i, e := range feed {
		if e.Type != "message.posted" || e.Actor == user {
			continue
		}
		if i >= begin && !before[e.Ref.ID] && (begin > 0 || e.Ref.ID.Compare(since) > 0) {
			n++
		}
		before[e.Ref.ID] = true
	}
	return min(n, projections.MaxUnread)
}

func TestCountUnread(t *testing.T) {
	t.Parallel()
	stream := events.RoomStream(plain)
	rapid.Check(t, func(t *rapid.T) {
		views := viewtest.NewModel()
		feed := projections.NewFeed("eu", views)
		var ids []events.ID
		for n := 0; n < rapid.IntRange(1, 400).Draw(t, "arrivals"); {
			var batch []projections.Arrival
			for range rapid.IntRange(1, 100).Draw(t, "batch") {
				n++
				actor := users[n%7%len(users)]
				e := events.Event{ID: makeID(uint64(100+n*37%211), actor, uint32(n)), Stream: stream, Type: "message.posted", Actor: actor}
				if n%3 == 0 {
					e.Type = "reaction.added"
				}
				batch = append(batch, projections.Arrival{Event: e})
				if n%13 == 0 {
					e.Digest = events.Digest{1}
					batch = append(batch, projections.Arrival{Event: e})
				}
				ids = append(ids, e.ID)
			}
			if _, _, err := feed.Append(context.Background(), batch); err != nil {
				t.Fatal(err)
			}
		}
		since := rapid.OneOf(
			rapid.SampledFrom(ids),
			rapid.SampledFrom([]events.ID{{}, makeID(1, "ada", 0), makeID(200, "ada", 0), makeID(10_000, "ada", 0)}),
		).Draw(t, "since")
		user := rapid.SampledFrom(append(users, "nobody")).Draw(t, "user")
		got, err := projections.CountUnread(context.Background(), views, plain, user, since)
		same(t, "unread", got, unreadByRule(dense(t, views, stream), user, since), err)
	})
}

// The rule in examples: markers and messages as they arrive, and what bob has not read.
func TestCountUnreadExamples(t *testing.T) {
	t.Parallel()
	a, b, own, late := post(10, "ada", "a"), post(11, "ada", "b"), post(12, "bob", "own"), post(5, "eve", "late")
	deleted := inPlain(13, "ada", events.MessageDeleted{Message: b.ID})
	again, ban := post(10, "ada", "again"), inPlain(10, "ada", events.MemberBanned{User: "eve"})
	for _, test := range []struct {
		name  string
		feed  []projections.Arrival
		since events.ID
		want  int
	}{
		{"empty feed", nil, a.ID, 0},
		{"all read", arrivals(a, b), b.ID, 0},
		{"one behind", arrivals(a, b), a.ID, 1},
		{"own does not count", arrivals(a, own), a.ID, 0},
		{"late counts", arrivals(a, late), a.ID, 1},
		{"marker not arrived yet", arrivals(a, late), b.ID, 0},
		{"marker not arrived yet, newer here", arrivals(late, b), a.ID, 1},
		{"never read", arrivals(a, b, own), events.ID{}, 2},
		{"deleted still counts", arrivals(a, b, deleted), a.ID, 1},
		{"marker on a deletion", arrivals(a, b, deleted, late), deleted.ID, 1},
		{"two messages with one id are one, not counted", arrivals(a, b, again), b.ID, 0},
		{"two messages with one id are one marker", arrivals(a, b, again), a.ID, 1},
		{"two messages with one id are one, counted", arrivals(b, a, again), b.ID, 1},
		{"a message with the id of a ban counts", arrivals(ban, b, a), b.ID, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			views := viewtest.NewModel()
			for i := range test.feed {
				if _, _, err := projections.NewFeed("eu", views).Append(t.Context(), test.feed[i:i+1]); err != nil {
					t.Fatal(err)
				}
			}
			got, err := projections.CountUnread(t.Context(), views, plain, "bob", test.since)
			same(t, "unread", got, test.want, err)
		})
	}
}

// Counting stops at its bounds: at 100 messages, and after some 2,000 entries.
func TestCountUnreadBounds(t *testing.T) {
	t.Parallel()
	views := viewtest.NewModel()
	feed := projections.NewFeed("eu", views)
	there := 0
	add := func(n int, kind string) {
		t.Helper()
		var batch []projections.Arrival
		for range n {
			there++
			id := makeID(100, "ada", uint32(there))
			batch = append(batch, projections.Arrival{Event: events.Event{ID: id, Stream: feedStreams[0], Type: kind, Actor: "ada"}})
		}
		if _, _, err := feed.Append(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	unread := func(want int) {
		t.Helper()
		got, err := projections.CountUnread(t.Context(), views, plain, "bob", events.ID{})
		same(t, "unread", got, want, err)
	}
	add(99, "message.posted")
	unread(99)
	add(1, "message.posted")
	unread(100)
	add(1, "message.posted")
	unread(100)
	add(1000, "reaction.added")
	unread(100)
	add(2000, "reaction.added")
	unread(0)
}
