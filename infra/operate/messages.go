package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"parley/events"
)

// messageLine is a message as it is exported, and imported again.
type messageLine struct {
	Room   string `json:"room"`
	Author string `json:"author"`
	At     string `json:"at"`
	Text   string `json:"text"`
	ID     string `json:"id"`
	Thread string `json:"thread,omitempty"`
}

// messages writes the messages of a room, or of all, as they read now. Those that were deleted are
// left out.
func (x *exporter) messages(stream events.Stream) error {
	if !x.all {
		return x.room(stream, "")
	}
	names, err := x.names()
	if err != nil {
		return err
	}
	same := map[string]int{}
	for _, name := range names {
		same[name]++
	}
	var streams []events.Stream
	for stream := range names {
		streams = append(streams, stream)
	}
	slices.Sort(streams)
	for _, stream := range streams {
		name := names[stream]
		if same[name] > 1 { // rooms are told apart by their names
			name = shortened(name, 60) + " " + stream.Name()
		}
		if err := x.room(stream, name); err != nil {
			return err
		}
	}
	return nil
}

func shortened(text string, chars int) string {
	if runes := []rune(text); len(runes) > chars {
		return string(runes[:chars])
	}
	return text
}

// names reads what all rooms are called.
func (x *exporter) names() (map[events.Stream]string, error) {
	var mu sync.Mutex
	names := map[events.Stream]string{}
	err := x.log(func(e events.Event) error {
		if kind, _ := e.Stream.Split(); kind == events.KindRoom {
			mu.Lock()
			defer mu.Unlock()
			names[e.Stream] = named(names[e.Stream], e)
		}
		return nil
	})
	return names, err
}

// named is the name of a room after an event.
func named(name string, e events.Event) string {
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
	if name == "" {
		return e.Stream.Name()
	}
	return name
}

// changed is what was done to the messages of a room: the latest edit by each actor, and deletions.
type changed struct {
	name    string
	edits   map[edit]events.Content
	deleted map[events.ID]bool // by a moderator
	taken   map[edit]bool      // back, by whoever did
}

type edit struct {
	message events.ID
	actor   string
}

// room reads a room twice: what was done to its messages, then the messages.
func (x *exporter) room(stream events.Stream, name string) error {
	c := changed{edits: map[edit]events.Content{}, deleted: map[events.ID]bool{}, taken: map[edit]bool{}}
	for e, err := range x.from.read(stream, "", "", 0) {
		if err != nil {
			return err
		}
		c.name = named(c.name, e)
		switch p := e.Payload.(type) {
		case events.MessageEdited:
			c.edits[edit{p.Message, e.Actor}] = p.Text
		case events.MessageDeleted:
			if p.Moderated {
				c.deleted[p.Message] = true
			} else {
				c.taken[edit{p.Message, e.Actor}] = true
			}
		}
	}
	if name == "" {
		name = c.name
	}
	for e, err := range x.from.read(stream, "", "", 0) {
		if err != nil {
			return err
		}
		p, is := e.Payload.(events.MessagePosted)
		by := edit{e.ID, e.Actor}
		if !is || c.deleted[e.ID] || c.taken[by] {
			continue
		}
		if text, edited := c.edits[by]; edited {
			p.Text = text
		}
		if p.Text.Erased() {
			continue // its author was: there is nothing left to say
		}
		l := messageLine{
			Room: name, Author: e.Actor, At: e.ID.Timestamp().UTC().Format(time.RFC3339Nano), Text: p.Text.Text(), ID: e.ID.String(),
		}
		if p.Thread != nil {
			l.Thread = p.Thread.String()
		}
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(l); err != nil {
			return fmt.Errorf("encode a message: %w", err)
		}
		if err := x.line(bytes.TrimSuffix(b.Bytes(), []byte("\n"))); err != nil {
			return err
		}
	}
	return nil
}
