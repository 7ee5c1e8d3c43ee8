package projections_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/events"
	"parley/events/goldentest"
	"parley/events/logtest"
	"parley/projections"
	"parley/projections/viewtest"
)

// goldenID is an id that is the same in every run and in every release: n milliseconds after
// goldenTime.
func goldenID(n int) events.ID {
	var id events.ID
	if err := id.SetTime(uint64(goldenTime.UnixMilli() + int64(n))); err != nil {
		panic(err)
	}
	copy(id[6:], "\x0aparley\x0d\x0e")
	id[15] = byte(n)
	return id
}

var goldenTime = time.Date(2025, time.March, 9, 7, 30, 15, 0, time.UTC)

var (
	goldenRoom   = goldenID(0).String()
	goldenDirect = events.DirectRoom("ada", "grace")
	goldenOther  = goldenID(90).String() // a room whose creation has not reached this region yet
)

// goldenEvents are two batches of events of every type. A type that is added later gets golden
// files of its own: these stay as they are.
func goldenEvents() [][]events.Event {
	var (
		room, direct = events.RoomStream(goldenRoom), events.RoomStream(goldenDirect)
		text         = events.Plain("<b>Houston</b> & \"co\"\u2028👩‍🚀")
		sealed       = events.Sealed([]byte("\x01 no reader's business \xff"))
		first        = goldenID(20)
	)
	on := func(n int, stream events.Stream, actor, region string, p events.Payload) events.Event {
		return bare(newEvent(goldenID(n), stream, actor, region, p))
	}
	in := func(n int, actor string, p events.Payload) events.Event { return on(n, room, actor, "eu-central-1", p) }
	one := []events.Event{
		in(0, "ada", events.RoomCreated{Name: "Mission <control>", Topic: "a & b", Private: true}),
		on(1, direct, "grace", "us-east-1", events.RoomCreated{Private: true, Direct: []string{"ada", "grace"}}),
		on(2, direct, "ada", "eu-central-1", events.RoomCreated{Private: true, Direct: []string{"ada", "grace"}}),
		in(3, "ada", events.RoomUpdated{Name: ptr("Apollo"), Private: ptr(false)}),
		in(4, "ada", events.RoomUpdated{Topic: ptr("Okay, Houston …")}),
		in(5, "ada", events.MemberJoined{User: "grace", Role: events.RoleAdmin}),
		in(6, "ada", events.MemberJoined{User: "alan", Role: events.RoleMember}),
		in(7, "ada", events.MemberJoined{User: "eve", Role: events.RoleMember}),
		in(8, "ada", events.MemberRoleChanged{User: "grace", Role: events.RoleOwner}),
		in(9, "alan", events.MemberLeft{User: "alan"}),
		in(10, "ada", events.MemberBanned{User: "eve"}),
		in(11, "ada", events.MemberBanned{User: "bob"}),
		in(12, "ada", events.MemberUnbanned{User: "bob"}),
		in(13, "ada", events.RoomArchived{}),
		in(14, "ada", events.RoomUnarchived{}),

		in(20, "ada", events.MessagePosted{Text: text}),
		in(21, "grace", events.MessagePosted{Text: sealed, ReplyTo: &first, Thread: &first}),
		on(22, room, "grace", "us-east-1", events.MessagePosted{Text: sealed, Thread: &first}),
		in(23, "grace", events.MessagePosted{Text: events.Erased()}),
		in(24, "ada", events.MessagePosted{Text: text}),
		in(25, "ada", events.MessagePosted{Text: text}),
		on(26, direct, "grace", "us-east-1", events.MessagePosted{Text: text}),
		in(30, "ada", events.MessageEdited{Message: first, Text: sealed}),
		in(31, "grace", events.MessageEdited{Message: goldenID(29), Text: text}), // of a message that is yet to come
		in(32, "grace", events.MessageDeleted{Message: goldenID(29)}),
		in(33, "ada", events.MessageDeleted{Message: goldenID(24)}),
		in(34, "grace", events.MessageDeleted{Message: goldenID(25), Moderated: true}),
		in(35, "ada", events.MessagePinned{Message: first}),
		in(36, "ada", events.MessagePinned{Message: goldenID(23)}),
		in(37, "ada", events.MessageUnpinned{Message: goldenID(23)}),
		in(38, "ada", events.ReactionAdded{Message: first, Emoji: "👍🏽"}),
		in(39, "grace", events.ReactionAdded{Message: first, Emoji: "👍🏽"}),
		in(40, "grace", events.ReactionAdded{Message: first, Emoji: ":ship-it:"}),
	}
	two := []events.Event{
		in(41, "grace", events.ReactionRemoved{Message: first, Emoji: ":ship-it:"}),
		on(50, events.UserStream("grace"), "grace", "us-east-1", events.RoomRead{Room: goldenRoom, UpTo: first}),
		on(51, events.UserStream("ada"), "ada", "eu-central-1", events.RoomRead{Room: goldenDirect, UpTo: goldenID(26)}),
		on(52, events.UserStream("ada"), "ada", "eu-central-1", events.UserProfileSet{Name: events.Plain("Ada"), About: sealed}),
		on(53, events.UserStream("eve"), "eve", "eu-central-1", events.UserProfileSet{Name: sealed}),
		on(54, events.UserStream("eve"), "eve", "eu-central-1", events.UserErased{By: "ada"}),
		on(60, events.RegionStream("eu-central-1"), "eu-central-1", "eu-central-1", events.RegionBeat{}),
		on(61, events.RegionStream("us-east-1"), "us-east-1", "us-east-1", events.RegionBeat{}),
		on(62, events.OpsStream("eu-central-1"), "ada", "eu-central-1", events.OpsActed{What: "drain", Target: "eu", Result: "ok"}),
		on(63, room, "eu-central-1", "eu-central-1", events.EventLate{Event: events.Ref{ID: goldenID(22)}}),
		on(70, events.RoomStream(goldenOther), "ada", "us-east-1", events.MessagePosted{Text: text}),
	}
	return [][]events.Event{one, two}
}

// goldenRegion folds the golden events into new views and adds them to their feeds.
func goldenRegion(t *testing.T) (events.Log, *viewtest.Model) {
	t.Helper()
	log, views := logtest.NewModel(), viewtest.NewModel()
	engine, feed := projections.NewEngine(log, views, projections.All()...), projections.NewFeed("eu-central-1", views)
	feed.Now = func() time.Time { return goldenTime.Add(time.Second) }
	for _, batch := range goldenEvents() {
		for _, e := range batch {
			if _, _, err := log.Append(t.Context(), e); err != nil {
				t.Fatalf("Append: %v", err)
			}
		}
		apply(t, engine, arrivals(batch...))
		appendToFeeds(t, feed, arrivals(batch...))
		feed.Now = func() time.Time { return goldenTime.Add(time.Minute) }
	}
	// What that release stored of an event that took the place of another.
	viewtest.Restore(t, views, []viewtest.Line{
		{
			Partition: "feed/room/" + goldenRoom, Sort: "00000000000000000033", Version: 1,
			Body: []byte(`{"epoch":"EPOCHOFTHEGOLDENFILES22222","first":33,"entries":[{"id":"` + goldenID(25).String() +
				`","type":"message.posted","actor":"ada","replaced":true}]}`),
		},
	})
	return log, views
}

func appendToFeeds(t *testing.T, feed *projections.Feed, batch []projections.Arrival) {
	t.Helper()
	if _, _, err := feed.Append(t.Context(), batch); err != nil {
		t.Fatalf("append to the feeds: %v", err)
	}
}

// bare is an event as a release stored it that had no digests.
func bare(e events.Event) events.Event {
	e.Digest = events.Digest{}
	return e
}

// goldenInvitations are the golden events of invitations.
func goldenInvitations() []events.Event {
	room := events.RoomStream(goldenRoom)
	return []events.Event{
		bare(newEvent(goldenID(1), room, "ada", "eu-central-1", events.MemberLeft{User: "alan"})),
		bare(newEvent(goldenID(2), room, "ada", "eu-central-1", events.MemberInvited{User: "alan"})),
		bare(newEvent(goldenID(3), room, "grace", "us-east-1", events.MemberInvited{User: "bob"})),
		bare(newEvent(goldenID(4), room, "bob", "us-east-1", events.MemberJoined{User: "bob", Role: events.RoleMember})),
	}
}

// What a region stores of invitations.
func TestGoldenInvitations(t *testing.T) {
	t.Parallel()
	views := viewtest.NewModel()
	apply(t, projections.NewEngine(logtest.NewModel(), views, projections.Members), arrivals(goldenInvitations()...))
	goldentest.Open(t, "invitations").Check("member.jsonl", goldentest.Lines(t, viewtest.Dump(t, views, "member/")...))
	for user, want := range map[string]int{"alan": 1, "bob": 0, "ada": 0} {
		open, err := projections.ListInvitations(t.Context(), views, user, 10)
		if err != nil || len(open) != want || want > 0 && (open[0].InvitedBy != "ada" || open[0].Room != goldenRoom) {
			t.Errorf("the invitations of %s are %v, %v", user, open, err)
		}
	}
}

// What a region stores of events is, byte by byte, what it always stored; and what it stored is read
// and gone on with as what it stores today.
func TestGoldenViews(t *testing.T) {
	t.Parallel()
	log, views := goldenRegion(t)
	folder, golden := goldentest.Open(t, "views"), viewtest.NewModel()
	// Of the release before there are feeds without times, and a journal, which nothing reads any more.
	for _, name := range []string{"feed", "journal"} {
		stored := folder.Read(name+".jsonl", nil)
		viewtest.Restore(t, golden, goldentest.ReadLines[viewtest.Line](t, stored))
	}
	var partitions []string
	for _, p := range projections.All() {
		partitions = append(partitions, p.Name())
	}
	checked := 0
	for _, name := range partitions {
		prefix := name + "/"
		if name == "beat" {
			prefix = name // the whole name of a partition
		}
		today := viewtest.Dump(t, views, prefix)
		if len(today) == 0 {
			t.Errorf("no golden event touches a view of %s", name)
		}
		checked += len(today)
		stored := folder.Check(name+".jsonl", goldentest.Lines(t, today...))
		viewtest.Restore(t, golden, goldentest.ReadLines[viewtest.Line](t, stored))
	}
	feeds := viewtest.Dump(t, views, "feed/")
	feedsFolder := goldentest.Open(t, "feeds")
	feedsFolder.Check("counted.jsonl", goldentest.Lines(t, feeds...))
	checkUncountedFeeds(t, log, goldentest.ReadLines[viewtest.Line](t, feedsFolder.Read("feed.jsonl", nil)))
	if all := viewtest.Dump(t, views, ""); len(all) != checked+len(feeds) {
		t.Errorf("%d views are stored, golden files hold %d", len(all), checked+len(feeds))
	}

	was, is := goldenReads(t, log, golden), goldenReads(t, log, views)
	for name, value := range is {
		if diff := cmp.Diff(value, was[name], cmp.Comparer(events.Content.Equal)); diff != "" {
			t.Errorf("%s reads golden views differently (-today +golden):\n%s", name, diff)
		}
	}

	withoutMemberships := func() []viewtest.Line { // those of the release before are missing
		return slices.DeleteFunc(viewtest.Dump(t, golden, ""), func(l viewtest.Line) bool { return strings.HasPrefix(l.Partition, "feed/membership/") })
	}
	before := withoutMemberships()
	engine := projections.NewEngine(log, golden, projections.All()...)
	feed := projections.NewFeed("eu-central-1", golden)
	for _, batch := range goldenEvents() {
		apply(t, engine, arrivals(batch...))
		appendToFeeds(t, feed, arrivals(batch...))
	}
	if diff := cmp.Diff(before, withoutMemberships()); diff != "" {
		t.Errorf("events that come again change golden views (-was +is):\n%s", diff)
	}
}

// checkUncountedFeeds checks that feeds of a release that did not count messages are read, and go on, and that a rebuild
// of the feeds counts their messages.
func checkUncountedFeeds(t *testing.T, log events.Log, lines []viewtest.Line) {
	t.Helper()
	views := viewtest.NewModel()
	viewtest.Restore(t, views, lines)
	seen := func(want int64) {
		t.Helper()
		got, err := projections.CountSeen(t.Context(), views, goldenRoom, goldenID(23))
		same(t, "CountSeen", got, want, err)
	}
	seen(events.SeenUnknown)
	rebuild, err := projections.NewRebuild("job-1", projections.FeedName)
	if err != nil {
		t.Fatal(err)
	}
	clock := testClock{}
	rebuilder := projections.NewRebuilder(log, views, projections.NewGenerations(views))
	rebuilder.SetClock(clock.now, clock.pause)
	for rebuild.Phase != projections.Done {
		if err := rebuilder.Step(t.Context(), rebuild); err != nil {
			t.Fatalf("Step: %v", err)
		}
	}
	seen(4)
	next := newEvent(goldenID(80), events.RoomStream(goldenRoom), "grace", "eu-central-1", events.MessagePosted{Text: events.Plain("next")})
	appendToFeeds(t, projections.NewFeed("eu-central-1", views), arrivals(next))
	seen(4)
}

// goldenMarks are the golden events of read markers that count, and of marks as unread.
func goldenMarks() []events.Event {
	on := func(n int, p events.Payload) events.Event {
		return newEvent(goldenID(n), events.UserStream("grace"), "grace", "us-east-1", p)
	}
	return []events.Event{
		on(1, events.RoomRead{Room: goldenRoom, UpTo: goldenID(20)}),
		on(2, events.RoomMarkedUnread{Room: goldenRoom, From: goldenID(21)}),
		on(4, events.RoomRead{Room: goldenRoom, UpTo: goldenID(25), Seen: ptr(int64(6))}),
		on(3, events.RoomRead{Room: goldenRoom, UpTo: goldenID(26), Seen: ptr(int64(events.SeenUnknown))}),
	}
}

// What a region stores of read markers that count, and of marks as unread.
func TestGoldenMarks(t *testing.T) {
	t.Parallel()
	views := viewtest.NewModel()
	apply(t, projections.NewEngine(logtest.NewModel(), views, projections.Inboxes), arrivals(goldenMarks()...))
	goldentest.Open(t, "marks").Check("views.jsonl", goldentest.Lines(t, viewtest.Dump(t, views, "")...))
	markers, err := projections.LoadMarkers(t.Context(), views, "grace", goldenRoom)
	same(t, "LoadMarkers", markers, []projections.ReadMarker{{
		UpTo: goldenID(26), Seen: events.SeenUnknown, Event: goldenID(3), MarkedUnread: goldenID(2),
	}}, err)
}

// goldenShared are events as they are stored since their keys hold a digest: of each id two.
func goldenShared() []events.Event {
	room, first := events.RoomStream(goldenRoom), goldenID(20)
	var all []events.Event
	for i, pair := range [][2]events.Payload{
		{events.RoomCreated{Name: "A"}, events.RoomCreated{Name: "B", Private: true}},
		{events.RoomUpdated{Topic: ptr("a")}, events.RoomArchived{}},
		{events.MemberJoined{User: "grace", Role: events.RoleAdmin}, events.MemberBanned{User: "grace"}},
		{events.MessagePosted{Text: events.Plain("a")}, events.MessagePosted{Text: events.Plain("b"), ReplyTo: &first}},
		{events.MessageEdited{Message: goldenID(103), Text: events.Plain("c")}, events.MessageEdited{Message: goldenID(103), Text: events.Plain("d")}},
		{events.ReactionAdded{Message: goldenID(103), Emoji: "👍🏽"}, events.MessagePinned{Message: goldenID(103)}},
		{events.MessagePosted{Text: events.Plain("a"), Thread: ptr(goldenID(103))}, events.MessageDeleted{Message: goldenID(103)}},
		{events.EventLate{Event: events.Ref{ID: first}}, events.EventLate{Event: events.Ref{ID: first, Digest: events.Digest{1}}}},
	} {
		id := goldenID(100 + i)
		if i == 0 {
			id = goldenID(0)
		}
		all = append(all, newEvent(id, room, "ada", "eu-central-1", pair[0]), newEvent(id, room, "ada", "us-east-1", pair[1]))
	}
	by := newEvent(goldenID(103), room, "grace", "us-east-1", events.MessagePosted{Text: events.Plain("by another")})
	edit := newEvent(goldenID(110), room, "grace", "us-east-1", events.MessageEdited{Message: goldenID(103), Text: events.Plain("e")})
	mine := newEvent(goldenID(111), room, "alan", "us-east-1", events.MessageDeleted{Message: goldenID(104)}) // of a message that is yet to come
	profile := func(name string) events.Event {
		return newEvent(goldenID(112), events.UserStream("ada"), "ada", "us-east-1", events.UserProfileSet{Name: events.Plain(name)})
	}
	return append(all, by, edit, mine, profile("Ada"), profile("Countess"))
}

// What a region stores of events that share their ids, and of keys that hold a digest.
func TestGoldenSharedIDs(t *testing.T) {
	t.Parallel()
	log, views, all := logOf(t, goldenShared()...), viewtest.NewModel(), goldenShared()
	handle := func(views projections.Views) {
		t.Helper()
		feed := projections.NewFeed("eu-central-1", views)
		feed.Now = func() time.Time { return goldenTime.Add(time.Second) }
		apply(t, projections.NewEngine(log, views, projections.All()...), arrivals(all...))
		appendToFeeds(t, feed, arrivals(all...))
	}
	handle(views)
	folder, golden := goldentest.Open(t, "shared"), viewtest.NewModel()
	isFeed := func(l viewtest.Line) bool { return strings.HasPrefix(l.Partition, "feed/") || l.Partition == "journal" }
	stored := folder.Read("views.jsonl", nil)
	lines := goldentest.ReadLines[viewtest.Line](t, stored)
	viewtest.Restore(t, golden, lines)
	folds := func(list []viewtest.Line) []viewtest.Line { return slices.DeleteFunc(slices.Clone(list), isFeed) }
	if diff := cmp.Diff(folds(lines), folds(viewtest.Dump(t, views, ""))); diff != "" {
		t.Errorf("what is stored today differs (-golden +today):\n%s", diff)
	}
	folder.Check("counted.jsonl", goldentest.Lines(t, viewtest.Dump(t, views, "feed/")...))
	uncounted := viewtest.NewModel()
	viewtest.Restore(t, uncounted, goldentest.ReadLines[viewtest.Line](t, folder.Read("feeds.jsonl", nil)))
	dense(t, uncounted, events.RoomStream(goldenRoom))
	was, is := goldenReads(t, log, golden), goldenReads(t, log, views)
	delete(is, "Since grace") // who is banned, and of whose memberships the release before had no feed
	delete(was, "Since grace")
	if diff := cmp.Diff(is, was, cmp.Comparer(events.Content.Equal)); diff != "" {
		t.Errorf("golden views are read differently (-today +golden):\n%s", diff)
	}
	handle(golden)
	if diff := cmp.Diff(folds(lines), folds(viewtest.Dump(t, golden, ""))); diff != "" {
		t.Errorf("events that come again change golden views (-was +is):\n%s", diff)
	}

	var digests []projections.Digest
	for d, err := range projections.Digests(t.Context(), log, events.Part{Of: 1}, events.Key{}, time.Time{}) {
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, d)
	}
	text := folder.Check("digests.jsonl", goldentest.Lines(t, digests...))
	if diff := cmp.Diff(digests, goldentest.ReadLines[projections.Digest](t, text)); diff != "" {
		t.Errorf("golden digests are read differently (-want +got):\n%s", diff)
	}
	job := projections.Rebuild{ID: "job-1", Parts: []projections.Folded{{Part: events.Part{Of: 1}, After: all[1].Key()}}}
	text = folder.Check("rebuild.jsonl", goldentest.Lines(t, job))
	if diff := cmp.Diff([]projections.Rebuild{job}, goldentest.ReadLines[projections.Rebuild](t, text)); diff != "" {
		t.Errorf("a golden rebuild is read differently (-want +got):\n%s", diff)
	}
}

// goldenReads reads the golden views in every way there is.
func goldenReads(t *testing.T, log events.Log, views projections.Views) map[string]any {
	t.Helper()
	ctx, reads := t.Context(), map[string]any{}
	read := func(name string, values ...any) {
		t.Helper()
		if err := values[len(values)-1]; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		reads[name] = values[:len(values)-1]
	}
	add := func(name string) func(a any, err error) {
		return func(a any, err error) { t.Helper(); read(name, a, err) }
	}
	all := events.Range{Limit: 100}
	rooms := []string{goldenRoom, goldenDirect, goldenOther}
	got, err := projections.LoadRooms(ctx, views, rooms...)
	add("LoadRooms")(got, err)
	for _, room := range rooms {
		members, err := projections.ListMembers(ctx, views, room, "", 100)
		add("ListMembers "+room)(members, err)
		messages, err := projections.ListMessages(ctx, views, room, all)
		add("ListMessages "+room)(messages, err)
		replies, err := projections.ListReplies(ctx, views, room, goldenID(20), all)
		add("ListReplies "+room)(replies, err)
		n, own, err := projections.CountReactions(ctx, views, room, goldenID(20), "grace", "👍🏽")
		add("CountReactions "+room)([]any{n, own}, err)
		feed, epoch, err := projections.ListFeed(ctx, views, events.RoomStream(room), 0, 1000)
		add("ListFeed "+room)([]any{feed, epoch != ""}, err)
	}
	for _, user := range []string{"ada", "grace", "alan", "eve", "bob"} {
		of, err := projections.ListRoomsOf(ctx, views, user, "", 100)
		add("ListRoomsOf "+user)(of, err)
		markers, err := projections.LoadMarkers(ctx, views, user, rooms...)
		add("LoadMarkers "+user)(markers, err)
		inbox, next, err := projections.LoadInbox(ctx, views, user, "", 100)
		add("LoadInbox "+user)([]any{inbox, next}, err)
		profile, err := projections.LoadUser(ctx, views, user)
		add("LoadUser "+user)(profile, err)
		if user == "ada" { // of memberships of others, who came and went, the release before had no feed
			s := projections.Syncer{Region: "eu-central-1", Log: log, Views: views}
			page, err := s.Since(ctx, user, projections.Cursor{Region: "eu-central-1"}, 100)
			add("Since "+user)([]any{page.Events, page.More}, err)
		}
	}
	frontiers, err := projections.LoadFrontiers(ctx, views)
	add("LoadFrontiers")(frontiers, err)
	return reads
}

// The generations document, and the views of a second generation, through a rebuild, the way back
// and the drop.
func TestGoldenGenerations(t *testing.T) {
	t.Parallel()
	log, views := goldenRegion(t)
	clock := testClock{}
	generations := projections.NewGenerations(views)
	generations.SetClock(func() time.Time { return goldenTime })
	rebuilder := projections.NewRebuilder(log, views, generations)
	rebuilder.SetClock(clock.now, clock.pause)
	folder := goldentest.Open(t, "generations")
	check := func(name string, prefixes ...string) []byte {
		t.Helper()
		return folder.Check(name+".jsonl", goldentest.Lines(t, viewtest.Dump(t, views, prefixes...)...))
	}

	var switched []byte
	b, err := projections.NewRebuild("job-1", "member", "timeline")
	if err != nil {
		t.Fatal(err)
	}
	for b.Phase != projections.Done {
		phase := b.Phase
		if err := rebuilder.Step(t.Context(), b); err != nil {
			t.Fatalf("Step: %v", err)
		}
		switch phase {
		case projections.Announce:
			check("announced", "generations")
		case projections.Switch:
			switched = check("switched", "generations")
			check("second", "g2/")
		}
	}
	if err := generations.Back(t.Context(), "timeline"); err != nil {
		t.Fatal(err)
	}
	check("back", "generations")
	d, err := projections.NewDrop("member", "timeline")
	if err != nil {
		t.Fatal(err)
	}
	for first := true; d.Phase != projections.Done; first = false {
		if err := rebuilder.StepDrop(t.Context(), d); err != nil {
			t.Fatalf("StepDrop: %v", err)
		}
		if first {
			check("dropping", "generations")
		}
	}
	check("dropped", "generations")

	golden := viewtest.NewModel()
	viewtest.Restore(t, golden, goldentest.ReadLines[viewtest.Line](t, switched))
	list, err := projections.NewGenerations(golden).List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range list {
		want := projections.Generation{Projection: one.Projection, Live: 1, Last: 1}
		if slices.Contains(b.Projections, one.Projection) {
			want = projections.Generation{Projection: one.Projection, Live: 2, Previous: 1, Last: 2, Since: goldenTime}
		}
		if diff := cmp.Diff(want, one); diff != "" {
			t.Errorf("golden generation of %s is read differently (-want +got):\n%s", one.Projection, diff)
		}
	}
}

// goldenRebuild sets every field that a job keeps of a rebuild, an audit or a drop.
func goldenRebuild() projections.Rebuild {
	key := projections.Key{Partition: "timeline/" + goldenRoom, Sort: goldenID(20).String()}
	return projections.Rebuild{
		ID: "job-1", Projections: []string{"room", "timeline"}, Room: goldenRoom, Audit: true, Heal: true,
		Phase: projections.Compare, Since: goldenTime, Numbers: map[string]int{"room": 2, "timeline": 3},
		Parts: []projections.Folded{
			{Part: events.Part{Index: 1, Of: 2}, After: events.Key{Stream: events.RoomStream(goldenRoom), ID: goldenID(20)}, Events: 7, Failed: 1, Done: true},
			{Part: events.Part{Of: 2}},
		},
		Compared: projections.Compared{
			After: key, Scanned: true, Views: 9, Suspects: []projections.Key{key}, Since: goldenTime, Differ: 2, Healed: 1, TooMany: true,
			Findings: []projections.Finding{{
				Projection: "timeline", Stream: events.RoomStream(goldenRoom), Key: key, Fault: projections.Differs,
				Fields: []string{"post"}, Healed: true,
			}},
		},
		Drop: &projections.Drop{
			Projections: []string{"room"}, By: "job-1", Phase: projections.Wait, Since: goldenTime,
			Numbers: map[string][]int{"room": {2}}, After: key, Deleted: 3,
		},
	}
}

// What jobs keep of rebuilds, audits and drops between two steps, and in which phases and with which
// faults.
func TestGoldenRecords(t *testing.T) {
	t.Parallel()
	folder := goldentest.Open(t, "records")
	minimal, err := projections.NewRebuild("job-2")
	if err != nil {
		t.Fatal(err)
	}
	want := []projections.Rebuild{goldenRebuild(), *minimal}
	golden := folder.Check("rebuild.jsonl", goldentest.Lines(t, want...))
	if diff := cmp.Diff(want, goldentest.ReadLines[projections.Rebuild](t, golden)); diff != "" {
		t.Errorf("a golden rebuild is read differently (-want +got):\n%s", diff)
	}
	folder.Check("phases.jsonl", goldentest.Lines(t,
		projections.Announce, projections.Wait, projections.Fold, projections.Compare, projections.Switch, projections.Dropping, projections.Done))
	folder.Check("faults.jsonl", goldentest.Lines(t, projections.Missing, projections.Extra, projections.Differs, projections.Damaged))

	views := viewtest.NewModel()
	park := func(key string, p projections.Parked) {
		t.Helper()
		if err := projections.Park(t.Context(), views, key, p); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		park("project/"+goldenRoom, projections.Parked{
			Stage: "project", Error: "<no> & never", At: goldenTime, Stream: "room/" + goldenRoom, ID: goldenRoom, Record: json.RawMessage(`{"id":1}`),
		})
	}
	park("decode/1", projections.Parked{Stage: "decode", Error: "not JSON", At: goldenTime, Record: json.RawMessage("\"<\xff")})
	golden = folder.Check("parked.jsonl", goldentest.Lines(t, viewtest.Dump(t, views, "")...))
	again := viewtest.NewModel()
	viewtest.Restore(t, again, goldentest.ReadLines[viewtest.Line](t, golden))
	parked, err := projections.ListParked(t.Context(), again, "", 10)
	if err != nil {
		t.Fatal(err)
	}
	today, err := projections.ListParked(t.Context(), views, "", 10)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(today, parked); diff != "" || len(parked) != 2 {
		t.Errorf("%d golden parked events are read differently (-today +golden):\n%s", len(parked), diff)
	}

	// Regions of two releases compare their digests with each other.
	log, _ := goldenRegion(t)
	var digests []projections.Digest
	for d, err := range projections.Digests(t.Context(), log, events.Part{Of: 1}, events.Key{}, time.Time{}) {
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, d)
	}
	golden = folder.Check("digests.jsonl", goldentest.Lines(t, digests...))
	if diff := cmp.Diff(digests, goldentest.ReadLines[projections.Digest](t, golden)); diff != "" {
		t.Errorf("golden digests are read differently (-want +got):\n%s", diff)
	}
	each, err := projections.DigestEvents(t.Context(), log, events.RoomStream(goldenRoom), goldenTime.Truncate(time.Hour), events.Ref{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	folder.Check("event_digests.jsonl", goldentest.Lines(t, each...))
}

// Every event type is in the golden views. One that is added later needs golden files of its own.
func TestGoldenEventsHaveEveryType(t *testing.T) {
	t.Parallel()
	there := map[string]bool{}
	for _, batch := range append(goldenEvents(), goldenInvitations(), goldenMarks()) {
		for _, e := range batch {
			there[e.Type] = true
		}
	}
	for _, name := range events.Types() {
		if !there[name] {
			t.Errorf("no golden event is a %s", name)
		}
	}
}
