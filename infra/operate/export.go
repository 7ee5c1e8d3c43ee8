package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/events"
	"parley/functions/wire"
	"parley/infra/operate/source"
)

// exportParts is how many parts of the log are read in parallel.
const exportParts = 4

// exporter writes lines as they are read.
type exporter struct {
	from *region
	all  bool // rooms, not one

	mu       sync.Mutex
	out      *bufio.Writer
	progress *progress
	lines    int
	lost     map[string]int // what the lines of messages cannot hold, in words
	start    time.Time
}

// Run exports what a region has.
func (c exportCmd) Run(s *session) (err error) {
	stream := events.Stream("")
	if c.Room != "all" {
		if stream, err = parseStream(c.Room); err != nil {
			return err
		}
		if kind, _ := stream.Split(); c.Messages && kind != events.KindRoom {
			return usage("-messages: only rooms have messages")
		}
	}
	r, err := s.anyRegion()
	if err != nil {
		return err
	}
	x := &exporter{from: r, all: c.Room == "all", out: bufio.NewWriterSize(s.out, 64<<10), progress: s.progress(), lost: map[string]int{}, start: time.Now()}
	if c.Out != "" {
		if _, err := os.Stat(c.Out); err == nil {
			return fmt.Errorf("-out: %s exists: pass the name of a new file", c.Out)
		}
		part := c.Out + ".part" // of an export that was interrupted, if it exists
		f, openErr := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if openErr != nil {
			return fmt.Errorf("-out: %w", openErr)
		}
		x.out.Reset(f)
		defer func() {
			err = errors.Join(err, f.Close())
			if err == nil {
				err = os.Rename(part, c.Out)
			}
			switch {
			case err == nil:
				s.printf("%s lines in %s.", thousands(int64(x.lines)), c.Out)
			case s.ctx.Err() != nil:
				err = fmt.Errorf("the export was interrupted after %s lines; %s is incomplete, and the next export to %s replaces it", thousands(int64(x.lines)), part, c.Out)
			default:
				err = fmt.Errorf("%w\n%s is incomplete, and the next export to %s replaces it", err, part, c.Out)
			}
		}()
	}
	switch {
	case c.Messages:
		err = x.writeMessages(stream)
	case x.all:
		err = readLog(r, x.writeEvent)
	default:
		for e, readErr := range readEvents(r, stream, "", "", 0) {
			if err = readErr; err == nil {
				err = x.writeEvent(e)
			}
			if err != nil {
				break
			}
		}
	}
	err = errors.Join(err, x.out.Flush())
	x.progress.clear()
	for _, what := range slices.Sorted(maps.Keys(x.lost)) { // beside the lines, if these go to standard output
		fmt.Fprintf(s.err, "Not exported: %s %s.\n", thousands(int64(x.lost[what])), what)
	}
	return err
}

// unreadableText is what an export counts as lost where the region cannot decrypt it.
const unreadableText = "texts that this region cannot decrypt: try another one, or later"

// readLog reads the events of all rooms and users, several parts of the log in parallel, so take is
// called concurrently. Each stream comes in order. What regions and operators record about themselves
// is left out: it belongs to this deployment.
func readLog(r *region, take func(events.Event) error) error {
	split := func(p wire.EventPage) ([]wire.RawEvent, *string) { return p.Events, p.After }
	group, ctx := errgroup.WithContext(r.ctx)
	for part := range exportParts {
		group.Go(func() error {
			for raw, err := range pages(r, "log", "", maxPage, 0, split, "part", fmt.Sprintf("%d/%d", part, exportParts)) {
				var e events.Event
				if err == nil {
					e, err = decodeEvent(raw)
				}
				if err = cmp.Or(err, ctx.Err()); err != nil {
					return err
				}
				if kind, _ := e.Stream.Split(); kind != events.KindRoom && kind != events.KindUser {
					continue
				}
				if err := take(e); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func (x *exporter) writeEvent(e events.Event) error {
	if _, unreadable := e.Withheld(); unreadable {
		x.mu.Lock()
		x.lost[unreadableText]++
		x.mu.Unlock()
	}
	text, err := e.MarshalJSON()
	if err != nil {
		return err
	}
	return x.writeLine(text)
}

func (x *exporter) writeLine(text []byte) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, err := x.out.Write(append(text, '\n')); err != nil {
		return fmt.Errorf("write the export: %w", err)
	}
	x.lines++
	x.progress.showPace("exporting", x.lines, 0, x.start)
	return nil
}

// messageLine is the format in which messages are exported, and imported by [source.Lines].
type messageLine struct {
	Room      string              `json:"room"`
	Author    string              `json:"author"`
	At        string              `json:"at"`
	Text      string              `json:"text"`
	ID        string              `json:"id"`
	Thread    string              `json:"thread,omitempty"`
	ReplyTo   string              `json:"reply_to,omitempty"`
	Edited    string              `json:"edited,omitempty"`
	Reactions map[string][]string `json:"reactions,omitempty"` // users by emoji
	Pinned    string              `json:"pinned,omitempty"`    // by whom
}

// roomLine is the line that describes a room, before those of its messages.
type roomLine struct {
	Room  string       `json:"room"`
	About source.About `json:"about"`
}

// roomState is a room after its events so far, as its lines describe it.
type roomState struct {
	source.About
	exists    bool
	banned    map[string]bool
	reactions map[events.ID][]source.Reaction
	pinned    map[events.ID]string
}

func newRoomState() *roomState {
	return &roomState{
		About: source.About{Members: map[string]events.Role{}}, banned: map[string]bool{},
		reactions: map[events.ID][]source.Reaction{}, pinned: map[events.ID]string{},
	}
}

// add adds the next event of the room, in the order of ids.
func (r *roomState) add(e events.Event) {
	switch p := e.Payload.(type) {
	case events.RoomCreated:
		if r.exists || !events.CreatesRoom(e, p) {
			return
		}
		r.exists, r.Created, r.Owner, r.Topic, r.Direct = true, e.ID.Timestamp().UTC(), e.Actor, p.Topic, p.Direct
		if r.Private = &p.Private; len(p.Direct) == 0 {
			r.Members[e.Actor] = events.RoleOwner
		}
	case events.RoomUpdated:
		if p.Topic != nil {
			r.Topic = *p.Topic
		}
		if p.Private != nil {
			r.Private = p.Private
		}
	case events.RoomArchived:
		r.Archived = true
	case events.RoomUnarchived:
		r.Archived = false
	case events.MemberJoined:
		r.Members[p.User] = p.Role
	case events.MemberLeft:
		delete(r.Members, p.User)
	case events.MemberRoleChanged:
		if r.Members[p.User] != "" {
			r.Members[p.User] = p.Role
		}
	case events.MemberBanned:
		delete(r.Members, p.User)
		r.banned[p.User] = true
	case events.MemberUnbanned:
		delete(r.banned, p.User)
	case events.MessagePinned:
		r.pinned[p.Message] = e.Actor
	case events.MessageUnpinned:
		delete(r.pinned, p.Message)
	case events.ReactionAdded:
		if reaction := (source.Reaction{User: e.Actor, Emoji: p.Emoji}); !slices.Contains(r.reactions[p.Message], reaction) {
			r.reactions[p.Message] = append(r.reactions[p.Message], reaction)
		}
	case events.ReactionRemoved:
		r.reactions[p.Message] = slices.DeleteFunc(r.reactions[p.Message], func(reaction source.Reaction) bool {
			return reaction == source.Reaction{User: e.Actor, Emoji: p.Emoji}
		})
	}
}

// describe returns the line of a room and counts what it cannot hold.
func (x *exporter) describe(name string, r *roomState) roomLine {
	maps.DeleteFunc(r.Members, func(user string, _ events.Role) bool { return r.banned[user] })
	if len(r.Direct) > 0 { // nothing else counts in a direct room
		r.Members, r.Owner, r.Topic = nil, "", ""
	}
	if len(r.banned) > 0 {
		x.lost["bans"] += len(r.banned)
	}
	return roomLine{name, r.About}
}

// writeMessages writes the messages of a room, or of all, as they read now. Deleted and erased
// messages are left out.
func (x *exporter) writeMessages(stream events.Stream) error {
	if !x.all {
		return x.writeRoom(stream, "")
	}
	var mu sync.Mutex
	names, sameName := map[events.Stream]string{}, map[string]int{}
	err := readLog(x.from, func(e events.Event) error {
		if kind, _ := e.Stream.Split(); kind == events.KindRoom {
			mu.Lock()
			defer mu.Unlock()
			names[e.Stream] = roomNameAfter(names[e.Stream], e)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range names {
		sameName[name]++
	}
	for _, stream := range slices.Sorted(maps.Keys(names)) {
		name := names[stream]
		if sameName[name] > 1 { // an import identifies rooms by their names
			runes := []rune(name)
			name = string(runes[:min(len(runes), 60)]) + " " + stream.Name()
		}
		if err := x.writeRoom(stream, name); err != nil {
			return err
		}
	}
	return nil
}

// roomNameAfter returns the name of a room after an event.
func roomNameAfter(name string, e events.Event) string {
	switch p := e.Payload.(type) {
	case events.RoomCreated:
		if p.Name != "" && events.CreatesRoom(e, p) {
			return p.Name
		}
	case events.RoomUpdated:
		if p.Name != nil {
			return *p.Name
		}
	}
	return cmp.Or(name, e.Stream.Name())
}

// writeRoom reads a room twice: first the edits and deletions of its messages, then the messages.
func (x *exporter) writeRoom(stream events.Stream, name string) error {
	type act struct { // by the actor, on the message
		message events.ID
		actor   string
	}
	type edit struct {
		at   time.Time
		text events.Content
	}
	roomName, edits, deleted, moderated := "", map[act]edit{}, map[act]bool{}, map[events.ID]bool{}
	room := newRoomState()
	for e, err := range readEvents(x.from, stream, "", "", 0) {
		if err != nil {
			return err
		}
		roomName = roomNameAfter(roomName, e)
		room.add(e)
		switch p := e.Payload.(type) {
		case events.MessageEdited:
			edits[act{p.Message, e.Actor}] = edit{e.ID.Timestamp().UTC(), p.Text}
		case events.MessageDeleted:
			if p.Moderated {
				moderated[p.Message] = true
			} else {
				deleted[act{p.Message, e.Actor}] = true
			}
		}
	}
	if name = cmp.Or(name, roomName); name == "" {
		return nil // no events
	}
	if name != roomName { // it only identifies the room
		room.Name = roomName
	}
	if err := x.writeJSON(x.describe(name, room)); err != nil {
		return err
	}
	for e, err := range readEvents(x.from, stream, "", "", 0) {
		if err != nil {
			return err
		}
		p, is := e.Payload.(events.MessagePosted)
		byAuthor := act{e.ID, e.Actor}
		if !is {
			continue
		}
		edited := edits[byAuthor]
		if !edited.at.IsZero() {
			p.Text = edited.text
		}
		switch {
		case p.Text.Unopened():
			x.lost[unreadableText]++
			continue
		case moderated[e.ID] || deleted[byAuthor] || p.Text.Text() == "":
			x.lost["messages that were deleted or erased"]++
			continue
		}
		l := messageLine{
			Room: name, Author: e.Actor, At: e.ID.Timestamp().UTC().Format(time.RFC3339Nano),
			Text: p.Text.Text(), ID: e.ID.String(),
		}
		if p.Thread != nil {
			l.Thread = p.Thread.String()
		}
		if p.ReplyTo != nil {
			l.ReplyTo = p.ReplyTo.String()
		}
		if !edited.at.IsZero() {
			l.Edited = edited.at.Format(time.RFC3339Nano)
		}
		for _, reaction := range room.reactions[e.ID] {
			if l.Reactions == nil {
				l.Reactions = map[string][]string{}
			}
			l.Reactions[reaction.Emoji] = append(l.Reactions[reaction.Emoji], reaction.User)
		}
		l.Pinned = room.pinned[e.ID]
		if err := x.writeJSON(l); err != nil {
			return err
		}
	}
	return nil
}

func (x *exporter) writeJSON(v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("encode a line: %w", err)
	}
	return x.writeLine(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}
