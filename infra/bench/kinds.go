package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"

	"parley/events"
	"parley/events/dynamolocal"
	"parley/functions/health"
)

// meteredRooms is over how many rooms the events of a batch are spread.
const meteredRooms = 4

// kind is a kind of event and the command that brings it about. In the i-th command {user} is the
// i-th user, {room} the room that she is a member of, {message} a message of hers, {guest}
// somebody who is in no room, and {text} what is said.
type kind struct {
	name     string // the wire name, and what is special about it
	command  string // method and path; "" if it is no command's
	by       string // who sends it; "" is the user
	body     string // JSON
	messages bool   // it takes messages
	banned   bool   // it takes users who are banned
	alone    bool   // it comes one by one

	event func(s *scene, i int) (events.Event, error) // of the region itself; nil if a command or a beat
}

func kinds() []kind {
	const room, member, message = "/v1/rooms/{room}", "/v1/rooms/{room}/members/", "/v1/rooms/{room}/messages/{message}"
	return []kind{
		{name: "message.posted", command: "POST " + room + "/messages", body: `{"text":"{text}"}`},
		{name: "message.posted in a thread", command: "POST " + room + "/messages", body: `{"text":"{text}","thread":"{message}"}`, messages: true},
		{name: "message.edited", command: "PATCH " + message, body: `{"text":"{text}"}`, messages: true},
		{name: "message.deleted", command: "DELETE " + message, messages: true},
		{name: "message.pinned", command: "PUT " + message + "/pin", messages: true},
		{name: "message.unpinned", command: "DELETE " + message + "/pin", messages: true},
		{name: "reaction.added", command: "PUT " + message + "/reactions/:tada:", messages: true},
		{name: "reaction.removed", command: "DELETE " + message + "/reactions/:tada:", messages: true},
		{name: "room.read", command: "PUT " + room + "/read", body: `{"up_to":"{message}"}`, messages: true},
		{name: "room.created", command: "POST /v1/rooms", body: `{"name":"a room","topic":"{text}"}`},
		{name: "room.created direct", command: "PUT /v1/direct/{guest}"},
		{name: "room.updated", command: "PATCH " + room, body: `{"topic":"{user}"}`, by: "owner"},
		{name: "room.archived", command: "PATCH " + room, body: `{"archived":true}`, by: "owner"},
		{name: "room.unarchived", command: "PATCH " + room, body: `{"archived":false}`, by: "owner"},
		{name: "member.joined", command: "PUT " + member + "{guest}", by: "{guest}"},
		{name: "member.left", command: "DELETE " + member + "{user}"},
		{name: "member.role_changed", command: "PATCH " + member + "{user}", body: `{"role":"admin"}`, by: "owner"},
		{name: "member.banned", command: "PUT " + room + "/bans/{user}", by: "owner"},
		{name: "member.unbanned", command: "DELETE " + room + "/bans/{user}", by: "owner", banned: true},
		{name: "user.profile_set", command: "PUT /v1/users/{user}", body: `{"name":"{user}","about":"{text}"}`},
		{name: "region.beat", alone: true},
		{name: "event.late", event: lateEvent, messages: true},
		{name: "ops.acted", event: actEvent},
		{name: "user.erased", event: erasedEvent},
	}
}

// scene is what there is before events are measured.
type scene struct {
	*metered
	rooms    []string
	messages []events.ID // by user
}

// lateEvent says that a message was late.
func lateEvent(s *scene, i int) (events.Event, error) {
	message, err := s.log.Get(context.Background(), events.RoomStream(s.rooms[i%meteredRooms]), s.messages[i])
	if err != nil {
		return events.Event{}, err
	}
	return events.Late(message, meteredRegion)
}

// actEvent is what an operator did.
func actEvent(s *scene, i int) (events.Event, error) {
	id, err := s.clock.Mint("owner")
	if err != nil {
		return events.Event{}, err
	}
	return events.New(id, events.OpsStream(meteredRegion), "owner", meteredRegion, events.OpsActed{What: "job.start", Target: user(i)})
}

// erasedEvent says that a user was erased.
func erasedEvent(s *scene, i int) (events.Event, error) {
	id, err := s.clock.Mint(user(i))
	if err != nil {
		return events.Event{}, err
	}
	return events.New(id, events.UserStream(user(i)), user(i), meteredRegion, events.UserErased{By: "owner"})
}

func user(i int) string { return fmt.Sprintf("user-%04d", i) }

// measure brings about events of a kind, handles them in batches and returns what each of them
// costs on average. A batch of one is measured by a few of them.
func (k kind) measure(ctx context.Context, place dynamolocal.Endpoint, batch int) (cost, error) {
	n := max(batch, 2*meteredRooms)
	r, err := openMetered(ctx, place)
	if err != nil {
		return cost{}, err
	}
	s := &scene{metered: r}
	if err := s.set(ctx, k, n); err != nil {
		return cost{}, err
	}
	if err := k.happen(ctx, s, n); err != nil {
		return cost{}, err
	}
	accepted, records := r.take(r.viewsTable), r.log.take()
	if len(records) != n {
		return cost{}, errors.New("a command did not lead to one event")
	}
	if err := handleAll(ctx, r.stream, records, batch); err != nil {
		return cost{}, err
	}
	return accepted.and(r.take(r.viewsTable)).over(n), nil
}

// set makes the scene for n events of a kind.
func (s *scene) set(ctx context.Context, k kind, n int) error {
	var given []said
	for range meteredRooms {
		id, err := s.clock.Mint("owner")
		if err != nil {
			return err
		}
		s.rooms = append(s.rooms, id.String())
		given = append(given, said{"owner", events.RoomStream(id.String()), events.RoomCreated{Name: "a room"}, id})
	}
	users := func(payload func(user string) events.Payload) {
		for i := range n {
			given = append(given, said{user(i), events.RoomStream(s.rooms[i%meteredRooms]), payload(user(i)), events.ID{}})
		}
	}
	users(func(user string) events.Payload { return events.MemberJoined{User: user, Role: events.RoleMember} })
	if k.banned {
		users(func(user string) events.Payload { return events.MemberBanned{User: user} })
	}
	if k.messages {
		users(func(string) events.Payload { return events.MessagePosted{Text: events.Plain(text)} })
	}
	ids, err := s.given(ctx, given)
	if k.messages && err == nil {
		s.messages = ids[len(ids)-n:]
	}
	return err
}

// happen brings about n events of a kind: those of one room one after the other, because two
// commands at once on one view can cost more.
func (k kind) happen(ctx context.Context, s *scene, n int) error {
	group, ctx := errgroup.WithContext(ctx)
	if k.alone {
		group.SetLimit(1)
	}
	for first := range meteredRooms {
		group.Go(func() error {
			for i := first; i < n; i += meteredRooms {
				if err := k.happenOnce(ctx, s, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func (k kind) happenOnce(ctx context.Context, s *scene, i int) error {
	if k.event != nil {
		e, err := k.event(s, i)
		if err == nil {
			_, _, err = s.log.Append(ctx, e)
		}
		return err
	}
	if k.command == "" {
		return health.Beat(ctx, s.log, s.clock, meteredRegion)
	}
	names := []string{"{user}", user(i), "{guest}", fmt.Sprintf("guest-%04d", i), "{room}", s.rooms[i%meteredRooms], "{text}", text}
	if k.messages {
		names = append(names, "{message}", s.messages[i].String())
	}
	fill := strings.NewReplacer(names...)
	method, path, _ := strings.Cut(fill.Replace(k.command), " ")
	return s.send(ctx, method, path, fill.Replace(cmp.Or(k.by, "{user}")), fill.Replace(k.body))
}
