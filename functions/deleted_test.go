package functions_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"parley/events"
	"parley/projections"
)

// deleted has ada say something secret in a message, a reply, and an edit and its message, delete all
// of them, and returns the room's path, the ids of the messages and a cursor of bob from before.
func deleted(r *region) (room string, messages []events.ID, cursor string) {
	ada, bob := r.as("ada"), r.as("bob")
	room = ada.room(`{"name":"Apollo"}`)
	bob.put(room+"/members/bob", "").want(200)
	r.Sync()
	cursor = bob.get("/v1/rooms").text("cursor")
	root := ada.say(room, secret+" posted")
	reply := ada.post(room+"/messages", `{"text":"`+secret+` replied","thread":"`+root.String()+`"}`).want(201).id()
	edited := ada.say(room, secret+" before")
	ada.patch(room+"/messages/"+edited.String(), `{"text":"`+secret+` between"}`).want(200)
	ada.patch(room+"/messages/"+edited.String(), `{"text":"`+secret+` after"}`).want(200)
	bob.say(room, "stays")
	r.Sync()
	messages = []events.ID{root, reply, edited}
	for _, id := range messages {
		ada.delete(room + "/messages/" + id.String()).want(200)
	}
	r.Sync()
	return room, messages, cursor
}

// textOf is what frames look like on the wire.
func textOf(frames []frame) string {
	var all []byte
	for _, f := range frames {
		all = append(all, f.text...)
	}
	return string(all)
}

// The text of a deleted message, and of its edits, is nowhere: not on any way an event leaves Parley,
// in any region. The events themselves are still there, each at its position.
func TestDeletedIsNowhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	us, eu := opsOf(w.region(t, "us")), opsOf(w.region(t, "eu"))
	must(t, us.beat())
	us.Sync()
	replicate(us.region, eu.region)
	room, messages, cursor := deleted(us.region)
	replicate(us.region, eu.region)
	posted, err := events.Get(t.Context(), us.store, events.RoomStream(roomOf(room)), messages[0])
	must(t, err)
	for _, o := range []*ops{us, eu} {
		must(t, o.stream.Park(t.Context(), "project", events.Record{Event: posted}, fmt.Errorf("as a test")))
		for edge, a := range o.edges(room, messages[0], messages[1], cursor) {
			if edge == "profile" {
				continue // ada has none
			}
			if bytes.Contains(a.want(200).body, []byte(secret)) {
				t.Errorf("%s in %s has the text of a deleted message: %s", edge, o.name, a.body)
			}
		}
		sync := o.as("bob").get("/v1/sync?cursor=" + url.QueryEscape(cursor)).want(200)
		if n := bytes.Count(sync.body, []byte(`"deleted":true`)); n != 5 {
			t.Errorf("%d events of a sync in %s are marked as deleted, want 5: %s", n, o.name, sync.body)
		}
		if !bytes.Contains(sync.body, []byte("stays")) {
			t.Errorf("a sync in %s lacks what was not deleted", o.name)
		}
		for _, action := range []string{"catchup", "subscribe"} {
			frames := textOf(o.as("bob").open().send(fmt.Sprintf(`{"action":%q,"cursor":%q}`, action, cursor)))
			if strings.Contains(frames, secret) || !strings.Contains(frames, "stays") {
				t.Errorf("a socket in %s is answered a %s with %s", o.name, action, frames)
			}
		}

		o.bus.entries = nil
		o.finish(o.start(`{"kind":"replay","to":"again","rate":10000}`))
		marked := 0
		for _, e := range o.bus.entries {
			if bytes.Contains(e.Detail, []byte(secret)) {
				t.Errorf("a replay in %s publishes %s", o.name, e.Detail)
			}
			marked += bytes.Count(e.Detail, []byte(`"deleted":true`))
		}
		if marked != 5 {
			t.Errorf("a replay in %s marks %d events as deleted, want 5", o.name, marked)
		}
	}
}

// An old event that comes again, or later than the deletion, is neither published nor pushed with its
// text.
func TestDeletedBeforeItArrives(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	us, eu := w.region(t, "us"), w.region(t, "eu")
	room, _, _ := deleted(us)
	replicateKeys(us, eu)
	var all, deletions, others []events.Record
	_, err := us.store.Snapshot(t.Context(), func(records []events.Record) error {
		for _, r := range records {
			if r.Event.Type == "message.deleted" {
				deletions = append(deletions, r)
			} else {
				others = append(others, r)
			}
		}
		return nil
	})
	must(t, err)
	bobs := eu.as("bob").listen()
	for _, records := range [][]events.Record{deletions, others} {
		must(t, eu.store.Replicate(t.Context(), records))
		eu.Sync()
		all = append(all, records...)
	}
	slices.Reverse(all)
	for range 2 { // another process, then the same again
		again := *eu.stream
		_, err = again.Handle(t.Context(), all)
		must(t, err)
	}
	for _, e := range eu.bus.entries {
		if bytes.Contains(e.Detail, []byte(secret)) {
			t.Errorf("published: %s", e.Detail)
		}
	}
	if text := textOf(bobs.take()); strings.Contains(text, secret) || !strings.Contains(text, "stays") {
		t.Errorf("pushed: %s", text)
	}
	if got := eu.as("bob").get(room + "/messages").want(200); bytes.Contains(got.body, []byte(secret)) {
		t.Errorf("the page is %s", got.body)
	}
}

// Only one read of operators shows what deleted messages said, and it leaves a trace. A log that was
// exported without these texts can be imported where they still are: nothing changes.
func TestDeletedIsShownToOperators(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	room, messages, _ := deleted(o.region)
	stream := "/v1/ops/events?stream=" + url.QueryEscape("room/"+roomOf(room))
	var page struct{ Events []json.RawMessage }
	o.op.get(stream).want(200).into(&page)
	if n := bytes.Count(o.op.get(stream+"&deleted=true").want(200).body, []byte(secret)); n != 5 {
		t.Errorf("%d texts are shown, want 5", n)
	}
	if acts := o.acts(); !slices.ContainsFunc(acts, func(act string) bool { return strings.HasPrefix(act, "olga events.read_deleted") }) {
		t.Errorf("the acts are %q", acts)
	}
	var list [][]byte
	for _, e := range page.Events {
		list = append(list, e)
	}
	for i, outcome := range o.appended(list...) {
		if outcome != "repeat" {
			t.Errorf("import of %s: %s", list[i], outcome)
		}
	}
	// Elsewhere it is the log without these texts.
	fresh := newOps(t)
	for i, outcome := range fresh.appended(list...) {
		if outcome != "stored" {
			t.Errorf("import of %s: %s", list[i], outcome)
		}
	}
	fresh.Sync()
	if got := fresh.as("bob").get(room + "/messages/" + messages[0].String()).want(200); got.value("deleted") != true {
		t.Errorf("the imported message is %s", got.body)
	}
}

// A page of events costs one read of the range of a room's messages that it has texts of, and none where there
// is no text.
func TestShownReadsOneRange(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	_, _, cursor := deleted(o.region)
	var alone []projections.Key
	ranges := 0
	o.views.OnGet = func(keys []projections.Key) error {
		for _, key := range keys {
			if strings.HasPrefix(key.Partition, "timeline/") {
				alone = append(alone, key)
			}
		}
		return nil
	}
	o.views.OnQuery = func(partition string, r projections.Range) error {
		if strings.HasPrefix(partition, "timeline/") {
			if ranges++; r.Limit > 6 {
				t.Errorf("up to %d messages are read for 4 texts", r.Limit)
			}
		}
		return nil
	}
	o.as("bob").get("/v1/sync?cursor=" + url.QueryEscape(cursor)).want(200)
	if ranges != 1 || len(alone) > 0 {
		t.Errorf("messages are read in %d ranges, and %v each alone; want one range", ranges, alone)
	}
}
