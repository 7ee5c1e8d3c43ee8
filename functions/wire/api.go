package wire

import (
	"encoding/json"
	"time"

	"parley/events"
)

// Message is a message as it is now.
type Message struct {
	ID         events.ID           `json:"id"`
	Room       string              `json:"room"`
	Author     string              `json:"author"`
	Text       string              `json:"text" doc:"Empty if deleted, erased or unreadable."`
	SentAt     time.Time           `json:"sent_at" doc:"The time in the id."`
	EditedAt   *time.Time          `json:"edited_at,omitempty"`
	Deleted    bool                `json:"deleted,omitempty"`
	Erased     bool                `json:"erased,omitempty" doc:"Its author was erased: nobody can read it any more."`
	Unreadable bool                `json:"unreadable,omitempty" doc:"Its text cannot be decrypted in this region: the key has not arrived yet, or is damaged. Read it again later."`
	ReplyTo    events.ID           `json:"reply_to,omitzero" doc:"The message it answers."`
	Thread     events.ID           `json:"thread,omitzero" doc:"The message whose thread it is part of."`
	Replies    int                 `json:"replies,omitempty" doc:"Messages in its own thread; 100 stands for 100 or more."`
	Reactions  map[string][]string `json:"reactions" doc:"Users by emoji, first come first."`
	Pinned     bool                `json:"pinned,omitempty"`
	Region     string              `json:"region" doc:"The region that accepted it."`
}

// Room is a room as one of its readers gets it.
type Room struct {
	ID        string      `json:"id"`
	Name      string      `json:"name,omitempty" doc:"Missing in a direct room."`
	Topic     string      `json:"topic,omitempty"`
	Private   bool        `json:"private" doc:"Invisible to all but its members."`
	Archived  bool        `json:"archived,omitempty" doc:"Read-only."`
	Direct    []string    `json:"direct,omitempty" doc:"The two users of a direct room."`
	CreatedBy string      `json:"created_by"`
	CreatedAt time.Time   `json:"created_at"`
	Role      events.Role `json:"role,omitempty" enum:"owner,admin,member" doc:"The caller's role; missing if not a member."`
}

// MyRoom is one of the caller's rooms.
type MyRoom struct {
	Room
	Unread int       `json:"unread" doc:"Messages by others, not deleted, that arrived after your read marker and after you joined last; at most 100."`
	ReadTo events.ID `json:"read_to,omitzero" doc:"Your read marker: messages up to this id are read, apart from those that arrived later."`

	UnreadAtLeast bool `json:"unread_at_least,omitempty" doc:"There may be more unread messages than unread says: counting stopped at 100, or after 1000 messages that do not count."`

	Last *Message `json:"last,omitempty" doc:"The last message."`
}

// Member is a member of a room, or a user who is banned from it or invited to it.
type Member struct {
	User    string      `json:"user"`
	Role    events.Role `json:"role,omitempty" enum:"owner,admin,member" doc:"Missing if banned or invited."`
	Since   time.Time   `json:"since" doc:"When the user joined or, if banned or invited, when that was."`
	Banned  bool        `json:"banned,omitempty"`
	Invited bool        `json:"invited,omitempty" doc:"Not a member until they accept."`
}

// Invitation is a room that the caller is invited to.
type Invitation struct {
	Room    string    `json:"room"`
	Name    string    `json:"name"`
	Topic   string    `json:"topic,omitempty"`
	Private bool      `json:"private"`
	By      string    `json:"by" doc:"The user who invited you."`
	At      time.Time `json:"at"`
}

// Me is who the caller is.
type Me struct {
	User string `json:"user" doc:"Your user id: the claim sub of your token."`
	Mark string `json:"mark" doc:"Bytes 7 to 13 of the 16 of every id that you mint, in hexadecimal." pattern:"^[0-9a-f]{14}$"`
}

// User is a user's profile.
type User struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	About      string `json:"about,omitempty"`
	Erased     bool   `json:"erased,omitempty" doc:"The user was erased: nobody can read what they wrote any more."`
	Unreadable bool   `json:"unreadable,omitempty" doc:"As in Message: name or about cannot be decrypted in this region."`
}

// Event is an event as it is in the log, its content decrypted.
type Event struct {
	ID      events.ID     `json:"id"`
	Stream  events.Stream `json:"stream"`
	Type    string        `json:"type"`
	Version int           `json:"version"`
	Actor   string        `json:"actor"`
	Region  string        `json:"region" doc:"The region that accepted it."`
	Data    EventData     `json:"data,omitempty" required:"true"` // only a frame leaves it out

	Deleted    bool `json:"deleted,omitempty" doc:"The message was deleted since: its text in data is null."`
	Unreadable bool `json:"unreadable,omitempty" doc:"As in Message: what cannot be decrypted in this region is null in data."`
}

// EventData is the payload of an event: a JSON object, by type and version. Of a user who was
// erased, text, name and about are null.
type EventData json.RawMessage

// MarshalJSON implements [json.Marshaler].
func (d EventData) MarshalJSON() ([]byte, error) { return json.RawMessage(d).MarshalJSON() }

// UnmarshalJSON implements [json.Unmarshaler].
func (d *EventData) UnmarshalJSON(text []byte) error {
	return (*json.RawMessage)(d).UnmarshalJSON(text)
}

// Accepted is the answer to a command that has no other: the event it became.
type Accepted struct {
	Event  events.ID `json:"event" doc:"The event's id. Pass it as includes= to a query that must show its effect, and as after to a command that must sort after it."`
	Repeat bool      `json:"repeat,omitempty" doc:"The command had been accepted before; nothing was added."`

	Invited bool `json:"invited,omitempty" doc:"The user is invited, and becomes a member when they accept."`
}

// RoomPage is a page of the caller's rooms.
type RoomPage struct {
	Rooms  []MyRoom `json:"rooms"`
	After  *string  `json:"after" doc:"Pass it as after= to get the next page; null if there is none."`
	Cursor string   `json:"cursor" doc:"For GET /v1/sync, from before this answer was read. Use that of the first page."`

	Invitations []Invitation `json:"invitations,omitempty" doc:"On the first page: rooms you are invited to, the latest first. Accept with PUT of your own membership, decline with DELETE. Of more than 50 that came after it, an invitation is not listed."`
}

// MemberPage is a page of a room's members.
type MemberPage struct {
	Members []Member `json:"members"`
	After   *string  `json:"after" doc:"Pass it as after= to get the next page; null if there is none."`
}

// MessagePage is a page of a room's messages, or of a thread.
type MessagePage struct {
	Messages []Message  `json:"messages" doc:"Oldest first."`
	Before   *events.ID `json:"before" nullable:"true" doc:"Pass it as before= to get the previous page, which may be empty; null if there is none."`
	After    *events.ID `json:"after" nullable:"true" doc:"Pass it as after= to get the next page, which may be empty; null if there is none yet."`
}

// SyncPage is what happened since a cursor.
type SyncPage struct {
	Events []HappenedEvent `json:"events"`
	Cursor string          `json:"cursor" doc:"Continue with this."`
	More   bool            `json:"more" doc:"There is more; call again at once."`
	Held   bool            `json:"held,omitempty" doc:"In a room an event waits for the key of its content, with the rest of the room, for at most 30 seconds: call again in a few."`
	Reset  bool            `json:"reset" doc:"There was no cursor, or one of a former release: load your rooms and messages, then continue with this cursor."`
}

// HappenedEvent is an event and its position in the region that answers.
type HappenedEvent struct {
	Room     string        `json:"room,omitempty" doc:"The room it happened in; absent if it is about you alone."`
	Stream   events.Stream `json:"stream"`
	Position uint64        `json:"position,omitempty" doc:"1, 2, 3 and so on in its stream, in the order of arrival in this region; absent where you may not see the rest."`
	Event    Event         `json:"event"`
}

// NewMessage is the body that posts a message. The ids in it are text: the server says what is
// wrong with one.
type NewMessage struct {
	Text    string `json:"text" doc:"1 to 20000 bytes of UTF-8." minLength:"1" maxLength:"20000"`
	ReplyTo string `json:"reply_to,omitempty" doc:"The message it answers."`
	Thread  string `json:"thread,omitempty" doc:"The message whose thread it belongs to. A thread has one level: for a reply it is the thread that the reply is in."`
	After   string `json:"after,omitempty" doc:"The last event you have seen; the message will sort after it."`
	Author  string `json:"author,omitempty" doc:"Operators only: the user to write for, with ids of that user, as old as need be."`
}

// MessageEdit is the body that replaces the text of a message.
type MessageEdit struct {
	Text string `json:"text" doc:"1 to 20000 bytes of UTF-8." minLength:"1" maxLength:"20000"`
}

// ReadMarker is the body that marks a room as read.
type ReadMarker struct {
	UpTo string `json:"up_to" doc:"The last message you have read."`
}

// UnreadMarker is the body that marks a room as unread.
type UnreadMarker struct {
	From string `json:"from" doc:"The first message that is unread again."`
}

// NewRoom is the body that creates a room.
type NewRoom struct {
	Name    string `json:"name" doc:"1 to 100 characters, on one line." minLength:"1" maxLength:"100"`
	Topic   string `json:"topic,omitempty" doc:"At most 500 characters, on one line." maxLength:"500"`
	Private bool   `json:"private,omitempty" doc:"Invisible to all but its members; they must be added."`
}

// RoomChange is the body that changes a room; nil leaves a field as it is.
type RoomChange struct {
	Name     *string `json:"name,omitempty" doc:"1 to 100 characters, on one line." minLength:"1" maxLength:"100"`
	Topic    *string `json:"topic,omitempty" doc:"At most 500 characters, on one line." maxLength:"500"`
	Private  *bool   `json:"private,omitempty"`
	Archived *bool   `json:"archived,omitempty" doc:"Alone; takes an owner."`
}

// NewMember is the body that makes a user a member of a room, or invites them; it may be missing.
type NewMember struct {
	Role string `json:"role,omitempty" enum:"owner,admin,member" doc:"Member if missing. An invited user becomes a member; give another role afterwards."`
}

// RoleChange is the body that gives a member another role.
type RoleChange struct {
	Role string `json:"role" enum:"owner,admin,member"`
}

// NewProfile is the body that sets a user's profile.
type NewProfile struct {
	Name  string `json:"name" doc:"1 to 100 characters, on one line." minLength:"1" maxLength:"100"`
	About string `json:"about,omitempty" doc:"At most 500 characters, on one line." maxLength:"500"`
}
