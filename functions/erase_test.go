package functions_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/events"
	"parley/events/keys"
	"parley/events/logtest"
	"parley/functions/stream"
	"parley/projections"
)

// said has ada say something secret in every way there is, and bob something of his own. It
// returns the room's path and the ids of her message and of her reply in its thread.
func said(r *region) (room string, message, reply events.ID) {
	ada, bob := r.as("ada"), r.as("bob")
	room = ada.room(`{"name":"Apollo"}`)
	bob.put(room+"/members/bob", "").want(200)
	bob.say(room, "bobs")
	message = ada.say(room, secret+" posted")
	reply = ada.post(room+"/messages", `{"text":"`+secret+` replied","thread":"`+message.String()+`"}`).want(201).id()
	edited := ada.say(room, secret+" before")
	ada.patch(room+"/messages/"+edited.String(), `{"text":"`+secret+` after"}`).want(200)
	ada.put("/v1/users/ada", `{"name":"`+secret+` name","about":"`+secret+` about"}`).want(200)
	r.Sync()
	return room, message, reply
}

// edges are all ways to read what ada said: as a client, as an operator, as of some time, from the
// beginning of time by cursor.
func (o *ops) edges(room string, message, reply events.ID, cursor string) map[string]*answer {
	bob := o.as("bob")
	stream := "room/" + strings.TrimPrefix(room, "/v1/rooms/")
	return map[string]*answer{
		"page":    bob.get(room + "/messages"),
		"message": bob.get(room + "/messages/" + message.String()),
		"replies": bob.get(room + "/messages/" + message.String() + "/replies"),
		"as of":   bob.get(room + "/messages?as_of=" + reply.String()),
		"include": bob.get(room + "/messages?includes=" + reply.String()),
		"rooms":   bob.get("/v1/rooms"),
		"sync":    bob.get("/v1/sync?cursor=" + url.QueryEscape(cursor)),
		"profile": bob.get("/v1/users/ada"),
		"events":  o.op.get("/v1/ops/events?stream=" + url.QueryEscape(stream)),
		"user":    o.op.get("/v1/ops/events?stream=user/ada"),
		"log":     o.op.get("/v1/ops/log?limit=1000"),
		"parked":  o.op.get("/v1/ops/parked"),
	}
}

// kept is everything a region keeps, as it keeps it, but for what went out on its bus.
func (o *ops) kept() []byte {
	o.t.Helper()
	var all bytes.Buffer
	for e, err := range o.store.Scan(context.Background(), events.Part{Index: 0, Of: 1}, events.Key{}) {
		must(o.t, err)
		all.Write(e.Data)
	}
	for after, more := (projections.Key{}), true; more; {
		views, next, err := o.model.Scan(context.Background(), []string{""}, after, 100)
		must(o.t, err)
		for _, view := range views {
			all.WriteString(view.Key.Partition + view.Key.Sort)
			all.Write(view.Body)
		}
		after, more = next, next != projections.Key{}
	}
	return all.Bytes()
}

// Nobody but the edges ever has what users said; once a user was erased nobody has, in no region.
func TestErase(t *testing.T) {
	w := newWorld(t)
	us, eu := opsOf(w.region(t, "us")), opsOf(w.region(t, "eu"))
	must(t, us.beat())
	must(t, eu.beat())
	cursor := us.as("bob").get("/v1/rooms").text("cursor")
	room, message, reply := said(us.region)
	posted, err := us.store.Get(t.Context(), events.RoomStream(strings.TrimPrefix(room, "/v1/rooms/")), message)
	must(t, err)
	must(t, us.stream.Park(t.Context(), "project", stream.Record{Event: posted}, errors.New("as a test")))
	replicate(us.region, eu.region)
	replicate(eu.region, us.region)

	for edge, a := range us.edges(room, message, reply, cursor) {
		if !strings.Contains(string(a.want(200).body), secret) {
			t.Errorf("%s: what ada said is not there: %s", edge, a.body)
		}
	}
	for _, o := range []*ops{us, eu} {
		if bytes.Contains(o.kept(), []byte(secret)) {
			t.Errorf("%s keeps what ada said in the open", o.name)
		}
	}
	onBus := 0
	for _, e := range us.bus.entries {
		onBus += strings.Count(string(e.Detail), secret)
	}
	if onBus != 6 {
		t.Errorf("subscribers were told %d secrets, want 6", onBus)
	}

	before := map[string][]byte{"us": us.op.get("/v1/ops/digests?limit=1000").body, "eu": eu.op.get("/v1/ops/digests?limit=1000").body}
	us.op.post("/v1/ops/users/ada/erase", "").want(201)
	us.op.get("/v1/ops/users/ada/erasure").refused(404, "not_erased")
	us.Sync()
	us.erasureIs("ada", "eu false", "us true")
	replicateEvents(us.region, eu.region) // by the event alone: eu destroys its keys itself
	eu.erasureIs("ada", "eu true", "us true")
	replicate(eu.region, us.region)
	us.erasureIs("ada", "eu true", "us true")
	if !slices.ContainsFunc(us.acts(), func(act string) bool { return strings.HasPrefix(act, "olga user.erase ") }) {
		t.Errorf("the acts are %q", us.acts())
	}

	for _, o := range []*ops{us, eu} {
		if got, err := o.keys.Load(t.Context(), "ada"); err != nil || len(got.Wrapped) > 0 {
			t.Errorf("%s has %d keys of hers, %v", o.name, len(got.Wrapped), err)
		}
		for edge, a := range o.edges(room, message, reply, cursor) {
			if strings.Contains(string(a.want(200).body), secret) {
				t.Errorf("%s in %s: what ada said is still there: %s", edge, o.name, a.body)
			}
		}
		page := o.as("bob").get(room + "/messages")
		if got := page.texts(); got != "bobs   " {
			t.Errorf("the texts are %q", got)
		}
		if got := o.as("bob").get(room + "/messages/" + message.String()); got.value("erased") != true || got.text("author") != "ada" {
			t.Errorf("the message is %s", got.body)
		}
		if got := o.as("bob").get("/v1/users/ada").want(200); got.value("erased") != true || got.text("name") != "" {
			t.Errorf("the profile is %s", got.body)
		}
		// What the log had is as it was, to the byte.
		var was, is struct {
			Digests []struct{ Stream, SHA256 string }
		}
		must(t, json.Unmarshal(before[o.name], &was))
		o.op.get("/v1/ops/digests?limit=1000").into(&is)
		for _, d := range was.Digests {
			if !strings.HasPrefix(d.Stream, "ops/") && d.Stream != "user/ada" && !slices.Contains(is.Digests, d) {
				t.Errorf("the digest of %s has changed", d.Stream)
			}
		}
	}

	// A replay tells that there was something, and nothing of it.
	us.bus.entries = nil
	us.finish(us.start(`{"kind":"replay","to":"again","rate":10000}`))
	replayed := 0
	for _, e := range us.bus.entries {
		if strings.Contains(string(e.Detail), secret) {
			t.Errorf("a replay tells %s", e.Detail)
		}
		replayed += strings.Count(string(e.Detail), `"text":null`)
	}
	if replayed != 4 {
		t.Errorf("a replay holds %d erased texts, want 4", replayed)
	}
}

func (o *ops) erasureIs(user string, want ...string) {
	o.t.Helper()
	var got struct {
		By      string
		Regions []struct {
			Region       string
			Acknowledged bool
		}
	}
	o.op.get("/v1/ops/users/" + user + "/erasure").want(200).into(&got)
	var regions []string
	for _, r := range got.Regions {
		regions = append(regions, r.Region+" "+map[bool]string{true: "true", false: "false"}[r.Acknowledged])
	}
	if !slices.Equal(regions, want) || got.By != "olga" {
		o.t.Errorf("the erasure is %q by %s, want %q", regions, got.By, want)
	}
}

// Who was erased can say nothing more; what she does without saying anything stays possible.
func TestErasedUserIsSilent(t *testing.T) {
	o := newOps(t)
	room, message, _ := said(o.region)
	ada := o.as("ada")
	key := ada.mint()
	ada.put(room+"/messages/"+key.String(), `{"text":"last words"}`).want(201)
	o.op.post("/v1/ops/users/ada/erase", "").want(201)
	o.Sync()
	for range 2 { // again changes nothing
		o.op.post("/v1/ops/users/ada/erase", "").want(200)
	}
	if n := o.count(events.UserStream("ada")); n != 2 { // her profile, and this
		t.Errorf("her stream has %d events", n)
	}
	ada.post(room+"/messages", `{"text":"`+secret+`"}`).refused(403, "user_erased")
	ada.patch(room+"/messages/"+message.String(), `{"text":"`+secret+`"}`).refused(403, "user_erased")
	ada.put("/v1/users/ada", `{"name":"`+secret+`"}`).refused(403, "user_erased")
	ada.put(room+"/messages/"+key.String(), `{"text":"last words"}`).refused(403, "user_erased")
	imported := o.wire(o.mint("ada"), "room/"+strings.TrimPrefix(room, "/v1/rooms/"), "ada", events.MessagePosted{Text: events.Plain(secret)})
	if got := o.appended(imported); !slices.Equal(got, []string{"refused user_erased actor"}) {
		t.Errorf("an import: %q", got)
	}
	ada.put(room+"/messages/"+message.String()+"/pin", "").want(200)
	o.op.post("/v1/ops/users/..x..y..z"+strings.Repeat("a", 64)+"/erase", "").refused(422, "invalid_field").names("user")
}

// An erasure under an id of the operator's choice happens once, whatever goes wrong.
func TestEraseFaults(t *testing.T) {
	o := newOps(t)
	said(o.region)
	id := o.mint("ada")
	erase := func() *answer { return o.op.key(id).post("/v1/ops/users/ada/erase", "") }
	for _, fault := range []logtest.Fault{logtest.NotStored, logtest.Stored} {
		o.log.OnAppend = func(e events.Event) logtest.Fault {
			if e.ID == id {
				return fault
			}
			return logtest.Pass
		}
		erase().want(503)
	}
	o.log.OnAppend = nil
	erase().want(200)
	o.Sync()
	if n := o.count(events.UserStream("ada")); n != 2 {
		t.Errorf("her stream has %d events", n)
	}
	o.erasureIs("ada", "eu true")
}

// A key comes by a way of its own, and may come after what was sealed with it. Until then nobody is
// told that there is nothing: she is told to ask again.
func TestKeyComesLate(t *testing.T) {
	w := newWorld(t)
	us, eu := w.region(t, "us"), w.region(t, "eu")
	room, message, _ := said(us)
	cursor := eu.as("bob").get("/v1/rooms").text("cursor")
	eu.stream.BusOpens = true // it would wait
	replicateEvents(us, eu)
	c := eu.as("bob")
	for _, path := range []string{room + "/messages", room + "/messages/" + message.String(), "/v1/sync?cursor=" + cursor, "/v1/users/ada"} {
		c.getWithin(200*time.Millisecond, path).refused(503, "key_not_here")
	}
	replicateKeys(us, eu)
	if got := c.get(room + "/messages").texts(); !strings.Contains(got, secret) {
		t.Errorf("the texts are %q", got)
	}
	// Or, where the bus is to be given what was said, the stream comes again.
	late := w.region(t, "ap")
	tail, err := us.store.Tail(t.Context(), 0, 1000)
	must(t, err)
	must(t, late.store.Replicate(t.Context(), tail))
	if done, err := late.stream.Handle(t.Context(), late.records(0)); !errors.Is(err, keys.ErrMissing) || done == len(tail) {
		t.Errorf("%d handled, %v", done, err)
	}
	replicateKeys(us, late)
	late.Sync()
}

// Two regions that hear of the same command before they hear of each other seal it with two keys;
// it is one command all the same.
func TestSameCommandTwoKeys(t *testing.T) {
	w := newWorld(t)
	us, eu := w.region(t, "us"), w.region(t, "eu")
	room := us.as("bob").room(`{"name":"Apollo"}`)
	us.as("ada").put(room+"/members/ada", "").want(200)
	us.Sync()
	replicateEvents(us, eu)
	id := w.mint("ada")
	put := func(r *region, text string) *answer {
		return r.as("ada").put(room+"/messages/"+id.String(), `{"text":"`+text+`"}`)
	}
	put(us, "hello").want(201)
	put(eu, "hello").want(201)
	replicate(us, eu)
	replicate(eu, us)
	replicate(us, eu)
	for _, r := range []*region{us, eu} {
		put(r, "hello").want(200)
		put(r, "other").refused(409, "id_taken")
		if got := r.as("bob").get(room + "/messages").texts(); got != "hello" {
			t.Errorf("the texts in %s are %q", r.name, got)
		}
	}
	if a, b := kept(t, us, room, id), kept(t, eu, room, id); !bytes.Equal(a, b) {
		t.Error("the logs differ")
	}
}

func kept(t *testing.T, r *region, room string, id events.ID) []byte {
	t.Helper()
	e, err := r.store.Get(t.Context(), events.RoomStream(strings.TrimPrefix(room, "/v1/rooms/")), id)
	must(t, err)
	return e.Data
}
