package operate

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"parley/events"
	"parley/functions/api"
	"parley/functions/wire"
	"parley/projections"
)

// eraseHandlers erase users.
type eraseHandlers struct{ *handlers }

func (h eraseHandlers) register(a *api.API) {
	command(a, api.Operation{
		ID: "eraseUser", Method: "POST", Path: "/v1/ops/users/{user}/erase", Creates: true,
		Summary: "Make the messages and the profile of a user unreadable, for good",
		Codes:   []int{404},
		Detail: "Appends user.erased. Each region that receives it destroys the user's data keys: from then on their messages and " +
			"profile read as erased, everywhere and in every copy of the log, and every command of theirs is refused. It cannot be " +
			"undone. What is not encrypted stays: names and topics that the user gave rooms, reactions, memberships, and when and where the " +
			"user wrote. With dry_run=true nothing happens: the answer lists those names and topics and, if the user was erased, when and by whom.",
	}, h.eraseUser)
	query(a, api.Operation{
		ID: "getErasure", Method: "GET", Path: "/v1/ops/users/{user}/erasure", Codes: []int{404},
		Summary: "Which regions have destroyed the keys of an erased user, as far as this region knows",
	}, h.getErasure)
}

type erasureInput struct {
	User string `path:"user"`
}

type eraseInput struct {
	User string `path:"user"`
	Key  string `header:"Idempotency-Key" doc:"A ULID you minted, carrying the mark of the user: sent again with it, the command appends one event."`

	DryRun bool `query:"dry_run" doc:"Erase nothing, and list what an erasure would leave readable."`
	Force  bool `query:"force" doc:"Erase a user id that this region does not know: nobody can use it from then on."`
}

func (h eraseHandlers) eraseUser(ctx context.Context, in *eraseInput) (*api.Response[wire.Erasure], error) {
	if err := events.ValidateUser("user", in.User); err != nil {
		return nil, err
	}
	u, err := projections.LoadUser(ctx, h.Views, in.User)
	if err != nil {
		return nil, err
	}
	if u.Erased != (events.ID{}) && !in.DryRun {
		out, err := h.erasure(ctx, in.User, u.Erased, u.ErasedBy)
		return api.OK(out), err
	}
	if err := h.known(ctx, in.User); err != nil && !in.Force {
		return nil, err
	}
	if in.DryRun {
		out, err := h.unsealed(ctx, in.User)
		if err == nil && u.Erased != (events.ID{}) {
			out.Event, out.By = u.Erased.String(), u.ErasedBy
		}
		return api.OK(out), err
	}
	id, err := h.newID(in.User, in.Key)
	if err != nil {
		return nil, err
	}
	by := api.CallerOf(ctx).User
	e, err := events.New(id, events.UserStream(in.User), in.User, h.Region, events.UserErased{By: by})
	if err != nil {
		return nil, err
	}
	_, repeat, err := h.Log.Append(ctx, e)
	if err != nil {
		return nil, err
	}
	if !repeat {
		if err := h.act(ctx, "user.erase", in.User, id.String()); err != nil {
			return nil, err
		}
	}
	out, err := h.erasure(ctx, in.User, id, by)
	return api.Created(repeat, out), err
}

// known refuses a user of whom this region has neither a key nor a room nor an event of their own.
func (h eraseHandlers) known(ctx context.Context, user string) error {
	if known, err := h.Keys.Knows(ctx, user); known || err != nil {
		return err
	}
	if rooms, err := projections.ListRoomsOf(ctx, h.Views, user, "", 1); len(rooms) > 0 || err != nil {
		return err
	}
	own := 0
	for _, err := range h.Log.Read(ctx, events.UserStream(user), events.Range{Limit: 1}) {
		if err != nil {
			return err
		}
		own++
	}
	if own > 0 {
		return nil
	}
	return api.NotYet("user_not_found", "this region knows no such user: check the user id; if the user is new, retry in a moment; force=true erases the id all the same")
}

// maxUnsealed is how many rooms of a user are searched for what the user named.
const maxUnsealed = 1000

// unsealed lists the names and topics that rooms of the user have now and the user gave them.
func (h eraseHandlers) unsealed(ctx context.Context, user string) (wire.Erasure, error) {
	out := wire.Erasure{User: user, Regions: []wire.ErasureRegion{}, Unsealed: []wire.Unsealed{}}
	given, more, err := projections.TextsGiven(ctx, h.Log, h.Views, user, maxUnsealed)
	if err != nil {
		return out, err
	}
	for _, t := range given {
		out.Unsealed = append(out.Unsealed, wire.Unsealed{Room: t.Room, Field: t.Field, Text: t.Text})
	}
	out.MoreUnsealed = more
	return out, h.act(ctx, "user.erase_dry_run", user, strconv.Itoa(len(given))+" names and topics listed")
}

func (h eraseHandlers) getErasure(ctx context.Context, in *erasureInput) (*api.Response[wire.Erasure], error) {
	if err := events.ValidateUser("user", in.User); err != nil {
		return nil, err
	}
	u, err := projections.LoadUser(ctx, h.Views, in.User)
	if err != nil {
		return nil, err
	}
	if u.Erased == (events.ID{}) {
		return nil, errNotErased
	}
	out, err := h.erasure(ctx, in.User, u.Erased, u.ErasedBy)
	return api.OK(out), err
}

var errNotErased = &wire.Problem{
	Status: http.StatusNotFound, Code: "not_erased", Retryable: true,
	Detail: "this region does not know that the user was erased; if it was just done, ask again in a moment",
}

// erasure looks for the acknowledgement of each region.
func (h eraseHandlers) erasure(ctx context.Context, user string, id events.ID, by string) (wire.Erasure, error) {
	out := wire.Erasure{User: user, Event: id.String(), By: by, Regions: []wire.ErasureRegion{}}
	frontiers, err := projections.LoadFrontiers(ctx, h.Views)
	if err != nil {
		return out, err
	}
	frontiers[h.Region] = events.ID{}
	erased := events.Event{ID: id, Actor: user}
	acts := map[string]events.Key{}
	keys := make([]events.Key, 0, 2*len(frontiers))
	for region := range frontiers {
		act, err := events.Destroyed(erased, region)
		if err != nil {
			return out, err
		}
		acts[region] = act.Key()
		keys = append(keys, acts[region], bareKey(acts[region]))
	}
	found, err := h.Log.GetMany(ctx, keys)
	if err != nil {
		return out, err
	}
	for _, region := range slices.Sorted(maps.Keys(frontiers)) {
		_, acknowledged := found[acts[region]]
		if !acknowledged {
			_, acknowledged = found[bareKey(acts[region])]
		}
		out.Regions = append(out.Regions, wire.ErasureRegion{Region: region, Acknowledged: acknowledged})
	}
	return out, nil
}

// bareKey is the key under which a release that stored events under their ids alone stored this one.
func bareKey(key events.Key) events.Key { return events.Key{Stream: key.Stream, ID: key.ID} }
