package events

import (
	"encoding/json"
	"fmt"
	"reflect"
)

// types is the one table of all event types, and the only place that lists them: what the rest of
// Parley has to know of a type is a column of its row.
//
// Wire names and versions are frozen: they are literals, they stand in every log ever written,
// and a golden file in testdata holds each of them for good. To change a payload, add an upgrade
// from its newest version to the next, which raises the version, and add a golden file; never edit
// one. A field that may be missing, and that older releases may ignore, raises no version.
var types = newTable(
	define[RoomCreated]("room.created", KindRoom),
	define[RoomUpdated]("room.updated", KindRoom, latestWins),
	define[RoomArchived]("room.archived", KindRoom, latestWins),
	define[RoomUnarchived]("room.unarchived", KindRoom, latestWins),

	define[MemberInvited]("member.invited", KindRoom, changesMember(MemberInvited.member), latestWins),
	define[MemberJoined]("member.joined", KindRoom, changesMember(MemberJoined.member), latestWins),
	define[MemberLeft]("member.left", KindRoom, changesMember(MemberLeft.member), latestWins),
	define[MemberRoleChanged]("member.role_changed", KindRoom, changesMember(MemberRoleChanged.member), latestWins),
	define[MemberBanned]("member.banned", KindRoom, changesMember(MemberBanned.member), latestWins),
	define[MemberUnbanned]("member.unbanned", KindRoom, changesMember(MemberUnbanned.member), latestWins),

	define[MessagePosted]("message.posted", KindRoom, upgrade(textMayBeSealed), about(MessagePosted.target)),
	define[MessageEdited]("message.edited", KindRoom, upgrade(textMayBeSealed), about(MessageEdited.target), latestWins),
	define[MessageDeleted]("message.deleted", KindRoom, about(MessageDeleted.target)),
	define[MessagePinned]("message.pinned", KindRoom, about(MessagePinned.target), latestWins),
	define[MessageUnpinned]("message.unpinned", KindRoom, about(MessageUnpinned.target), latestWins),
	define[ReactionAdded]("reaction.added", KindRoom, about(ReactionAdded.target), latestWins),
	define[ReactionRemoved]("reaction.removed", KindRoom, about(ReactionRemoved.target), latestWins),

	define[EventLate]("event.late", KindRoom, alsoOfUsers),

	define[RoomRead]("room.read", KindUser),
	define[RoomMarkedUnread]("room.marked_unread", KindUser),
	define[UserProfileSet]("user.profile_set", KindUser, upgrade(textMayBeSealed), latestWins),
	define[UserErased]("user.erased", KindUser),

	define[RegionBeat]("region.beat", KindRegion),

	define[OpsActed]("ops.acted", KindOps),
)

// Types lists the wire names of all event types.
func Types() []string { return append([]string(nil), types.names...) }

// About returns the message that the event does something to, of a reply the root of its thread.
// It is zero if there is none.
func (e Event) About() ID {
	if t, ok := types.of(e.Payload); ok && t.about != nil {
		return t.about(e.Payload)
	}
	return ID{}
}

// Member returns the user whose membership of a room the event changes, "" if there is none. That
// room.created makes members is not said here.
func (e Event) Member() string {
	if t, ok := types.of(e.Payload); ok && t.member != nil {
		return t.member(e.Payload)
	}
	return ""
}

// LatestWins reports whether the event sets something of which the latest event counts: one that does not
// sort after those before it would change nothing.
func (e Event) LatestWins() bool {
	t, ok := types.of(e.Payload)
	return ok && t.latestWins
}

// eventType is one row of the table.
type eventType struct {
	name    string
	version int // the newest; one more than there are steps
	kind    Kind
	goType  reflect.Type
	steps   []step // steps[i] brings data of version i+1 to version i+2
	decode  func(json.RawMessage) (Payload, error)

	about  func(Payload) ID     // nil: about no message
	member func(Payload) string // nil: about no member

	latestWins bool
	ofUsers    bool // in the streams of users as well, of which the actor is a region
}

// A column sets a column of a row.
type column func(*eventType)

// define makes a row for payload type P. Its version is 1, plus one for every upgrade.
func define[P Payload](name string, kind Kind, columns ...column) *eventType {
	row := &eventType{
		name:    name,
		version: 1,
		kind:    kind,
		goType:  reflect.TypeFor[P](),
		decode: func(data json.RawMessage) (Payload, error) {
			var p P
			if err := json.Unmarshal(data, &p); err != nil {
				return nil, err
			}
			return p, nil
		},
	}
	for _, set := range columns {
		set(row)
	}
	return row
}

// about says how a payload names the message that its event does something to.
func about[P Payload](message func(P) ID) column {
	return func(row *eventType) { row.about = func(p Payload) ID { return message(p.(P)) } }
}

// changesMember says how a payload names the user whose membership its event changes.
func changesMember[P Payload](user func(P) string) column {
	return func(row *eventType) { row.member = func(p Payload) string { return user(p.(P)) } }
}

// alsoOfUsers says that regions append such events to the streams of users as well.
func alsoOfUsers(row *eventType) { row.ofUsers = true }

// latestWins says that the latest event of what a payload sets counts.
func latestWins(row *eventType) { row.latestWins = true }

// A step converts the data of one version of a payload to the next.
type step func(json.RawMessage) (json.RawMessage, error)

// upgrade adds a version and the step to it from the one before.
func upgrade(s step) column {
	return func(row *eventType) {
		row.steps = append(row.steps, s)
		row.version++
	}
}

// textMayBeSealed is the step from a version whose content was always a text to one in which it
// may be sealed or erased as well: a text is spelled the same in both.
func textMayBeSealed(data json.RawMessage) (json.RawMessage, error) { return data, nil }

// table finds a row by wire name, for decoding, and by Go type, for encoding.
type table struct {
	names    []string
	byName   map[string]*eventType
	byGoType map[reflect.Type]*eventType
}

// newTable panics on a name or a Go type that is given twice: the table is fixed at build time.
func newTable(rows ...*eventType) *table {
	t := &table{byName: map[string]*eventType{}, byGoType: map[reflect.Type]*eventType{}}
	for _, row := range rows {
		if t.byName[row.name] != nil || t.byGoType[row.goType] != nil {
			panic(fmt.Sprintf("events: %s or %s is in the table twice", row.name, row.goType))
		}
		t.names = append(t.names, row.name)
		t.byName[row.name] = row
		t.byGoType[row.goType] = row
	}
	return t
}

func (t *table) of(p Payload) (*eventType, bool) {
	row, ok := t.byGoType[reflect.TypeOf(p)]
	return row, ok
}
