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
	mark := events.Mark(actor)
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

	add("event.late.v1", fixedID("eu-central-1", 9), events.RoomStream(room), "eu-central-1", events.EventLate{Event: first})
	add("room.read.v1", fixedID("grace", 9), events.UserStream("grace"), "grace",
		events.RoomRead{Room: room, UpTo: first})
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
	if s.version == s.event.Version && !bytes.Equal(text, goldenText(t, s.event)) {
		t.Errorf("today's encoding differs from %s:\n%s", path, goldenText(t, s.event))
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
