package viewtest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"parley/projections"
)

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
