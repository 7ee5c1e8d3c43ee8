package wire

import (
	"encoding/json"

	"parley/events"
)

// The frames of a socket, as functions/live/README.md describes them. A client sends an action with
// a ref: a number, or a string of at most 64 bytes, that the answer repeats. The server answers
// with a type.

// Auth gives the token, unless the handshake had it. The answer is [Hello].
type Auth struct {
	Action string          `json:"action"`
	Ref    json.RawMessage `json:"ref,omitempty"`
	Token  string          `json:"token,omitempty"`
}

// Subscribe listens to rooms or, without any, to all of the user's rooms, also those to come. With
// a cursor it catches up first. The answer is [Positions] of the type subscribed.
type Subscribe struct {
	Action string          `json:"action"`
	Ref    json.RawMessage `json:"ref,omitempty"`
	Rooms  []string        `json:"rooms,omitempty"`
	Cursor string          `json:"cursor,omitempty"`
}

// Unsubscribe stops listening to rooms or, without any, to everything. The answer is [Unsubscribed].
type Unsubscribe struct {
	Action string          `json:"action"`
	Ref    json.RawMessage `json:"ref,omitempty"`
	Rooms  []string        `json:"rooms,omitempty"`
}

// Send posts a message, as [NewMessage] does. The answer is [Sent].
type Send struct {
	Action  string          `json:"action"`
	Ref     json.RawMessage `json:"ref,omitempty"`
	Room    string          `json:"room"`
	ID      string          `json:"id,omitempty"` // minted by the client; without it the server mints one
	Text    string          `json:"text"`
	ReplyTo string          `json:"reply_to,omitempty"`
	Thread  string          `json:"thread,omitempty"`
	After   string          `json:"after,omitempty"`
}

// SendTyping says that the user is typing in a room. It is not answered.
type SendTyping struct {
	Action string          `json:"action"`
	Ref    json.RawMessage `json:"ref,omitempty"`
	Room   string          `json:"room"`
}

// CatchUp asks for what happened since a cursor: event frames, and [CaughtUp] behind them.
type CatchUp struct {
	Action string          `json:"action"`
	Ref    json.RawMessage `json:"ref,omitempty"`
	Cursor string          `json:"cursor"`
	Limit  *int            `json:"limit,omitempty"` // 1 to 200 events; 200 if nil
}

// Ping keeps a socket alive. The answer is [Positions] of the type pong.
type Ping struct {
	Action string          `json:"action"`
	Ref    json.RawMessage `json:"ref,omitempty"`
}

// Hello says that the token was accepted.
type Hello struct {
	Type   string          `json:"type"`
	Ref    json.RawMessage `json:"ref,omitempty"`
	Region string          `json:"region"`
	User   string          `json:"user"`
}

// EventFrame is an event. Room is absent if the event is about the user alone, Position where the
// user may not see the rest of the room.
type EventFrame struct {
	Type     string        `json:"type"`
	Room     string        `json:"room,omitempty"`
	Stream   events.Stream `json:"stream"`
	Position uint64        `json:"position,omitempty"`
	Cursor   string        `json:"cursor,omitempty"`  // before Event: the server cuts the frame here
	Partial  bool          `json:"partial,omitempty"` // the event comes without its data
	Event    Event         `json:"event"`
}

// Positions is the answer to [Subscribe], of the type subscribed, or to [Ping], of the type pong.
type Positions struct {
	Type      string            `json:"type"`
	Ref       json.RawMessage   `json:"ref,omitempty"`
	Rooms     []string          `json:"rooms,omitempty"` // in subscribed: those listened to
	Positions map[string]uint64 `json:"positions"`       // the top position of each room listened to
	Own       uint64            `json:"own,omitempty"`   // that of the user's own stream
	Cursor    string            `json:"cursor,omitempty"`
	Part      bool              `json:"part,omitempty"` // more frames of this answer follow
	More      bool              `json:"more,omitempty"`
	Held      bool              `json:"held,omitempty"` // as in [SyncPage]
	Reset     bool              `json:"reset,omitempty"`
	// Incomplete says that the user has more rooms than the socket listens to: only a catch-up has
	// the events of the others. A pong then has no cursor.
	Incomplete bool `json:"incomplete,omitempty"`
}

// Unsubscribed answers [Unsubscribe].
type Unsubscribed struct {
	Type string          `json:"type"`
	Ref  json.RawMessage `json:"ref,omitempty"`
}

// Sent answers [Send] with the message, as PUT …/messages/{id} does.
type Sent struct {
	Type    string          `json:"type"`
	Ref     json.RawMessage `json:"ref,omitempty"`
	Message Message         `json:"message"`
	Repeat  bool            `json:"repeat"`            // it had been posted before
	Partial bool            `json:"partial,omitempty"` // the message comes without its text
}

// CaughtUp ends the answer to [CatchUp]; its fields are those of [SyncPage].
type CaughtUp struct {
	Type   string          `json:"type"`
	Ref    json.RawMessage `json:"ref,omitempty"`
	Cursor string          `json:"cursor"`
	More   bool            `json:"more"`
	Held   bool            `json:"held,omitempty"`
	Reset  bool            `json:"reset"`
}

// Error answers a frame that failed.
type Error struct {
	Type    string          `json:"type"`
	Ref     json.RawMessage `json:"ref,omitempty"`
	Problem *Problem        `json:"problem"`
}

// Typing says that a user is typing in a room.
type Typing struct {
	Type string `json:"type"`
	Room string `json:"room"`
	User string `json:"user"`
}

// Removed says that the user may no longer listen to a room.
type Removed struct {
	Type string `json:"type"`
	Room string `json:"room"`
}

// Bye is the last frame before the server closes the socket.
type Bye struct {
	Type   string `json:"type"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// Frame is a frame of any type as a client reads it: the fields of all frames that a server sends.
// Event is left encoded: the frame of an event that this version cannot read is still a frame.
type Frame struct {
	Type      string            `json:"type"`
	Ref       json.RawMessage   `json:"ref,omitempty"`
	Region    string            `json:"region,omitempty"`
	User      string            `json:"user,omitempty"`
	Room      string            `json:"room,omitempty"`
	Stream    events.Stream     `json:"stream,omitempty"`
	Position  uint64            `json:"position,omitempty"`
	Cursor    string            `json:"cursor,omitempty"`
	Partial   bool              `json:"partial,omitempty"`
	Event     json.RawMessage   `json:"event,omitempty"`
	Rooms     []string          `json:"rooms,omitempty"`
	Positions map[string]uint64 `json:"positions,omitempty"`
	Own       uint64            `json:"own,omitempty"`
	Part      bool              `json:"part,omitempty"`
	More      bool              `json:"more,omitempty"`
	Held      bool              `json:"held,omitempty"`
	Reset     bool              `json:"reset,omitempty"`
	Message   *Message          `json:"message,omitempty"`
	Repeat    bool              `json:"repeat,omitempty"`
	Code      string            `json:"code,omitempty"`
	Detail    string            `json:"detail,omitempty"`
	Problem   *Problem          `json:"problem,omitempty"`

	Incomplete bool `json:"incomplete,omitempty"`
}
