package projections

import (
	"context"

	"parley/events"
)

// Beats is the projection of the last beat heard of each region: its frontier.
var Beats Projection = &projection[frontier, *frontier]{
	name:   "beat",
	stream: func(key Key) events.Stream { return events.RegionStream(key.Sort) },
	keys: func(e events.Event) []Key {
		if _, ok := e.Payload.(events.RegionBeat); ok {
			return []Key{{beatPartition, e.Actor}}
		}
		return nil
	},
}

const beatPartition = "beat"

// frontier is the view of a region's last beat.
type frontier struct {
	Beat events.ID `json:"beat"`
}

func (f *frontier) fold(_ Key, e events.Event) {
	if e.ID.Compare(f.Beat) > 0 {
		f.Beat = e.ID
	}
}

// LoadFrontiers reads the last beat heard of each region, this one included. A region that was
// never heard of is missing.
func LoadFrontiers(ctx context.Context, views Views) (map[string]events.ID, error) {
	const regions = 100 // DynamoDB has fewer
	got, err := views.Query(ctx, beatPartition, Range{Limit: regions})
	if err != nil {
		return nil, err
	}
	beats := make(map[string]events.ID, len(got))
	for _, view := range got {
		state, err := decode[frontier](view.Body)
		if err != nil {
			return nil, err
		}
		beats[view.Key.Sort] = state.Beat
	}
	return beats, nil
}
