package events_test

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"parley/events"
)

func TestNewRefuses(t *testing.T) {
	var (
		id   = fixedID("ada", 1)
		room = events.RoomStream(id.String())
		text = events.MessagePosted{Text: events.Plain("s3cret")}
	)
	for name, c := range map[string]struct {
		field         string
		id            events.ID
		stream        events.Stream
		actor, region string
		payload       events.Payload
	}{
		"fine":                 {"", id, room, "ada", "eu", text},
		"zero id":              {"id", events.ID{}, room, "ada", "eu", text},
		"no stream":            {"stream", id, "", "ada", "eu", text},
		"lower case room":      {"stream", id, events.Stream(strings.ToLower(string(room))), "ada", "eu", text},
		"other kind of stream": {"stream", id, events.UserStream("ada"), "ada", "eu", text},
		"marker in a room":     {"stream", id, room, "ada", "eu", events.RoomRead{Room: id.String(), UpTo: id}},
		"stream of another":    {"actor", id, events.UserStream("grace"), "ada", "eu", events.UserProfileSet{Name: events.Plain("s3cret")}},
		"beat of another":      {"actor", id, events.RegionStream("us"), "eu", "eu", events.RegionBeat{}},
		"act without a word":   {"what", id, events.OpsStream("us"), "ada", "eu", events.OpsActed{}},
		"act in words":         {"what", id, events.OpsStream("eu"), "ada", "eu", events.OpsActed{What: "s3cret s3cret"}},
		"act on two lines":     {"target", id, events.OpsStream("eu"), "ada", "eu", events.OpsActed{What: "drain", Target: "s3cret\n"}},
		"act, a long story":    {"result", id, events.OpsStream("eu"), "ada", "eu", events.OpsActed{What: "drain", Result: repeat("s3cret", 100)}},
		"act of a region":      {"stream", id, events.RegionStream("ada"), "ada", "eu", events.OpsActed{What: "drain"}},
		"no actor":             {"actor", id, room, "", "eu", text},
		"bad actor":            {"actor", id, room, "s3cret/", "eu", text},
		"no region":            {"region", id, room, "ada", "", text},
		"bad region":           {"region", id, room, "ada", "S3cret", text},
		"empty text":           {"text", id, room, "ada", "eu", events.MessagePosted{}},
	} {
		e, err := events.New(c.id, c.stream, c.actor, c.region, c.payload)
		if c.field == "" {
			if err != nil || !events.Same(e, e) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if invalid := events.IsInvalid(err); invalid == nil || invalid.Field != c.field {
			t.Errorf("%s: %v, want an error of field %s", name, err, c.field)
		} else if strings.Contains(strings.ToLower(err.Error()), "s3cret") {
			t.Errorf("%s: error quotes the input: %v", name, err)
		}
	}
	for name, payload := range map[string]events.Payload{
		"nil": nil, "unreadable": events.Unreadable{}, "pointer": &text,
	} {
		if _, err := events.New(id, room, "ada", "eu", payload); err == nil {
			t.Errorf("%s payload was taken", name)
		}
	}
}

func TestSame(t *testing.T) {
	id, room := fixedID("ada", 1), events.RoomStream(fixedID("ada", 0).String())
	event := func(id events.ID, stream events.Stream, actor, region string, p events.Payload) events.Event {
		t.Helper()
		e, err := events.New(id, stream, actor, region, p)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	text := events.MessagePosted{Text: events.Plain("a")}
	e := event(id, room, "ada", "eu", text)
	if !events.Same(e, event(id, room, "ada", "us", text)) {
		t.Error("the region makes another event")
	}
	for name, other := range map[string]events.Event{
		"id":      event(fixedID("ada", 2), room, "ada", "eu", text),
		"stream":  event(id, events.RoomStream(id.String()), "ada", "eu", text),
		"actor":   event(id, room, "grace", "eu", text),
		"text":    event(id, room, "ada", "eu", events.MessagePosted{Text: events.Plain("b")}),
		"reply":   event(id, room, "ada", "eu", events.MessagePosted{Text: events.Plain("a"), ReplyTo: &id}),
		"type":    event(id, room, "ada", "eu", events.RoomArchived{}),
		"nothing": {},
	} {
		if events.Same(e, other) || events.Same(other, e) {
			t.Errorf("another %s makes the same event", name)
		}
	}
	if events.Same(event(id, room, "ada", "eu", events.RoomArchived{}), event(id, room, "ada", "eu", events.RoomUnarchived{})) {
		t.Error("two types with equal data are the same")
	}
	unknown := func(typ, data string) events.Event {
		t.Helper()
		e, err := events.Decode(events.Stored{ID: id.String(), Stream: string(room), Type: typ, Actor: "ada", Region: "eu", Data: data})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	if events.Same(unknown("room.painted/1", `{"colour":"red"}`), unknown("room.painted/2", `{"colour":"blue"}`)) {
		t.Error("two versions of an unknown type with different data are the same")
	}
	if events.Same(unknown("room.painted/1", `{"colour":"red"}`), unknown("room.painted/1", `{"colour":"blue"}`)) {
		t.Error("two events of an unknown type with different data are the same")
	}
}

// Any message goes to the log, to the wire and back, and stays what it is.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringN(1, 200, 2_000).Filter(func(s string) bool { return events.ValidateText("text", s) == nil })
		p := events.MessagePosted{Text: events.Plain(text.Draw(t, "text"))}
		if rapid.Bool().Draw(t, "reply") {
			id := fixedID("grace", 1)
			p.ReplyTo = &id
		}
		e, err := events.New(fixedID("ada", 2), events.RoomStream(fixedID("ada", 0).String()), "ada", "eu", p)
		if err != nil {
			t.Fatal(err)
		}
		decoded, err := events.Decode(events.Encode(e))
		if err != nil {
			t.Fatal(err)
		}
		wire, err := json.Marshal(e) // escapes what Data holds as it is
		if err != nil {
			t.Fatal(err)
		}
		var received events.Event
		if err := json.Unmarshal(wire, &received); err != nil {
			t.Fatal(err)
		}
		for form, got := range map[string]events.Event{"stored": decoded, "wire": received} {
			posted, ok := got.Payload.(events.MessagePosted)
			if !ok {
				t.Fatalf("%s form is read as %v", form, got.Payload)
			}
			if posted.Text != p.Text || !events.Same(e, got) || got.Region != e.Region {
				t.Fatalf("%s form differs: %+v", form, got)
			}
		}
	})
}

// An event that cannot be read reaches an operator with its data, whatever that is.
func TestUnreadableOnTheWire(t *testing.T) {
	for _, s := range []events.Stored{
		{Type: "room.painted/1", Data: `{"colour":"red"}`},
		{Type: "room.painted", Data: `{"colour":"red"}`},
		{Type: "room.painted/007", Data: `{"colour":"red"}`},
		{Type: "room.archived/1", Data: `{"torn":`},
		{Type: "room.archived/1", Data: ``},
		{Type: "room.archived/1", Data: `null`},
		{Type: "room.archived/1", Data: `"{}"`},
		{Type: "room.archived/1", Data: `"a<b"`},
		{Type: "room.archived/1", Data: ` {"spaced":1}`},
	} {
		s.ID, s.Stream, s.Actor, s.Region = fixedID("ada", 1).String(), "room/"+fixedID("ada", 0).String(), "ada", "eu"
		e, err := events.Decode(s)
		if err != nil {
			t.Fatal(err)
		}
		wire, err := json.Marshal(e)
		if err != nil {
			t.Errorf("%s %s: %v", s.Type, s.Data, err)
			continue
		}
		var got events.Event
		if err := json.Unmarshal(wire, &got); err != nil {
			t.Errorf("%s %s: %v", s.Type, s.Data, err)
			continue
		}
		if _, ok := got.Payload.(events.Unreadable); !ok {
			t.Errorf("%s %s became %+v", s.Type, s.Data, got.Payload)
		}
		if got := events.Encode(got); got != s {
			t.Errorf("%+v became %+v on the wire", s, got)
		}
	}
}

func TestUnmarshalJSONRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"not JSON":       `{"id":s3cret`,
		"array":          `["s3cret"]`,
		"wrong type":     `{"id":["s3cret"]}`,
		"empty":          `{}`,
		"null":           `null`,
		"bad id":         `{"id":"s3cret","stream":"user/ada"}`,
		"not UTF-8":      "{\"id\":\"01JABCDEFGHJKMNPQRSTVWXYZ0\",\"stream\":\"user/ada\",\"data\":\"s3cret\xff\"}",
		"no stream":      `{"id":"01JABCDEFGHJKMNPQRSTVWXYZ0","type":"room.archived","version":1,"data":{}}`,
		"version a text": `{"id":"01JABCDEFGHJKMNPQRSTVWXYZ0","stream":"user/ada","version":"s3cret"}`,
	} {
		var e events.Event
		err := e.UnmarshalJSON([]byte(text))
		if err == nil {
			t.Errorf("%s was taken: %+v", name, e)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: error quotes the input: %v", name, err)
		}
	}
}

func TestStreams(t *testing.T) {
	room := fixedID("ada", 0).String()
	for stream, want := range map[events.Stream]struct {
		kind events.Kind
		name string
	}{
		events.RoomStream(room):     {events.KindRoom, room},
		events.UserStream("ada"):    {events.KindUser, "ada"},
		events.RegionStream("eu-1"): {events.KindRegion, "eu-1"},
		events.OpsStream("eu-1"):    {events.KindOps, "eu-1"},
	} {
		kind, name := stream.Split()
		if kind != want.kind || name != want.name || stream.Name() != want.name || stream.Validate() != nil {
			t.Errorf("%s is of kind %s, name %s, %v", stream, kind, name, stream.Validate())
		}
	}
	for _, bad := range []events.Stream{"", "/", "room", "room/", "room//" + events.Stream(room), "user/a/b", "User/ada", "region/", "ops/", "ops/EU"} {
		if events.IsInvalid(bad.Validate()) == nil {
			t.Errorf("stream %q is taken", bad)
		}
	}
}

func TestDirectRoom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		user := rapid.StringMatching(`[A-Za-z0-9._-]{1,64}`)
		a, b, c := user.Draw(t, "a"), user.Draw(t, "b"), user.Draw(t, "c")
		room := events.DirectRoom(a, b)
		if room != events.DirectRoom(b, a) {
			t.Fatal("the two users are in different rooms")
		}
		if err := events.ValidateRoomID("room", room); err != nil || !events.IsDirect(room) {
			t.Fatalf("%s is no id of a direct room: %v", room, err)
		}
		if c != a && c != b && (room == events.DirectRoom(a, c) || room == events.DirectRoom(b, c)) {
			t.Fatal("two pairs are in one room")
		}
	})
	if events.DirectRoom("a", "bc") == events.DirectRoom("ab", "c") {
		t.Error("the names of the users run into each other")
	}
	if events.IsDirect(fixedID("ada", 0).String()) {
		t.Error("an ordinary room is a direct room")
	}
	// The id is frozen: two releases, or a client, must compute the same.
	if got, want := events.DirectRoom("grace", "ada"), "direct-4V53TCQ298PTK2VC208AD6JNYJ"; got != want {
		t.Errorf("direct room of ada and grace is %s, want %s", got, want)
	}
}

func TestCreatesRoom(t *testing.T) {
	id := fixedID("ada", 1)
	own, other := id.String(), fixedID("ada", 2).String()
	named := events.RoomCreated{Name: "Mission control"}
	direct := events.RoomCreated{Private: true, Direct: []string{"ada", "grace"}}
	for name, c := range map[string]struct {
		room, actor string
		payload     events.RoomCreated
		want        bool
	}{
		"its own room":              {own, "ada", named, true},
		"another room":              {other, "ada", named, false},
		"a direct room, as a named": {events.DirectRoom("ada", "grace"), "ada", named, false},
		"direct, by the first":      {events.DirectRoom("ada", "grace"), "ada", direct, true},
		"direct, by the second":     {events.DirectRoom("ada", "grace"), "grace", direct, true},
		"direct, by a stranger":     {events.DirectRoom("ada", "grace"), "alan", direct, false},
		"direct, of others":         {events.DirectRoom("ada", "alan"), "ada", direct, false},
		"direct, in its own room":   {own, "ada", direct, false},
	} {
		e, err := events.New(id, events.RoomStream(c.room), c.actor, "eu", c.payload)
		if err != nil {
			t.Fatal(err)
		}
		if got := events.CreatesRoom(e, c.payload); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}
