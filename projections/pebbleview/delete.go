package pebbleview

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"parley/projections"
)

// Delete implements [projections.Views]. All views that it removes are gone, and stay so after a
// crash, or are not, together.
func (v *Views) Delete(ctx context.Context, views ...projections.View) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("delete views: %w", err)
	}
	order := ascending(len(views), func(i int) projections.Key { return views[i].Key })
	for i := 1; i < len(order); i++ {
		if views[order[i-1]].Key == views[order[i]].Key {
			return errors.New("delete views: a key was given twice")
		}
	}
	set := v.lockSet(views)
	v.locks.lock(set)
	defer v.locks.unlock(set)

	batch := v.db.NewBatch()
	defer batch.Close()
	var conflict projections.ConflictError
	for _, i := range order {
		view, stored := views[i], int64(0)
		key := appendKey(nil, v.prefix, view.Key)
		if err := v.read(key, func(version int64, _ []byte) { stored = version }); err != nil {
			return readError(view.Key.Partition, err)
		}
		switch stored {
		case 0:
		case view.Version:
			_ = batch.Delete(key, nil) // fails for a closed batch only
		default:
			conflict.Keys = append(conflict.Keys, view.Key)
		}
	}
	if !batch.Empty() {
		err := batch.Commit(pebble.NoSync)
		for _, view := range views {
			v.hot.Remove(view.Key)
		}
		if err != nil {
			return fmt.Errorf("delete views: %w", err)
		}
	}
	if len(conflict.Keys) > 0 {
		return &conflict
	}
	return nil
}
