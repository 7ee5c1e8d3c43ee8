// Package keystest is the contract of [keys.Store] as a test suite. Every driver passes it.
package keystest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"parley/events/keys"
)

// Run runs the suite. Open returns an empty store. Reopen, unless it is nil, returns the given store as
// after a restart of its process.
func Run(t *testing.T, open func(t *testing.T) keys.Store, reopen func(t *testing.T, s keys.Store) keys.Store) {
	for _, test := range []struct {
		name string
		do   func(t *testing.T, s keys.Store)
	}{
		{"a new store is empty", nothing},
		{"added keys are loaded in the order of ids", added},
		{"Add is idempotent", twice},
		{"users are separate", apart},
		{"Erase is permanent", forGood},
		{"concurrent Add and Erase", race},
		{"Users lists all users once", listed},
		{"a canceled context", ended},
	} {
		t.Run(test.name, func(t *testing.T) { test.do(t, open(t)) })
	}
	if reopen != nil {
		t.Run("keys survive a restart", func(t *testing.T) { outlives(t, open(t), reopen) })
	}
}

// names are user names that a driver may confuse.
var names = []string{"ada", "Ada", "a.d_a-", "...", "erased", strings.Repeat("x", 120), "ad", "adaa", "ad~7C"}

func key(id byte, bytes string) keys.Wrapped {
	return keys.Wrapped{ID: keys.ID{id}, Bytes: []byte(bytes)}
}

func load(t *testing.T, s keys.Store, user string) keys.Keys {
	t.Helper()
	got, err := s.Load(t.Context(), user)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return got
}

func add(t *testing.T, s keys.Store, user string, k keys.Wrapped) {
	t.Helper()
	if err := s.Add(t.Context(), user, k); err != nil {
		t.Fatalf("Add: %v", err)
	}
}

func expect(t *testing.T, s keys.Store, user string, erased bool, want ...keys.Wrapped) {
	t.Helper()
	got := load(t, s, user)
	if got.Erased != erased {
		t.Errorf("erased: got %v, want %v", got.Erased, erased)
	}
	same := func(a, b keys.Wrapped) bool { return a.ID == b.ID && bytes.Equal(a.Bytes, b.Bytes) }
	if !slices.EqualFunc(got.Wrapped, want, same) {
		t.Errorf("got %d keys, want %d, or their contents differ", len(got.Wrapped), len(want))
	}
}

func nothing(t *testing.T, s keys.Store) {
	for _, user := range names {
		expect(t, s, user, false)
	}
}

func added(t *testing.T, s keys.Store) {
	long := key(2, strings.Repeat("\x00\xff", keys.MaxWrapped/2))
	for _, k := range []keys.Wrapped{key(3, "three"), key(1, "one"), long} {
		add(t, s, "ada", k)
	}
	expect(t, s, "ada", false, key(1, "one"), long, key(3, "three"))
}

func twice(t *testing.T, s keys.Store) {
	for range 2 {
		add(t, s, "ada", key(1, "one"))
	}
	expect(t, s, "ada", false, key(1, "one"))
}

func apart(t *testing.T, s keys.Store) {
	for i, user := range names {
		add(t, s, user, key(byte(i), user))
	}
	if err := s.Erase(t.Context(), "ad"); err != nil {
		t.Fatalf("Erase: %v", err)
	}
	for i, user := range names {
		if user == "ad" {
			expect(t, s, user, true)
		} else {
			expect(t, s, user, false, key(byte(i), user))
		}
	}
}

func forGood(t *testing.T, s keys.Store) {
	add(t, s, "ada", key(1, "one"))
	add(t, s, "ada", key(2, "two"))
	for _, user := range []string{"ada", "ada", "never"} { // repeated, and for a user without keys
		if err := s.Erase(t.Context(), user); err != nil {
			t.Fatalf("Erase: %v", err)
		}
		expect(t, s, user, true)
		if err := s.Add(t.Context(), user, key(3, "three")); !errors.Is(err, keys.ErrErased) {
			t.Errorf("Add after Erase: %v, want ErrErased", err)
		}
		if got := load(t, s, user); !got.Erased {
			t.Error("a key added later undid the erasure")
		}
	}
	// A key that was added after the first Erase is destroyed by the second.
	if err := s.Erase(t.Context(), "ada"); err != nil {
		t.Fatalf("Erase: %v", err)
	}
	expect(t, s, "ada", true)
}

// race adds keys while the user is erased. A key may have been added before the erasure and used;
// when all calls have returned and Erase is repeated, no key is left.
func race(t *testing.T, s keys.Store) {
	var work sync.WaitGroup
	for i := range 8 {
		work.Go(func() {
			for j := range 5 {
				err := s.Add(t.Context(), "ada", key(byte(8*j+i), "key"))
				if err != nil && !errors.Is(err, keys.ErrErased) {
					t.Errorf("Add: %v", err)
				}
			}
		})
	}
	work.Go(func() {
		if err := s.Erase(t.Context(), "ada"); err != nil {
			t.Errorf("Erase: %v", err)
		}
	})
	work.Wait()
	if !load(t, s, "ada").Erased {
		t.Error("the user is not erased")
	}
	if err := s.Erase(t.Context(), "ada"); err != nil {
		t.Fatalf("Erase: %v", err)
	}
	expect(t, s, "ada", true)
}

func listed(t *testing.T, s keys.Store) {
	want := slices.Clone(names)
	for i := range 50 { // more than a page
		want = append(want, fmt.Sprintf("user-%d", i))
	}
	for _, user := range want {
		add(t, s, user, key(1, "one"))
		add(t, s, user, key(2, "two"))
	}
	if err := s.Erase(t.Context(), want[0]); err != nil {
		t.Fatalf("Erase: %v", err)
	}
	var got []string
	for user, err := range s.Users(t.Context()) {
		if err != nil {
			t.Fatalf("Users: %v", err)
		}
		got = append(got, user)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %d users, want %d, each once", len(got), len(want))
	}
	for range s.Users(t.Context()) {
		break // the caller may stop early
	}
}

func ended(t *testing.T, s keys.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Add(ctx, "ada", key(1, "one")); !errors.Is(err, context.Canceled) {
		t.Errorf("Add: %v", err)
	}
	if _, err := s.Load(ctx, "ada"); !errors.Is(err, context.Canceled) {
		t.Errorf("Load: %v", err)
	}
	if err := s.Erase(ctx, "ada"); !errors.Is(err, context.Canceled) {
		t.Errorf("Erase: %v", err)
	}
	for _, err := range s.Users(ctx) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Users: %v", err)
		}
	}
	expect(t, s, "ada", false)
}

func outlives(t *testing.T, s keys.Store, reopen func(*testing.T, keys.Store) keys.Store) {
	add(t, s, "ada", key(1, "one"))
	add(t, s, "bob", key(1, "one"))
	if err := s.Erase(t.Context(), "bob"); err != nil {
		t.Fatalf("Erase: %v", err)
	}
	s = reopen(t, s)
	expect(t, s, "ada", false, key(1, "one"))
	expect(t, s, "bob", true)
}
