package projections

import (
	"context"
	"errors"
	"fmt"
	"time"

	"parley/events"
)

// Key addresses a view: a partition, which is read in ranges, and the sort key of the view in it.
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
	Stale   bool   // what was saved within the last second may be missing, for half the price on DynamoDB
}

// Views is a region's store of views. Views are regional; they can be deleted and rebuilt from the
// log. Every driver passes the suite in viewtest. All methods are safe for concurrent use.
type Views interface {
	// Get returns the views of the keys, in their order. A view that is not stored has Version 0
	// and no Body. It sees every Save that returned.
	Get(ctx context.Context, keys ...Key) ([]View, error)

	// Save stores each view whose Version is still the stored one, and raises it by one. Views
	// that were changed meanwhile are left as they are and named by a [ConflictError]; the others
	// are saved all the same. No key may be given twice. If the store can never hold one of them, the
	// error is [ErrRefused]. After it, and after any other error, each of the views may or may not have
	// been saved: load them again.
	Save(ctx context.Context, views ...View) error

	// Query returns the views of a partition within r, in order of their sort keys. It sees
	// every Save that returned, except where r allows a stale read.
	Query(ctx context.Context, partition string, r Range) ([]View, error)

	// Delete removes each view whose Version is still the stored one, and skips views that are not
	// stored. Views that were changed meanwhile are left as they are and named by a
	// [ConflictError]; the others are removed all the same. No key may be given twice. After any
	// other error each of the views may or may not have been removed: delete them again. A deleted
	// view that is saved again begins with Version 1, so only delete views that nobody folds into.
	Delete(ctx context.Context, views ...View) error

	// Scan reads the views of all partitions whose names begin with one of the prefixes, of all
	// partitions if there are none. It returns at most limit of them, partition by partition, each
	// in order of its sort keys, and the key to pass to the next call as after: the zero Key
	// begins, and is returned at the end. It reads a bounded amount, so that it may return few
	// views, or none, with more to come. A view that is stored during the whole scan is returned
	// once.
	Scan(ctx context.Context, prefixes []string, after Key, limit int) (views []View, next Key, err error)
}

// ErrUnavailable: the store cannot be reached or is throttled, after retries; try again later. Test
// for it with errors.Is.
var ErrUnavailable = errors.New("views are unavailable")

// ErrRefused: the store refuses a view for good, because of its size for example; saving it again fails
// in the same way. Test for it with errors.Is.
var ErrRefused = errors.New("the store refuses a view")

// ConflictError names the views that a Save or a Delete found changed by another writer.
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

// ErrTooManyConflicts: other writers changed the same views at every attempt.
var ErrTooManyConflicts = errors.New("too many write conflicts")

// conflictRetry is how writers of views retry after a conflict: usually 2 to 3 writers meet.
var conflictRetry = events.Backoff{First: 2 * time.Millisecond, Max: 128 * time.Millisecond, Attempts: 20}

// RetryOnConflict calls write, which loads views, changes them and saves them, and calls it again
// with backoff while it fails with a [ConflictError], up to 20 times. Then the error is
// [ErrTooManyConflicts], which is no ConflictError; otherwise it is the last error of write.
func RetryOnConflict(ctx context.Context, write func() error) error {
	err := conflictRetry.Retry(ctx, func(err error) bool { return conflicts(err) != nil }, write)
	if conflicts(err) != nil {
		return fmt.Errorf("%w: %d attempts failed", ErrTooManyConflicts, conflictRetry.Attempts)
	}
	return err
}
