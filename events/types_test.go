package events_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/events"
)

var update = flag.Bool("update", false, "add the golden files that are missing; never changes one")

const goldenDir = "testdata/golden"

// A golden file holds one event for good, in both of its forms.
type golden struct {
	Stored events.Stored   `json:"stored"`
	Wire   json.RawMessage `json:"wire"`
}

// A sample is the event of one golden file. When a payload changes, the samples of its old
// version stay, with what they are now read as, and one of the new version is added.
type sample struct {
	file    string
	version int
	event   events.Event
}

var goldenTime = time.Date(1970, time.April, 14, 3, 7, 53, 0, time.UTC)

// fixedID is an id that is the same in every run and carries the actor's mark.
func fixedID(actor string, n int) events.ID {
	var id events.ID
	if err := id.SetTime(uint64(goldenTime.Add(time.Duration(n) * time.Second).UnixMilli())); err != nil {
		panic(err)
	}
	mark := events.FormerMark(actor)
	copy(id[6:], mark[:])
	id[15] = byte(n)
	return id
}

func samples(t testing.TB) []sample {
	t.Helper()
	var (
		roomID = fixedID("ada", 0)
		room   = roomID.String()
		first  = fixedID("ada", 1)
		second = fixedID("grace", 2)
		name   = "Mission control"
		topic  = "Okay, Houston … <we've> had a \"problem\" here"
		yes    = true
		text   = events.Plain("<b>Houston</b> & \"co\"\n\t👩‍👩‍👧‍👦\u2028e\u0301")
	)
	var all []sample
	add := func(file string, id events.ID, stream events.Stream, actor string, p events.Payload) {
		t.Helper()
		e, err := events.New(id, stream, actor, "eu-central-1", p)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, sample{file: file, version: 1, event: e})
	}
	inRoom := func(file string, p events.Payload) {
		t.Helper()
		add(file, fixedID("grace", 9), events.RoomStream(room), "grace", p)
	}

	add("room.created.v1", roomID, events.RoomStream(room), "ada",
		events.RoomCreated{Name: name, Topic: topic, Private: true})
	add("room.created.v1.direct", roomID, events.RoomStream(events.DirectRoom("grace", "ada")), "ada",
		events.RoomCreated{Private: true, Direct: []string{"ada", "grace"}})
	inRoom("room.updated.v1", events.RoomUpdated{Name: &name, Topic: &topic, Private: &yes})
	inRoom("room.archived.v1", events.RoomArchived{})
	inRoom("room.unarchived.v1", events.RoomUnarchived{})

	inRoom("member.invited.v1", events.MemberInvited{User: "alan"})
	inRoom("member.joined.v1", events.MemberJoined{User: "alan", Role: events.RoleAdmin})
	inRoom("member.left.v1", events.MemberLeft{User: "alan"})
	inRoom("member.role_changed.v1", events.MemberRoleChanged{User: "alan", Role: events.RoleOwner})
	inRoom("member.banned.v1", events.MemberBanned{User: "alan"})
	inRoom("member.unbanned.v1", events.MemberUnbanned{User: "alan"})

	inRoom("message.posted.v1", events.MessagePosted{Text: text, ReplyTo: &first, Thread: &second})
	inRoom("message.edited.v1", events.MessageEdited{Message: second, Text: text})
	inRoom("message.deleted.v1", events.MessageDeleted{Message: first, Moderated: true})
	inRoom("message.pinned.v1", events.MessagePinned{Message: first})
	inRoom("message.unpinned.v1", events.MessageUnpinned{Message: first})
	inRoom("reaction.added.v1", events.ReactionAdded{Message: first, Emoji: "👍🏽"})
	inRoom("reaction.removed.v1", events.ReactionRemoved{Message: first, Emoji: ":ship-it:"})

	add("event.late.v1", fixedID("eu-central-1", 9), events.RoomStream(room), "eu-central-1", events.EventLate{Event: events.Ref{ID: first}})
	add("event.late.v1.more", fixedID("eu-central-1", 9), events.UserStream("grace"), "eu-central-1",
		events.EventLate{Event: events.Ref{ID: first}, More: []events.Ref{{ID: second}}})
	add("room.read.v1", fixedID("grace", 9), events.UserStream("grace"), "grace",
		events.RoomRead{Room: room, UpTo: first})
	seen := int64(1202)
	add("room.read.v1.seen", fixedID("grace", 9), events.UserStream("grace"), "grace",
		events.RoomRead{Room: room, UpTo: first, Seen: &seen})
	add("room.marked_unread.v1", fixedID("grace", 9), events.UserStream("grace"), "grace",
		events.RoomMarkedUnread{Room: room, From: second})
	sealed := events.Sealed([]byte("\x01 no reader's business \xff"))
	newer := func(file string, id events.ID, stream events.Stream, actor string, p events.Payload) {
		t.Helper()
		add(file, id, stream, actor, p)
		all[len(all)-1].version = 2
	}
	newer("message.posted.v2", fixedID("grace", 9), events.RoomStream(room), "grace",
		events.MessagePosted{Text: sealed, ReplyTo: &first, Thread: &second})
	newer("message.edited.v2.erased", fixedID("grace", 9), events.RoomStream(room), "grace",
		events.MessageEdited{Message: second, Text: events.Erased()})
	newer("user.profile_set.v2", fixedID("grace", 9), events.UserStream("grace"), "grace",
		events.UserProfileSet{Name: sealed, About: sealed})
	newer("user.profile_set.v2.plain", fixedID("grace", 9), events.UserStream("grace"), "grace",
		events.UserProfileSet{Name: events.Plain("Grace Hopper")})
	add("user.erased.v1", fixedID("grace", 9), events.UserStream("grace"), "grace", events.UserErased{By: "ada"})

	add("user.profile_set.v1", fixedID("grace", 9), events.UserStream("grace"), "grace",
		events.UserProfileSet{Name: events.Plain("Grace Hopper"), About: events.Plain("It's easier to ask forgiveness …")})
	add("region.beat.v1", fixedID("eu-central-1", 9), events.RegionStream("eu-central-1"), "eu-central-1",
		events.RegionBeat{})
	add("ops.acted.v1", fixedID("grace", 9), events.OpsStream("eu-central-1"), "grace",
		events.OpsActed{What: "parked.retry", Target: "project/" + first.String(), Result: "handled <1> & \"gone\" …"})
	return all
}

func TestEveryTypeAndVersionHasASample(t *testing.T) {
	newest, have := map[string]int{}, map[string]bool{}
	for _, s := range samples(t) {
		newest[s.event.Type] = s.event.Version
		have[fmt.Sprintf("%s.v%d", s.event.Type, s.version)] = true
	}
	for _, name := range events.Types() {
		if newest[name] == 0 {
			t.Errorf("%s has no sample", name)
		}
		for v := 1; v <= newest[name]; v++ {
			if !have[fmt.Sprintf("%s.v%d", name, v)] {
				t.Errorf("%s has no sample of version %d", name, v)
			}
		}
	}
}

// A field that no sample sets is a field that no golden file freezes.
func TestSamplesSetEveryField(t *testing.T) {
	set, all := map[string]bool{}, map[string]bool{}
	for _, s := range samples(t) {
		p := reflect.ValueOf(s.event.Payload)
		for i := range p.NumField() {
			field := s.event.Type + " " + p.Type().Field(i).Name
			all[field] = true
			set[field] = set[field] || !p.Field(i).IsZero()
		}
	}
	for field := range all {
		if !set[field] {
			t.Errorf("no sample sets %s", field)
		}
	}
}

// A field of a payload.
type field struct {
	name, json string
	value      reflect.Value
}

func fieldsOf(p events.Payload) (fields []field) {
	v := reflect.ValueOf(p)
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		fields = append(fields, field{f.Name, name, v.Field(i)})
	}
	return fields
}

// id returns the id in a field, if it holds one.
func (f field) id() (events.ID, bool) {
	switch id := f.value.Interface().(type) {
	case events.ID:
		return id, true
	case *events.ID:
		return *id, true
	default:
		return events.ID{}, false
	}
}

// A payload that names a message or a member says so in the table of types: without the column its
// event would be folded into no view, and nothing else would notice.
func TestTypesSayWhatTheyAreAbout(t *testing.T) {
	nothingIsDoneTo := map[string]bool{"MessagePosted ReplyTo": true, "RoomRead UpTo": true, "RoomMarkedUnread From": true, "EventLate Event": true}
	for _, s := range samples(t) {
		var about events.ID
		var member string
		kind, _ := s.event.Stream.Split()
		for _, f := range fieldsOf(s.event.Payload) {
			name := reflect.TypeOf(s.event.Payload).Name() + " " + f.name
			if id, is := f.id(); is && !nothingIsDoneTo[name] {
				about = id
			}
			if f.name == "User" && kind == events.KindRoom {
				member = f.value.String()
			}
		}
		if got := s.event.About(); got != about {
			t.Errorf("%s is about message %s, want %s", s.event.Type, got, about)
		}
		if got := s.event.Member(); got != member {
			t.Errorf("%s changes member %q, want %q", s.event.Type, got, member)
		}
	}
}

// A ULID decodes leniently; a wrong letter must not become the id of some other event.
func TestIDsInDataAreStrict(t *testing.T) {
	for _, s := range samples(t) {
		for _, f := range fieldsOf(s.event.Payload) {
			id, is := f.id()
			if !is {
				continue
			}
			good := id.String()
			read := func(text string) (unreadable bool) {
				stored := events.Encode(s.event)
				stored.ID = s.event.ID.String()
				stored.Type = fmt.Sprintf("%s/%d", s.event.Type, s.version)
				stored.Data = strings.Replace(stored.Data, `"`+f.json+`":"`+good+`"`, `"`+f.json+`":"`+text+`"`, 1)
				e, err := events.Decode(stored)
				if err != nil {
					t.Fatal(err)
				}
				_, unreadable = e.Payload.(events.Unreadable)
				return unreadable
			}
			if other := fixedID("alan", 7).String(); read(other) {
				t.Errorf("%s: %s cannot be %s", s.file, f.json, other)
			}
			for _, bad := range []string{
				strings.Repeat("!", 26), good[:25] + "U", good[:25] + "!", good[:25], good + "0", "8" + good[1:],
				strings.ToLower(good), strings.Repeat("0", 26), "",
			} {
				if !read(bad) {
					t.Errorf("%s: %s is read from %q", s.file, f.json, bad)
				}
			}
		}
	}
}

// Every payload names the field that is wrong, and each of its fields can be, unless any value is
// right.
func TestPayloadsNameTheWrongField(t *testing.T) {
	var (
		zero      events.ID
		id        = fixedID("ada", 1)
		bad, good = "", "Mission control"
		long      = repeat("a", 501)
		no        = false
	)
	tested := map[string]bool{}
	for _, c := range []struct {
		field   string
		payload events.Payload
	}{
		{"", events.RoomCreated{Name: good}},
		{"name", events.RoomCreated{}},
		{"topic", events.RoomCreated{Name: good, Topic: long}},
		{"", events.RoomCreated{Private: true, Direct: []string{"ada", "grace"}}},
		{"direct", events.RoomCreated{Private: true, Direct: []string{"grace", "ada"}}},
		{"direct", events.RoomCreated{Private: true, Direct: []string{"ada", "ada"}}},
		{"direct", events.RoomCreated{Private: true, Direct: []string{"ada"}}},
		{"direct", events.RoomCreated{Private: true, Direct: []string{"ada", "alan", "grace"}}},
		{"direct", events.RoomCreated{Private: true, Direct: []string{"", "ada"}}},
		{"direct", events.RoomCreated{Private: true, Direct: []string{"ada", "é"}}},
		{"direct", events.RoomCreated{Direct: []string{"ada", "grace"}}},
		{"direct", events.RoomCreated{Private: true, Direct: []string{"ada", "grace"}, Name: good}},
		{"direct", events.RoomCreated{Private: true, Direct: []string{"ada", "grace"}, Topic: good}},
		{"name", events.RoomUpdated{}},
		{"name", events.RoomUpdated{Name: &bad}},
		{"topic", events.RoomUpdated{Name: &good, Topic: &long}},
		{"", events.RoomUpdated{Topic: &bad}},
		{"", events.RoomUpdated{Private: &no}},
		{"user", events.MemberJoined{Role: events.RoleMember}},
		{"role", events.MemberJoined{User: "ada"}},
		{"user", events.MemberLeft{}},
		{"user", events.MemberRoleChanged{Role: events.RoleMember}},
		{"role", events.MemberRoleChanged{User: "ada", Role: "Owner"}},
		{"user", events.MemberBanned{User: "a/b"}},
		{"user", events.MemberUnbanned{User: "a b"}},
		{"user", events.MemberInvited{User: "a b"}},
		{"text", events.MessagePosted{}},
		{"reply_to", events.MessagePosted{Text: events.Plain("a"), ReplyTo: &zero}},
		{"thread", events.MessagePosted{Text: events.Plain("a"), ReplyTo: &id, Thread: &zero}},
		{"message", events.MessageEdited{Text: events.Plain("a")}},
		{"text", events.MessageEdited{Message: id}},
		{"message", events.MessageDeleted{}},
		{"message", events.MessagePinned{}},
		{"message", events.MessageUnpinned{}},
		{"message", events.ReactionAdded{Emoji: "a"}},
		{"emoji", events.ReactionAdded{Message: id}},
		{"message", events.ReactionRemoved{Emoji: "a"}},
		{"emoji", events.ReactionRemoved{Message: id, Emoji: "ab"}},
		{"event", events.EventLate{}},
		{"more", events.EventLate{Event: events.Ref{ID: id}, More: make([]events.Ref, 1)}},
		{"more", events.EventLate{Event: events.Ref{ID: id}, More: slices.Repeat([]events.Ref{{ID: id}}, events.MaxLate)}},
		{"room", events.RoomRead{UpTo: id}},
		{"up_to", events.RoomRead{Room: id.String()}},
		{"seen", events.RoomRead{Room: id.String(), UpTo: id, Seen: new(int64(-2))}},
		{"", events.RoomRead{Room: id.String(), UpTo: id, Seen: new(int64(events.SeenUnknown))}},
		{"room", events.RoomMarkedUnread{From: id}},
		{"from", events.RoomMarkedUnread{Room: id.String()}},
		{"name", events.UserProfileSet{}},
		{"", events.UserProfileSet{Name: events.Plain("Ada")}},
		{"about", events.UserProfileSet{Name: events.Plain("Ada"), About: events.Plain(long)}},
		{"by", events.UserErased{}},
		{"what", events.OpsActed{What: "Drain"}},
		{"target", events.OpsActed{What: "drain", Target: long}},
		{"result", events.OpsActed{What: "drain", Result: long}},
	} {
		tested[fmt.Sprintf("%T %s", c.payload, c.field)] = true
		err := c.payload.Validate()
		if c.field == "" {
			if err != nil {
				t.Errorf("%T: %v", c.payload, err)
			}
		} else if invalid := events.IsInvalid(err); invalid == nil || invalid.Field != c.field {
			t.Errorf("%T: %v, want an error of field %s", c.payload, err, c.field)
		}
	}
	for _, s := range samples(t) {
		for _, f := range fieldsOf(s.event.Payload) {
			boolean := f.value.Kind() == reflect.Bool || f.value.Type() == reflect.TypeFor[*bool]()
			if key := fmt.Sprintf("%T %s", s.event.Payload, f.json); !boolean && !tested[key] {
				t.Errorf("no wrong value is tried of %s", key)
			}
		}
	}
}

func TestGolden(t *testing.T) {
	known := map[string]bool{}
	for _, s := range samples(t) {
		known[s.file+".json"] = true
		t.Run(s.file, func(t *testing.T) { checkGolden(t, s) })
	}
	files, err := os.ReadDir(goldenDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !known[f.Name()] {
			t.Errorf("%s has no sample: a type or version that was once stored is no longer tested", f.Name())
		}
	}
}

func checkGolden(t *testing.T, s sample) {
	if want := fmt.Sprintf("%s.v%d", s.event.Type, s.version); s.file != want && !strings.HasPrefix(s.file, want+".") {
		t.Fatalf("file %s holds %s", s.file, want)
	}
	path := filepath.Join(goldenDir, s.file+".json")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && *update && s.version == s.event.Version {
		text = goldenText(t, s.event)
		err = os.WriteFile(path, text, 0o644)
	}
	if err != nil {
		t.Fatalf("read a golden file (a new one is added by -update): %v", err)
	}

	var g golden
	if err := json.Unmarshal(text, &g); err != nil {
		t.Fatal(err)
	}
	var wired events.Event
	if err := json.Unmarshal(g.Wire, &wired); err != nil {
		t.Fatalf("decode the wire form: %v", err)
	}
	decoded, err := events.Decode(g.Stored)
	if err != nil {
		t.Fatalf("decode the stored form: %v", err)
	}
	for form, e := range map[string]events.Event{"stored": decoded, "wire": wired} {
		if e.Version != s.version {
			t.Errorf("%s form is of version %d, want %d", form, e.Version, s.version)
		}
		if diff := cmp.Diff(s.event.Payload, e.Payload); diff != "" {
			t.Errorf("payload of the %s form differs (-want +got):\n%s", form, diff)
		}
		if !events.Same(s.event, e) {
			t.Errorf("%s form is not the same event", form)
		}
	}
	if got := events.Encode(decoded); got != g.Stored {
		t.Errorf("stored again as\n%+v\nwas\n%+v", got, g.Stored)
	}
	today := s.event
	if !strings.Contains(g.Stored.ID, ".") { // of a release that stored events under their ids alone
		today.Digest = events.Digest{}
	}
	if s.version == s.event.Version && !bytes.Equal(text, goldenText(t, today)) {
		t.Errorf("today's encoding differs from %s:\n%s", path, goldenText(t, today))
	}
}

func goldenText(t *testing.T, e events.Event) []byte {
	t.Helper()
	wire, err := e.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(golden{Stored: events.Encode(e), Wire: wire}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
