package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/events"
	"parley/projections"
)

// follower is a user who joins rooms at their beginning, stays, and catches up again and again while the
// processes work.
type follower struct {
	*rig
	user   string
	rng    *rand.Rand
	joined map[events.Stream]events.ID // since when, by room
	cursor projections.Cursor
	got    map[events.Stream][]events.Event
	pages  int
}

// follow makes followers and returns their joins. The first is in more rooms than a cursor has places for,
// and catches up at the end only.
func (r *rig) follow(rooms []*rigRoom) (joins []events.Event) {
	for i := range 4 {
		f := &follower{
			rig: r, user: fmt.Sprint("follower-", i), rng: rand.New(rand.NewPCG(r.seed, 1<<33+uint64(i))),
			joined: map[events.Stream]events.ID{}, got: map[events.Stream][]events.Event{},
		}
		for j, room := range rooms {
			if i > 0 && j%max(4, len(rooms)/20) != i {
				continue
			}
			join := r.event(f.user, room.stream, events.MemberJoined{User: f.user, Role: events.RoleMember})
			f.joined[room.stream] = join.ID
			joins = append(joins, join)
		}
		var err error
		if f.cursor, err = r.syncer().Current(r.t.Context(), f.user); err != nil {
			r.t.Fatal(err)
		}
		r.followers = append(r.followers, f)
	}
	return joins
}

func (r *rig) syncer() projections.Syncer {
	return projections.Syncer{Region: inRegion, Log: r.log, Views: r.views}
}

// followAll lets the followers catch up every now and then until done is closed.
func (r *rig) followAll(done <-chan struct{}) error {
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for {
		select {
		case <-done:
			return nil
		case <-look.C:
		}
		for _, f := range r.followers[1:] {
			if err := f.catchUp(); err != nil {
				return err
			}
		}
	}
}

// catchUp reads all that is new, in pages of any size.
func (f *follower) catchUp() error {
	for {
		page, err := f.syncer().Since(f.t.Context(), f.user, f.cursor, 1+f.rng.IntN(500))
		if err != nil {
			return fmt.Errorf("catch up: %w", err)
		}
		f.pages++
		f.cursor = page.Cursor
		for _, h := range page.Events {
			f.got[h.Event.Stream] = append(f.got[h.Event.Stream], h.Event)
		}
		if !page.More {
			return nil
		}
	}
}

// check checks that the follower got every event of the own stream and every one of the rooms that sorts
// after the join, in the order of the feeds. In more rooms than a cursor has places for, events may come
// again.
func (f *follower) check() error {
	for stream := range f.got {
		if _, mine := f.joined[stream]; !mine && stream != events.UserStream(f.user) {
			return fmt.Errorf("%s gets events of %s", f.user, stream)
		}
	}
	for _, stream := range append(slices.Collect(maps.Keys(f.joined)), events.UserStream(f.user)) {
		var is, want []string
		got := f.got[stream]
		if len(f.joined) > projections.MaxPlaces {
			seen := map[events.Ref]bool{}
			got = slices.DeleteFunc(slices.Clone(got), func(e events.Event) bool {
				again := seen[e.Ref()]
				seen[e.Ref()] = true
				return again
			})
		}
		since := f.joined[stream]
		for _, e := range got {
			if e.ID.Compare(since) >= 0 {
				is = append(is, e.Ref().String())
			}
		}
		for _, ref := range f.order[stream] {
			if ref.ID.Compare(since) >= 0 {
				want = append(want, ref.String())
			}
		}
		if diff := cmp.Diff(want, is); diff != "" {
			return fmt.Errorf("%s gets of %s, joined with %s (-want +got):\n%s", f.user, stream, since, diff)
		}
	}
	return nil
}
