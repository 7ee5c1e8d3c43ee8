package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"parley/projections"
)

// The prefixes of keys in a region's database: it holds the views, the bus and the checkpoints. They
// share one write-ahead log, of which a crash loses only the end. So a checkpoint that survives is
// preceded by all earlier writes, and none of them needs an fsync.
const (
	viewsPrefix       = 'v'
	busPrefix         = 'b'
	checkpointsPrefix = 'm'
)

// checkpoints stores checkpoints by name: how much of the log was handled, or replicated to another
// region.
type checkpoints interface {
	// load returns the checkpoint of a name, "" if there is none.
	load(ctx context.Context, name string) (string, error)
	// save sets a checkpoint. It must be called after the writes that it covers, and survives a crash
	// only if they do. One goroutine at a time sets the checkpoint of a name.
	save(ctx context.Context, name, checkpoint string) error
}

// pebbleCheckpoints are checkpoints beside a region's views.
type pebbleCheckpoints struct{ db *pebble.DB }

func checkpointKey(name string) []byte { return append([]byte{checkpointsPrefix}, name...) }

// load implements checkpoints.
func (m pebbleCheckpoints) load(_ context.Context, name string) (string, error) {
	value, done, err := m.db.Get(checkpointKey(name))
	if errors.Is(err, pebble.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("load checkpoint %q: %w", name, err)
	}
	defer func() { _ = done.Close() }()
	return string(value), nil
}

// save implements checkpoints.
func (m pebbleCheckpoints) save(_ context.Context, name, checkpoint string) error {
	if err := m.db.Set(checkpointKey(name), []byte(checkpoint), pebble.NoSync); err != nil {
		return fmt.Errorf("save checkpoint %q: %w", name, err)
	}
	return nil
}

// viewCheckpoints are checkpoints among a region's views, so that both are in the same store.
type viewCheckpoints struct {
	views projections.Views

	mu       sync.Mutex
	versions map[string]int64 // by name, of checkpoints that were loaded or saved
}

func newViewCheckpoints(views projections.Views) *viewCheckpoints {
	return &viewCheckpoints{views: views, versions: map[string]int64{}}
}

func viewCheckpointKey(name string) projections.Key {
	return projections.Key{Partition: "mark", Sort: name}
}

// load implements checkpoints.
func (m *viewCheckpoints) load(ctx context.Context, name string) (string, error) {
	got, err := m.views.Get(ctx, viewCheckpointKey(name))
	if err != nil {
		return "", fmt.Errorf("load checkpoint %q: %w", name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.versions[name] = got[0].Version
	return string(got[0].Body), nil
}

// save implements checkpoints. A save that failed may have been stored: its version is unknown then, and
// it is loaded before it is saved again.
func (m *viewCheckpoints) save(ctx context.Context, name, checkpoint string) error {
	version, err := m.version(ctx, name)
	if err != nil {
		return err
	}
	err = m.views.Save(ctx, projections.View{Key: viewCheckpointKey(name), Version: version, Body: []byte(checkpoint)})
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		delete(m.versions, name)
		return fmt.Errorf("save checkpoint %q: %w", name, err)
	}
	m.versions[name] = version + 1
	return nil
}

func (m *viewCheckpoints) version(ctx context.Context, name string) (int64, error) {
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
