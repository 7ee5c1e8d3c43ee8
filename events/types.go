package events

import (
	"encoding/json"
	"fmt"
	"reflect"
)

// types is the one table of all event types. Wire names and versions are frozen: they are
// literals, they stand in every log ever written, and a golden file in testdata holds each of
// them for good. To change a payload, raise its version, give the step from the old version
// to the new one, and add a golden file; never edit one.
var types = newTable(
	define[RoomCreated]("room.created", KindRoom),
	define[RoomUpdated]("room.updated", KindRoom),
	define[RoomArchived]("room.archived", KindRoom),
	define[RoomUnarchived]("room.unarchived", KindRoom),

	define[MemberJoined]("member.joined", KindRoom),
	define[MemberLeft]("member.left", KindRoom),
	define[MemberRoleChanged]("member.role_changed", KindRoom),
	define[MemberBanned]("member.banned", KindRoom),
	define[MemberUnbanned]("member.unbanned", KindRoom),

	define[MessagePosted]("message.posted", KindRoom, textAlone),
	define[MessageEdited]("message.edited", KindRoom, textAlone),
	define[MessageDeleted]("message.deleted", KindRoom),
	define[MessagePinned]("message.pinned", KindRoom),
	define[MessageUnpinned]("message.unpinned", KindRoom),
	define[ReactionAdded]("reaction.added", KindRoom),
	define[ReactionRemoved]("reaction.removed", KindRoom),

	define[EventLate]("event.late", KindRoom),

	define[RoomRead]("room.read", KindUser),
	define[UserProfileSet]("user.profile_set", KindUser, textAlone),
	define[UserErased]("user.erased", KindUser),

	define[RegionBeat]("region.beat", KindRegion),

	define[OpsActed]("ops.acted", KindOps),
)

// Types lists the wire names of all event types.
func Types() []string { return append([]string(nil), types.names...) }

// eventType is one row of the table.
type eventType struct {
	name    string
	version int // the newest; one more than there are steps
	kind    Kind
	goType  reflect.Type
	steps   []step // steps[i] brings data of version i+1 to version i+2
	decode  func(json.RawMessage) (Payload, error)
}

// A step brings the data of one version of a payload to the next.
type step func(json.RawMessage) (json.RawMessage, error)

// textAlone is the step from a version whose content was always a text to one in which it may be
// sealed, or erased: what a text says is the same in both.
func textAlone(data json.RawMessage) (json.RawMessage, error) { return data, nil }

// define makes a row for payload type P. Its version is 1, plus one for every step.
func define[P Payload](name string, kind Kind, steps ...step) *eventType {
	return &eventType{
		name:    name,
		version: 1 + len(steps),
		kind:    kind,
		goType:  reflect.TypeFor[P](),
		steps:   steps,
		decode: func(data json.RawMessage) (Payload, error) {
			var p P
			if err := json.Unmarshal(data, &p); err != nil {
				return nil, err
			}
			return p, nil
		},
	}
}

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
