package dynamoview_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"parley/events/dynamolocal"
	"parley/events/dynamolocal/dynamotest"
	"parley/projections"
	"parley/projections/dynamoview"
)

const always = 1 << 30

// spoiled returns views whose first calls of an operation, so many, go wrong, and the same
// views with nothing in the way.
func spoiled(t *testing.T, operation string, fault dynamotest.Fault, times int64) (bad, good *dynamoview.Views) {
	t.Helper()
	place := dynamotest.Open(t)
	cfg := createTable(t, place)
	var calls atomic.Int64
	bad = views(dynamotest.Spoil(t, place, func(c dynamotest.Call) dynamotest.Fault {
		if c.Operation == operation && calls.Add(1) <= times {
			return fault
		}
		return dynamotest.None
	}))
	return bad, dynamoview.New(cfg, table)
}

func views(place dynamolocal.Endpoint) *dynamoview.Views {
	return dynamoview.New(place.Config(region), table)
}

// fill saves n views of one partition and returns them as they are stored.
func fill(t *testing.T, v *dynamoview.Views, n int, body string) []projections.View {
	t.Helper()
	stored := make([]projections.View, n)
	for i := range stored {
		stored[i] = projections.View{Key: projections.Key{Partition: "timeline/secret-room", Sort: fmt.Sprintf("secret-%04d", i)}, Body: []byte(body)}
	}
	if err := v.Save(t.Context(), stored...); err != nil {
		t.Fatal(err)
	}
	for i := range stored {
		stored[i].Version = 1
	}
	return stored
}

func keysOf(stored []projections.View) []projections.Key {
	keys := make([]projections.Key, len(stored))
	for i, view := range stored {
		keys[i] = view.Key
	}
	return keys
}

// want fails the test unless the views are stored so.
func want(t *testing.T, v *dynamoview.Views, stored ...projections.View) {
	t.Helper()
	got, err := v.Get(t.Context(), keysOf(stored)...)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, got, stored)
}

func wantSame(t *testing.T, got, want []projections.View) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d views, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i].Key != want[i].Key || got[i].Version != want[i].Version || string(got[i].Body) != string(want[i].Body) {
			t.Fatalf("view %d is %v version %d %.20q, want %v version %d %.20q", i,
				got[i].Key, got[i].Version, got[i].Body, want[i].Key, want[i].Version, want[i].Body)
		}
	}
}

// What each operation answers where all goes well, checked by the call itself.
func operations(t *testing.T) map[string]func(ctx context.Context, v *dynamoview.Views, stored []projections.View) error {
	return map[string]func(context.Context, *dynamoview.Views, []projections.View) error{
		"GetItem": func(ctx context.Context, v *dynamoview.Views, stored []projections.View) error {
			got, err := v.Get(ctx, stored[0].Key)
			if err == nil {
				wantSame(t, got, stored[:1])
			}
			return err
		},
		"BatchGetItem": func(ctx context.Context, v *dynamoview.Views, stored []projections.View) error {
			got, err := v.Get(ctx, keysOf(stored)...)
			if err == nil {
				wantSame(t, got, stored)
			}
			return err
		},
		"Query": func(ctx context.Context, v *dynamoview.Views, stored []projections.View) error {
			got, err := v.Query(ctx, stored[0].Key.Partition, projections.Range{Limit: 10})
			if err == nil {
				wantSame(t, got, stored)
			}
			return err
		},
		"Scan": func(ctx context.Context, v *dynamoview.Views, stored []projections.View) error {
			got, next, err := v.Scan(ctx, []string{"timeline/"}, projections.Key{}, 10)
			if err == nil && next == (projections.Key{}) {
				wantSame(t, got, stored)
			}
			return err
		},
		"PutItem": func(ctx context.Context, v *dynamoview.Views, stored []projections.View) error {
			return v.Save(ctx, stored...)
		},
	}
}

// Nothing is stored by what DynamoDB refuses, fails at or never hears of: it is tried again, and
// given up in the end.
func TestFaults(t *testing.T) {
	for operation, call := range operations(t) {
		for fault, name := range map[dynamotest.Fault]string{dynamotest.Throttle: "Throttle", dynamotest.Fail: "Fail", dynamotest.Drop: "Drop"} {
			t.Run(operation+"/"+name+"/some", func(t *testing.T) {
				t.Parallel()
				bad, good := spoiled(t, operation, fault, 3)
				stored := fill(t, good, 3, "body")
				if err := call(t.Context(), bad, stored); err != nil {
					t.Fatal(err)
				}
				if operation == "PutItem" {
					stored = raised(stored)
				}
				want(t, good, stored...)
			})
			t.Run(operation+"/"+name+"/always", func(t *testing.T) {
				t.Parallel()
				bad, good := spoiled(t, operation, fault, always)
				stored := fill(t, good, 3, "body")
				err := call(t.Context(), bad, stored)
				var conflict *projections.ConflictError
				if err == nil || errors.As(err, &conflict) {
					t.Fatalf("error %v, want one that is no conflict", err)
				}
				if !errors.Is(err, projections.ErrUnavailable) {
					t.Errorf("error %v, want %v", err, projections.ErrUnavailable)
				}
				if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "spoiled by a test") {
					t.Errorf("the error says too much: %v", err)
				}
				want(t, good, stored...)
			})
		}
	}
}

func raised(stored []projections.View) []projections.View {
	stored = slices.Clone(stored)
	for i := range stored {
		stored[i].Version++
	}
	return stored
}

// A Delete that fails is retried. It succeeds if the view is gone.
func TestDeleteFaults(t *testing.T) {
	t.Parallel()
	for fault, name := range map[dynamotest.Fault]string{dynamotest.Throttle: "Throttle", dynamotest.Fail: "Fail", dynamotest.Drop: "Drop", dynamotest.Lose: "Lose"} {
		t.Run(name+"/some", func(t *testing.T) {
			bad, good := spoiled(t, "DeleteItem", fault, 3)
			stored := fill(t, good, 3, "body")
			if err := bad.Delete(t.Context(), stored[:2]...); err != nil {
				t.Fatal(err)
			}
			want(t, good, projections.View{Key: stored[0].Key}, projections.View{Key: stored[1].Key}, stored[2])
		})
		t.Run(name+"/always", func(t *testing.T) {
			bad, good := spoiled(t, "DeleteItem", fault, always)
			stored := fill(t, good, 2, "body")
			err := bad.Delete(t.Context(), stored[0])
			var conflict *projections.ConflictError
			if err == nil || errors.As(err, &conflict) || !errors.Is(err, projections.ErrUnavailable) || strings.Contains(err.Error(), "secret") {
				t.Fatalf("error %v, want one that says no more than %v", err, projections.ErrUnavailable)
			}
			want(t, good, stored[1])
		})
	}
}

// A Save whose answer is lost conflicts with itself. The view was saved once, as loading it again
// shows.
func TestSaveLosesItsAnswer(t *testing.T) {
	t.Parallel()
	bad, good := spoiled(t, "PutItem", dynamotest.Lose, 1)
	key := projections.Key{Partition: "p", Sort: "s"}
	for version := range int64(2) { // the first time its first answer is lost
		err := bad.Save(t.Context(), projections.View{Key: key, Version: version, Body: []byte{'0' + byte(version)}})
		var conflict *projections.ConflictError
		if lost := version == 0; lost != errors.As(err, &conflict) || !lost && err != nil {
			t.Fatalf("Save of version %d: %v", version, err)
		}
		if conflict != nil && !slices.Equal(conflict.Keys, []projections.Key{key}) {
			t.Fatalf("the conflict names %v", conflict.Keys)
		}
		want(t, good, projections.View{Key: key, Version: version + 1, Body: []byte{'0' + byte(version)}})
	}
}

// Where no answer ever comes a Save says that it failed, and was done once all the same.
func TestSaveLosesAllAnswers(t *testing.T) {
	t.Parallel()
	bad, good := spoiled(t, "PutItem", dynamotest.Lose, always)
	stored := projections.View{Key: projections.Key{Partition: "p", Sort: "s"}, Body: []byte("body")}
	err := bad.Save(t.Context(), stored)
	var conflict *projections.ConflictError
	if err == nil || errors.As(err, &conflict) || !errors.Is(err, projections.ErrUnavailable) {
		t.Fatalf("Save: %v, want an error that is no conflict", err)
	}
	stored.Version = 1
	want(t, good, stored)
}

// A call that is given up in the middle says so. What it was doing may have happened.
func TestCancelledMidway(t *testing.T) {
	t.Parallel()
	for operation, call := range operations(t) {
		t.Run(operation, func(t *testing.T) {
			place := dynamotest.Open(t)
			good := dynamoview.New(createTable(t, place), table)
			stored := fill(t, good, 3, "body")
			ctx, cancel := context.WithCancel(t.Context())
			bad := views(dynamotest.Spoil(t, place, func(dynamotest.Call) dynamotest.Fault {
				cancel()
				return dynamotest.Lose
			}))
			if err := call(ctx, bad, stored[:2]); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want %v", err, context.Canceled)
			}
			got, err := good.Get(t.Context(), keysOf(stored)...)
			if err != nil {
				t.Fatal(err)
			}
			for i, view := range got {
				if operation == "PutItem" && view.Version > stored[i].Version && i < 2 {
					stored[i].Version++
				}
			}
			wantSame(t, got, stored)
		})
	}
}

// What a Save was refused for its version does not keep it from saving the others, and the other
// way round.
func TestSaveConflictsBesideFaults(t *testing.T) {
	t.Parallel()
	bad, good := spoiled(t, "PutItem", dynamotest.Throttle, 2)
	stored := fill(t, good, 3, "body")
	stored[1].Version = 7
	var conflict *projections.ConflictError
	if err := bad.Save(t.Context(), stored...); !errors.As(err, &conflict) || !slices.Equal(conflict.Keys, []projections.Key{stored[1].Key}) {
		t.Fatalf("Save: %v, want a conflict over the second view", err)
	}
	stored[0].Version, stored[1].Version, stored[2].Version = 2, 1, 2
	want(t, good, stored...)
}

// What an item cannot hold is refused for good, and the views saved with it may be stored.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	_, v := spoiled(t, "PutItem", dynamotest.None, 0)
	large := projections.View{Key: projections.Key{Partition: "timeline/room", Sort: "large"}, Body: make([]byte, 400<<10)}
	if err := v.Save(t.Context(), large); !errors.Is(err, projections.ErrRefused) || errors.Is(err, projections.ErrUnavailable) {
		t.Fatalf("Save of 400 KB: %v", err)
	}
	large.Body = large.Body[:399<<10]
	if err := v.Save(t.Context(), large); err != nil {
		t.Fatal(err)
	}
}
