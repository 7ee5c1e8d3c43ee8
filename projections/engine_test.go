package projections_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"parley/events"
	"parley/events/logtest"
	"parley/projections"
	"parley/projections/viewtest"
)

// logOf returns a log that holds the set. Of an event that two regions accepted it has one.
func logOf(t failer, set ...events.Event) events.Log {
	t.Helper()
	log := logtest.NewModel()
	for _, e := range set {
		if _, _, err := log.Append(context.Background(), e); err != nil {
			t.Fatalf("Append: %v", err)
		}
	}
	return log
}

func drawFaults(t *rapid.T) []viewtest.Fault {
	ways := []viewtest.Fault{viewtest.Pass, viewtest.NotStored, viewtest.HalfStored, viewtest.Stored}
	return rapid.SliceOfN(rapid.SampledFrom(ways), 0, 6).Draw(t, "faults")
}

// failing returns a function that fails n times; several goroutines may call it.
func failing(n int) func() error {
	var calls atomic.Int64
	return func() error {
		if calls.Add(1) <= int64(n) {
			return viewtest.ErrFault
		}
		return nil
	}
}

// However Get and Save fail, the same batch applied again and again ends in the right views.
func TestApplyAgainAfterFaults(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		set := eventsOf(events.Types(), 40).Draw(t, "set")
		once, model := viewtest.NewModel(), viewtest.NewModel()
		apply(t, projections.NewEngine(nil, once, projections.All()...), arrivals(set...))
		faults := &viewtest.Faults{Views: model}
		engine := projections.NewEngine(nil, faults, projections.All()...)
		for _, batch := range batchesOf(set).Draw(t, "batches") {
			faults.OnSave = viewtest.Script(drawFaults(t)...)
			fail := failing(rapid.IntRange(0, 2).Draw(t, "gets"))
			faults.OnGet = func([]projections.Key) error { return fail() }
			untilDone(t, func() error {
				_, err := engine.Apply(context.Background(), batch)
				return err
			})
		}
		sameViews(t, set, model, once, projections.All()...)
	})
}

// untilDone retries a function that fails on purpose.
func untilDone(t failer, f func() error) {
	t.Helper()
	for range 20 {
		err := f()
		if err == nil {
			return
		}
		if !errors.Is(err, viewtest.ErrFault) {
			t.Fatalf("error %v, want only those made on purpose", err)
		}
	}
	t.Fatalf("it still fails when the faults are over")
}

// competingWriter are Views in which another writer saves the view key before each of the first
// times Saves.
type competingWriter struct {
	projections.Views
	times     int
	key       projections.Key
	conflicts int
}

func (m *competingWriter) Save(ctx context.Context, views ...projections.View) error {
	if m.times > 0 {
		m.times--
		got, err := m.Views.Get(ctx, m.key)
		if err != nil {
			return err
		}
		if err := m.Views.Save(ctx, got...); err != nil {
			return err
		}
	}
	err := m.Views.Save(ctx, views...)
	var conflict *projections.ConflictError
	if errors.As(err, &conflict) {
		m.conflicts++
	}
	return err
}

func TestConflictsAreFoldedAgain(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		times int
		fails bool
	}{{1, false}, {5, false}, {1000, true}} {
		t.Run(fmt.Sprint(test.times), func(t *testing.T) {
			views := &competingWriter{Views: viewtest.NewModel(), times: test.times}
			room := []events.Event{post(1, "ada", "one"), post(2, "bob", "two")}
			views.key = projections.Timeline.Keys(room[1])[0]
			_, err := projections.NewEngine(nil, views, projections.All()...).Apply(t.Context(), arrivals(room...))
			if (err != nil) != test.fails {
				t.Fatalf("Apply: %v", err)
			}
			if views.conflicts == 0 {
				t.Fatal("there was no conflict")
			}
			want := []string{"one", "two"}
			if test.fails {
				want = want[:1] // nobody touched the first
			}
			sameTexts(t, views, want...)
		})
	}
}

// post makes a message that ada or another posted in the plain room.
func post(n uint32, actor, text string) events.Event {
	return newEvent(makeID(30+uint64(n), actor, n), events.RoomStream(plain), actor, "eu", events.MessagePosted{Text: events.Plain(text)})
}

func inPlain(n uint32, actor string, payload events.Payload) events.Event {
	return newEvent(makeID(30+uint64(n), actor, n), events.RoomStream(plain), actor, "eu", payload)
}

// sameTexts compares the texts of the plain room's messages.
func sameTexts(t *testing.T, views projections.Views, want ...string) {
	t.Helper()
	page, err := projections.ListMessages(t.Context(), views, plain, events.Range{Limit: 200})
	var got []string
	for _, m := range page {
		got = append(got, m.Text.Text())
	}
	same(t, "texts", got, want, err)
}

func TestDamagedViewIsFoldedFromTheLog(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		set := eventsOf(events.Types(), 40).Filter(func(s []events.Event) bool { return len(s) > 0 }).Draw(t, "set")
		log, whole, damaged := logOf(t, set...), viewtest.NewModel(), viewtest.NewModel()
		stored := inLog(t, log, set)
		apply(t, projections.NewEngine(nil, whole, projections.All()...), arrivals(stored...))
		for _, key := range keysOf(set, projections.All()...) {
			body := rapid.SampledFrom([]string{"{", "[]", `"x"`, `{"post":1,"in":1,"name":1,"up_to":1,"id":1,"posted":1,"beat":1}`}).Draw(t, "damage")
			if err := damaged.Save(context.Background(), projections.View{Key: key, Body: []byte(body)}); err != nil {
				t.Fatalf("Save: %v", err)
			}
		}
		apply(t, projections.NewEngine(log, damaged, projections.All()...), arrivals(set...))
		sameViews(t, set, damaged, whole, projections.All()...)
	})
}

// inLog returns the events of the set as the log has them.
func inLog(t failer, log events.Log, set []events.Event) []events.Event {
	t.Helper()
	var out []events.Event
	for _, e := range set {
		stored, err := log.GetMany(context.Background(), []events.Key{e.Key()})
		if err != nil || len(stored) != 1 {
			t.Fatalf("GetMany: %d events, %v", len(stored), err)
		}
		out = append(out, stored[e.Key()])
	}
	return out
}

// One id with two contents: the views are the same in whatever order they come, and with what was done to
// the message before either came.
func TestOneIDTwoContents(t *testing.T) {
	t.Parallel()
	root, other := post(1, "ada", "root"), post(2, "bob", "other")
	id := makeID(40, "ada", 9)
	as := func(actor string, p events.Payload) events.Event {
		return newEvent(id, events.RoomStream(plain), actor, "us", p)
	}
	edit := newEvent(makeID(50, "ada", 1), events.RoomStream(plain), "ada", "eu", events.MessageEdited{Message: id, Text: events.Plain("edited by ada")})
	by := newEvent(makeID(51, "bob", 1), events.RoomStream(plain), "bob", "eu", events.MessageEdited{Message: id, Text: events.Plain("edited by bob")})
	message, reply := events.MessagePosted{Text: events.Plain("a")}, events.MessagePosted{Text: events.Plain("a"), Thread: &root.ID}
	for _, test := range []struct {
		name string
		a, b events.Event
	}{
		{"text", as("ada", message), as("ada", events.MessagePosted{Text: events.Plain("b")})},
		{"author", as("ada", message), as("bob", message)},
		{"message and reaction", as("ada", message), as("ada", events.ReactionAdded{Message: other.ID, Emoji: "👍"})},
		{"message and join", as("ada", message), as("ada", events.MemberJoined{User: "eve", Role: events.RoleMember})},
		{"reactions", as("ada", events.ReactionAdded{Message: root.ID, Emoji: "👍"}), as("ada", events.ReactionRemoved{Message: root.ID, Emoji: "👍"})},
		{"edits", as("ada", events.MessageEdited{Message: root.ID, Text: events.Plain("a")}), as("ada", events.MessageEdited{Message: root.ID, Text: events.Plain("b")})},
		{"delete and edit", as("ada", events.MessageDeleted{Message: root.ID}), as("ada", events.MessageEdited{Message: root.ID, Text: events.Plain("b")})},
		{"reply and none", as("ada", reply), as("ada", message)},
		{"roles", as("ada", events.MemberJoined{User: "eve", Role: events.RoleOwner}), as("ada", events.MemberJoined{User: "eve", Role: events.RoleMember})},
		{"join and ban", as("ada", events.MemberJoined{User: "eve", Role: events.RoleOwner}), as("ada", events.MemberBanned{User: "eve"})},
		{"room", as("ada", events.RoomUpdated{Name: ptr("a")}), as("ada", events.RoomUpdated{Name: ptr("b")})},
	} {
		t.Run(test.name, func(t *testing.T) {
			all := []events.Event{root, other, test.a, test.b, edit, by}
			want := viewtest.NewModel()
			apply(t, projections.NewEngine(nil, want, projections.All()...), arrivals(all...))
			for _, order := range [][]events.Event{
				{test.b, test.a, by, edit, other, root}, {edit, by, root, test.a, other, test.b, test.a}, {by, test.b, edit, test.a, root, other},
			} {
				got := viewtest.NewModel()
				engine := projections.NewEngine(nil, got, projections.All()...)
				for _, e := range order {
					apply(t, engine, arrivals(e))
				}
				sameViews(t, all, got, want, projections.All()...)
				a, err := projections.ListMessages(t.Context(), got, plain, events.Range{Limit: 10})
				b, _ := projections.ListMessages(t.Context(), want, plain, events.Range{Limit: 10})
				same(t, "ListMessages", a, b, err)
			}
		})
	}
}

// Of two messages with one id, one shows: a thread lists it if that one is a reply.
func TestThreadListsTheMessageThatShows(t *testing.T) {
	t.Parallel()
	root := post(1, "ada", "root")
	for n := range 8 { // either may have the lesser digest
		reply := inPlain(2, "bob", events.MessagePosted{Text: events.Plain(fmt.Sprint("reply ", n)), Thread: &root.ID})
		none := inPlain(2, "bob", events.MessagePosted{Text: events.Plain("no reply")})
		views := viewtest.NewModel()
		apply(t, projections.NewEngine(nil, views, projections.All()...), arrivals(root, reply, none))
		var want []string
		if reply.Ref().Compare(none.Ref()) < 0 {
			want = append(want, fmt.Sprint("reply ", n))
		}
		var got []string
		replies, err := projections.ListReplies(t.Context(), views, plain, root.ID, events.Range{Limit: 10})
		for _, m := range replies {
			got = append(got, m.Text.Text())
		}
		same(t, "ListReplies", got, want, err)
	}
}

// brittle is a projection that counts a room's messages and panics where the text says so.
type brittle struct{}

func (brittle) Name() string                         { return "brittle" }
func (brittle) Since(projections.Key) events.ID      { return events.ID{} }
func (brittle) Stream(projections.Key) events.Stream { return events.RoomStream(plain) }
func (brittle) Keys(e events.Event) []projections.Key {
	if e.Payload.(events.MessagePosted).Text == events.Plain("panic in keys") {
		panic("in keys")
	}
	return []projections.Key{{Partition: "brittle", Sort: "a"}, {Partition: "brittle", Sort: "b"}}
}

func (brittle) Open(_ projections.Key, body []byte) (projections.Document, error) {
	return &tape{string(body)}, nil
}

type tape struct{ text string }

func (d *tape) Body() ([]byte, error) { return []byte(d.text), nil }
func (d *tape) Fold(e events.Event) {
	text := e.Payload.(events.MessagePosted).Text.Text()
	d.text += text
	if text == "panic" {
		panic(errors.New("in fold"))
	}
}

func TestPanicIsAFailureOfOneEvent(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		texts  []string
		failed []int
		want   string
	}{
		{"none", []string{"a", "b"}, nil, "ab"},
		{"first", []string{"panic", "b"}, []int{0}, "b"},
		{"some", []string{"a", "panic", "b", "panic in keys", "panic", "c"}, []int{1, 3, 4}, "abc"},
		{"all", []string{"panic", "panic"}, []int{0, 1}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var batch []projections.Arrival
			for i, text := range test.texts {
				batch = append(batch, projections.Arrival{Event: post(uint32(i), "ada", text)})
			}
			views := &competingWriter{Views: viewtest.NewModel(), times: 2, key: projections.Key{Partition: "brittle", Sort: "b"}}
			failures, err := projections.NewEngine(nil, views, brittle{}, projections.Timeline).Apply(t.Context(), batch)
			var failed []int
			for _, f := range failures {
				if f.Err == nil {
					t.Error("a failure without an error")
				}
				failed = append(failed, f.Index)
			}
			same(t, "failures", failed, test.failed, err)
			got := bodies(t, views, []projections.Key{{Partition: "brittle", Sort: "a"}, {Partition: "brittle", Sort: "b"}})
			for _, body := range got {
				same(t, "body", string(body), test.want, nil)
			}
			sameTexts(t, views, test.texts...) // another projection is not concerned
		})
	}
}

func TestApplyEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	views := viewtest.NewModel()
	_, err := projections.NewEngine(nil, views, projections.All()...).Apply(ctx, arrivals(post(1, "ada", "one")))
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("Apply: %v, want the context's error", err)
	}
	sameTexts(t, views)
}

// A command folds every event at once that decides over access. One that does not costs no request,
// not even for the generations.
func TestEventsThatTouchNoViewCostNothing(t *testing.T) {
	t.Parallel()
	var failing viewtest.Faults // any request is a nil pointer
	generations := projections.NewGenerations(&failing)
	engine := projections.NewEngine(nil, &failing, projections.Access()...).In(generations)
	message := post(1, "ada", "one")
	reaction := inPlain(2, "bob", events.ReactionAdded{Message: message.ID, Emoji: ":tada:"})
	apply(t, engine, arrivals(message, reaction))

	views := viewtest.NewModel()
	engine = projections.NewEngine(nil, views, projections.Access()...).In(projections.NewGenerations(views))
	apply(t, engine, arrivals(message, inPlain(3, "ada", events.MemberJoined{User: "bob", Role: events.RoleMember})))
	if m, err := projections.LoadMember(t.Context(), views, plain, "bob"); err != nil || !m.In {
		t.Errorf("bob is %+v, error %v", m, err)
	}
}

// A log that cannot be read fails the batch; nothing is taken for an empty stream.
func TestRefoldFailsWithTheLog(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	first, second := post(1, "ada", "one"), post(2, "ada", "two")
	for name, spare := range map[string]int{"at once": 0, "midway": 1} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			log := &logtest.Faults{Log: logOf(t, first, second), OnRead: func(events.Stream) error {
				if asked++; asked > spare {
					return broken
				}
				return nil
			}}
			views := viewtest.NewModel()
			damaged := projections.View{Key: projections.Timeline.Keys(first)[0], Body: []byte("{")}
			if err := views.Save(t.Context(), damaged); err != nil {
				t.Fatal(err)
			}
			_, err := projections.NewEngine(log, views, projections.All()...).Apply(t.Context(), arrivals(first))
			if !errors.Is(err, broken) {
				t.Fatalf("Apply: %v, want the log's error", err)
			}
			same(t, "body", string(bodies(t, views, []projections.Key{damaged.Key})[0]), "{", nil)
		})
	}
}

// refusing are Views whose store refuses some views for good.
type refusing struct {
	projections.Views
	refuse func(projections.View) bool
}

func (r *refusing) Save(ctx context.Context, views ...projections.View) error {
	if slices.ContainsFunc(views, r.refuse) {
		return fmt.Errorf("save views: %w", projections.ErrRefused)
	}
	return r.Views.Save(ctx, views...)
}

// A view that the store refuses fails the events that touch it, and no others.
func TestRefusedViewFailsItsEventsOnly(t *testing.T) {
	t.Parallel()
	room := []events.Event{post(1, "ada", "one"), post(2, "bob", "two"), post(3, "ada", "three")}
	bad := projections.Timeline.Keys(room[1])[0]
	views := &refusing{viewtest.NewModel(), func(view projections.View) bool { return view.Key == bad }}
	failures, err := projections.NewEngine(nil, views, projections.All()...).Apply(t.Context(), arrivals(room...))
	if err != nil || len(failures) != 1 || failures[0].Index != 1 || !errors.Is(failures[0].Err, projections.ErrRefused) {
		t.Fatalf("Apply: failures %v, error %v", failures, err)
	}
	sameTexts(t, views, "one", "three")
}

// A view stays below what a store can hold, whatever events come in a batch: those that make it larger
// fail, and the others are folded.
func TestViewsStayBelowTheirBound(t *testing.T) {
	t.Parallel()
	const most = 350 << 10
	message := post(1, "ada", "one")
	set := []events.Event{message}
	for n := range uint32(40) { // the message is not known yet when the edits of others come: the view keeps them by actor
		user := fmt.Sprintf("user%d", n)
		edit := events.MessageEdited{Message: message.ID, Text: events.Plain(strings.Repeat("x", 20_000))}
		set = append(set, newEvent(makeID(100+uint64(n), user, n), events.RoomStream(plain), user, "eu", edit))
	}
	views := viewtest.NewModel()
	engine := projections.NewEngine(nil, views, projections.Timeline)
	failures, err := engine.Apply(t.Context(), arrivals(set[1:]...))
	if err != nil || len(failures) < 20 || len(failures) > 25 {
		t.Fatalf("Apply: %d failures, error %v", len(failures), err)
	}
	body := bodies(t, views, projections.Timeline.Keys(message))[0]
	if len(body) > most || len(body) < most-25_000 {
		t.Errorf("the view has %d bytes", len(body))
	}
	apply(t, engine, arrivals(message))
	sameTexts(t, views, "one")
}
