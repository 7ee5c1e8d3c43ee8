package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"parley/projections"
)

// What a region remembers beside its log lies in one database, told apart by the first byte of
// the key. One write-ahead log holds all of it, so what a crash takes back is a tail: a mark
// that is there has all writes before it there too. That is why none of them is fsynced.
const (
	viewsPrefix = 'v'
	busPrefix   = 'b'
	marksPrefix = 'm'
)

// marks remembers by name how far something has come: how much of the log was handled, how much
// of it another region has.
type marks interface {
	// load returns the mark of a name, "" if there is none.
	load(ctx context.Context, name string) (string, error)
	// save sets a mark. It must come after the writes it stands for, and outlives a crash only if
	// they do. One goroutine at a time sets the mark of a name.
	save(ctx context.Context, name, mark string) error
}

// pebbleMarks are marks beside a region's views.
type pebbleMarks struct{ db *pebble.DB }

func markKey(name string) []byte { return append([]byte{marksPrefix}, name...) }

// load implements marks.
func (m pebbleMarks) load(_ context.Context, name string) (string, error) {
	value, done, err := m.db.Get(markKey(name))
	if errors.Is(err, pebble.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("load the mark %s: %w", name, err)
	}
	defer func() { _ = done.Close() }()
	return string(value), nil
}

// save implements marks.
func (m pebbleMarks) save(_ context.Context, name, mark string) error {
	if err := m.db.Set(markKey(name), []byte(mark), pebble.NoSync); err != nil {
		return fmt.Errorf("save the mark %s: %w", name, err)
	}
	return nil
}

// viewMarks are marks among a region's views: where those outlive this machine, so must they.
type viewMarks struct {
	views projections.Views

	mu       sync.Mutex
	versions map[string]int64 // of the marks that were loaded or saved
}

func newViewMarks(views projections.Views) *viewMarks {
	return &viewMarks{views: views, versions: map[string]int64{}}
}

func viewMarkKey(name string) projections.Key { return projections.Key{Partition: "mark", Sort: name} }

// load implements marks.
func (m *viewMarks) load(ctx context.Context, name string) (string, error) {
	got, err := m.views.Get(ctx, viewMarkKey(name))
	if err != nil {
		return "", fmt.Errorf("load the mark %s: %w", name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.versions[name] = got[0].Version
	return string(got[0].Body), nil
}

// save implements marks. After a failure it may have been saved all the same: then its version
// is not known, and it is loaded before it is saved again.
func (m *viewMarks) save(ctx context.Context, name, mark string) error {
	version, err := m.version(ctx, name)
	if err != nil {
		return err
	}
	err = m.views.Save(ctx, projections.View{Key: viewMarkKey(name), Version: version, Body: []byte(mark)})
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		delete(m.versions, name)
		return fmt.Errorf("save the mark %s: %w", name, err)
	}
	m.versions[name] = version + 1
	return nil
}

func (m *viewMarks) version(ctx context.Context, name string) (int64, error) {
	m.mu.Lock()
	version, known := m.versions[name]
	m.mu.Unlock()
	if known {
		return version, nil
	}
	if _, err := m.load(ctx, name); err != nil {
		return 0, err
	}
	return m.version(ctx, name)
}
