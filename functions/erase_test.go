package functions_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"parley/events"
	"parley/events/keys"
	"parley/events/logtest"
	"parley/projections"
)

// said has ada say something secret in every way there is, and bob something of his own. It
// returns the room's path and the ids of the message and of the reply in its thread.
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

// kept is everything that a region stores, as it stores it; entries on its bus are left out.
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

// Only the edges ever see what users wrote in the clear; after an erasure nothing does, in any region.
func TestErase(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	us, eu := opsOf(w.region(t, "us")), opsOf(w.region(t, "eu"))
	must(t, us.beat())
	must(t, eu.beat())
	cursor := us.as("bob").get("/v1/rooms").text("cursor")
	room, message, reply := said(us.region)
	posted, err := events.Get(t.Context(), us.store, events.RoomStream(strings.TrimPrefix(room, "/v1/rooms/")), message)
	must(t, err)
	must(t, us.stream.Park(t.Context(), "project", events.Record{Event: posted}, errors.New("as a test")))
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
		t.Errorf("subscribers received %d secrets, want 6", onBus)
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
			t.Errorf("%s has %d keys of the user, %v", o.name, len(got.Wrapped), err)
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

// An erased user can do nothing more: every command is refused, by request and by frame, as are an
// operator's in their name. What they had done before may still be imported.
func TestErasedUserIsSilent(t *testing.T) {
	t.Parallel()
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
	if n := o.count(events.UserStream("ada")); n != 2 { // the profile, and this
		t.Errorf("the user's stream has %d events", n)
	}
	ada.post(room+"/messages", `{"text":"`+secret+`"}`).refused(403, "user_erased")
	ada.patch(room+"/messages/"+message.String(), `{"text":"`+secret+`"}`).refused(403, "user_erased")
	ada.put("/v1/users/ada", `{"name":"`+secret+`"}`).refused(403, "user_erased")
	ada.put(room+"/messages/"+key.String(), `{"text":"last words"}`).refused(403, "user_erased")
	imported := o.wire(o.mint("ada"), "room/"+strings.TrimPrefix(room, "/v1/rooms/"), "ada", events.MessagePosted{Text: events.Plain(secret)})
	if got := o.appended(imported); !slices.Equal(got, []string{"refused user_erased actor"}) {
		t.Errorf("an import: %q", got)
	}
	o.op.post(room+"/messages", `{"text":"x","author":"ada"}`).refused(403, "user_erased")
	k := ada.listen()
	k.refused(fmt.Sprintf(`{"action":"send","room":%q,"text":"x"}`, roomOf(room)), "user_erased", "")
	k.refused(fmt.Sprintf(`{"action":"typing","room":%q}`, roomOf(room)), "user_erased", "")
	s := &scene{region: o.region, room: room, message: message, other: "bob"}
	before := o.store.Head()
	for _, op := range operations {
		if op.method != "GET" {
			s.ask("ada", op).refused(403, "user_erased")
		}
	}
	if o.store.Head() != before {
		t.Error("something was stored")
	}
	for at, want := range map[time.Time]string{key.Timestamp(): "stored", o.now(): "refused user_erased actor"} {
		pinned := o.wire(o.mintAt("ada", at), "room/"+roomOf(room), "ada", events.MessagePinned{Message: message})
		if got := o.appended(pinned); !slices.Equal(got, []string{want}) {
			t.Errorf("an import of what was done at %s: %q, want %s", at, got, want)
		}
	}
	o.op.post("/v1/ops/users/..x..y..z"+strings.Repeat("a", 120)+"/erase", "").refused(422, "invalid_field").names("user")
}

// Before an erasure its dry run lists what it would leave readable. A user whom the region does not know
// is not erased.
func TestEraseDryRun(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	ada, bob := o.as("ada"), o.as("bob")
	first := roomOf(ada.room(`{"name":"Apollo","topic":"of ada"}`))
	second := roomOf(bob.room(`{"name":"Gemini","topic":"of bob"}`))
	o.Sync()
	ada.put("/v1/rooms/"+second+"/members/ada", "").want(200)
	bob.patch("/v1/rooms/"+second+"/members/ada", `{"role":"admin"}`).want(200)
	ada.patch("/v1/rooms/"+second, `{"topic":"of ada, too"}`).want(200)
	bob.put("/v1/rooms/"+first+"/members/bob", "").want(200)
	ada.patch("/v1/rooms/"+first+"/members/bob", `{"role":"admin"}`).want(200)
	bob.patch("/v1/rooms/"+first, `{"topic":"of bob now"}`).want(200)
	o.Sync()
	for range 2 {
		var got struct {
			Unsealed []struct{ Room, Field, Text string }
		}
		o.op.post("/v1/ops/users/ada/erase?dry_run=true", "").want(200).into(&got)
		var list []string
		for _, u := range got.Unsealed {
			list = append(list, u.Room+" "+u.Field+" "+u.Text)
		}
		if want := []string{first + " name Apollo", second + " topic of ada, too"}; !slices.Equal(list, want) {
			t.Errorf("left readable: %q, want %q", list, want)
		}
		o.op.get("/v1/ops/users/ada/erasure").refused(404, "not_erased")
	}
	for _, query := range []string{"", "?dry_run=true"} {
		o.op.post("/v1/ops/users/adda/erase"+query, "").refused(404, "user_not_found")
	}
	if n := o.count(events.UserStream("adda")); n != 0 {
		t.Error("an unknown user is erased")
	}
	o.op.post("/v1/ops/users/adda/erase?force=true", "").want(201)
	if n := o.count(events.UserStream("adda")); n != 1 {
		t.Error("an unknown user is not erased with force")
	}

	// Once more, when the user is erased: when and by whom, and what stays.
	erased := o.op.post("/v1/ops/users/ada/erase", "").want(201)
	o.Sync()
	again := o.op.post("/v1/ops/users/ada/erase?dry_run=true", "").want(200)
	if again.text("event") != erased.text("event") || again.text("by") != "olga" || len(again.value("unsealed").([]any)) != 2 {
		t.Errorf("a dry run of an erased user answers %s", again.body)
	}
}

// An erasure under an id of the operator's choice happens once, whatever goes wrong.
func TestEraseFaults(t *testing.T) {
	t.Parallel()
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
		t.Errorf("the user's stream has %d events", n)
	}
	o.erasureIs("ada", "eu true")
}

// Keys replicate separately, and may arrive after what is encrypted with them. Until then a read says
// of each text that it is not readable yet, and shows everything else. A sync waits for half a minute.
func TestKeyComesLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // the first query waits for the key
		w := newWorld(t)
		us, eu := w.region(t, "us"), w.region(t, "eu")
		room, message, _ := said(us)
		cursor := eu.as("bob").get("/v1/rooms").text("cursor")
		eu.stream.BusOpens = true // it would wait
		replicateEvents(us, eu)
		c := eu.as("bob")
		for _, path := range []string{
			room + "/messages", room + "/messages/" + message.String(), "/v1/users/ada", "/v1/rooms", "/v1/sync?cursor=" + cursor,
		} {
			if strings.HasPrefix(path, "/v1/sync") {
				if n := c.sync(cursor); slices.Contains(n.types(), "message.posted") || len(n.Events) == 0 || n.More {
					t.Errorf("before the key is here, a sync returns %v", n.types())
				}
				w.pass(31 * time.Second)
			}
			if got := c.get(path).want(200); !bytes.Contains(got.body, []byte(`"unreadable":true`)) || bytes.Contains(got.body, []byte(`"erased":true`)) {
				t.Errorf("%s is answered with %s", path, got.body)
			}
		}
		replicateKeys(us, eu)
		if got := c.get(room + "/messages").texts(); !strings.Contains(got, secret) {
			t.Errorf("the texts are %q", got)
		}
		// Or, where the bus is to be given what was said, the stream comes again.
		late := w.region(t, "ap")
		tail, err := us.store.Next(t.Context(), "", 1000, true)
		must(t, err)
		must(t, late.store.Replicate(t.Context(), tail))
		if done, err := late.stream.Handle(t.Context(), late.records(0)); !errors.Is(err, keys.ErrMissing) || done == len(tail) {
			t.Errorf("%d handled, %v", done, err)
		}
		replicateKeys(us, late)
		late.Sync()
	})
}

// Content whose key never comes holds up the stream for a bounded time. Then its events alone are
// parked; retried when the key is there, they are published.
func TestKeyNeverComes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		us, eu := w.region(t, "us"), opsOf(w.region(t, "eu"))
		said(us)
		tail, err := us.store.Next(t.Context(), "", 1000, true)
		must(t, err)
		must(t, eu.store.Replicate(t.Context(), tail))
		tries := 0
		for ; ; tries++ {
			done, err := eu.stream.Handle(t.Context(), eu.records(0))
			if err == nil && done == len(tail) {
				break
			}
			if !errors.Is(err, keys.ErrMissing) || tries > 100 {
				t.Fatalf("try %d: %d handled, %v", tries, done, err)
			}
			time.Sleep(5 * time.Second) // of the ring's clock, as the trigger backs off
		}
		sealed := 0
		for _, r := range tail {
			if r.Event.Personal() {
				sealed++
			}
		}
		if got := len(eu.bus.entries); tries == 0 || got != len(tail)-sealed {
			t.Errorf("%d of %d events are published after %d tries, want %d", got, len(tail), tries, len(tail)-sealed)
		}
		replicateKeys(us, eu.region)
		var parked struct{ Parked []struct{ Key string } }
		eu.op.get("/v1/ops/parked").want(200).into(&parked)
		for _, p := range parked.Parked {
			eu.op.post("/v1/ops/parked/retry", `{"key":"`+p.Key+`"}`).want(200)
		}
		if len(parked.Parked) != sealed || len(eu.bus.entries) != len(tail) {
			t.Errorf("%d were parked, want %d; then %d are published, want %d", len(parked.Parked), sealed, len(eu.bus.entries), len(tail))
		}
	})
}

// Two regions that accept one command before either receives the other's event encrypt it with two
// keys; it is still one command.
func TestSameCommandTwoKeys(t *testing.T) {
	t.Parallel()
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
	e, err := events.Get(t.Context(), r.store, events.RoomStream(strings.TrimPrefix(room, "/v1/rooms/")), id)
	must(t, err)
	return e.Data
}
