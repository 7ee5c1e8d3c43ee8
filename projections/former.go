package projections

import (
	"context"
	"fmt"
)

// journalPartition holds what the release before kept: one row for up to 100 arrivals of any stream, in
// the order of their arrival in the region. Nothing reads or writes it any more.
const journalPartition = "journal"

// DropJournal deletes the journal that the release before kept in a region's views, page by page, and
// returns how many rows it has deleted. A region that has none costs one query. No process of the release
// before may use the views any more: it could not go on without the journal. After an error, or if ctx ends,
// call it again.
func DropJournal(ctx context.Context, views Views) (deleted int64, err error) {
	deleted, _, err = dropJournal(ctx, views, usualSizes.page, func() bool { return false })
	return deleted, err
}

// dropJournal deletes pages of the journal until enough, which is asked behind each page, returns true, and
// reports whether none is left.
func dropJournal(ctx context.Context, views Views, page int, enough func() bool) (deleted int64, done bool, err error) {
	for r := (Range{Limit: page}); ; {
		rows, err := views.Query(ctx, journalPartition, r)
		if err == nil && len(rows) > 0 {
			err = views.Delete(ctx, rows...)
		}
		if err != nil {
			return deleted, false, fmt.Errorf("delete the journal of the release before: %w", err)
		}
		deleted += int64(len(rows))
		if len(rows) < page {
			return deleted, true, nil
		}
		r.From = next(rows[len(rows)-1].Key.Sort)
		if enough() {
			return deleted, false, nil
		}
	}
}
