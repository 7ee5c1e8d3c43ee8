package projections

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"

	"parley/events"
)

// Finding is a view that is not what the log adds up to.
type Finding struct {
	Projection string        `json:"projection"`
	Stream     events.Stream `json:"stream"` // whose events touch it
	Key        Key           `json:"key"`    // in the first generation
	Fault      Fault         `json:"fault"`
	Fields     []string      `json:"fields,omitempty"` // that differ
	Healed     bool          `json:"healed,omitempty"`
}

// Fault is what is wrong with a view.
type Fault string

// The faults of views.
const (
	Missing Fault = "missing" // the log has events for it
	Extra   Fault = "extra"   // no event touches it
	Differs Fault = "differs" // in the fields that are named
	Damaged Fault = "damaged" // cannot be read
)

// difference is a view of which the two generations differ.
type difference struct {
	key         Key // in the first generation
	sides       sides
	live, built View
}

func keysOf(all []difference) []Key {
	keys := make([]Key, len(all))
	for i, d := range all {
		keys[i] = d.key
	}
	return keys
}

// differing returns which of the views, keys of the first generation, differ now.
func (r *Rebuilder) differing(ctx context.Context, keys []Key, two map[string]sides) ([]difference, error) {
	both := make([]Key, 0, 2*len(keys))
	for _, key := range keys {
		s := two[ownerOf(key.Partition)]
		both = append(both, Key{prefix(s.liveNumber) + key.Partition, key.Sort}, Key{prefix(s.builtNumber) + key.Partition, key.Sort})
	}
	got, err := r.views.Get(ctx, both...)
	if err != nil {
		return nil, err
	}
	var all []difference
	for i, key := range keys {
		d := difference{key, two[ownerOf(key.Partition)], got[2*i], got[2*i+1]}
		if !d.sides.same(d.live, d.built) {
			all = append(all, d)
		}
	}
	return all, nil
}

// finding says what is wrong with the live view, the other being right.
func (d difference) finding() Finding {
	f := Finding{
		Projection: d.sides.live.Name(), Stream: d.sides.live.Stream(d.live.Key), Key: d.key, Fault: Differs,
	}
	var live, built map[string]json.RawMessage
	nothing := bodyOf(d.sides.live, View{Key: d.live.Key})
	_, err := d.sides.live.Open(d.live.Key, d.live.Body)
	err = cmp.Or(err, json.Unmarshal(bodyOf(d.sides.live, d.live), &live))
	switch {
	case err != nil:
		f.Fault = Damaged
	case d.live.Version == 0 || bytes.Equal(d.live.Body, nothing):
		f.Fault = Missing
	case d.built.Version == 0 || bytes.Equal(d.built.Body, nothing):
		f.Fault = Extra
	case json.Unmarshal(d.built.Body, &built) == nil:
		for _, name := range slices.Sorted(maps.Keys(merged(live, built))) {
			if !bytes.Equal(live[name], built[name]) {
				f.Fields = append(f.Fields, name)
			}
		}
	}
	return f
}

func merged(a, b map[string]json.RawMessage) map[string]json.RawMessage {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}
