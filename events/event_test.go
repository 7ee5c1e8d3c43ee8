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
		"numbered beat":        {"", id, events.BeatStream("eu", 7), "eu", "eu", events.RegionBeat{}},
		"its number as actor":  {"actor", id, events.BeatStream("eu", 7), "eu.7", "eu", events.RegionBeat{}},
		"numbered, of another": {"actor", id, events.BeatStream("us", 7), "eu", "eu", events.RegionBeat{}},
		"numbered acts":        {"stream", id, events.OpsStream("eu.7"), "ada", "eu", events.OpsActed{What: "drain"}},
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

// The digests of events are frozen: they are in the keys of what is stored. All but the region of an
// event has part in it.
func TestDigest(t *testing.T) {
	id, other := fixedID("ada", 1), fixedID("ada", 2)
	room := events.RoomStream(fixedID("ada", 0).String())
	stored := events.Stored{Stream: string(room), ID: id.String(), Type: "message.posted/2", Actor: "ada", Region: "eu", Data: `{"text":"a"}`}
	seen := map[events.Digest]string{}
	for name, tt := range map[string]struct {
		change func(*events.Stored)
		ref    string
	}{
		"nothing":           {func(*events.Stored) {}, "00089HP2RGZQQ4638000000001.GHH3FNFNREQ1PS8Y"},
		"the region":        {func(s *events.Stored) { s.Region = "us" }, "00089HP2RGZQQ4638000000001.GHH3FNFNREQ1PS8Y"},
		"the stream":        {func(s *events.Stored) { s.Stream = "user/ada" }, ""},
		"the id":            {func(s *events.Stored) { s.ID = other.String() }, ""},
		"the type":          {func(s *events.Stored) { s.Type = "message.sung/2" }, ""},
		"the version":       {func(s *events.Stored) { s.Type = "message.posted/1" }, ""},
		"the actor":         {func(s *events.Stored) { s.Actor = "bob" }, ""},
		"the data":          {func(s *events.Stored) { s.Data = `{"text":"b"}` }, ""},
		"the border of two": {func(s *events.Stored) { s.Type, s.Actor = "message.posted/2a", "da" }, ""},
	} {
		s := stored
		tt.change(&s)
		e, err := events.Decode(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Digest; got != (events.Digest{}) {
			t.Errorf("%s: an event that is stored under its id alone has the digest %x", name, got)
		}
		e = e.WithDigest()
		if ref := e.Ref().String(); tt.ref != "" && ref != tt.ref {
			t.Errorf("%s changed: the event is stored under %s, want %s", name, ref, tt.ref)
		} else if before, is := seen[e.Digest]; is && tt.ref == "" {
			t.Errorf("%s changed: the digest is that of %s changed", name, before)
		}
		if tt.ref == "" {
			seen[e.Digest] = name
		}
		s.ID = e.Ref().String()
		if again, err := events.Decode(s); err != nil || again.Ref() != e.Ref() {
			t.Errorf("%s changed: %s is read as %s, %v", name, e.Ref(), again.Ref(), err)
		}
		s.Data += " "
		again, err := events.Decode(s)
		if _, unreadable := again.Payload.(events.Unreadable); err != nil || !unreadable || again.Ref() != e.Ref() || string(again.Data) != s.Data {
			t.Errorf("%s changed, then the data under its key: read as %+v, %v", name, again, err)
		}
	}
}

// Refs are ordered like their texts, whatever their digests, and nothing else is one.
func TestRefs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ref := func(name string) events.Ref {
			few := rapid.SampledFrom([]byte{0, 1, 0x2e, 0x7f, 0x80, 0xff})
			var r events.Ref
			for i := range r.ID {
				r.ID[i] = few.Draw(t, name)
			}
			for i := range r.Digest {
				r.Digest[i] = few.Draw(t, name)
			}
			if rapid.Bool().Draw(t, "bare") {
				r.Digest = events.Digest{}
			}
			return r
		}
		a, b := ref("a"), ref("b")
		if rapid.Bool().Draw(t, "one id") {
			b.ID = a.ID
		}
		if a.Compare(b) != strings.Compare(a.String(), b.String()) {
			t.Fatalf("%s and %s: %d", a, b, a.Compare(b))
		}
		if got, err := events.ParseRef("ref", a.String()); err != nil || got != a {
			t.Fatalf("%s is read as %s, %v", a, got, err)
		}
	})
	good := events.Ref{ID: fixedID("ada", 1), Digest: events.Digest{9: 1}}.String()
	for _, text := range []string{
		"", good[:26] + ".", good[:len(good)-1], good + "0", good + "=", good[:26] + "/" + good[27:], good[:27] + "0000000000000000",
		good[:27] + "000000000000000U", good[1:], good[:27] + "00000000000000\n1",
	} {
		if r, err := events.ParseRef("ref", text); events.IsInvalid(err) == nil {
			t.Errorf("%q is read as %s, %v", text, r, err)
		}
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
		e = e.WithDigest()
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
		if got, want := events.Encode(got), events.Encode(e); got != want {
			t.Errorf("%+v became %+v on the wire", want, got)
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
		"a Ref for id":   `{"id":"01JABCDEFGHJKMNPQRSTVWXYZ0.0123456789ABCDEF","stream":"user/ada","data":{}}`,
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
		"region/eu-1.1":             {events.KindRegion, "eu-1.1"},
		"region/eu-1.99":            {events.KindRegion, "eu-1.99"},
		events.OpsStream("eu-1"):    {events.KindOps, "eu-1"},
	} {
		kind, name := stream.Split()
		if kind != want.kind || name != want.name || stream.Name() != want.name || stream.Validate() != nil {
			t.Errorf("%s is of kind %s, name %s, %v", stream, kind, name, stream.Validate())
		}
	}
	for _, bad := range []events.Stream{
		"", "/", "room", "room/", "room//" + events.Stream(room), "user/a/b", "User/ada", "region/", "ops/", "ops/EU", "ops/eu.1",
		"region/eu.0", "region/eu.", "region/eu.01", "region/eu.+1", "region/eu.-1", "region/eu.100", "region/eu.1.2", "region/eu.x", "region/.1", "region/EU.1", "region/eu/1",
	} {
		if events.IsInvalid(bad.Validate()) == nil {
			t.Errorf("stream %q is taken", bad)
		}
		if region := bad.BeatRegion(); region != "" {
			t.Errorf("stream %q has heartbeats of %s", bad, region)
		}
	}
}

func TestBeatStreams(t *testing.T) {
	seen := map[events.Stream]bool{}
	for n := range events.MaxBeatStreams {
		s := events.BeatStream("eu-1", n)
		if s.Validate() != nil || s.BeatRegion() != "eu-1" || seen[s] {
			t.Errorf("stream %d is %s of %s, %v", n, s, s.BeatRegion(), s.Validate())
		}
		seen[s] = true
	}
	if !seen[events.RegionStream("eu-1")] || !seen["region/eu-1.1"] {
		t.Error("a stream has another name than before")
	}
	for _, other := range []events.Stream{events.OpsStream("eu"), events.UserStream("eu"), events.BeatStream("eu", events.MaxBeatStreams)} {
		if region := other.BeatRegion(); region != "" {
			t.Errorf("%s has heartbeats of %s", other, region)
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
