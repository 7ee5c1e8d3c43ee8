package functions_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"parley/events"
	"parley/events/logtest"
	"parley/functions/stream"
	"parley/projections"
)

// event is a message, as it is on the wire.
func (w *world) event(user, stream string) []byte {
	return w.wire(w.mint(user), stream, user, events.MessagePosted{Text: events.Plain("imported")})
}

func (w *world) wire(id events.ID, stream, actor string, p events.Payload) []byte {
	w.t.Helper()
	e, err := events.New(id, events.Stream(stream), actor, "us", p)
	must(w.t, err)
	text, err := e.MarshalJSON()
	must(w.t, err)
	return text
}

// appended sends events and returns what came of each: its outcome, and the code and the field of
// what is wrong with it.
func (o *ops) appended(list ...[]byte) (outcomes []string) {
	o.t.Helper()
	var texts []string
	for _, text := range list {
		texts = append(texts, string(text))
	}
	var result struct {
		Events []struct {
			ID, Outcome string
			Problem     struct{ Code, Field, Detail string }
		}
	}
	o.op.post("/v1/ops/events", `{"events":[`+strings.Join(texts, ",")+`]}`).want(200).into(&result)
	for _, e := range result.Events {
		if (e.Outcome == "refused") != (e.Problem.Detail != "") || strings.Contains(e.Problem.Detail, secret) {
			o.t.Errorf("%+v", e)
		}
		outcomes = append(outcomes, strings.TrimSpace(e.Outcome+" "+e.Problem.Code+" "+e.Problem.Field))
	}
	return outcomes
}

// Events are appended as they are, of any age, once; what is wrong with one is said of that one.
func TestOpsAppendEvents(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	old := time.Date(1970, 4, 14, 3, 7, 53, 0, time.UTC)
	roomID := o.mintAt("ada", old)
	room := "room/" + roomID.String()
	created := o.wire(roomID, room, "ada", events.RoomCreated{Name: "Apollo"})
	message := o.wire(o.mintAt("ada", old.Add(time.Second)), room, "ada", events.MessagePosted{Text: events.Plain(secret)})
	other := strings.Replace(string(message), secret, "something else", 1)
	foreign := strings.Replace(string(message), `"actor":"ada"`, `"actor":"bob"`, 1)
	future := o.wire(o.mintAt("ada", o.now().Add(time.Minute)), room, "ada", events.MessagePosted{Text: events.Plain(secret)})
	torn := strings.Replace(string(message), `"text"`, `"test"`, 1)
	unknown := strings.Replace(string(message), `message.posted`, `message.sung`, 1)
	later := strings.Replace(string(message), `"version":2`, `"version":99`, 1)
	elsewhere := strings.Replace(string(message), room, "room/x", 1)
	nowhere := strings.Replace(string(message), `"region":"us"`, `"region":"`+secret+`"`, 1)
	noID := strings.Replace(string(message), `"id":"`, `"id":"x`, 1)
	again := o.wire(o.mint("ada"), room, "ada", events.RoomArchived{})

	// Those in one call are appended side by side: what others repeat comes first.
	if got := o.appended(created, message); !slices.Equal(got, []string{"stored", "stored"}) {
		t.Fatalf("the outcomes are %q", got)
	}
	o.acted("olga events.append 2 stored of 2")
	got := o.appended(created, []byte(other), []byte(foreign), future, []byte(torn), []byte(unknown), []byte(later),
		[]byte(elsewhere), []byte(nowhere), []byte(noID), []byte(`{}`), again)
	want := []string{
		"repeat", "refused id_taken id", "refused id_taken id", "refused id_in_future id", "refused invalid_event",
		"refused invalid_event", "refused invalid_event", "refused invalid_field stream", "refused invalid_field region", "refused invalid_field id",
		"refused invalid_field id", "stored",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the outcomes are\n%q, want\n%q", got, want)
	}
	o.acted("olga events.append 1 stored of 12")
	acts := len(o.acts())
	if got := o.appended(created, message, again); !slices.Equal(got, []string{"repeat", "repeat", "repeat"}) || len(o.acts()) != acts {
		t.Errorf("again: %q, acts %q", got, o.acts())
	}
	o.Sync()
	if got := o.as("ada").get("/v1/rooms/" + roomID.String() + "/messages").texts(); got != secret {
		t.Errorf("the messages are %q", got)
	}
	// If the log fails, the events are not at fault.
	o.log.OnAppend = func(events.Event) logtest.Fault { return logtest.NotStored }
	o.op.post("/v1/ops/events", `{"events":[`+string(o.event("ada", room))+`]}`).refused(503, "throttled")
}

// The raw events of a stream, page by page, within bounds, and as of a time.
func TestOpsListEvents(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	ada := o.as("ada")
	room := ada.room(`{"name":"a"}`)
	stream := "room/" + strings.TrimPrefix(room, "/v1/rooms/")
	ids := []string{strings.TrimPrefix(room, "/v1/rooms/")}
	for e := range o.store.Read(t.Context(), events.Stream(stream), events.Range{}) {
		ids = append(ids, e.ID.String())
	}
	ids = ids[1:]
	var noon time.Time
	for i := range 10 {
		if ids = append(ids, ada.say(room, strconv.Itoa(i)).String()); i == 4 {
			o.pass(time.Minute)
			noon = o.now()
			o.pass(time.Minute)
		}
	}
	page := func(query string) (got []string, after string) {
		t.Helper()
		var p struct {
			Events []struct{ ID, Type, Actor, Region, Stream string }
			After  *string
		}
		o.op.get("/v1/ops/events?stream=" + stream + query).want(200).into(&p)
		for _, e := range p.Events {
			if got = append(got, e.ID); e.Actor != "ada" || e.Region != "eu" || e.Stream != stream || e.Type == "" {
				t.Errorf("%+v", e)
			}
		}
		if p.After != nil {
			after = *p.After
		}
		return got, after
	}
	for _, limit := range []int{1, 3, len(ids), 1000} {
		var all []string
		for after := ""; ; {
			got, next := page(fmt.Sprintf("&limit=%d&after=%s", limit, after))
			if all = append(all, got...); next == "" {
				break
			}
			after = next
		}
		if !slices.Equal(all, ids) {
			t.Errorf("in pages of %d: %v, want %v", limit, all, ids)
		}
	}
	middle := len(ids) - 5 // of those before noon
	for query, want := range map[string][]string{
		"&as_of=" + url.QueryEscape(noon.Format(time.RFC3339Nano)): ids[:middle],
		"&as_of=" + ids[3]:                       ids[:4],
		"&before=" + ids[3]:                      ids[:3],
		"&before=" + ids[3] + "&as_of=" + ids[5]: ids[:3],
		"&before=" + ids[5] + "&as_of=" + ids[3]: ids[:4],
		"&after=" + ids[2] + "&before=" + ids[5]: ids[3:5],
		"&as_of=1970-01-01T00:00:00Z":            nil,
		"&as_of=9999-12-31T23:59:59Z":            ids,
	} {
		if got, _ := page(query); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	// What cannot be read is shown as it is.
	stored := events.Stored{Stream: "user/ada", ID: o.mint("ada").String(), Type: "user.sang/1", Actor: "ada", Region: "eu", Data: "not { JSON"}
	odd, err := events.Decode(stored)
	must(t, err)
	_, _, err = o.store.Append(t.Context(), odd)
	must(t, err)
	if a := o.op.get("/v1/ops/events?stream=user/ada").want(200); a.text("events", "data") != stored.Data || a.text("events", "type") != "user.sang" {
		t.Errorf("%s", a.body)
	}
}

// The parts of the log, in pages, hold every event once. A copy of them is the same log.
// What only Parley itself appends, no operator can: neither what another operator did, nor a heartbeat,
// nor an erasure. Everything else in a batch is taken.
func TestActsCannotBeForged(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	room := events.RoomStream(roomOf(o.as("ada").room(`{"name":"a"}`)))
	message := o.wire(o.mint("ada"), string(room), "ada", events.MessagePosted{Text: events.Plain("x")})
	for _, forged := range []struct {
		stream  events.Stream
		actor   string
		payload events.Payload
	}{
		{events.OpsStream(o.name), "mallory", events.OpsActed{What: "drain"}},
		{events.RegionStream("eu"), "eu", events.RegionBeat{}},
		{events.BeatStream("eu", 3), "eu", events.RegionBeat{}},
		{events.UserStream("ada"), "ada", events.UserErased{By: "olga"}},
	} {
		got := o.appended(message, o.wire(o.mint(forged.actor), string(forged.stream), forged.actor, forged.payload))
		if len(got) != 2 || got[0] == "refused" || got[1] != "refused reserved type" {
			t.Errorf("%T in %s: %q", forged.payload, forged.stream, got)
		}
	}
	if n := o.count("region/eu") + o.count("region/eu.3") + o.count(events.UserStream("ada")); n != 0 {
		t.Errorf("%d forged events are stored", n)
	}
}

// Operators leave traces: whatever they do in another's name, and what they read that is not theirs. A
// read is one act for each stream and hour, however many pages it has; nobody reads without one.
func TestOperatorsLeaveTraces(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	room := o.as("ada").room(`{"name":"a","private":true}`)
	for range 5 {
		o.as("ada").say(room, secret)
	}
	stream := "room/" + roomOf(room)
	events := func(query string) *answer {
		return o.op.get("/v1/ops/events?stream=" + url.QueryEscape(stream) + query)
	}
	acts := func(want ...string) {
		t.Helper()
		if got := o.acts(); !slices.Equal(got, want) {
			t.Errorf("the acts are %q, want %q", got, want)
		}
	}
	o.log.OnAppend = logtest.Script(logtest.NotStored, logtest.NotStored, logtest.NotStored)
	if a := events(""); a.status < 500 || bytes.Contains(a.body, []byte(secret)) {
		t.Errorf("without a trace a read is answered %d", a.status)
	}
	acts()
	for after := ""; ; {
		page := events("&limit=2&after=" + after).want(200)
		if after = page.text("after"); after == "" {
			break
		}
	}
	o.op.get("/v1/ops/events?stream=ops/" + o.name).want(200) // nobody's content
	acts("olga events.read")
	events("&deleted=true").want(200)
	for i := range 4 {
		o.op.get(fmt.Sprintf("/v1/ops/log?part=%d/4", i)).want(200)
	}
	acts("olga events.read", "olga events.read_deleted", "olga log.read")
	o.pass(time.Hour)
	o.operator("oleg").get("/v1/ops/log").want(200)
	events("").want(200)
	acts("olga events.read", "olga events.read_deleted", "olga log.read", "oleg log.read", "olga events.read")

	id := o.mint("ada")
	before := len(o.acts())
	o.log.OnAppend = logtest.Script(logtest.NotStored, logtest.NotStored, logtest.NotStored)
	if a := o.op.put(room+"/messages/"+id.String(), `{"text":"x","author":"ada"}`); a.status < 500 {
		t.Errorf("without a trace a message in another's name is answered %d", a.status)
	}
	o.op.put(room+"/messages/"+id.String(), `{"text":"x","author":"ada"}`).want(201)
	o.op.put(room+"/messages/"+o.mint("eve").String(), `{"text":"x","author":"eve"}`).refused(404, "room_not_found")
	if got, want := o.acts()[before:], []string{"olga message.posted " + id.String() + " for ada"}; !slices.Equal(got, want) {
		t.Errorf("the acts are %q, want %q", got, want)
	}
	o.as("ada").say(room, "own")
	o.acted("olga message.posted " + id.String() + " for ada")
}

func TestOpsListLog(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	for i := range 5 {
		room := o.as("ada").room(`{"name":"a"}`)
		for range i {
			o.as("ada").say(room, "x")
		}
	}
	o.op.get("/v1/ops/log?limit=1").want(200) // which is recorded
	want := int(o.store.Head())
	copied := opsOf(newWorld(t).region(t, "copy"))
	copied.ns.Store(o.ns.Load() + int64(time.Minute))
	for _, parts := range []int{1, 3} {
		seen := map[string]bool{}
		for part := range parts {
			for after := ""; ; {
				var page struct {
					Events []json.RawMessage
					After  *string
				}
				o.op.get(fmt.Sprintf("/v1/ops/log?part=%d/%d&limit=2&after=%s", part, parts, url.QueryEscape(after))).want(200).into(&page)
				for _, text := range page.Events {
					var e events.Event
					must(t, e.UnmarshalJSON(text))
					if key := string(e.Stream) + e.ID.String(); seen[key] {
						t.Errorf("%s twice", key)
					} else {
						seen[key] = true
					}
					copied.appended(text)
				}
				if page.After == nil {
					break
				}
				after = *page.After
			}
		}
		if len(seen) != want {
			t.Errorf("%d parts have %d events, want %d", parts, len(seen), want)
		}
	}
	for e, err := range o.store.Scan(t.Context(), events.Part{Index: 0, Of: 1}, events.Key{}) {
		must(t, err)
		if kind, _ := e.Stream.Split(); kind == events.KindOps {
			continue // no copy: see TestActsCannotBeForged
		}
		got, err := events.Get(t.Context(), copied.store, e.Stream, e.ID)
		must(t, err)
		opened, err := o.ring.OpenEvent(t.Context(), e)
		must(t, err)
		if same, err := copied.ring.Same(t.Context(), got, opened); err != nil || !same || got.Region != e.Region { // under a key of its own
			t.Errorf("%s differs: %v", e.ID, err)
		}
	}
}

// park makes a message arrive that is parked instead of handled. It returns its key and room.
func (o *ops) park() (key, room string) {
	o.t.Helper()
	room = o.as("ada").room(`{"name":"a"}`)
	o.Sync()
	o.as("ada").say(room, "parked")
	for _, r := range o.records(o.synced) {
		must(o.t, o.stream.Park(context.Background(), "project", r, errors.New("it was not to be")))
		key = "project/" + r.Event.Ref().String() + "/" + string(r.Event.Stream)
	}
	o.synced = o.store.Head()
	return key, room
}

func keyBody(key string) string { return `{"key":"` + key + `"}` }

// A parked event that is tried again is handled as if it had just come: views, feed, bus, sockets.
func TestOpsRetryParked(t *testing.T) {
	t.Parallel()
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
// is published, and clients are notified once.
func TestOpsRetryPublish(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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
	ref, err := events.ParseRef("id", strings.Split(all[0], "/")[1])
	must(t, err)
	e, err := events.Get(t.Context(), o.store, events.Stream(strings.SplitN(all[0], "/", 3)[2]), ref.ID)
	must(t, err)
	o.op.post("/v1/ops/parked/drop", keyBody(all[0])).want(200)
	must(t, o.stream.Park(t.Context(), "project", events.Record{Event: e}, errRefused))
	if a := o.op.get("/v1/ops/parked/one?key=" + url.QueryEscape(all[0])).want(200); a.value("tries") != 1.0 {
		t.Errorf("%s", a.body)
	}
}

// Records that are no event can be seen and dropped; events that the log lacks cannot be retried.
func TestOpsParkedOddities(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	torn := events.Record{Err: errRefused, Raw: json.RawMessage("torn \xff"), Sequence: "7"}
	must(t, o.stream.Park(t.Context(), "decode", torn, errRefused))
	o.op.post("/v1/ops/parked/retry", keyBody("decode/7")).refused(409, "not_an_event")
	if a := o.op.get("/v1/ops/parked/one?key=decode/7").want(200); a.text("record") == "" || a.value("event") != nil {
		t.Errorf("%s", a.body)
	}
	o.op.post("/v1/ops/parked/drop", keyBody("decode/7")).want(200)

	id := o.mint("ada")
	e, err := events.New(id, events.RoomStream(id.String()), "ada", "us", events.RoomCreated{Name: "a"})
	must(t, err)
	must(t, o.stream.Park(t.Context(), "project", events.Record{Event: e}, errRefused))
	key := "project/" + e.Ref().String() + "/" + string(e.Stream)
	o.op.post("/v1/ops/parked/retry", keyBody(key)).refused(409, "not_in_log")
	o.op.get("/v1/ops/parked/one?key=" + url.QueryEscape(key)).want(200)

	// From a later release: it stays parked, and nothing fails.
	stored := events.Encode(e)
	stored.Type = "room.created/99"
	later, err := events.Decode(stored)
	must(t, err)
	later = later.WithDigest()
	_, _, err = o.store.Append(t.Context(), later)
	must(t, err)
	o.Sync()
	a := o.op.post("/v1/ops/parked/retry", keyBody("decode/"+later.Ref().String()+"/"+string(e.Stream))).want(200)
	if a.text("outcome") != "parked" || a.value("tries") != 2.0 {
		t.Errorf("%s", a.body)
	}
}
