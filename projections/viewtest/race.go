package viewtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

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

// testLikeModel does the same to the driver and to the model, whatever rapid thinks of, and
// wants the same answers. The rounds share one store: each has partitions of its own.
func testLikeModel(t *testing.T, v projections.Views) {
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		p := pair{driver: v, model: NewModel(), name: fmt.Sprint("round ", round, "/")}
		rt.Repeat(map[string]func(*rapid.T){"get": p.get, "save": p.save, "query": p.query, "delete": p.remove})
	})
}

type pair struct {
	driver, model projections.Views
	name          string
}

var sortKeys = rapid.StringOfN(rapid.SampledFrom([]rune("\x00a/é👍")), 1, 3, -1)

func (p pair) partition(t *rapid.T) string {
	return p.name + rapid.SampledFrom([]string{"a", "a/", "a\x00", "ab"}).Draw(t, "partition")
}

func (p pair) keys(t *rapid.T) []projections.Key {
	return rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) projections.Key {
		return key(p.partition(t), sortKeys.Draw(t, "sort"))
	}), 0, 8, rapid.ID).Draw(t, "keys")
}

func (p pair) get(t *rapid.T) {
	keys := p.keys(t)
	want, _ := p.model.Get(t.Context(), keys...)
	got, err := p.driver.Get(t.Context(), keys...)
	agree(t, got, want, err)
}

func (p pair) save(t *rapid.T) {
	views, err := p.model.Get(t.Context(), p.keys(t)...)
	if err != nil {
		t.Fatal(err)
	}
	for i := range views {
		views[i].Body = []byte(rapid.String().Draw(t, "body"))
		if rapid.IntRange(0, 3).Draw(t, "stale") == 0 {
			views[i].Version = rapid.Int64Range(0, 4).Draw(t, "version")
		}
	}
	want := conflictKeys(t, p.model.Save(t.Context(), views...))
	got := conflictKeys(t, p.driver.Save(t.Context(), views...))
	if !slices.Equal(got, want) {
		t.Fatalf("conflict names %q, want %q", got, want)
	}
}

func (p pair) remove(t *rapid.T) {
	views, err := p.model.Get(t.Context(), p.keys(t)...)
	if err != nil {
		t.Fatal(err)
	}
	for i := range views {
		if rapid.IntRange(0, 3).Draw(t, "stale") == 0 {
			views[i].Version = rapid.Int64Range(0, 4).Draw(t, "version")
		}
	}
	want := conflictKeys(t, p.model.Delete(t.Context(), views...))
	got := conflictKeys(t, p.driver.Delete(t.Context(), views...))
	if !slices.Equal(got, want) {
		t.Fatalf("conflict names %q, want %q", got, want)
	}
}

func (p pair) query(t *rapid.T) {
	partition := p.partition(t)
	r := projections.Range{
		From:    rapid.OneOf(rapid.Just(""), sortKeys).Draw(t, "from"),
		Before:  rapid.OneOf(rapid.Just(""), sortKeys).Draw(t, "before"),
		Reverse: rapid.Bool().Draw(t, "reverse"),
		Limit:   rapid.IntRange(1, 10).Draw(t, "limit"),
	}
	want, _ := p.model.Query(t.Context(), partition, r)
	got, err := p.driver.Query(t.Context(), partition, r)
	agree(t, got, want, err)
}

func agree(t *rapid.T, got, want []projections.View, err error) {
	if err != nil {
		t.Fatal(err)
	}
	if diff := difference(got, want); diff != "" {
		t.Fatal(diff)
	}
}

// conflictKeys returns the keys of a conflict in order, none if all was saved.
func conflictKeys(t *rapid.T, err error) []projections.Key {
	var conflict *projections.ConflictError
	if err != nil && !errors.As(err, &conflict) {
		t.Fatal(err)
	}
	if conflict == nil {
		return nil
	}
	return sorted(conflict.Keys)
}
