package live

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/events"
	"parley/functions/api"
	"parley/functions/wire"
	"parley/projections"
)

const (
	// subscribeTries is how often a subscription is tried while rooms are taken from the connection.
	subscribeTries = 5
	// checksAtOnce is how many memberships are read at the same time.
	checksAtOnce = 32
	// roomsPerFrame is how many rooms, with their positions, fit into a frame.
	roomsPerFrame = 300
	// writesPerRoom is what it costs to listen to a room, or to stop, in reads of the user's quota.
	writesPerRoom = 2
	// rowsOfUser bounds the rooms of a user that are read, those included that the user has left.
	rowsOfUser = 10_000
)

func (h *Handler) syncer() projections.Syncer {
	return projections.Syncer{Region: h.Region, Log: h.Log, Views: h.Views, Keys: h.Keys, Now: h.Now}
}

// subscribe makes a connection listen to rooms, and catches up if there is a cursor.
func (h *Handler) subscribe(ctx context.Context, r request) error {
	var in wire.Subscribe
	err := api.Unmarshal(r.data, &in)
	if err == nil && in.Rooms != nil && len(in.Rooms) == 0 {
		err = &wire.FieldError{Field: "rooms", Reason: "must name at least one room; leave the field out to listen to all of yours"}
	}
	if err == nil && in.Cursor != "" {
		_, err = h.Cursors.Decode("cursor", r.User, in.Cursor)
	}
	if err != nil {
		return err
	}
	answer := wire.Positions{Type: "subscribed", Ref: r.ref}
	var at heads
	if in.Rooms == nil {
		at, answer.Incomplete, err = h.listenToAll(ctx, r.Connection)
		r.All = true
	} else {
		at, err = h.listenTo(ctx, r.Connection, in.Rooms)
	}
	if err != nil {
		return err
	}
	answer.Rooms = at.rooms
	api.Spend(ctx, writesPerRoom*len(at.rooms))
	if answer.Cursor, err = h.cursorOf(ctx, r.User, at); err != nil {
		return err
	}
	if in.Cursor != "" {
		page, err := h.sendSince(ctx, r, in.Cursor, pagesAtSubscribe)
		if err != nil {
			return err
		}
		answer.Cursor, answer.More, answer.Held, answer.Reset = page.Cursor, page.More, page.Held, page.Reset
	}
	return h.postPositions(ctx, r, answer, at)
}

// heads are the heads of rooms' feeds, and of their user's, at a time or later.
type heads struct {
	at    time.Time
	rooms []string
	feeds []events.Stream // of the rooms, and then of the user
	heads []projections.Head
}

// loadHeads reads the heads of rooms' feeds. Do so before anything is listened to: what comes meanwhile is
// delivered twice rather than not at all.
func (h *Handler) loadHeads(ctx context.Context, user string, rooms []string) (heads, error) {
	at := heads{at: h.Now(), rooms: rooms, feeds: projections.FeedsOf(user, rooms...)}
	var err error
	at.heads, err = projections.LoadHeads(ctx, h.Views, at.feeds...)
	return at, err
}

// cursorOf returns the cursor behind heads.
func (h *Handler) cursorOf(ctx context.Context, user string, at heads) (string, error) {
	place, err := h.syncer().Behind(ctx, at.at, at.feeds, at.heads)
	if err != nil {
		return "", err
	}
	return h.Cursors.Encode(user, place), nil
}

// listenTo subscribes a connection to rooms, if its user is a member of each, and returns their
// heads.
func (h *Handler) listenTo(ctx context.Context, c Connection, names []string) (at heads, err error) {
	if len(names) > h.Limits.Rooms {
		return at, h.tooManyRooms()
	}
	rooms := make([]string, len(names))
	for i, name := range names {
		if rooms[i], err = api.ParseRoom(fmt.Sprintf("rooms[%d]", i), name); err != nil {
			return at, err
		}
	}
	slices.Sort(rooms)
	rooms = slices.Compact(rooms)
	listening, err := h.Connections.Rooms(ctx, c.ID)
	if err != nil {
		return at, err
	}
	added := slices.DeleteFunc(slices.Clone(rooms), func(room string) bool { return slices.Contains(listening, room) })
	if len(listening)+len(added) > h.Limits.Rooms {
		return at, h.tooManyRooms()
	}
	return at, h.retryChanged(ctx, c, func(c Connection) error {
		group, checking := errgroup.WithContext(ctx)
		group.SetLimit(checksAtOnce)
		for _, room := range rooms {
			group.Go(func() error {
				access, err := api.See(checking, h.known, h.Views, room, c.User)
				if err != nil {
					return err
				}
				return access.RequireRole(events.RoleMember)
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		if at, err = h.loadHeads(ctx, c.User, rooms); err != nil {
			return err
		}
		return h.Connections.Subscribe(ctx, c.ID, c.Revision, false, rooms...)
	})
}

func (h *Handler) tooManyRooms() error {
	return api.Fail(http.StatusUnprocessableEntity, "too_many_rooms",
		fmt.Sprintf("a socket may listen to at most %d rooms; pass an explicit rooms list, or open another socket", h.Limits.Rooms))
}

// otherRooms stands among the rooms of a connection for those of its user that it does not listen to.
const otherRooms = "…"

// listenToAll subscribes a connection to all rooms of its user, and returns their heads: of more than
// Limits.Rooms, those that the user has joined last, and direct rooms only behind these, because
// anybody can open one with the user. Incomplete says that there are more. It begins with the rooms
// that the user joins from now on, so that none falls between.
func (h *Handler) listenToAll(ctx context.Context, c Connection) (at heads, incomplete bool, err error) {
	err = h.retryChanged(ctx, c, func(c Connection) error {
		if err := h.Connections.Subscribe(ctx, c.ID, c.Revision, true); err != nil {
			return err
		}
		var joined, direct []projections.Member
		more, err := projections.EachRoomOf(ctx, h.Views, c.User, "", rowsOfUser, func(m projections.Member) bool {
			switch {
			case !m.In:
			case events.IsDirect(m.Room):
				direct = append(direct, m)
			default:
				joined = append(joined, m)
			}
			return true
		})
		if err != nil {
			return err
		}
		latestFirst := func(a, b projections.Member) int { return b.Since.Compare(a.Since) }
		slices.SortFunc(joined, latestFirst)
		slices.SortFunc(direct, latestFirst)
		all := append(joined, direct...)
		incomplete = more != "" || len(all) > h.Limits.Rooms
		var rooms []string
		for _, m := range all[:min(len(all), h.Limits.Rooms)] {
			rooms = append(rooms, m.Room)
		}
		slices.Sort(rooms)
		if at, err = h.loadHeads(ctx, c.User, rooms); err != nil {
			return err
		}
		if incomplete {
			return h.Connections.Subscribe(ctx, c.ID, c.Revision, true, append(slices.Clone(rooms), otherRooms)...)
		}
		return h.Connections.Subscribe(ctx, c.ID, c.Revision, true, rooms...)
	})
	return at, incomplete, err
}

// retryChanged does something with a connection, and retries if rooms were taken from it meanwhile.
func (h *Handler) retryChanged(ctx context.Context, c Connection, do func(Connection) error) error {
	for tries := 1; ; tries++ {
		err := do(c)
		if errors.Is(err, ErrChanged) && tries < subscribeTries {
			if c, err = h.Connections.Get(ctx, c.ID); err == nil {
				continue
			}
		}
		if errors.Is(err, ErrGone) {
			return errClosed
		}
		return err
	}
}

// unsubscribe stops listening to rooms.
func (h *Handler) unsubscribe(ctx context.Context, r request) error {
	var in wire.Unsubscribe
	if err := api.Unmarshal(r.data, &in); err != nil {
		return err
	}
	if in.Rooms == nil {
		rooms, err := h.Connections.Rooms(ctx, r.ID)
		if err != nil {
			return err
		}
		api.Spend(ctx, writesPerRoom*len(rooms))
		if err := h.Connections.UnsubscribeAll(ctx, r.ID); err != nil {
			return err
		}
		return h.post(ctx, r.ID, encode(wire.Unsubscribed{Type: "unsubscribed", Ref: r.ref}))
	}
	rooms := make([]string, len(in.Rooms))
	for i, name := range in.Rooms {
		var err error
		if rooms[i], err = api.ParseRoom(fmt.Sprintf("rooms[%d]", i), name); err != nil {
			return err
		}
	}
	api.Spend(ctx, writesPerRoom*len(rooms))
	if err := h.Connections.Unsubscribe(ctx, r.ID, rooms...); err != nil {
		return err
	}
	return h.post(ctx, r.ID, encode(wire.Unsubscribed{Type: "unsubscribed", Ref: r.ref}))
}

// postPositions adds the positions of heads to an answer, and sends it: in parts if there are many.
func (h *Handler) postPositions(ctx context.Context, r request, f wire.Positions, at heads) error {
	rooms, tops := at.rooms, at.heads
	if r.All {
		f.Own = tops[len(rooms)].Position
	}
	named := len(f.Rooms) > 0
	for {
		n := min(len(rooms), roomsPerFrame)
		part := wire.Positions{Type: f.Type, Ref: f.Ref, Part: true}
		if n == len(rooms) {
			part = f
		}
		part.Rooms, part.Positions = nil, map[string]uint64{}
		if named {
			part.Rooms = rooms[:n]
		}
		for i, room := range rooms[:n] {
			part.Positions[room] = tops[i].Position
		}
		if err := h.post(ctx, r.ID, encode(part)); err != nil || !part.Part {
			return err
		}
		rooms, tops = rooms[n:], tops[n:]
	}
}
