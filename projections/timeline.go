package projections

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"parley/events"
)

// MaxReplies bounds how many replies a message counts: a greater number reads as this one.
const MaxReplies = 100

// The reactions that a message carries are pairs of user and emoji, those that were taken off again
// included. Commands refuse more than these; where regions accepted more before they knew of each
// other, the view keeps the pairs that changed last.
const (
	MaxReactions     = 1000 // pairs of one message
	ReactionsPerUser = 20   // pairs of one user on one message
)

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
		if message := e.About(); follows(e.ID, message) {
			keys = append(keys, messageKey(room, message))
		}
		return keys
	},
	since:  sortID, // see follows
	stream: roomOf,
}

// follows reports whether an event sorts after a message, and so may change it: commands that would
// change a later message are refused.
func follows(id, message events.ID) bool {
	return message != (events.ID{}) && id.Compare(message) > 0
}

func timelinePartition(room string) string { return "timeline/" + room }

func messageKey(room string, id events.ID) Key { return Key{timelinePartition(room), id.String()} }

// message is the view of one message. Changes may arrive before the message does, so edits and deletions
// are kept by actor: only the author's count.
//
// Of several messages with one id, which regions accepted before they heard of each other, the one with the
// least digest shows, and the edits by its author. The id is deleted for good if the author of any of them
// deletes it.
type message struct {
	Post      *post                              `json:"post,omitempty"`
	Others    []string                           `json:"others,omitempty"`    // further authors, of messages that do not show
	Edits     map[string]latest[events.Content]  `json:"edits,omitempty"`     // by actor
	Takebacks map[string]events.ID               `json:"takebacks,omitempty"` // deletions by actors who are no authors, yet
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
	Digest  events.Digest  `json:"digest,omitzero"`
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
		edit.set(e.Ref(), p.Text)
		m.Edits = withKey(m.Edits, e.Actor, edit)
	case events.MessageDeleted:
		if p.Moderated {
			m.Deleted = least(m.Deleted, e.ID)
		} else {
			m.Takebacks = withKey(m.Takebacks, e.Actor, least(m.Takebacks[e.Actor], e.ID))
		}
	case events.MessagePinned:
		m.Pin.set(e.Ref(), true)
	case events.MessageUnpinned:
		m.Pin.set(e.Ref(), false)
	case events.ReactionAdded:
		m.react(e, p.Emoji, true)
	case events.ReactionRemoved:
		m.react(e, p.Emoji, false)
	}
	m.dropSuperseded()
}

func (m *message) posted(e events.Event, p events.MessagePosted) {
	arrived := &post{Author: e.Actor, Text: p.Text, ReplyTo: p.ReplyTo, Thread: p.Thread, Region: e.Region, Digest: e.Digest}
	shown := m.Post
	if shown == nil {
		m.Post = arrived
		return
	}
	switch order := e.Ref().Compare(events.Ref{ID: e.ID, Digest: shown.Digest}); {
	case order < 0:
		m.Post = arrived
	case order == 0:
		shown.Region = min(arrived.Region, shown.Region) // accepted in two regions: any rule will do
	}
	authors := slices.Compact(slices.Sorted(slices.Values(append(m.Others, arrived.Author, shown.Author))))
	m.Others = slices.DeleteFunc(authors, func(author string) bool { return author == m.Post.Author })
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
	reaction.set(e.Ref(), on)
	m.Reactions = withKey(m.Reactions, emoji, withKey(users, e.Actor, reaction))
}

// dropSuperseded drops what no longer counts, so that the view is a function of the set of events. A
// deleted message keeps its position and its thread, and none of its content.
func (m *message) dropSuperseded() {
	if m.Post != nil {
		for _, author := range append([]string{m.Post.Author}, m.Others...) {
			m.Deleted = least(m.Deleted, m.Takebacks[author])
			delete(m.Takebacks, author)
		}
	}
	if m.Deleted == (events.ID{}) {
		m.dropSurplusReactions()
		return
	}
	if m.Post != nil {
		m.Post.Text = events.Content{}
	}
	m.Edits, m.Reactions, m.Pin = nil, nil, latest[bool]{}
}

// dropSurplusReactions keeps, of more pairs than the limits allow, those that changed last. A pair that
// is dropped once can only come back by a later event, and that alone decides its state: so the view
// does not depend on the order of the events.
func (m *message) dropSurplusReactions() {
	all, of, most := 0, map[string]int{}, 0
	for _, users := range m.Reactions {
		all += len(users)
		for user := range users {
			of[user]++
			most = max(most, of[user])
		}
	}
	if all <= MaxReactions && most <= ReactionsPerUser {
		return
	}
	type pair struct {
		emoji, user string
		at          events.Ref
	}
	var pairs []pair
	for emoji, users := range m.Reactions {
		for user, reaction := range users {
			pairs = append(pairs, pair{emoji, user, reaction.Ref})
		}
	}
	slices.SortFunc(pairs, func(a, b pair) int {
		return cmp.Or(b.at.Compare(a.at), cmp.Compare(a.emoji, b.emoji), cmp.Compare(a.user, b.user))
	})
	kept := 0
	clear(of)
	for _, p := range pairs {
		if kept < MaxReactions && of[p.user] < ReactionsPerUser {
			kept++
			of[p.user]++
			continue
		}
		if delete(m.Reactions[p.emoji], p.user); len(m.Reactions[p.emoji]) == 0 {
			delete(m.Reactions, p.emoji)
		}
	}
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
	Reactions map[string][]string // users by emoji, in the order of their reactions
	Pinned    bool
	Region    string // the region that accepted it
}

func (m *message) read(room string, id events.ID) Message {
	out := Message{
		ID: id, Room: room, Author: m.Post.Author, Text: m.Post.Text, Deleted: m.Deleted != events.ID{},
		ReplyTo: m.Post.ReplyTo, Thread: m.Post.Thread, Replies: len(m.Replies),
		Reactions: m.reactions(), Pinned: m.Pin.Value, Region: m.Post.Region,
	}
	if edit, ok := m.Edits[m.Post.Author]; ok {
		out.Text, out.Edited = edit.Value, edit.Ref.ID
	}
	return out
}

// reactions returns the users who react with each emoji now. Events of former releases name an emoji in any of
// its forms; of a user the latest counts.
func (m *message) reactions() map[string][]string {
	merged := map[string]map[string]latest[bool]{}
	for form, users := range m.Reactions {
		emoji := events.NormalizeEmoji(form)
		for user, reaction := range users {
			one := merged[emoji][user]
			one.set(reaction.Ref, reaction.Value)
			merged[emoji] = withKey(merged[emoji], user, one)
		}
	}
	out := map[string][]string{}
	for emoji, users := range merged {
		for user, on := range users {
			if on.Value {
				out[emoji] = append(out[emoji], user)
			}
		}
		slices.SortFunc(out[emoji], func(a, b string) int { return users[a].Ref.Compare(users[b].Ref) })
	}
	return out
}

// reaction returns the last reaction of a user with an emoji in any of its forms.
func (m *message) reaction(user, emoji string) (last events.Ref) {
	emoji = events.NormalizeEmoji(emoji)
	for form, users := range m.Reactions {
		if ref := users[user].Ref; events.NormalizeEmoji(form) == emoji && ref.Compare(last) > 0 {
			last = ref
		}
	}
	return last
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

// CountReactions returns how many pairs of user and emoji a message carries beside the given one, and
// how many of them are the user's. See [MaxReactions].
func CountReactions(ctx context.Context, views Views, room string, id events.ID, user, emoji string) (all, own int, err error) {
	states, err := load[message](ctx, views, []Key{messageKey(room, id)})
	if err != nil {
		return 0, 0, err
	}
	pairs := map[[2]string]bool{}
	for form, users := range states[0].Reactions {
		for u := range users {
			pairs[[2]string{events.NormalizeEmoji(form), u}] = true
		}
	}
	delete(pairs, [2]string{events.NormalizeEmoji(emoji), user})
	for pair := range pairs {
		if pair[1] == user {
			own++
		}
	}
	return len(pairs), own, nil
}

// ListMessages reads at most limit messages of a room within r, whose Limit it ignores, in r's
// order. Views that hold no message yet are passed over.
func ListMessages(ctx context.Context, views Views, room string, r events.Range) ([]Message, error) {
	states, ids, err := listStates(ctx, views, room, r)
	if err != nil {
		return nil, err
	}
	var messages []Message
	for i, state := range states {
		messages = append(messages, state.read(room, ids[i]))
	}
	return messages, nil
}

func listStates(ctx context.Context, views Views, room string, r events.Range) (states []*message, ids []events.ID, err error) {
	for len(states) < r.Limit {
		want := r.Limit - len(states)
		got, err := views.Query(ctx, timelinePartition(room), idRange(r, want))
		if err != nil {
			return nil, nil, err
		}
		for _, view := range got {
			id := sortID(view.Key)
			state, err := decode[message](view.Body)
			if err != nil {
				return nil, nil, err
			}
			if state.Post != nil {
				states, ids = append(states, state), append(ids, id)
			}
			r = behind(r, id)
		}
		if len(got) < want {
			break
		}
	}
	return states, ids, nil
}

// PostedMessage is a message as it was posted, before anything was done to it.
func PostedMessage(e events.Event) Message {
	var m message
	m.fold(messageKey(e.Stream.Name(), e.ID), e)
	return m.read(e.Stream.Name(), e.ID)
}

// Threads is the projection that finds a thread's messages: one small view per reply. What the
// reply says stands in the timeline, and how many there are in the view of the thread's root.
var Threads Projection = &projection[reply, *reply]{
	name: "thread",
	keys: func(e events.Event) []Key {
		if p, ok := e.Payload.(events.MessagePosted); ok && p.Thread != nil && follows(e.ID, *p.Thread) {
			return []Key{{threadPartition(e.Stream.Name(), *p.Thread), e.ID.String()}}
		}
		return nil
	},
	since:  sortID,
	stream: roomOf,
}

func threadPartition(room string, root events.ID) string {
	return "thread/" + room + "/" + root.String()
}

// reply is the view of a reply: that it is one.
type reply struct {
	Posted bool `json:"posted"`
}

func (r *reply) fold(Key, events.Event) { r.Posted = true }

// ListReplies reads at most r.Limit messages of the thread below root, in r's order. Replies
// that are not there yet, or no longer replies, are passed over.
func ListReplies(ctx context.Context, views Views, room string, root events.ID, r events.Range) ([]Message, error) {
	var replies []Message
	for len(replies) < r.Limit {
		want := r.Limit - len(replies)
		got, err := views.Query(ctx, threadPartition(room, root), idRange(r, want))
		if err != nil {
			return nil, err
		}
		ids := make([]events.ID, len(got))
		for i, view := range got {
			ids[i] = sortID(view.Key)
		}
		messages, err := LoadMessages(ctx, views, room, ids...)
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			if m.Thread != nil && *m.Thread == root {
				replies = append(replies, m)
			}
		}
		if len(got) < want {
			break
		}
		r = behind(r, ids[len(ids)-1])
	}
	return replies, nil
}

const (
	// asOfEvents bounds the events of the log that one page as of a time is folded from.
	asOfEvents = 5000
	// asOfRecent is how many events before that time are folded into the views in any case: the views may
	// lag behind the log.
	asOfRecent = 200
)

// ErrTooManyEvents: a message changed after the time as of which it is read, with too many events in
// between. Test for it with errors.Is.
var ErrTooManyEvents = errors.New("too many events lie between the message and the time as of which it is read")

// ListMessagesAsOf reads what [ListMessages] would have answered when the event at was the latest of
// all. A message that did not change after at is read from its view. One that did is folded again from
// the log, from its first event up to at, as far as that takes 5,000 events: the page is cut before a
// message that takes more, and if that is its first, the error is [ErrTooManyEvents].
//
// A deletion is for good: a message that has been deleted since shows as deleted.
func ListMessagesAsOf(ctx context.Context, log events.Log, views Views, room string, at events.ID, r events.Range) (messages []Message, cut bool, err error) {
	end, stream := events.FollowingID(at), events.RoomStream(room)
	if r.Before == (events.ID{}) || r.Before.Compare(end) > 0 {
		r.Before = end
	}
	var recent []events.Event
	for e, err := range log.Read(ctx, stream, events.Range{Before: end, Reverse: true, Limit: asOfRecent}) {
		if err != nil {
			return nil, false, err
		}
		recent = append(recent, e)
	}
	states, ids, err := listStates(ctx, WithEvents(views, recent...), room, r)
	if err != nil {
		return nil, false, err
	}
	changed := map[Key]*message{}
	oldest := end
	for i, state := range states {
		if state.changedAfter(at) {
			states[i] = &message{}
			changed[messageKey(room, ids[i])] = states[i]
			oldest = least(oldest, ids[i])
		}
	}
	unread := events.ID{} // events up to this one were not read
	if len(changed) > 0 {
		if unread, err = foldBack(ctx, log, stream, events.Range{After: events.PrecedingID(oldest), Before: end}, changed); err != nil {
			return nil, false, err
		}
	}
	for i, state := range states {
		if changed[messageKey(room, ids[i])] != nil && ids[i].Compare(unread) <= 0 {
			if i == 0 {
				return nil, false, ErrTooManyEvents
			}
			return messages, true, nil
		}
		replies := slices.IndexFunc(state.Replies, func(reply events.ID) bool { return reply.Compare(at) > 0 })
		if replies >= 0 {
			state.Replies = state.Replies[:replies]
		}
		messages = append(messages, state.read(room, ids[i]))
	}
	return messages, false, nil
}

// changedAfter reports whether the view lacks what the message was just after an event: something that
// was set then has been set again.
func (m *message) changedAfter(at events.ID) bool {
	after := func(id events.ID) bool { return id.Compare(at) > 0 }
	if m.Deleted != (events.ID{}) {
		return false // for good
	}
	for _, users := range m.Reactions {
		for _, reaction := range users {
			if after(reaction.Ref.ID) {
				return true
			}
		}
	}
	return after(m.Pin.Ref.ID) || after(m.Edits[m.Post.Author].Ref.ID)
}

// foldBack folds the events of a stream within r into views, the latest first, at most asOfEvents. It
// returns the latest that it did not read; zero if it read all.
func foldBack(ctx context.Context, log events.Log, stream events.Stream, r events.Range, views map[Key]*message) (events.ID, error) {
	r.Reverse, r.Limit = true, asOfEvents+1
	n := 0
	for e, err := range log.Read(ctx, stream, r) {
		if err != nil {
			return events.ID{}, err
		}
		if n++; n > asOfEvents {
			return e.ID, nil
		}
		for _, key := range Timeline.Keys(e) {
			if m := views[key]; m != nil {
				m.fold(key, e)
			}
		}
	}
	return events.ID{}, nil
}
