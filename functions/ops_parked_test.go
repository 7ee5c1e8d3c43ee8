package functions_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"parley/events"
	"parley/functions/stream"
	"parley/projections"
)

// park makes a message arrive that is parked instead of handled. It returns its key and room.
func (o *ops) park() (key, room string) {
	o.t.Helper()
	room = o.as("ada").room(`{"name":"a"}`)
	o.Sync()
	o.as("ada").say(room, "parked")
	for _, r := range o.records(o.synced) {
		must(o.t, o.stream.Park(context.Background(), "project", r, errors.New("it was not to be")))
		key = "project/" + r.Event.ID.String() + "/" + string(r.Event.Stream)
	}
	o.synced = o.store.Head()
	return key, room
}

func keyBody(key string) string { return `{"key":"` + key + `"}` }

// A parked event that is tried again is handled as if it had just come: views, feed, bus, sockets.
func TestOpsRetryParked(t *testing.T) {
	o := newOps(t)
	key, room := o.park()
	ada := o.as("ada")
	cursor := ada.get("/v1/rooms").text("cursor")
	if got := ada.get(room + "/messages").texts(); got != "" {
		t.Fatalf("the messages are %q", got)
	}
	one := o.op.get("/v1/ops/parked/one?key=" + url.QueryEscape(key)).want(200)
	if one.text("stage") != "project" || one.text("error") != "it was not to be" || one.value("tries") != 1.0 || one.text("event", "type") != "message.posted" {
		t.Errorf("parked is %s", one.body)
	}
	published := len(o.bus.entries)
	if a := o.op.post("/v1/ops/parked/retry", keyBody(key)).want(200); a.text("outcome") != "handled" {
		t.Errorf("%s", a.body)
	}
	o.acted("olga parked.retry handled")
	if got := ada.get(room + "/messages").texts(); got != "parked" {
		t.Errorf("the messages are %q", got)
	}
	if a := ada.get("/v1/sync?cursor=" + url.QueryEscape(cursor)).want(200); a.text("events", "event", "type") != "message.posted" {
		t.Errorf("sync tells %s", a.body)
	}
	if len(o.bus.entries) != published+1 {
		t.Errorf("%d were published", len(o.bus.entries)-published)
	}
	o.op.get("/v1/ops/parked/one?key="+url.QueryEscape(key)).refused(404, "parked_not_found")
	o.op.post("/v1/ops/parked/retry", keyBody(key)).refused(404, "parked_not_found")
	if a := o.op.get("/v1/ops/parked").want(200); len(a.value("parked").([]any)) != 0 {
		t.Errorf("still parked: %s", a.body)
	}
}

// What fails again stays, with its new error, and one try more. What only failed to be published
// is published, and is told once.
func TestOpsRetryPublish(t *testing.T) {
	o := newOps(t)
	ada := o.as("ada")
	room := ada.room(`{"name":"a"}`)
	o.Sync()
	refuse := true
	o.bus.answer = func(_ int, entries []stream.Entry) ([]error, error) {
		refused := make([]error, len(entries))
		for i := range refused {
			if refuse {
				refused[i] = errRefused
			}
		}
		return refused, nil
	}
	id := ada.say(room, "heard")
	o.Sync()
	key := o.op.get("/v1/ops/parked").want(200).text("parked", "key")
	if !strings.HasPrefix(key, "publish/"+id.String()) {
		t.Fatalf("parked is %q", key)
	}
	a := o.op.post("/v1/ops/parked/retry", keyBody(key)).want(200)
	if a.text("outcome") != "parked" || a.value("tries") != 2.0 || a.text("error") != errRefused.Error() {
		t.Errorf("%s", a.body)
	}
	o.acted("olga parked.retry parked")
	refuse = false
	for range 1030 { // so that the feed no longer recognises it
		ada.say(room, "more")
	}
	o.Sync()
	published := len(o.bus.entries)
	if a := o.op.post("/v1/ops/parked/retry", keyBody(key)).want(200); a.text("outcome") != "handled" {
		t.Errorf("%s", a.body)
	}
	entries, _, err := projections.ListFeed(t.Context(), o.model, events.Stream("room/"+strings.TrimPrefix(room, "/v1/rooms/")), 0, 2000)
	if must(t, err); len(entries) != 1032 || len(o.bus.entries) != published+1 {
		t.Errorf("the feed has %d entries, %d were published", len(entries), len(o.bus.entries)-published)
	}
}

func TestOpsDropParked(t *testing.T) {
	o := newOps(t)
	var all []string
	for range 5 {
		key, _ := o.park()
		all = append(all, key)
	}
	slices.Sort(all)
	o.op.post("/v1/ops/parked/drop", keyBody(all[1])).want(200)
	o.acted("olga parked.drop project")
	o.op.post("/v1/ops/parked/drop", keyBody(all[1])).refused(404, "parked_not_found")
	all = slices.Delete(all, 1, 2)
	var got []string
	for after, pages := "", 0; ; pages++ {
		var page struct {
			Parked []struct{ Key string }
			After  *string
		}
		o.op.get("/v1/ops/parked?limit=2&after=" + url.QueryEscape(after)).want(200).into(&page)
		for _, p := range page.Parked {
			got = append(got, p.Key)
		}
		if page.After == nil {
			if pages != 1 {
				t.Errorf("it took %d pages", pages+1)
			}
			break
		}
		after = *page.After
	}
	if !slices.Equal(got, all) {
		t.Errorf("parked are %q, want %q", got, all)
	}
	// Parked again, it is back.
	id, err := events.ParseID("id", strings.Split(all[0], "/")[1])
	must(t, err)
	e, err := o.store.Get(t.Context(), events.Stream(strings.SplitN(all[0], "/", 3)[2]), id)
	must(t, err)
	o.op.post("/v1/ops/parked/drop", keyBody(all[0])).want(200)
	must(t, o.stream.Park(t.Context(), "project", stream.Record{Event: e}, errRefused))
	if a := o.op.get("/v1/ops/parked/one?key=" + url.QueryEscape(all[0])).want(200); a.value("tries") != 1.0 {
		t.Errorf("%s", a.body)
	}
}

// Records that are no event can be seen and dropped; events that the log lacks cannot be retried.
func TestOpsParkedOddities(t *testing.T) {
	o := newOps(t)
	torn := stream.Record{Err: errRefused, Raw: json.RawMessage("torn \xff"), Sequence: "7"}
	must(t, o.stream.Park(t.Context(), "decode", torn, errRefused))
	o.op.post("/v1/ops/parked/retry", keyBody("decode/7")).refused(409, "not_an_event")
	if a := o.op.get("/v1/ops/parked/one?key=decode/7").want(200); a.text("record") == "" || a.value("event") != nil {
		t.Errorf("%s", a.body)
	}
	o.op.post("/v1/ops/parked/drop", keyBody("decode/7")).want(200)

	id := o.mint("ada")
	e, err := events.New(id, events.RoomStream(id.String()), "ada", "us", events.RoomCreated{Name: "a"})
	must(t, err)
	must(t, o.stream.Park(t.Context(), "project", stream.Record{Event: e}, errRefused))
	key := "project/" + id.String() + "/" + string(e.Stream)
	o.op.post("/v1/ops/parked/retry", keyBody(key)).refused(409, "not_in_log")
	o.op.get("/v1/ops/parked/one?key=" + url.QueryEscape(key)).want(200)

	// From a later release: it stays parked, and nothing fails.
	stored := events.Encode(e)
	stored.Type = "room.created/99"
	later, err := events.Decode(stored)
	must(t, err)
	_, _, err = o.store.Append(t.Context(), later)
	must(t, err)
	o.Sync()
	a := o.op.post("/v1/ops/parked/retry", keyBody("decode/"+id.String()+"/"+string(e.Stream))).want(200)
	if a.text("outcome") != "parked" || a.value("tries") != 2.0 {
		t.Errorf("%s", a.body)
	}
}
