package projections_test

import (
	"context"
	"errors"
	"fmt"
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

// failing returns a function that fails n times.
func failing(n int) func() error {
	return func() error {
		if n--; n >= 0 {
			return viewtest.ErrFault
		}
		return nil
	}
}

// However Get and Save fail, the same batch applied again and again ends in the right views.
func TestApplyAgainAfterFaults(t *testing.T) {
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

// untilDone does again what fails on purpose.
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

// meddler lets another writer save a view between each Get and Save, some times.
type meddler struct {
	projections.Views
	times int
	key   projections.Key
	saw   int
}

func (m *meddler) Save(ctx context.Context, views ...projections.View) error {
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
		m.saw++
	}
	return err
}

func TestConflictsAreFoldedAgain(t *testing.T) {
	for _, test := range []struct {
		times int
		fails bool
	}{{1, false}, {5, false}, {1000, true}} {
		t.Run(fmt.Sprint(test.times), func(t *testing.T) {
			views := &meddler{Views: viewtest.NewModel(), times: test.times}
			room := []events.Event{post(1, "ada", "one"), post(2, "bob", "two")}
			views.key = projections.Timeline.Keys(room[1])[0]
			_, err := projections.NewEngine(nil, views, projections.All()...).Apply(t.Context(), arrivals(room...))
			if (err != nil) != test.fails {
				t.Fatalf("Apply: %v", err)
			}
			if views.saw == 0 {
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
		stored, err := log.Get(context.Background(), e.Stream, e.ID)
		if err != nil {
			t.Fatalf("Get: %v", err)
		}
		out = append(out, stored)
	}
	return out
}

// An event that took the place of another: the views are those of the log.
func TestReplaced(t *testing.T) {
	root, other := post(1, "ada", "root"), post(2, "bob", "other")
	id := makeID(40, "ada", 9)
	again := func(p events.Payload) events.Event {
		return newEvent(id, events.RoomStream(plain), "ada", "us", p)
	}
	edit := newEvent(makeID(50, "ada", 1), events.RoomStream(plain), "ada", "eu", events.MessageEdited{Message: id, Text: events.Plain("edited")})
	message, reply := events.MessagePosted{Text: events.Plain("was")}, events.MessagePosted{Text: events.Plain("was"), Thread: &root.ID}
	for _, test := range []struct {
		name    string
		was, is events.Payload
	}{
		{"text", message, events.MessagePosted{Text: events.Plain("is")}},
		{"message to reaction", message, events.ReactionAdded{Message: other.ID, Emoji: "👍"}},
		{"reaction to message", events.ReactionAdded{Message: id, Emoji: "👍"}, message},
		{"reaction to another", events.ReactionAdded{Message: root.ID, Emoji: "👍"}, events.ReactionAdded{Message: root.ID, Emoji: ":tada:"}},
		{"edit", events.MessageEdited{Message: root.ID, Text: events.Plain("was")}, events.MessageEdited{Message: root.ID, Text: events.Plain("is")}},
		{"delete to edit", events.MessageDeleted{Message: root.ID}, events.MessageEdited{Message: root.ID, Text: events.Plain("is")}},
		{"reply moves", reply, events.MessagePosted{Text: events.Plain("is"), Thread: &root.ID}},
		{"role", events.MemberJoined{User: "eve", Role: events.RoleOwner}, events.MemberJoined{User: "eve", Role: events.RoleMember}},
		{"room", events.RoomUpdated{Name: ptr("was")}, events.RoomUpdated{Topic: ptr("is")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			is := []events.Event{root, other, again(test.is), edit}
			want, got := viewtest.NewModel(), viewtest.NewModel()
			apply(t, projections.NewEngine(nil, want, projections.All()...), arrivals(is...))
			engine := projections.NewEngine(logOf(t, is...), got, projections.All()...)
			apply(t, engine, arrivals(root, again(test.was), edit))
			apply(t, engine, []projections.Arrival{{Event: other}, {Event: again(test.is), Replaced: true}})
			sameViews(t, is, got, want, projections.All()...)
			a, err := projections.ListMessages(t.Context(), got, plain, events.Range{Limit: 10})
			b, _ := projections.ListMessages(t.Context(), want, plain, events.Range{Limit: 10})
			same(t, "ListMessages", a, b, err)
		})
	}
}

// A reply that became another kind of event is no longer listed in its thread.
func TestReplacedReplyLeavesTheThread(t *testing.T) {
	root := post(1, "ada", "root")
	was := inPlain(2, "bob", events.MessagePosted{Text: events.Plain("reply"), Thread: &root.ID})
	is := inPlain(2, "bob", events.MessagePosted{Text: events.Plain("no reply")})
	views := viewtest.NewModel()
	engine := projections.NewEngine(logOf(t, root, is), views, projections.All()...)
	apply(t, engine, arrivals(root, was))
	apply(t, engine, []projections.Arrival{{Event: is, Replaced: true}})
	replies, err := projections.ListReplies(t.Context(), views, plain, root.ID, events.Range{Limit: 10})
	same(t, "ListReplies", replies, []projections.Message(nil), err)
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
			views := &meddler{Views: viewtest.NewModel(), times: 2, key: projections.Key{Partition: "brittle", Sort: "b"}}
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
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	views := viewtest.NewModel()
	_, err := projections.NewEngine(nil, views, projections.All()...).Apply(ctx, arrivals(post(1, "ada", "one")))
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("Apply: %v, want the context's error", err)
	}
	sameTexts(t, views)
}

// A log that cannot be read fails the batch; nothing is taken for an empty stream.
func TestRefoldFailsWithTheLog(t *testing.T) {
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
			engine := projections.NewEngine(log, views, projections.All()...)
			apply(t, engine, arrivals(first, second))
			_, err := engine.Apply(t.Context(), []projections.Arrival{{Event: first, Replaced: true}})
			if !errors.Is(err, broken) {
				t.Fatalf("Apply: %v, want the log's error", err)
			}
			sameTexts(t, views, "one", "two")
		})
	}
}
