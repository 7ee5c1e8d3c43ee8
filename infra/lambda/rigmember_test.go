package main

import (
	"fmt"

	"github.com/google/go-cmp/cmp"

	"parley/events"
	"parley/projections"
)

// checkMemberships checks that each user's feed of memberships has what may have changed them, once, those of
// a room in the order of the change stream.
func (r *rig) checkMemberships(log []events.Event) error {
	type feed = map[events.Stream][]events.Ref // of one user, by room
	want := map[string]feed{}
	byKey := map[events.Stream]map[events.Ref]events.Event{}
	for _, e := range log {
		if byKey[e.Stream] == nil {
			byKey[e.Stream] = map[events.Ref]events.Event{}
		}
		byKey[e.Stream][e.Ref()] = e
	}
	for stream, refs := range r.order {
		for _, ref := range refs {
			for _, user := range projections.MembersOf(byKey[stream][ref]) {
				if want[user] == nil {
					want[user] = feed{}
				}
				want[user][stream] = append(want[user][stream], ref)
			}
		}
	}
	for user := range want {
		feeds := projections.FeedsOf(user)
		entries, _, err := projections.ListFeed(r.t.Context(), r.views, feeds[len(feeds)-1], 0, 2*len(log))
		if err != nil {
			return err
		}
		is := feed{}
		for i, e := range entries {
			if e.Position != uint64(i+1) {
				return fmt.Errorf("entry %d of the memberships of %s has position %d", i+1, user, e.Position)
			}
			is[e.Stream] = append(is[e.Stream], e.Ref)
		}
		if diff := cmp.Diff(want[user], is); diff != "" {
			return fmt.Errorf("memberships of %s (-want +got):\n%s", user, diff)
		}
	}
	return nil
}
