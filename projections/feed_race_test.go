package projections_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"parley/events"
	"parley/events/logtest"
	"parley/projections"
	"parley/projections/viewtest"
)

// afterSave calls do once, after the first Save of a segment of a room's feed.
type afterSave struct {
	projections.Views
	do func()
}

func (v *afterSave) Save(ctx context.Context, views ...projections.View) error {
	err := v.Views.Save(ctx, views...)
	if do := v.do; do != nil && strings.HasPrefix(views[0].Key.Partition, "feed/room/") {
		v.do = nil
		do()
	}
	return err
}

// A process hangs between the feed of the room and that of the memberships, while another handles the same
// batch: the change of a membership is in its feed once.
func TestMembershipOnceThoughAProcessHangs(t *testing.T) {
	clock := events.NewClock(time.Now, events.NewMarks(nil))
	id, err := clock.Mint("ada")
	if err != nil {
		t.Fatal(err)
	}
	e, err := events.New(id, events.RoomStream(id.String()), "ada", "here", events.RoomCreated{Name: "room"})
	if err != nil {
		t.Fatal(err)
	}
	batch := []projections.Arrival{{Event: e, Number: "1", At: time.Now()}}
	model := viewtest.NewModel()
	slow := &afterSave{Views: model}
	slow.do = func() {
		if _, _, err := projections.NewFeed("here", model).Append(t.Context(), batch); err != nil {
			t.Error(err)
		}
	}
	if _, _, err := projections.NewFeed("here", slow).Append(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	feeds := projections.FeedsOf("ada")
	got, _, err := projections.ListFeed(t.Context(), model, feeds[len(feeds)-1], 0, 10)
	if err != nil || len(got) != 1 {
		t.Errorf("the feed of memberships is %v, error %v", got, err)
	}
}

// failingMemberships fails to save segments of feeds of memberships while on.
type failingMemberships struct {
	projections.Views
	on bool
}

func (v *failingMemberships) Save(ctx context.Context, views ...projections.View) error {
	if v.on && strings.HasPrefix(views[0].Key.Partition, "feed/membership/") {
		return errors.New("killed")
	}
	return v.Views.Save(ctx, views...)
}

// A process is killed between the feed of the room and that of memberships, and the batch comes again more
// than Window later.
func TestOnceThoughTheMembershipComesLate(t *testing.T) {
	now := time.Now()
	clock := events.NewClock(func() time.Time { return now }, events.NewMarks(nil))
	log, views := logtest.NewModel(), &failingMemberships{Views: viewtest.NewModel(), on: true}
	feed := projections.NewFeed("here", views)
	feed.Now = func() time.Time { return now }
	engine := projections.NewEngine(log, views, projections.All()...)
	syncer := projections.Syncer{Region: "here", Log: log, Views: views, Now: feed.Now}
	cursor, err := syncer.Current(t.Context(), "bob")
	if err != nil {
		t.Fatal(err)
	}
	var batch []projections.Arrival
	add := func(actor string, stream events.Stream, p events.Payload) events.Stream {
		id, err := clock.Mint(actor)
		if err != nil {
			t.Fatal(err)
		}
		if stream == "" {
			stream = events.RoomStream(id.String())
		}
		e, err := events.New(id, stream, actor, "here", p)
		if err != nil {
			t.Fatal(err)
		}
		if e, _, err = log.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		batch = append(batch, projections.Arrival{Event: e, Number: events.Number("123456789"[len(batch) : len(batch)+1]), At: now})
		return stream
	}
	room := add("ada", "", events.RoomCreated{Name: "room"})
	now = now.Add(time.Second)
	add("bob", room, events.MemberJoined{User: "bob", Role: events.RoleMember})
	now = now.Add(time.Second)
	add("ada", room, events.MessagePosted{Text: events.Plain("hello")})
	delivered := map[string]int{}
	sync := func() {
		for more := true; more; {
			page, err := syncer.Since(t.Context(), "bob", cursor, 10)
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range page.Events {
				delivered[h.Event.Type]++
			}
			cursor, more = page.Cursor, page.More
		}
	}
	handle := func() error {
		if _, err := engine.Apply(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		_, _, err := feed.Append(t.Context(), batch)
		return err
	}
	if err := handle(); err == nil {
		t.Fatal("not killed")
	}
	for range 8 {
		sync()
		now = now.Add(10 * time.Second)
	}
	views.on = false
	if err := handle(); err != nil {
		t.Fatal(err)
	}
	for range 6 {
		sync()
		now = now.Add(10 * time.Second)
	}
	if delivered["message.posted"] != 1 {
		t.Errorf("delivered %v", delivered)
	}
}
