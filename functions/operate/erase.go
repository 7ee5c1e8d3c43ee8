package operate

import (
	"context"
	"maps"
	"net/http"
	"slices"

	"parley/events"
	"parley/functions/api"
	"parley/projections"
)

func (h *handlers) registerErase(a *api.API) {
	command(a, api.Operation{
		ID: "eraseUser", Method: "POST", Path: "/v1/ops/users/{user}/erase", Creates: true,
		Summary: "Make all that a user ever wrote unreadable, for good",
		Detail: "Appends user.erased. Each region that hears of it destroys the user's data keys: from then on her messages and " +
			"profile read as erased, everywhere and in every copy of the log. It cannot be undone.",
	}, h.eraseUser)
	query(a, api.Operation{
		ID: "getErasure", Method: "GET", Path: "/v1/ops/users/{user}/erasure", Codes: []int{404},
		Summary: "Which regions have destroyed the keys of a user who was erased, as far as this region has heard",
	}, h.getErasure)
}

// Erasure is what has become of a user's erasure.
type Erasure struct {
	User    string          `json:"user"`
	Event   string          `json:"event" doc:"The event user.erased; its id says when."`
	By      string          `json:"by" doc:"The operator who did it."`
	Regions []ErasureRegion `json:"regions" doc:"All that this region has ever heard a beat of."`
}

// ErasureRegion is what has become of it in one region.
type ErasureRegion struct {
	Region       string `json:"region"`
	Acknowledged bool   `json:"acknowledged" doc:"Her keys are destroyed there."`
}

type erasureInput struct {
	User string `path:"user"`
}

type eraseInput struct {
	User string `path:"user"`
	Key  string `header:"Idempotency-Key" doc:"A ULID you minted, carrying the mark of the user: sent again under it, one event is appended."`
}

func (h *handlers) eraseUser(ctx context.Context, in *eraseInput) (*output[Erasure], error) {
	if err := events.ValidateUser("user", in.User); err != nil {
		return nil, err
	}
	u, err := projections.LoadUser(ctx, h.Views, in.User)
	if err != nil {
		return nil, err
	}
	if u.Erased != (events.ID{}) {
		out, err := h.erasure(ctx, in.User, u.Erased, u.ErasedBy)
		return ok(out), err
	}
	id, err := h.jobID(in.User, in.Key)
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
		if err := h.acts.Append(ctx, by, "user.erase", in.User, id.String()); err != nil {
			return nil, err
		}
	}
	out, err := h.erasure(ctx, in.User, id, by)
	return created(repeat, out), err
}

func (h *handlers) getErasure(ctx context.Context, in *erasureInput) (*output[Erasure], error) {
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
	return ok(out), err
}

var errNotErased = &api.Problem{
	Status: http.StatusNotFound, Code: "not_erased", Retryable: true,
	Detail: "this region has not heard that the user was erased; just erased, it takes a moment",
}

// erasure looks for the acknowledgement of each region.
func (h *handlers) erasure(ctx context.Context, user string, id events.ID, by string) (Erasure, error) {
	out := Erasure{User: user, Event: id.String(), By: by, Regions: []ErasureRegion{}}
	frontiers, err := projections.LoadFrontiers(ctx, h.Views)
	if err != nil {
		return out, err
	}
	frontiers[h.Region] = events.ID{}
	erased := events.Event{ID: id, Actor: user}
	acts := map[string]events.Key{}
	keys := make([]events.Key, 0, len(frontiers))
	for region := range frontiers {
		act, err := events.Destroyed(erased, region)
		if err != nil {
			return out, err
		}
		acts[region] = events.Key{Stream: act.Stream, ID: act.ID}
		keys = append(keys, acts[region])
	}
	found, err := h.Log.GetMany(ctx, keys)
	if err != nil {
		return out, err
	}
	for _, region := range slices.Sorted(maps.Keys(frontiers)) {
		_, acknowledged := found[acts[region]]
		out.Regions = append(out.Regions, ErasureRegion{region, acknowledged})
	}
	return out, nil
}
