package live

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// Memory is [Connections] in memory, for a region that is one process: its sockets end with it. Make
// one with [NewMemory].
type Memory struct {
	mu          sync.RWMutex
	connections map[string]*stored
	rooms       map[string]map[string]*stored // those that listen to a room
	users       map[string]map[string]*stored // those of a user
}

var _ Connections = (*Memory)(nil)

type stored struct {
	Connection
	rooms map[string]bool
}

// NewMemory returns a Memory without connections.
func NewMemory() *Memory {
	return &Memory{
		connections: map[string]*stored{},
		rooms:       map[string]map[string]*stored{},
		users:       map[string]map[string]*stored{},
	}
}

// Put implements [Connections].
func (m *Memory) Put(_ context.Context, c Connection) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.delete(c.ID)
	r := &stored{c, map[string]bool{}}
	m.connections[c.ID] = r
	if c.User != "" {
		link(m.users, c.User, r)
	}
	return nil
}

func link(index map[string]map[string]*stored, name string, r *stored) {
	if index[name] == nil {
		index[name] = map[string]*stored{}
	}
	index[name][r.ID] = r
}

func unlink(index map[string]map[string]*stored, name string, r *stored) {
	if delete(index[name], r.ID); len(index[name]) == 0 {
		delete(index, name)
	}
}

// Get implements [Connections].
func (m *Memory) Get(_ context.Context, conn string) (Connection, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	r := m.connections[conn]
	if r == nil {
		return Connection{}, ErrGone
	}
	return r.Connection, nil
}

// Touch implements [Connections].
func (m *Memory) Touch(_ context.Context, conn string, at time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.connections[conn]; r != nil && r.Seen.Before(at) {
		r.Seen = at
	}
	return nil
}

// Delete implements [Connections].
func (m *Memory) Delete(_ context.Context, conn string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.delete(conn)
	return nil
}

func (m *Memory) delete(conn string) {
	r := m.connections[conn]
	if r == nil {
		return
	}
	delete(m.connections, conn)
	unlink(m.users, r.User, r)
	for room := range r.rooms {
		unlink(m.rooms, room, r)
	}
}

// Subscribe implements [Connections].
func (m *Memory) Subscribe(_ context.Context, conn string, revision uint64, all bool, rooms ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.connections[conn]
	switch {
	case r == nil:
		return ErrGone
	case r.Revision != revision:
		return ErrChanged
	}
	r.All = r.All || all
	for _, room := range rooms {
		r.rooms[room] = true
		link(m.rooms, room, r)
	}
	return nil
}

// Unsubscribe implements [Connections].
func (m *Memory) Unsubscribe(_ context.Context, conn string, rooms ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.connections[conn]; r != nil {
		m.removeRooms(r, rooms)
	}
	return nil
}

func (m *Memory) removeRooms(r *stored, rooms []string) {
	r.Revision++
	for _, room := range rooms {
		delete(r.rooms, room)
		unlink(m.rooms, room, r)
	}
}

// UnsubscribeAll implements [Connections].
func (m *Memory) UnsubscribeAll(_ context.Context, conn string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.connections[conn]; r != nil {
		r.All = false
		m.removeRooms(r, slices.Collect(maps.Keys(r.rooms)))
	}
	return nil
}

// Rooms implements [Connections].
func (m *Memory) Rooms(_ context.Context, conn string) ([]string, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if r := m.connections[conn]; r != nil {
		return slices.Collect(maps.Keys(r.rooms)), nil
	}
	return nil, nil
}

// Listeners implements [Connections].
func (m *Memory) Listeners(_ context.Context, room string) ([]Listener, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	listeners := make([]Listener, 0, len(m.rooms[room]))
	for _, r := range m.rooms[room] {
		listeners = append(listeners, Listener{r.ID, r.User, r.Expires})
	}
	return listeners, nil
}

// Of implements [Connections].
func (m *Memory) Of(_ context.Context, user string) ([]Connection, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var connections []Connection
	for _, r := range m.users[user] {
		connections = append(connections, r.Connection)
	}
	return connections, nil
}
