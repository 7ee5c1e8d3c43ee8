package api

import (
	"encoding/json"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"parley/events"
	"parley/projections"
)

// Message is a message as clients get it.
type Message struct {
	ID        string              `json:"id"`
	Room      string              `json:"room"`
	Author    string              `json:"author"`
	Text      string              `json:"text" doc:"Empty if deleted or erased."`
	SentAt    time.Time           `json:"sent_at" doc:"The time in the id."`
	EditedAt  *time.Time          `json:"edited_at,omitempty"`
	Deleted   bool                `json:"deleted,omitempty"`
	Erased    bool                `json:"erased,omitempty" doc:"Its author was erased: nobody can read it any more."`
	ReplyTo   string              `json:"reply_to,omitempty" doc:"The message it answers."`
	Thread    string              `json:"thread,omitempty" doc:"The message whose thread it is part of."`
	Replies   int                 `json:"replies,omitempty" doc:"Messages in its own thread; 100 stands for 100 or more."`
	Reactions map[string][]string `json:"reactions" doc:"Users by emoji, first come first."`
	Pinned    bool                `json:"pinned,omitempty"`
	Region    string              `json:"region" doc:"The region that accepted it."`
}

// messageOf gives a message whose content is open, or erased.
func messageOf(m projections.Message) Message {
	out := Message{
		ID: m.ID.String(), Room: m.Room, Author: m.Author, Text: m.Text.Text(), Erased: m.Text.Erased(), SentAt: m.ID.Timestamp().UTC(),
		Deleted: m.Deleted, ReplyTo: idText(m.ReplyTo), Thread: idText(m.Thread), Replies: m.Replies,
		Reactions: m.Reactions, Pinned: m.Pinned, Region: m.Region,
	}
	if m.Edited != (events.ID{}) {
		at := m.Edited.Timestamp().UTC()
		out.EditedAt = &at
	}
	return out
}

func idText(id *events.ID) string {
	if id == nil {
		return ""
	}
	return id.String()
}

// Room is a room as clients get it.
type Room struct {
	ID        string    `json:"id"`
	Name      string    `json:"name,omitempty" doc:"Missing in a direct room."`
	Topic     string    `json:"topic,omitempty"`
	Private   bool      `json:"private" doc:"Invisible to all but its members."`
	Archived  bool      `json:"archived,omitempty" doc:"Closed to everything but reading."`
	Direct    []string  `json:"direct,omitempty" doc:"The two users of a direct room."`
	CreatedBy string    `json:"created_by"`
	CreatedAt time.Time `json:"created_at"`
	Role      string    `json:"role,omitempty" enum:"owner,admin,member" doc:"What the caller is in it; missing if she is no member."`
}

// RoomOf gives a room as one of its readers gets it.
func RoomOf(r projections.Room, reader projections.Member) Room {
	return Room{
		ID: r.ID, Name: r.Name, Topic: r.Topic, Private: r.Private, Archived: r.Archived, Direct: r.Direct,
		CreatedBy: r.By, CreatedAt: r.Created.Timestamp().UTC(), Role: string(reader.Role),
	}
}

// Member is a member of a room as clients get it.
type Member struct {
	User   string    `json:"user"`
	Role   string    `json:"role,omitempty" enum:"owner,admin,member" doc:"Missing if banned."`
	Since  time.Time `json:"since" doc:"When she joined or, if banned, when that was."`
	Banned bool      `json:"banned,omitempty"`
}

// MemberOf gives a member as clients get it.
func MemberOf(m projections.Member) Member {
	return Member{User: m.User, Role: string(m.Role), Since: m.Since.Timestamp().UTC(), Banned: m.Banned}
}

// User is a user's profile as clients get it.
type User struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	About string `json:"about,omitempty"`

	Erased bool `json:"erased,omitempty" doc:"The user was erased: nobody can read what she wrote any more."`
}

// Accepted is the answer to a command that has no other: the event it became.
type Accepted struct {
	Event  string `json:"event" doc:"The event's id. Give it as includes= to a query that must show its effect, and as after to a command that must sort behind it."`
	Repeat bool   `json:"repeat,omitempty" doc:"The command had been accepted before; nothing was added."`
}

// Event is an event as it is in the log.
type Event struct {
	ID      string    `json:"id"`
	Stream  string    `json:"stream"`
	Type    string    `json:"type"`
	Version int       `json:"version"`
	Actor   string    `json:"actor"`
	Region  string    `json:"region" doc:"The region that accepted it."`
	Data    EventData `json:"data"`
}

// EventData is the payload of an event: an object, by type and version.
type EventData json.RawMessage

// MarshalJSON implements [json.Marshaler].
func (d EventData) MarshalJSON() ([]byte, error) { return d, nil }

// Schema implements [huma.SchemaProvider].
func (EventData) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true, Description: "By type and version. Of a user who was erased, text, name and about are null."}
}

// eventOf gives an event whose content is open, or erased.
func eventOf(e events.Event) Event {
	return Event{
		ID: e.ID.String(), Stream: string(e.Stream), Type: e.Type, Version: e.Version,
		Actor: e.Actor, Region: e.Region, Data: EventData(e.Data),
	}
}
