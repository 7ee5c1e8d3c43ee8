package projections

import (
	"context"
	"slices"
	"sort"

	"parley/events"
)

// MaxReplies bounds how many replies a message counts: a greater number reads as this one.
const MaxReplies = 100

// Timeline is the projection of a room's messages: one view per message, in canonical order.
// A page of a room is one range of its partition, however many messages the room has.
var Timeline Projection = &projection[message, *message]{
	name: "timeline",
	keys: func(e events.Event) []Key {
		room := e.Stream.Name()
		var keys []Key
		if _, ok := e.Payload.(events.MessagePosted); ok {
			keys = append(keys, messageKey(room, e.ID))
		}
		if message := About(e); follows(e.ID, message) {
			keys = append(keys, messageKey(room, message))
		}
		return keys
	},
	since:  sortID, // see follows
	stream: roomOf,
}

// About names the message an event does something to, a reply to the root of its thread; zero
// if there is none.
func About(e events.Event) events.ID {
	switch p := e.Payload.(type) {
	case events.MessagePosted:
		if p.Thread != nil {
			return *p.Thread
		}
	case events.MessageEdited:
		return p.Message
	case events.MessageDeleted:
		return p.Message
	case events.MessagePinned:
		return p.Message
	case events.MessageUnpinned:
		return p.Message
	case events.ReactionAdded:
		return p.Message
	case events.ReactionRemoved:
		return p.Message
	}
	return events.ID{}
}

// follows reports whether an event may do something to a message: nothing can be done to one
// that is yet to come, and no command that is accepted tries.
func follows(id, message events.ID) bool {
	return message != (events.ID{}) && id.Compare(message) > 0
}

func timelinePartition(room string) string { return "timeline/" + room }

func messageKey(room string, id events.ID) Key { return Key{timelinePartition(room), id.String()} }

// message is the view of one message. What was done to it may arrive before the message does:
// until then an edit or a deletion waits under its actor, because only the author's count.
type message struct {
	Post      *post                              `json:"post,omitempty"`
	Edits     map[string]latest[events.Content]  `json:"edits,omitempty"`     // by actor
	Takebacks map[string]events.ID               `json:"takebacks,omitempty"` // deletions by actor, before the post is known
	Deleted   events.ID                          `json:"deleted,omitzero"`    // the least deletion that counts
	Reactions map[string]map[string]latest[bool] `json:"reactions,omitempty"` // by emoji and user
	Pin       latest[bool]                       `json:"pin,omitzero"`
	Replies   []events.ID                        `json:"replies,omitempty"` // the least MaxReplies of its thread
}

// post is the message as it was posted.
type post struct {
	Author  string         `json:"author"`
	Text    events.Content `json:"text,omitzero"`
	ReplyTo *events.ID     `json:"reply_to,omitempty"`
	Thread  *events.ID     `json:"thread,omitempty"`
	Region  string         `json:"region"`
}

func (m *message) fold(key Key, e events.Event) {
	switch p := e.Payload.(type) {
	case events.MessagePosted:
		if e.ID.String() == key.Sort {
			m.posted(e, p)
		} else {
			m.replied(e.ID)
		}
	case events.MessageEdited:
		edit := m.Edits[e.Actor]
		edit.set(e.ID, p.Text)
		m.Edits = with(m.Edits, e.Actor, edit)
	case events.MessageDeleted:
		if p.Moderated {
			m.Deleted = least(m.Deleted, e.ID)
		} else {
			m.Takebacks = with(m.Takebacks, e.Actor, least(m.Takebacks[e.Actor], e.ID))
		}
	case events.MessagePinned:
		m.Pin.set(e.ID, true)
	case events.MessageUnpinned:
		m.Pin.set(e.ID, false)
	case events.ReactionAdded:
		m.react(e, p.Emoji, true)
	case events.ReactionRemoved:
		m.react(e, p.Emoji, false)
	}
	m.settle()
}

func (m *message) posted(e events.Event, p events.MessagePosted) {
	region := e.Region
	if m.Post != nil {
		region = min(region, m.Post.Region) // accepted twice, in two regions: any rule will do
	}
	m.Post = &post{Author: e.Actor, Text: p.Text, ReplyTo: p.ReplyTo, Thread: p.Thread, Region: region}
}

func (m *message) replied(id events.ID) {
	if at, found := slices.BinarySearchFunc(m.Replies, id, events.ID.Compare); !found {
		m.Replies = slices.Insert(m.Replies, at, id)
		m.Replies = m.Replies[:min(len(m.Replies), MaxReplies)]
	}
}

func (m *message) react(e events.Event, emoji string, on bool) {
	users := m.Reactions[emoji]
	reaction := users[e.Actor]
	reaction.set(e.ID, on)
	m.Reactions = with(m.Reactions, emoji, with(users, e.Actor, reaction))
}

// settle drops what no longer counts, so that the view is a function of the set of events. A
// deleted message keeps its place and its thread, and nothing that was said.
func (m *message) settle() {
	if m.Post != nil {
		for actor := range m.Edits {
			if actor != m.Post.Author {
				delete(m.Edits, actor)
			}
		}
		m.Deleted = least(m.Deleted, m.Takebacks[m.Post.Author])
		m.Takebacks = nil
	}
	if m.Deleted == (events.ID{}) {
		return
	}
	if m.Post != nil {
		m.Post.Text = events.Content{}
	}
	m.Edits, m.Reactions, m.Pin = nil, nil, latest[bool]{}
}

// Message is a message as its readers see it.
type Message struct {
	ID        events.ID // the time in it is the time it was sent
	Room      string
	Author    string
	Text      events.Content // empty if Deleted
	Edited    events.ID      // the edit that counts; zero if none
	Deleted   bool
	ReplyTo   *events.ID
	Thread    *events.ID
	Replies   int                 // in the thread below it, at most MaxReplies
	Reactions map[string][]string // users by emoji, first come first
	Pinned    bool
	Region    string // that accepted it
}

func (m *message) read(room string, id events.ID) Message {
	out := Message{
		ID: id, Room: room, Author: m.Post.Author, Text: m.Post.Text, Deleted: m.Deleted != events.ID{},
		ReplyTo: m.Post.ReplyTo, Thread: m.Post.Thread, Replies: len(m.Replies),
		Reactions: m.reactions(), Pinned: m.Pin.Value, Region: m.Post.Region,
	}
	if edit, ok := m.Edits[m.Post.Author]; ok {
		out.Text, out.Edited = edit.Value, edit.ID
	}
	return out
}

func (m *message) reactions() map[string][]string {
	out := map[string][]string{}
	for emoji, users := range m.Reactions {
		for user, on := range users {
			if on.Value {
				out[emoji] = append(out[emoji], user)
			}
		}
		sort.Slice(out[emoji], func(i, j int) bool {
			return users[out[emoji][i]].ID.Compare(users[out[emoji][j]].ID) < 0
		})
	}
	return out
}

// LoadMessages reads messages of a room by their ids; those not known here are left out.
func LoadMessages(ctx context.Context, views Views, room string, ids ...events.ID) ([]Message, error) {
	keys := make([]Key, len(ids))
	for i, id := range ids {
		keys[i] = messageKey(room, id)
	}
	states, err := load[message](ctx, views, keys)
	if err != nil {
		return nil, err
	}
	var messages []Message
	for i, state := range states {
		if state.Post != nil {
			messages = append(messages, state.read(room, ids[i]))
		}
	}
	return messages, nil
}

// CountReactions returns how many pairs of user and emoji a message carries, those that were
// taken off again included: they stay in the view, so they count against its limit.
func CountReactions(ctx context.Context, views Views, room string, id events.ID) (int, error) {
	states, err := load[message](ctx, views, []Key{messageKey(room, id)})
	if err != nil {
		return 0, err
	}
	n := 0
	for _, users := range states[0].Reactions {
		n += len(users)
	}
	return n, nil
}

// ListMessages reads at most limit messages of a room within r, whose Limit it ignores, in r's
// order. Views that hold no message yet are passed over.
func ListMessages(ctx context.Context, views Views, room string, r events.Range) ([]Message, error) {
	var messages []Message
	for len(messages) < r.Limit {
		want := r.Limit - len(messages)
		got, err := views.Query(ctx, timelinePartition(room), idRange(r, want))
		if err != nil {
			return nil, err
		}
		for _, view := range got {
			id := sortID(view.Key)
			state, err := decode[message](view.Body)
			if err != nil {
				return nil, err
			}
			if state.Post != nil {
				messages = append(messages, state.read(room, id))
			}
			r = behind(r, id)
		}
		if len(got) < want {
			break
		}
	}
	return messages, nil
}

// PostedMessage is a message as it was posted, before anything was done to it.
func PostedMessage(e events.Event) Message {
	var m message
	m.fold(messageKey(e.Stream.Name(), e.ID), e)
	return m.read(e.Stream.Name(), e.ID)
}
