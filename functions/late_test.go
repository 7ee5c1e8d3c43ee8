package functions_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/events"
)

// replicateSome brings those events of a region to another that which says, with all keys.
func replicateSome(from, to *region, which func(events.Event) bool) {
	to.t.Helper()
	replicateKeys(from, to)
	_, err := from.store.Snapshot(context.Background(), func(records []events.Record) error {
		return to.store.Replicate(context.Background(), slices.DeleteFunc(slices.Clone(records), func(r events.Record) bool { return !which(r.Event) }))
	})
	must(to.t, err)
	to.Sync()
}

// messagesIn are the ids of the messages among frames and news, in their order.
func (n news) messages() (ids []string) {
	for _, e := range n.Events {
		if e.Event.Type == "message.posted" {
			ids = append(ids, e.Event.ID)
		}
	}
	return ids
}

func messagesOf(frames []frame) (ids []string) {
	for _, f := range frames {
		if f.Type == "event" && f.Event.Type == "message.posted" {
			ids = append(ids, f.Event.ID)
		}
	}
	return ids
}

// syncAll catches up to the end, in pages of a size.
func (c *client) syncAll(cursor string, limit int) news {
	c.r.t.Helper()
	var all news
	for all.Cursor, all.More = cursor, true; all.More; {
		n := c.sync(all.Cursor, fmt.Sprint("&limit=", limit))
		if len(n.Events) > limit || n.Reset {
			c.r.t.Fatalf("a page of at most %d has %d events, reset %v", limit, len(n.Events), n.Reset)
		}
		all.Events, all.Cursor, all.More = append(all.Events, n.Events...), n.Cursor, n.More
	}
	return all
}

// A user joins in one region and goes on in another, where messages are posted before the membership
// arrives there. When it arrives they are delivered: by a sync with the cursor that passed them, and to the
// socket that was open. So it is if an unban is what arrives last.
func TestJoinArrivesLate(t *testing.T) {
	t.Parallel()
	for _, unban := range []bool{false, true} {
		for _, lag := range []time.Duration{0, 20 * time.Second, 3 * time.Minute, time.Hour} {
			for _, limit := range []int{1, 2, 100} {
				t.Run(fmt.Sprintf("unban %v, %v, %d", unban, lag, limit), func(t *testing.T) {
					t.Parallel()
					testJoinArrivesLate(t, unban, lag, limit)
				})
			}
		}
	}
}

func testJoinArrivesLate(t *testing.T, unban bool, lag time.Duration, limit int) {
	w := newWorld(t)
	us, eu := w.region(t, "us"), w.region(t, "eu")
	room := us.as("bob").room(`{"name":"Engine"}`)
	us.as("bob").say(room, "before the join")
	if unban {
		us.as("bob").put(room+"/bans/ada", "").want(200)
	}
	us.Sync()
	replicate(us, eu)
	w.pass(2 * time.Hour)
	cursor := us.as("ada").cursor()
	if unban {
		us.as("bob").delete(room + "/bans/ada").want(200)
	}
	us.as("ada").put(room+"/members/ada", "").want(200)
	us.Sync()
	n := us.as("ada").sync(cursor)
	if !slices.Contains(n.types(), "member.joined") {
		t.Fatalf("where the user joins, a sync returns %v", n.types())
	}

	ada := eu.as("ada")
	n = ada.syncAll(n.Cursor, limit)
	socket := ada.listen()
	var want []string
	for i := range 3 {
		want = append(want, eu.as("bob").say(room, fmt.Sprint(i)).String())
		w.pass(lag / 3)
		eu.Sync()
		n = ada.syncAll(n.Cursor, limit)
		if got := n.messages(); len(got) > 0 {
			t.Fatalf("before the user is a member here, a sync returns %v", got)
		}
	}
	if got := socket.take(); len(got) > 0 {
		t.Fatalf("before the user is a member here, the socket gets %+v", got)
	}
	if unban { // the ban of the past outlasts the join here
		replicateSome(us, eu, func(e events.Event) bool { return e.Type != "member.unbanned" })
		n = ada.syncAll(n.Cursor, limit)
		if got := append(n.messages(), messagesOf(socket.take())...); len(got) > 0 {
			t.Fatalf("a banned user gets %v", got)
		}
		w.pass(lag)
	}
	replicate(us, eu)
	frames := socket.take()
	if got := messagesOf(frames); !slices.Equal(got, want) {
		t.Errorf("when the membership arrives the socket gets %v, want %v", got, want)
	}
	for i, f := range frames {
		if f.is(t, "event"); i > 0 && f.Position <= frames[i-1].Position {
			t.Errorf("position %d is behind %d", f.Position, frames[i-1].Position)
		}
	}
	before := n.Cursor
	n = ada.syncAll(before, limit)
	if got := n.messages(); !slices.Equal(got, want) {
		t.Errorf("when the membership arrives a sync returns %v, want %v", got, want)
	}
	if again := ada.syncAll(n.Cursor, limit); len(again.Events) > 0 {
		t.Errorf("delivered again: %v", again.types())
	}
	// From now on it is a room like others.
	next := eu.as("bob").say(room, "after it").String()
	eu.Sync()
	if got := ada.syncAll(n.Cursor, limit).messages(); !slices.Equal(got, []string{next}) {
		t.Errorf("then a sync returns %v, want %v", got, next)
	}
	if got := messagesOf(socket.take()); !slices.Equal(got, []string{next}) {
		t.Errorf("then the socket gets %v, want %v", got, next)
	}
	w.pass(time.Hour)
	if got := ada.syncAll(before, limit).messages(); !slices.Equal(got, append(want, next)) {
		t.Errorf("with the cursor of before, later, a sync returns %v, want %v and %s", got, want, next)
	}
}

// A client leaves a region before a late event arrives there, and goes on where the event arrived long
// before: the notice brings it. Where the notice was written it is delivered as it is.
func TestLateNotice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	us, eu, ap := w.region(t, "us"), w.region(t, "eu"), w.region(t, "ap")
	room := us.as("bob").room(`{"name":"Engine"}`)
	us.as("ada").put(room+"/members/ada", "").want(200)
	replicate(us, eu)
	replicate(us, ap)
	w.pass(25 * time.Hour) // else all of the room is delivered elsewhere: the membership is new
	cursor := eu.as("ada").cursor()
	var want []string
	for i := range 3 {
		want = append(want, us.as("bob").say(room, fmt.Sprint(i)).String())
	}
	replicate(us, ap) // and not to eu
	w.pass(40 * time.Minute)
	n := eu.as("ada").sync(cursor)
	if len(n.Events) > 0 {
		t.Fatalf("eu has %v", n.types())
	}
	w.pass(time.Minute)
	n = ap.as("ada").sync(n.Cursor)
	if len(n.Events) > 0 {
		t.Fatalf("ap goes back 41 minutes: %v", n.types())
	}
	here, there := eu.as("ada").listen(), ap.as("ada").listen()
	replicate(us, eu)
	replicate(us, eu) // changes nothing
	if got := messagesOf(here.take()); !slices.Equal(got, want) {
		t.Errorf("where they are late the socket gets %v, want %v", got, want)
	}
	notices := 0
	for e, err := range eu.store.Read(t.Context(), events.RoomStream(roomOf(room)), events.Range{}) {
		must(t, err)
		if _, is := e.Payload.(events.EventLate); is {
			notices++
		}
	}
	if notices != 1 {
		t.Errorf("there are %d late notices, want 1", notices)
	}

	replicate(eu, ap)
	if got := messagesOf(there.take()); !slices.Equal(got, want) {
		t.Errorf("the notice brings the socket %v, want %v", got, want)
	}
	for _, limit := range []int{1, 2, 100} {
		m := ap.as("ada").syncAll(n.Cursor, limit)
		if got := m.messages(); !slices.Equal(got, want) || len(m.Events) != len(want) {
			t.Errorf("the notice brings a sync in pages of %d %v, want %v", limit, m.types(), want)
		}
		if again := ap.as("ada").syncAll(m.Cursor, limit); len(again.Events) > 0 {
			t.Errorf("delivered again: %v", again.types())
		}
	}
	// In eu, who was there got the messages, and the notice as it is.
	m := eu.as("ada").syncAll(cursor, 100)
	if got := m.types(); !slices.Equal(got, []string{"message.posted", "message.posted", "message.posted", "event.late"}) {
		t.Errorf("where they are late a sync returns %v", got)
	}
}

// Of what a notice names, a message that was deleted since has no text, and one that is not here is
// delivered when it arrives.
func TestLateNoticeOfDeletedAndMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	us, eu, ap := w.region(t, "us"), w.region(t, "eu"), w.region(t, "ap")
	room := us.as("bob").room(`{"name":"Engine"}`)
	us.as("ada").put(room+"/members/ada", "").want(200)
	replicate(us, eu)
	replicate(us, ap)
	deleted, missing := us.as("bob").say(room, secret), us.as("bob").say(room, "to come")
	w.pass(time.Hour)
	replicate(us, eu) // late
	us.as("bob").delete(room + "/messages/" + deleted.String()).want(200)
	notMissing := func(e events.Event) bool { return e.ID != missing }
	replicateSome(us, ap, notMissing)
	cursor, socket := ap.as("ada").cursor(), ap.as("ada").listen()
	replicateSome(eu, ap, notMissing)
	frames := socket.take()
	if got := messagesOf(frames); !slices.Equal(got, []string{deleted.String()}) {
		t.Errorf("the notice brings the socket %v, want %v", got, deleted)
	}
	for _, f := range frames {
		if strings.Contains(string(f.text), secret) || !f.Event.Deleted {
			t.Errorf("the socket gets %s", f.text)
		}
	}
	n := ap.as("ada").sync(cursor)
	if got := n.messages(); !slices.Equal(got, []string{deleted.String()}) || !n.Events[0].Event.Deleted {
		t.Errorf("the notice brings a sync %+v, want %v", n, deleted)
	}
	replicate(us, ap)
	if got := messagesOf(socket.take()); !slices.Equal(got, []string{missing.String()}) {
		t.Errorf("then the socket gets %v, want %v", got, missing)
	}
	if got := ap.as("ada").sync(n.Cursor).messages(); !slices.Equal(got, []string{missing.String()}) {
		t.Errorf("then a sync returns %v, want %v", got, missing)
	}
}

// A late event of a user's own is named in the user's stream, and the notice reaches the user elsewhere.
func TestLateNoticeOfUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	us, eu, ap := w.region(t, "us"), w.region(t, "eu"), w.region(t, "ap")
	us.as("ada").put("/v1/users/ada", `{"name":"Ada"}`).want(200)
	replicate(us, ap)
	w.pass(time.Hour)
	cursor, socket := ap.as("ada").cursor(), ap.as("ada").listen()
	replicate(us, eu) // late
	replicate(eu, ap)
	if got := socket.events(); !slices.Equal(got, []string{"user.profile_set"}) {
		t.Errorf("the socket gets %v", got)
	}
	if n := ap.as("ada").sync(cursor); !slices.Equal(n.types(), []string{"user.profile_set"}) || n.Events[0].Stream != "user/ada" || n.Events[0].Position != 2 {
		t.Errorf("a sync returns %+v", n)
	}
}
