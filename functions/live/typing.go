package live

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"parley/functions/api"
)

type typingFrame struct {
	Action string          `json:"action"`
	Ref    json.RawMessage `json:"ref"`
	Room   string          `json:"room"`
}

// typing tells the others who listen to a room that somebody is writing there.
func (h *Handler) typing(ctx context.Context, a asked) error {
	var in typingFrame
	if err := api.Unmarshal(a.data, &in); err != nil {
		return err
	}
	room, err := api.ParseRoom("room", in.Room)
	if err != nil {
		return err
	}
	rooms, err := h.Connections.Rooms(ctx, a.ID)
	if err != nil {
		return err
	}
	if !slices.Contains(rooms, room) {
		return api.Fail(http.StatusForbidden, "not_subscribed", "room: subscribe to the room first")
	}
	listeners, err := h.Connections.Listeners(ctx, room)
	if err != nil {
		return err
	}
	frames := map[string][]Frame{}
	f := encode(struct {
		Type string `json:"type"`
		Room string `json:"room"`
		User string `json:"user"`
	}{"typing", room, a.User})
	for _, l := range listeners {
		if l.User != a.User {
			frames[l.Conn] = []Frame{f}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, h.Limits.Push)
	defer cancel()
	h.tell(ctx, frames)
	return nil
}
