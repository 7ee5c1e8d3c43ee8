package operate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"parley/functions/api"
	"parley/projections"
)

// Drain says that traffic should leave the region.
type Drain struct {
	Drained bool       `json:"drained"`
	By      string     `json:"by,omitempty" doc:"Who changed it last."`
	Since   *time.Time `json:"since,omitempty"`
}

var drainKey = projections.Key{Partition: "ops/region", Sort: "drain"}

// LoadDrain reads whether a region is drained.
func LoadDrain(ctx context.Context, views projections.Views) (Drain, error) {
	d, _, err := loadDrain(ctx, views)
	return d, err
}

func loadDrain(ctx context.Context, views projections.Views) (d Drain, version int64, err error) {
	got, err := views.Get(ctx, drainKey)
	if err != nil || got[0].Version == 0 {
		return d, 0, err
	}
	if err := json.Unmarshal(got[0].Body, &d); err != nil {
		return d, 0, fmt.Errorf("read whether the region is drained: %w", err)
	}
	return d, got[0].Version, nil
}

// saveTries is how often a document is saved that others change at the same time.
const saveTries = 20

// setDrain drains the region, or mends that. Where it is so already nothing changes.
func (h *handlers) setDrain(ctx context.Context, drained bool) (*output[Drain], error) {
	user, now := api.CallerOf(ctx).User, h.Clock.Now().UTC()
	want := Drain{drained, user, &now}
	body, err := json.Marshal(want)
	if err != nil {
		return nil, err
	}
	for range saveTries {
		is, version, err := loadDrain(ctx, h.Views)
		if err != nil {
			return nil, err
		}
		if is.Drained == drained {
			return ok(is), nil
		}
		err = h.Views.Save(ctx, projections.View{Key: drainKey, Version: version, Body: body})
		if conflicted(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		what := map[bool]string{true: "drain", false: "undrain"}[drained]
		return ok(want), h.acts.Append(ctx, user, what, h.Region, "")
	}
	return nil, errBusy
}

// conflicted reports whether another writer was ahead.
func conflicted(err error) bool {
	_, is := errors.AsType[*projections.ConflictError](err)
	return is
}

// errBusy: others change the same thing all the time.
var errBusy error = &api.Problem{
	Status: 503, Code: "busy", Retryable: true,
	Detail: "others change the same thing at the same time; nothing was changed; send it again",
}

type noInput struct{}

func (h *handlers) drain(ctx context.Context, _ *noInput) (*output[Drain], error) {
	return h.setDrain(ctx, true)
}

func (h *handlers) undrain(ctx context.Context, _ *noInput) (*output[Drain], error) {
	return h.setDrain(ctx, false)
}
