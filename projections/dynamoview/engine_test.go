package dynamoview_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"pgregory.net/rapid"

	"parley/events"
	"parley/events/dynamolocal/dynamotest"
	"parley/projections"
	"parley/projections/dynamoview"
)

// In whatever order and batches the events of a conversation arrive, some of them twice, and
// whatever goes wrong with the calls on the way: the views end as those of the same events folded
// at once with nothing going wrong, and the feed has each event once.
func TestAnyOrderAndFaultsSameViews(t *testing.T) {
	t.Parallel()
	place := dynamotest.Open(t)
	faults := &script{}
	good, bad := place.Config(region), dynamotest.Spoil(t, place, faults.next).Config(region)
	bad.Retryer = func() aws.Retryer { return retry.AddWithMaxBackoffDelay(retry.NewStandard(), time.Millisecond) }
	round := 0
	rapid.Check(t, func(t *rapid.T) {
		round++
		set := conversation(t)
		once := open(t, good, fmt.Sprint("once-", round))
		if _, err := projections.NewEngine(nil, once, projections.All()...).Apply(t.Context(), arrivals(set)); err != nil {
			t.Fatal(err)
		}
		anyhow := open(t, good, fmt.Sprint("anyhow-", round))
		consume(t, dynamoview.New(bad, fmt.Sprint("anyhow-", round)), set, faults)
		sameViews(t, anyhow, once, set)
		sameFeeds(t, anyhow, set)
	})
}

func open(t *rapid.T, cfg aws.Config, table string) *dynamoview.Views {
	if err := dynamoview.CreateTable(t.Context(), cfg, table); err != nil {
		t.Fatal(err)
	}
	return dynamoview.New(cfg, table)
}

// consume lets the events arrive as a stream might bring them: a batch that fails comes again.
func consume(t *rapid.T, views projections.Views, set []events.Event, faults *script) {
	engine, feed := projections.NewEngine(nil, views, projections.All()...), projections.NewFeed("eu", views)
	again := rapid.SliceOfN(rapid.SampledFrom(set), 0, 5).Draw(t, "again")
	for all := rapid.Permutation(append(again, set...)).Draw(t, "order"); len(all) > 0; {
		n := rapid.IntRange(1, len(all)).Draw(t, "batch")
		batch := arrivals(all[:n])
		all = all[n:]
		faults.set(drawFaults(t))
		untilDone(t, func() error {
			if _, err := engine.Apply(t.Context(), batch); err != nil {
				return err
			}
			return discard(feed.Append(t.Context(), batch))
		})
		if rapid.IntRange(0, 3).Draw(t, "restart") == 0 {
			feed = projections.NewFeed("eu", views)
		}
	}
	faults.set(nil)
}

func untilDone(t *rapid.T, f func() error) {
	var err error
	for range 50 {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("it still fails when the faults are over: %v", err)
}

// script is how calls go, one after the other; further ones pass.
type script struct {
	mu     sync.Mutex
	faults []dynamotest.Fault
}

func drawFaults(t *rapid.T) []dynamotest.Fault {
	const none, throttle, fail, drop, lose, part = dynamotest.None, dynamotest.Throttle, dynamotest.Fail, dynamotest.Drop, dynamotest.Lose, dynamotest.Part
	return rapid.SliceOfN(rapid.SampledFrom([]dynamotest.Fault{none, none, throttle, fail, drop, lose, lose, part}), 0, 20).Draw(t, "faults")
}

func (s *script) set(faults []dynamotest.Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = faults
}

func (s *script) next(dynamotest.Call) dynamotest.Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.faults) == 0 {
		return dynamotest.None
	}
	next := s.faults[0]
	s.faults = s.faults[1:]
	return next
}

// sameViews compares every view that the events touch, byte by byte.
func sameViews(t *rapid.T, got, want projections.Views, set []events.Event) {
	var keys []projections.Key
	for _, e := range set {
		for _, p := range projections.All() {
			keys = append(keys, p.Keys(e)...)
		}
	}
	a, err := got.Get(t.Context(), keys...)
	if err != nil {
		t.Fatal(err)
	}
	b, err := want.Get(t.Context(), keys...)
	if err != nil {
		t.Fatal(err)
	}
	for i, key := range keys {
		if b[i].Version == 0 || string(a[i].Body) != string(b[i].Body) {
			t.Fatalf("view %v differs:\n got %s\nwant %s", key, a[i].Body, b[i].Body)
		}
	}
}

// sameFeeds checks that the feeds have each event once, at positions without a gap.
func sameFeeds(t *rapid.T, views projections.Views, set []events.Event) {
	missing := map[events.Stream]map[events.ID]bool{}
	for _, e := range set {
		if missing[e.Stream] == nil {
			missing[e.Stream] = map[events.ID]bool{}
		}
		missing[e.Stream][e.ID] = true
	}
	for stream, ids := range missing {
		entries, _, err := projections.ListFeed(context.Background(), views, stream, 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for i, entry := range entries {
			if entry.Position != uint64(i+1) || !ids[entry.Ref.ID] {
				t.Fatalf("entry %d of the feed has position %d, its event is expected: %t", i, entry.Position, ids[entry.Ref.ID])
			}
			delete(ids, entry.Ref.ID)
		}
		if len(ids) > 0 {
			t.Fatalf("%d events are missing in the feed", len(ids))
		}
	}
}

func arrivals(set []events.Event) []projections.Arrival {
	batch := make([]projections.Arrival, len(set))
	for i, e := range set {
		batch[i].Event, batch[i].Number = e, events.Number(strconv.Itoa(int(binary.BigEndian.Uint32(e.ID[12:]))+1))
	}
	return batch
}

// conversation draws events of two rooms: messages, and events about messages that were posted
// before.
func conversation(t *rapid.T) []events.Event {
	var set []events.Event
	var posted []events.Event
	add := func(actor string, stream events.Stream, payload events.Payload) events.Event {
		e, err := events.New(makeID(actor, uint32(len(set))), stream, actor, "eu", payload)
		if err != nil {
			t.Fatal(err)
		}
		set = append(set, e)
		return e
	}
	rooms := []string{makeID("ada", 1).String(), makeID("ada", 2).String()}
	for range rapid.IntRange(1, 25).Draw(t, "events") {
		actor := rapid.SampledFrom([]string{"ada", "bob"}).Draw(t, "actor")
		room := rapid.SampledFrom(rooms).Draw(t, "room")
		stream := events.RoomStream(room)
		text := events.Plain(rapid.SampledFrom([]string{"one", "two"}).Draw(t, "text"))
		if len(posted) == 0 || rapid.IntRange(0, 2).Draw(t, "post") == 0 {
			posted = append(posted, add(actor, stream, events.MessagePosted{Text: text}))
			continue
		}
		about := rapid.SampledFrom(posted).Draw(t, "about")
		switch rapid.IntRange(0, 6).Draw(t, "what") {
		case 0:
			posted = append(posted, add(actor, about.Stream, events.MessagePosted{Text: text, Thread: &about.ID}))
		case 1:
			add(actor, about.Stream, events.MessageEdited{Message: about.ID, Text: text})
		case 2:
			add(actor, about.Stream, events.MessageDeleted{Message: about.ID})
		case 3:
			add(actor, about.Stream, events.ReactionAdded{Message: about.ID, Emoji: "👍"})
		case 4:
			add(actor, about.Stream, events.ReactionRemoved{Message: about.ID, Emoji: "👍"})
		case 5:
			add(actor, events.UserStream(actor), events.RoomRead{Room: room, UpTo: about.ID})
		case 6:
			add(actor, stream, events.MemberJoined{User: actor, Role: events.RoleMember})
		}
	}
	return set
}

// makeID makes the n-th id of a conversation.
func makeID(actor string, n uint32) events.ID {
	var id events.ID
	if err := id.SetTime(uint64(1000 + n)); err != nil {
		panic(err) // it is years from the end of time
	}
	mark := events.FormerMark(actor)
	copy(id[6:], mark[:])
	binary.BigEndian.PutUint32(id[12:], n)
	return id
}

// discard keeps the error of an Append.
func discard(_ []projections.FeedEntry, _ []projections.Late, err error) error { return err }
