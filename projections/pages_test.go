package projections_test

import (
	"context"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"parley/events"
	"parley/projections"
	"parley/projections/viewtest"
)

// walk reads page after page of random limits and returns the ids of all, oldest first. A page
// is the last if it is short.
func walk(t *rapid.T, reverse bool, list func(events.Range) ([]projections.Message, error)) []events.ID {
	var ids []events.ID
	r := events.Range{Reverse: reverse}
	for {
		r.Limit = rapid.IntRange(1, 7).Draw(t, "limit")
		page, err := list(r)
		if err != nil {
			t.Fatalf("read a page: %v", err)
		}
		if len(page) > r.Limit {
			t.Fatalf("got %d messages, at most %d were asked for", len(page), r.Limit)
		}
		for _, m := range page {
			ids = append(ids, m.ID)
		}
		if len(page) < r.Limit {
			break
		}
		if last := ids[len(ids)-1]; reverse {
			r.Before = last
		} else {
			r.After = last
		}
	}
	if reverse {
		slices.Reverse(ids)
	}
	return ids
}

// Walking a room or a thread either way gives every message once, in order, whatever views
// without a message stand between them.
func TestPagesOfMessages(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		set := eventsOf([]string{"message.posted", "message.posted", "reaction.added", "message.edited"}, 80).Draw(t, "set")
		views := viewtest.NewModel()
		apply(t, projections.NewEngine(nil, views, projections.All()...), arrivals(set...))
		reverse := rapid.Bool().Draw(t, "reverse")
		for _, room := range rooms {
			var posted []events.ID
			replies := map[events.ID][]events.ID{}
			for _, e := range set {
				p, ok := e.Payload.(events.MessagePosted)
				if !ok || e.Stream != events.RoomStream(room) || slices.Contains(posted, e.ID) {
					continue
				}
				posted = append(posted, e.ID)
				if p.Thread != nil && e.ID.Compare(*p.Thread) > 0 {
					replies[*p.Thread] = append(replies[*p.Thread], e.ID)
				}
			}
			got := walk(t, reverse, func(r events.Range) ([]projections.Message, error) {
				return projections.ListMessages(context.Background(), views, room, r)
			})
			same(t, "room", got, posted, nil)
			for _, root := range messages {
				got := walk(t, reverse, func(r events.Range) ([]projections.Message, error) {
					return projections.ListReplies(context.Background(), views, room, root, r)
				})
				same(t, "thread", got, replies[root], nil)
			}
		}
	})
}

// A reply is found once its message is there: the views of one may be saved before the other's.
func TestPagesOfRepliesNotThereYet(t *testing.T) {
	t.Parallel()
	root := post(0, "ada", "root")
	threads, all := viewtest.NewModel(), []events.Event{root}
	var there []events.Event
	for n := range uint32(20) {
		reply := inPlain(n+1, "bob", events.MessagePosted{Text: events.Plain("reply"), Thread: &root.ID})
		all = append(all, reply)
		if n%3 == 2 {
			there = append(there, reply)
		}
	}
	apply(t, projections.NewEngine(nil, threads, projections.Threads), arrivals(all...))
	apply(t, projections.NewEngine(nil, threads, projections.Timeline), arrivals(there...))
	rapid.Check(t, func(t *rapid.T) {
		var want []events.ID
		for _, e := range there {
			want = append(want, e.ID)
		}
		got := walk(t, rapid.Bool().Draw(t, "reverse"), func(r events.Range) ([]projections.Message, error) {
			return projections.ListReplies(context.Background(), threads, plain, root.ID, r)
		})
		same(t, "thread", got, want, nil)
	})
}

// Pages of members, of the rooms of a user and of their inbox contain each once, in order. Members
// who left are in the first and not in the others.
func TestPagesOfMembers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		views := viewtest.NewModel()
		var set []events.Event
		var ever, now []string
		for n := range uint32(rapid.IntRange(0, 25).Draw(t, "rooms")) {
			id := makeID(uint64(5+n), "bob", n)
			stream := events.RoomStream(id.String())
			join := newEvent(makeID(100, "ada", n), stream, "ada", "eu", events.MemberJoined{User: "ada", Role: events.RoleMember})
			leave := newEvent(makeID(101, "ada", n), stream, "ada", "eu", events.MemberLeft{User: "ada"})
			switch rapid.SampledFrom([]string{"stranger", "member", "left"}).Draw(t, "is") {
			case "left":
				set = append(set, leave)
			case "member":
				now = append(now, id.String())
			default:
				continue
			}
			set = append(set, join)
			ever = append(ever, id.String())
		}
		apply(t, projections.NewEngine(nil, views, projections.All()...), arrivals(set...))
		of := walkMembers(t, func(after string, limit int) ([]projections.Member, string, error) {
			page, err := projections.ListRoomsOf(context.Background(), views, "ada", after, limit)
			if len(page) < limit {
				return page, "", err
			}
			return page, page[len(page)-1].Room, err
		})
		same(t, "rooms of a user", of, ever, nil)
		inbox := walkMembers(t, func(after string, limit int) ([]projections.Member, string, error) {
			entries, next, err := projections.LoadInbox(context.Background(), views, "ada", after, limit)
			var page []projections.Member
			for _, e := range entries {
				page = append(page, e.Member)
			}
			return page, next, err
		})
		same(t, "inbox", inbox, now, nil)
	})
}

func walkMembers(t *rapid.T, list func(after string, limit int) ([]projections.Member, string, error)) []string {
	var got []string
	for after := ""; ; {
		limit := rapid.IntRange(1, 7).Draw(t, "limit")
		page, next, err := list(after, limit)
		if err != nil || len(page) > limit {
			t.Fatalf("read a page of %d: got %d, error %v", limit, len(page), err)
		}
		for _, m := range page {
			got = append(got, m.Room)
		}
		if next == "" {
			return got
		}
		after = next
	}
}

func TestPagesOfMembersOfARoom(t *testing.T) {
	t.Parallel()
	views := viewtest.NewModel()
	engine := projections.NewEngine(nil, views, projections.All()...)
	everyone := []string{"Z", "a", "a-", "a.b", "ab", "b", "b_"}
	slices.Sort(everyone)
	for n, user := range everyone {
		apply(t, engine, arrivals(inPlain(uint32(n), "ada", events.MemberJoined{User: user, Role: events.RoleMember})))
	}
	for limit := range 9 {
		var got []string
		for after := ""; limit > 0; {
			page, err := projections.ListMembers(t.Context(), views, plain, after, limit)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range page {
				got, after = append(got, m.User), m.User
			}
			if len(page) < limit {
				break
			}
		}
		if limit > 0 {
			same(t, "members", got, everyone, nil)
		}
	}
}

// What an inbox says of a room is what its parts say.
func TestInboxEntry(t *testing.T) {
	t.Parallel()
	created := newEvent(makeID(5, "ada", 1), events.RoomStream(plain), "ada", "eu", events.RoomCreated{Name: "Plain"})
	join := inPlain(1, "ada", events.MemberJoined{User: "bob", Role: events.RoleMember})
	first, last := post(2, "ada", "first"), post(3, "ada", "last")
	read := newEvent(makeID(50, "bob", 1), events.UserStream("bob"), "bob", "eu", events.RoomRead{Room: plain, UpTo: first.ID})
	reaction := inPlain(9, "bob", events.ReactionAdded{Message: makeID(35, "ada", 9), Emoji: "👍"})
	batch := arrivals(created, join, first, last, reaction)
	views := viewtest.NewModel()
	engine := projections.NewEngine(nil, views, projections.All()...)
	apply(t, engine, batch)
	if _, _, err := projections.NewFeed("eu", views).Append(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		readTo events.ID
		unread int
	}{{events.ID{}, 2}, {first.ID, 1}} {
		inbox, next, err := projections.LoadInbox(t.Context(), views, "bob", "", 10)
		if err != nil || len(inbox) != 1 || next != "" {
			t.Fatalf("LoadInbox: %d entries, next %q, error %v", len(inbox), next, err)
		}
		e := inbox[0]
		same(t, "inbox", []any{e.Room.Name, e.Member.Since, e.ReadTo, e.Last.Text, e.Unread.Count},
			[]any{"Plain", join.ID, step.readTo, events.Plain("last"), step.unread}, nil)
		apply(t, engine, arrivals(read))
	}
}

// Reading through WithEvents shows what reading shows once the events are folded.
func TestWithEvents(t *testing.T) {
	t.Parallel()
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
	if _, _, err := projections.NewFeed("eu", views).Append(context.Background(), arrivals(set...)); err != nil {
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
			n, own, err := projections.CountReactions(ctx, views, room, id, users[0], emojis[0])
			add("CountReactions", []int{n, own}, err)
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
			r, m, err := (*projections.AccessCache)(nil).Load(ctx, views, room, user)
			add("Load", []any{r, m}, err)
		}
	}
	frontiers, err := projections.LoadFrontiers(ctx, views)
	add("LoadFrontiers", frontiers, err)
	return all
}
