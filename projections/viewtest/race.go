package viewtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"parley/projections"
)

// increment adds one to the counters of keys, as the engine folds: load, change, save, and again
// for those that another changed meanwhile.
func increment(ctx context.Context, v projections.Views, keys []projections.Key) error {
	for len(keys) > 0 {
		views, err := v.Get(ctx, keys...)
		if err != nil {
			return err
		}
		for i, stored := range views {
			n, _ := strconv.Atoi(string(stored.Body))
			views[i].Body = []byte(strconv.Itoa(n + 1))
		}
		keys = nil
		var conflict *projections.ConflictError
		if err = v.Save(ctx, views...); errors.As(err, &conflict) {
			keys, err = conflict.Keys, nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func testRaceOneView(t *testing.T, v projections.Views) {
	const writers, rounds = 8, 25
	k := key("p", "counter")
	group, ctx := errgroup.WithContext(t.Context())
	for range writers {
		group.Go(func() error {
			for range rounds {
				if err := increment(ctx, v, []projections.Key{k}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	expect(t, "counter", get(t, v, k), []projections.View{view(k, writers*rounds, strconv.Itoa(writers*rounds))})
}

// testRaceManyViews has writers save overlapping sets of views in any order: none may wait for
// another forever, and none may lose an update.
func testRaceManyViews(t *testing.T, v projections.Views) {
	const writers, rounds, counters, each = 8, 10, 40, 20
	keys := make([]projections.Key, counters)
	for i := range keys {
		keys[i] = key(fmt.Sprint("p", i%3), strconv.Itoa(i))
	}
	group, ctx := errgroup.WithContext(t.Context())
	for w := range writers {
		random := rand.New(rand.NewPCG(uint64(w), 0))
		group.Go(func() error {
			for range rounds {
				var some []projections.Key
				for _, i := range random.Perm(counters)[:each] {
					some = append(some, keys[i])
				}
				if err := increment(ctx, v, some); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, counter := range get(t, v, keys...) {
		n, _ := strconv.Atoi(string(counter.Body))
		if int64(n) != counter.Version {
			t.Errorf("a counter stands at %d after %d Saves", n, counter.Version)
		}
		total += n
	}
	if want := writers * rounds * each; total != want {
		t.Errorf("the counters add up to %d, want %d", total, want)
	}
}

// testRaceCreate has writers create the same views at once: each is created by one of them.
func testRaceCreate(t *testing.T, v projections.Views) {
	const writers, views = 8, 50
	var created atomic.Int64
	group, ctx := errgroup.WithContext(t.Context())
	for w := range writers {
		group.Go(func() error {
			var mine []projections.View
			for i := range views {
				mine = append(mine, view(key("p", fmt.Sprintf("%02d", (i+w*7)%views)), 0, strconv.Itoa(w)))
			}
			err := v.Save(ctx, mine...)
			var conflict *projections.ConflictError
			if errors.As(err, &conflict) {
				created.Add(-int64(len(conflict.Keys)))
			} else if err != nil {
				return err
			}
			created.Add(views)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if created.Load() != views {
		t.Errorf("%d of %d views were created", created.Load(), views)
	}
	got := query(t, v, "p", projections.Range{Limit: views + 1})
	if len(got) != views {
		t.Fatalf("found %d views, want %d", len(got), views)
	}
	for _, one := range got {
		if one.Version != 1 {
			t.Errorf("a view was created %d times", one.Version)
		}
	}
}
