package client

import (
	"encoding/json"
	"time"

	"parley/events"
)

// Message is a message as it is now.
type Message struct {
	ID        events.ID           `json:"id"`
	Room      string              `json:"room"`
	Author    string              `json:"author"`
	Text      string              `json:"text"` // empty if deleted
	SentAt    time.Time           `json:"sent_at"`
	EditedAt  *time.Time          `json:"edited_at"`
	Deleted   bool                `json:"deleted"`
	ReplyTo   *events.ID          `json:"reply_to"`
	Thread    *events.ID          `json:"thread"`    // the message whose thread it is part of
	Replies   int                 `json:"replies"`   // in its own thread; 100 stands for 100 or more
	Reactions map[string][]string `json:"reactions"` // users by emoji
	Pinned    bool                `json:"pinned"`
	Region    string              `json:"region"` // that accepted it
}

// Room is one of the user's rooms.
type Room struct {
	ID        string      `json:"id"`
	Name      string      `json:"name"` // empty in a direct room
	Topic     string      `json:"topic"`
	Private   bool        `json:"private"`
	Archived  bool        `json:"archived"`
	Direct    []string    `json:"direct"` // the two users of a direct room
	CreatedBy string      `json:"created_by"`
	CreatedAt time.Time   `json:"created_at"`
	Role      events.Role `json:"role"`    // of the user
	Unread    int         `json:"unread"`  // 100 stands for 100 or more
	ReadTo    *events.ID  `json:"read_to"` // the user's read marker
	Last      *Message    `json:"last"`    // nil if there is none
}

// happened is an event and where it stands in the region that tells it.
type happened struct {
	room     string
	stream   string
	position uint64 // in its stream; 0: not told
	event    events.Event
	partial  bool // it came without its data
	unknown  bool // not even its envelope can be read here: of a newer server
}

// size is what the event takes in memory, in bytes, about.
func (h happened) size() int { return 512 + len(h.event.Data) }

// wireHappened is a [happened] as it comes.
type wireHappened struct {
	Room     string          `json:"room"`
	Stream   string          `json:"stream"`
	Position uint64          `json:"position"`
	Event    json.RawMessage `json:"event"`
	Partial  bool            `json:"partial"`
}

// read decodes it. What a newer server says in a way not known here has an [events.Unreadable]
// payload.
func (w wireHappened) read() happened {
	h := happened{room: w.Room, stream: w.Stream, position: w.Position, partial: w.Partial}
	h.unknown = json.Unmarshal(w.Event, &h.event) != nil
	return h
}

// syncPage is what GET /v1/sync answers.
type syncPage struct {
	Events []wireHappened `json:"events"`
	Cursor string         `json:"cursor"`
	More   bool           `json:"more"`
	Reset  bool           `json:"reset"`
}

// frame is what comes over the socket, of any type.
type frame struct {
	wireHappened
	Type      string            `json:"type"`
	Ref       int               `json:"ref"`
	Region    string            `json:"region"`
	User      string            `json:"user"`
	Positions map[string]uint64 `json:"positions"`
	Own       uint64            `json:"own"`
	Cursor    string            `json:"cursor"`
	More      bool              `json:"more"`
	Reset     bool              `json:"reset"`
	Part      bool              `json:"part"`
	Code      string            `json:"code"`
	Detail    string            `json:"detail"`
	Problem   *Problem          `json:"problem"`
}

// tops gives the positions of a frame by stream.
func (f frame) tops(user string, into map[string]uint64) {
	for room, top := range f.Positions {
		into[string(events.RoomStream(room))] = top
	}
	if f.Own > 0 {
		into[string(events.UserStream(user))] = f.Own
	}
}
