package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"golang.org/x/sync/errgroup"

	"parley/events"
	"parley/functions/api"
	"parley/projections"
)

const (
	// subscribeTries is how often it is tried again to subscribe because rooms were taken meanwhile.
	subscribeTries = 5
	// checksAtOnce is how many rooms are looked up at the same time.
	checksAtOnce = 32
	// roomsAFrame is how many rooms, and their positions, surely fit into a frame.
	roomsAFrame = 300
	// pageOfRooms is how many rooms of a user are read at a time.
	pageOfRooms = 200
)

type subscribeFrame struct {
	Action string          `json:"action"`
	Ref    json.RawMessage `json:"ref"`
	Rooms  []string        `json:"rooms"`
	Cursor string          `json:"cursor"`
}

// positionsFrame is subscribed or pong, or a part of one.
type positionsFrame struct {
	Type      string            `json:"type"`
	Ref       ref               `json:"ref,omitempty"`
	Rooms     []string          `json:"rooms,omitempty"`
	Positions map[string]uint64 `json:"positions"`
	Own       uint64            `json:"own,omitempty"`
	Cursor    string            `json:"cursor,omitempty"`
	Part      bool              `json:"part,omitempty"`
	More      bool              `json:"more,omitempty"`
	Reset     bool              `json:"reset,omitempty"`
}

func (h *Handler) syncer() projections.Syncer {
	return projections.Syncer{Region: h.Region, Log: h.Log, Views: h.Views}
}

// here is a cursor for now.
func (h *Handler) here(ctx context.Context, user string) (string, error) {
	place, err := h.syncer().Here(ctx)
	if err != nil {
		return "", err
	}
	return h.Cursors.Encode(user, place), nil
}

func (h *Handler) subscribe(ctx context.Context, a asked) error {
	var in subscribeFrame
	err := api.Unmarshal(a.data, &in)
	if err == nil && in.Rooms != nil && len(in.Rooms) == 0 {
		err = &api.FieldError{Field: "rooms", Reason: "must name a room; leave it out to listen to all of yours"}
	}
	if err == nil && in.Cursor != "" {
		_, err = h.Cursors.Decode("cursor", a.User, in.Cursor)
	}
	if err != nil {
		return err
	}
	answer := positionsFrame{Type: "subscribed", Ref: a.ref}
	// Before anything is listened to: what comes meanwhile is told twice rather than not at all.
	if answer.Cursor, err = h.here(ctx, a.User); err != nil {
		return err
	}
	if in.Rooms == nil {
		answer.Rooms, err = h.listenToAll(ctx, a.Connection)
		a.All = true
	} else {
		answer.Rooms, err = h.listenTo(ctx, a.Connection, in.Rooms)
	}
	if err != nil {
		return err
	}
	if in.Cursor != "" {
		page, err := h.tellSince(ctx, a, in.Cursor, pagesAtSubscribe)
		if err != nil {
			return err
		}
		answer.Cursor, answer.More, answer.Reset = page.Cursor, page.More, page.Reset
	}
	return h.postPositions(ctx, a, answer)
}

// listenTo makes a connection listen to some rooms, if its user is a member of each, and returns
// their ids.
func (h *Handler) listenTo(ctx context.Context, c Connection, names []string) ([]string, error) {
	if len(names) > h.Limits.Rooms {
		return nil, h.tooManyRooms()
	}
	rooms := make([]string, len(names))
	for i, name := range names {
		var err error
		if rooms[i], err = api.ParseRoom(fmt.Sprintf("rooms[%d]", i), name); err != nil {
			return nil, err
		}
	}
	slices.Sort(rooms)
	rooms = slices.Compact(rooms)
	listening, err := h.Connections.Rooms(ctx, c.ID)
	if err != nil {
		return nil, err
	}
	added := slices.DeleteFunc(slices.Clone(rooms), func(room string) bool { return slices.Contains(listening, room) })
	if len(listening)+len(added) > h.Limits.Rooms {
		return nil, h.tooManyRooms()
	}
	return rooms, h.again(ctx, c, func(c Connection) error {
		group, checking := errgroup.WithContext(ctx)
		group.SetLimit(checksAtOnce)
		for _, room := range rooms {
			group.Go(func() error {
				access, err := api.See(checking, h.known, h.Views, room, c.User)
				if err != nil {
					return err
				}
				return access.As(events.RoleMember)
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		return h.Connections.Subscribe(ctx, c.ID, c.Revision, false, rooms...)
	})
}

func (h *Handler) tooManyRooms() error {
	return api.Fail(http.StatusUnprocessableEntity, "too_many_rooms",
		fmt.Sprintf("a socket may listen to %d rooms; name those that matter, or open another", h.Limits.Rooms))
}

// listenToAll makes a connection listen to all rooms of its user, and returns them. First it
// listens to those to come, then to those there are: so none comes in between.
func (h *Handler) listenToAll(ctx context.Context, c Connection) (rooms []string, err error) {
	err = h.again(ctx, c, func(c Connection) error {
		if err := h.Connections.Subscribe(ctx, c.ID, c.Revision, true); err != nil {
			return err
		}
		rooms = rooms[:0]
		for after := ""; ; {
			page, err := projections.ListRoomsOf(ctx, h.Views, c.User, after, pageOfRooms)
			if err != nil {
				return err
			}
			for _, m := range page {
				if after = m.Room; m.In {
					rooms = append(rooms, m.Room)
				}
			}
			if len(rooms) > h.Limits.Rooms {
				return h.tooManyRooms()
			}
			if len(page) < pageOfRooms {
				break
			}
		}
		return h.Connections.Subscribe(ctx, c.ID, c.Revision, true, rooms...)
	})
	return rooms, err
}

// again does something with a connection, again if rooms were taken from it meanwhile.
func (h *Handler) again(ctx context.Context, c Connection, do func(Connection) error) error {
	for tries := 1; ; tries++ {
		err := do(c)
		if errors.Is(err, ErrChanged) && tries < subscribeTries {
			if c, err = h.Connections.Get(ctx, c.ID); err == nil {
				continue
			}
		}
		if errors.Is(err, ErrGone) {
			return errOver
		}
		return err
	}
}

type unsubscribeFrame struct {
	Action string          `json:"action"`
	Ref    json.RawMessage `json:"ref"`
	Rooms  []string        `json:"rooms"`
}

type plainFrame struct {
	Type string `json:"type"`
	Ref  ref    `json:"ref,omitempty"`
}

func (h *Handler) unsubscribe(ctx context.Context, a asked) error {
	var in unsubscribeFrame
	if err := api.Unmarshal(a.data, &in); err != nil {
		return err
	}
	if in.Rooms == nil {
		if err := h.Connections.UnsubscribeAll(ctx, a.ID); err != nil {
			return err
		}
		return h.post(ctx, a.ID, encode(plainFrame{"unsubscribed", a.ref}))
	}
	rooms := make([]string, len(in.Rooms))
	for i, name := range in.Rooms {
		var err error
		if rooms[i], err = api.ParseRoom(fmt.Sprintf("rooms[%d]", i), name); err != nil {
			return err
		}
	}
	if err := h.Connections.Unsubscribe(ctx, a.ID, rooms...); err != nil {
		return err
	}
	return h.post(ctx, a.ID, encode(plainFrame{"unsubscribed", a.ref}))
}

func (h *Handler) ping(ctx context.Context, a asked) error {
	var in struct {
		Action string          `json:"action"`
		Ref    json.RawMessage `json:"ref"`
	}
	if err := api.Unmarshal(a.data, &in); err != nil {
		return err
	}
	cursor, err := h.here(ctx, a.User) // before the positions: nothing up to it is beyond them
	if err != nil {
		return err
	}
	rooms, err := h.Connections.Rooms(ctx, a.ID)
	if err != nil {
		return err
	}
	return h.postPositions(ctx, a, positionsFrame{Type: "pong", Ref: a.ref, Cursor: cursor}, rooms...)
}

// postPositions completes a frame with the top positions of its rooms, and of others, and sends it,
// in parts if it has many.
func (h *Handler) postPositions(ctx context.Context, a asked, f positionsFrame, others ...string) error {
	rooms := append(slices.Clone(f.Rooms), others...)
	streams := make([]events.Stream, 0, len(rooms)+1)
	for _, room := range rooms {
		streams = append(streams, events.RoomStream(room))
	}
	if a.All {
		streams = append(streams, events.UserStream(a.User))
	}
	tops, err := projections.LoadTops(ctx, h.Views, streams...)
	if err != nil {
		return err
	}
	if a.All {
		f.Own = tops[len(rooms)]
	}
	named := len(f.Rooms) > 0
	for {
		n := min(len(rooms), roomsAFrame)
		part := positionsFrame{Type: f.Type, Ref: f.Ref, Part: true}
		if n == len(rooms) {
			part = f
		}
		part.Rooms, part.Positions = nil, map[string]uint64{}
		if named {
			part.Rooms = rooms[:n]
		}
		for i, room := range rooms[:n] {
			part.Positions[room] = tops[i]
		}
		if err := h.post(ctx, a.ID, encode(part)); err != nil || !part.Part {
			return err
		}
		rooms, tops = rooms[n:], tops[n:]
	}
}
