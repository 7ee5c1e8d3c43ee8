package functions_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"parley/events"
	"parley/events/logtest"
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
	beat := o.wire(o.mint("us"), "region/us", "us", events.RegionBeat{})

	// Those in one call are appended side by side: what others repeat comes first.
	if got := o.appended(created, message); !slices.Equal(got, []string{"stored", "stored"}) {
		t.Fatalf("the outcomes are %q", got)
	}
	o.acted("olga events.append 2 stored of 2")
	got := o.appended(created, []byte(other), []byte(foreign), future, []byte(torn), []byte(unknown), []byte(later),
		[]byte(elsewhere), []byte(nowhere), []byte(noID), []byte(`{}`), beat)
	want := []string{
		"repeat", "refused id_taken id", "refused id_not_yours id", "refused id_in_future id", "refused invalid_event",
		"refused invalid_event", "refused invalid_event", "refused invalid_field stream", "refused invalid_field region", "refused invalid_field id",
		"refused invalid_field id", "stored",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the outcomes are\n%q, want\n%q", got, want)
	}
	o.acted("olga events.append 1 stored of 12")
	acts := len(o.acts())
	if got := o.appended(created, message, beat); !slices.Equal(got, []string{"repeat", "repeat", "repeat"}) || len(o.acts()) != acts {
		t.Errorf("again: %q, acts %q", got, o.acts())
	}
	o.Sync()
	if got := o.as("ada").get("/v1/rooms/" + roomID.String() + "/messages").texts(); got != secret {
		t.Errorf("the messages are %q", got)
	}
	// A log that fails is nobody's fault.
	o.log.OnAppend = func(events.Event) logtest.Fault { return logtest.NotStored }
	o.op.post("/v1/ops/events", `{"events":[`+string(o.event("ada", room))+`]}`).refused(503, "throttled")
}

// The raw events of a stream, page by page, within bounds, and as of a time.
func TestOpsListEvents(t *testing.T) {
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
func TestOpsListLog(t *testing.T) {
	o := newOps(t)
	for i := range 5 {
		room := o.as("ada").room(`{"name":"a"}`)
		for range i {
			o.as("ada").say(room, "x")
		}
	}
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
		got, err := copied.store.Get(t.Context(), e.Stream, e.ID)
		must(t, err)
		opened, err := o.ring.OpenEvent(t.Context(), e)
		must(t, err)
		if same, err := copied.ring.Same(t.Context(), got, opened); err != nil || !same || got.Region != e.Region { // under a key of its own
			t.Errorf("%s differs: %v", e.ID, err)
		}
	}
}
