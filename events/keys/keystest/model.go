package keystest

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"

	"parley/events/keys"
)

// Model is the simplest [keys.Store], in memory. It passes the suite.
type Model struct {
	mu    sync.Mutex
	users map[string]keys.Keys
}

var _ keys.Store = (*Model)(nil)

// NewModel returns an empty store.
func NewModel() *Model { return &Model{users: map[string]keys.Keys{}} }

// Load implements [keys.Store].
func (m *Model) Load(ctx context.Context, user string) (keys.Keys, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	got := m.users[user]
	got.Wrapped = slices.Clone(got.Wrapped)
	return got, ctx.Err()
}

// Add implements [keys.Store].
func (m *Model) Add(ctx context.Context, user string, key keys.Wrapped) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	of := m.users[user]
	if of.Erased {
		return fmt.Errorf("add a key: %w", keys.ErrErased)
	}
	byID := func(a, b keys.Wrapped) int { return bytes.Compare(a.ID[:], b.ID[:]) }
	if at, there := slices.BinarySearchFunc(of.Wrapped, key, byID); !there {
		of.Wrapped = slices.Insert(of.Wrapped, at, key)
		m.users[user] = of
	}
	return nil
}

// Erase implements [keys.Store].
func (m *Model) Erase(ctx context.Context, user string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	m.users[user] = keys.Keys{Erased: true}
	return nil
}

// Users implements [keys.Store].
func (m *Model) Users(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		m.mu.Lock()
		users := slices.Sorted(maps.Keys(m.users))
		m.mu.Unlock()
		if err := ctx.Err(); err != nil {
			yield("", err)
			return
		}
		for _, user := range users {
			if !yield(user, nil) {
				return
			}
		}
	}
}
