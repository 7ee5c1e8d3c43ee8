package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"parley/events"
	"parley/projections"
)

// rigRounds is how many events each room has after its beginning. Between two of a room come those of all
// others, so that no cache of a process has it.
const rigRounds = 4

// rigRoom is a room while its events are made.
type rigRoom struct {
	stream   events.Stream
	members  []string
	messages []events.Event
}

// activity makes the events of rooms, in rounds that follow each other.
func (r *rig) activity(n int) (rounds [][]events.Event) {
	rng := rand.New(rand.NewPCG(r.seed, 1<<32))
	user := func() string { return fmt.Sprintf("user-%d", rng.IntN(n/4+4)) }
	rooms, first := make([]*rigRoom, n), []events.Event{}
	for i := range rooms {
		owner := user()
		id, err := r.clock.Mint(owner)
		if err != nil {
			r.t.Fatal(err)
		}
		room := &rigRoom{stream: events.RoomStream(id.String()), members: []string{owner}}
		created, err := events.New(id, room.stream, owner, inRegion, events.RoomCreated{Name: fmt.Sprint("room ", i)})
		if err != nil {
			r.t.Fatal(err)
		}
		first = append(first, created)
		for range 2 {
			first = append(first, r.join(room, user()))
		}
		rooms[i] = room
	}
	rounds = append(rounds, append(first, r.follow(rooms)...))
	for range rigRounds {
		var round []events.Event
		for i, room := range rooms {
			round = append(round, r.next(rng, room, fmt.Sprintf("%d in room %d", len(rounds), i), user())...)
		}
		for _, f := range r.followers {
			read := events.RoomRead{Room: rooms[0].stream.Name(), UpTo: first[0].ID}
			round = append(round, r.event(f.user, events.UserStream(f.user), read))
		}
		round = append(round, r.event(inRegion, events.RegionStream(inRegion), events.RegionBeat{}))
		rng.Shuffle(len(round), func(i, j int) { round[i], round[j] = round[j], round[i] })
		rounds = append(rounds, round)
	}
	return rounds
}

// event makes an event of an actor, with a new id.
func (r *rig) event(actor string, stream events.Stream, payload events.Payload) events.Event {
	id, err := r.clock.Mint(actor)
	if err != nil {
		r.t.Fatal(err)
	}
	e, err := events.New(id, stream, actor, inRegion, payload)
	if err != nil {
		r.t.Fatal(err)
	}
	return e
}

func (r *rig) join(room *rigRoom, user string) events.Event {
	room.members = append(room.members, user)
	return r.event(user, room.stream, events.MemberJoined{User: user, Role: events.RoleMember})
}

// next makes what happens next in a room: one event, or several at once.
func (r *rig) next(rng *rand.Rand, room *rigRoom, text, stranger string) []events.Event {
	member := room.members[rng.IntN(len(room.members))]
	post := r.event(member, room.stream, events.MessagePosted{Text: events.Plain(text)})
	draw := rng.IntN(100)
	if len(room.messages) == 0 || draw < 40 {
		room.messages = append(room.messages, post)
		return []events.Event{post}
	}
	about := room.messages[rng.IntN(len(room.messages))]
	switch {
	case draw < 50: // two regions accept two texts under one id
		twin, err := events.New(post.ID, room.stream, member, "us-east-1", events.MessagePosted{Text: events.Plain(text + ", too")})
		if err != nil {
			r.t.Fatal(err)
		}
		room.messages = append(room.messages, post)
		return []events.Event{post, twin}
	case draw < 55: // the client retries: one event
		room.messages = append(room.messages, post)
		return []events.Event{post, post}
	case draw < 68:
		return []events.Event{r.event(about.Actor, room.stream, events.MessageEdited{Message: about.ID, Text: events.Plain(text + ", edited")})}
	case draw < 74:
		return []events.Event{r.event(about.Actor, room.stream, events.MessageDeleted{Message: about.ID})}
	case draw < 84:
		return []events.Event{r.event(member, room.stream, events.ReactionAdded{Message: about.ID, Emoji: ":tada:"})}
	case draw < 87:
		return []events.Event{r.event(member, room.stream, events.ReactionRemoved{Message: about.ID, Emoji: ":tada:"})}
	case draw < 92:
		return []events.Event{r.event(member, events.UserStream(member), events.RoomRead{Room: room.stream.Name(), UpTo: about.ID})}
	case draw < 96 && len(room.members) > 1:
		room.members = slices.DeleteFunc(room.members, func(user string) bool { return user == member })
		if len(room.members) == 0 {
			room.members = []string{stranger}
		}
		return []events.Event{r.event(member, room.stream, events.MemberLeft{User: member})}
	default:
		return []events.Event{r.join(room, stranger)}
	}
}

// append appends rounds of events, those of a round side by side.
func (r *rig) append(rounds [][]events.Event) error {
	for _, round := range rounds {
		var group errgroup.Group
		group.SetLimit(16)
		for _, e := range round {
			group.Go(func() error {
				_, _, err := r.log.Append(r.t.Context(), e)
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// check holds feeds, views and bus against the log.
func (r *rig) check(log []events.Event) {
	r.t.Helper()
	streams := map[events.Stream][]events.Event{}
	for _, e := range log {
		streams[e.Stream] = append(streams[e.Stream], e)
	}
	var group errgroup.Group
	group.SetLimit(16)
	for stream, all := range streams {
		group.Go(func() error {
			if err := r.checkFeed(stream, all); err != nil {
				return err
			}
			if kind, _ := stream.Split(); kind == events.KindRoom {
				return r.checkMessages(stream.Name(), all)
			}
			return nil
		})
	}
	for _, f := range r.followers {
		group.Go(func() error {
			if err := f.catchUp(); err != nil {
				return err
			}
			return f.check()
		})
	}
	group.Go(func() error { return r.checkMemberships(log) })
	if err := group.Wait(); err != nil {
		r.t.Error(err)
	}
	r.checkViews(log)
	if parked, err := projections.ListParked(r.t.Context(), r.views, "", 10); err != nil || len(parked) > 0 {
		r.t.Errorf("parked are %v, error %v", parked, err)
	}
	published, missing := r.bus.Counts(), 0
	for _, e := range log {
		if published[e.ID.String()] == 0 {
			missing++
		}
	}
	if missing > 0 {
		r.t.Errorf("%d of %d events are not on the bus", missing, len(log))
	}
}

// checkFeed checks that a feed has the events of its stream in the order of the change stream, each once,
// at dense positions.
func (r *rig) checkFeed(stream events.Stream, all []events.Event) error {
	if kind, _ := stream.Split(); kind == events.KindRegion {
		return nil // it has no feed
	}
	feed, _, err := projections.ListFeed(r.t.Context(), r.views, stream, 0, 2*len(all))
	if err != nil {
		return fmt.Errorf("list the feed of %s: %w", stream, err)
	}
	byRef := map[events.Ref]events.Event{}
	for _, e := range all {
		byRef[e.Ref()] = e
	}
	var is, want []string
	for _, e := range feed {
		is = append(is, fmt.Sprint(e.Position, " ", e.Ref, " ", e.Type, " by ", e.Actor))
	}
	for i, ref := range r.order[stream] {
		want = append(want, fmt.Sprint(i+1, " ", ref, " ", byRef[ref].Type, " by ", byRef[ref].Actor))
	}
	if diff := cmp.Diff(want, is); diff != "" || len(all) != len(want) {
		return fmt.Errorf("feed of %s, with %d events in the log (-want +got):\n%s", stream, len(all), diff)
	}
	return nil
}

// checkMessages checks the messages of a room: of two with one id the one with the smaller digest, with the
// latest edit by its author, and without a text if it was deleted.
func (r *rig) checkMessages(room string, all []events.Event) error {
	var ids []events.ID
	texts := map[events.ID]string{}
	for _, e := range all { // in canonical order
		switch p := e.Payload.(type) {
		case events.MessagePosted:
			if _, there := texts[e.ID]; !there {
				ids, texts[e.ID] = append(ids, e.ID), p.Text.Text()
			}
		case events.MessageEdited:
			texts[p.Message] = p.Text.Text()
		}
	}
	for _, e := range all {
		if p, is := e.Payload.(events.MessageDeleted); is {
			texts[p.Message] = "deleted"
		}
	}
	got, err := projections.ListMessages(r.t.Context(), r.views, room, events.Range{Limit: 1 + len(all)})
	if err != nil {
		return fmt.Errorf("list the messages of room %s: %w", room, err)
	}
	var is, want []string
	for _, m := range got {
		text := m.Text.Text()
		if m.Deleted {
			text = "deleted"
		}
		is = append(is, m.ID.String()+" "+text)
	}
	for _, id := range ids {
		want = append(want, id.String()+" "+texts[id])
	}
	if diff := cmp.Diff(want, is); diff != "" {
		return fmt.Errorf("messages of room %s (-want +got):\n%s", room, diff)
	}
	return nil
}

// checkViews checks that the views of all projections are what the events of the log fold to, one after
// the other.
func (r *rig) checkViews(log []events.Event) {
	r.t.Helper()
	want, prefixes := map[projections.Key]projections.Document{}, []string{}
	for _, p := range projections.All() {
		prefixes = append(prefixes, p.Name())
		for _, e := range log {
			for _, key := range p.Keys(e) {
				if want[key] == nil {
					doc, err := p.Open(key, nil)
					if err != nil {
						r.t.Fatal(err)
					}
					want[key] = doc
				}
				want[key].Fold(e)
			}
		}
	}
	n, wrong := 0, 0
	for after, more := (projections.Key{}), true; more; more = after != (projections.Key{}) {
		views, next, err := r.views.Scan(r.t.Context(), prefixes, after, 1000)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, view := range views {
			n++
			var body []byte
			if doc := want[view.Key]; doc != nil {
				if body, err = doc.Body(); err != nil {
					r.t.Fatal(err)
				}
			}
			if !bytes.Equal(body, view.Body) {
				if wrong++; wrong < 10 {
					r.t.Errorf("view %v is\n%s\nnot\n%s", view.Key, view.Body, body)
				}
			}
		}
		after = next
	}
	if n != len(want) || n == 0 {
		r.t.Errorf("there are %d views, want %d", n, len(want))
	}
}
