package projections

import (
	"context"
	"errors"
	"fmt"
)

// Key addresses a view: a partition, which is read in ranges, and the view's place in it.
type Key struct {
	Partition string `json:"partition"` // "timeline/<room>"
	Sort      string `json:"sort"`      // "<message id>"
}

// View is a stored document.
type View struct {
	Key     Key
	Version int64  // 0: not stored; else the number of times it was saved
	Body    []byte // what the projection made of the events; must not be changed
}

// Range is a part of a partition. The bounds are compared as bytes.
type Range struct {
	From    string // sort keys not below this
	Before  string // sort keys below this; "" is no bound
	Reverse bool   // the greatest sort key first
	Limit   int    // at most so many views; must be above 0
}

// Views is a region's store of views. Views are regional, can be thrown away, and are rebuilt
// from the log. Every driver passes the suite in viewtest. All methods are safe for concurrent
// use.
type Views interface {
	// Get returns the views of the keys, in their order. One that is not stored has Version 0
	// and no Body. It sees every Save that returned.
	Get(ctx context.Context, keys ...Key) ([]View, error)

	// Save stores each view whose Version is still the stored one, and raises it by one. Views
	// that were changed meanwhile are left alone and named by a [ConflictError]; the others are
	// saved all the same. No key may be given twice. After any other error each of the views may
	// or may not have been saved: load them again.
	Save(ctx context.Context, views ...View) error

	// Query returns the views of a partition within r, in order of their sort keys. It sees
	// every Save that returned.
	Query(ctx context.Context, partition string, r Range) ([]View, error)

	// Delete removes each view whose Version is still the stored one, and passes over what is not
	// stored. Views that were changed meanwhile are left alone and named by a [ConflictError]; the
	// others are removed all the same. No key may be given twice. After any other error each of
	// the views may or may not have been removed: delete them again. A view that is stored anew
	// begins with Version 1 again, so only delete what nobody is folding into.
	Delete(ctx context.Context, views ...View) error

	// Scan goes through the views of all partitions whose names begin with one of the prefixes, of
	// all partitions if there are none. It returns at most limit of them, partition by partition,
	// each in order of its sort keys, and the place behind which the next call goes on: the zero
	// Key begins, and is returned at the end. It reads a bounded amount, so that it may return few
	// views, or none, with more to come. What is stored from the beginning to the end is returned
	// once.
	Scan(ctx context.Context, prefixes []string, after Key, limit int) (views []View, next Key, err error)
}

// ErrUnavailable: the store cannot be reached or refuses for load, and did so for a while; try
// again later. To be tested with errors.Is.
var ErrUnavailable = errors.New("views are unavailable")

// ConflictError names the views that a Save found changed by another writer.
type ConflictError struct{ Keys []Key }

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%d views were changed by another writer", len(e.Keys))
}

// conflicts returns the keys that err says were changed by another writer, or nil.
func conflicts(err error) []Key {
	var conflict *ConflictError
	if errors.As(err, &conflict) {
		return conflict.Keys
	}
	return nil
}
