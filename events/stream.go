package events

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// Record is one entry of a change stream: an event that was inserted into this region's log,
// appended by a client of this region or replicated from another.
//
// What a consumer may assume: all records of one [Stream] are in one shard, in the order in which
// they were inserted, and each comes at least once. What it may not: any order between records of
// different streams, that all records pass through one process, or that a record comes only once.
// So a consumer may split a change stream into lanes by a hash of Event.Stream, see [Part.Holds],
// and work on them side by side.
type Record struct {
	// Event is what was inserted. It never changes.
	Event Event
	// Replica reports that the event came by [Replica.Replicate]. It is false of what Append stored, and
	// of what a global table of DynamoDB replicates by itself.
	Replica bool

	// Sequence identifies the record within its change stream. It is the checkpoint that covers
	// this record and every record, of any shard, that the same [Follower] returned before it.
	Sequence string
	// Number is where the change stream has the record. Of two records of one stream the one that was
	// inserted later has the greater number; a record that is read again has the number it had. A number
	// that is missing, or that goes back, may cost a reader time and nothing else: it must never be a
	// reason to drop an event.
	Number Number
	// At is when the region in Event.Region accepted the event, as well as the driver knows; zero
	// if it does not know at all.
	At time.Time

	// Err says why the record could not be decoded. Then Sequence, Number, At and Raw are all there is, and
	// Event.Stream where it is known; Raw is the record as the driver found it, in JSON.
	Err error
	Raw json.RawMessage
}

// Number is a sequence number of a change stream: a decimal number of up to 40 digits, as DynamoDB has
// them. "" is none, and less than any.
type Number string

// Compare returns -1, 0 or +1 as n is less than, equal to or greater than other.
func (n Number) Compare(other Number) int {
	a, b := strings.TrimLeft(string(n), "0"), strings.TrimLeft(string(other), "0")
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

// Follower reads the change stream of one region's log. A Follower is used by one goroutine at a
// time; any number of Followers read one change stream, independent of each other. Every driver
// passes the suite in logtest.
//
// The change stream has one or more shards, and every stream belongs to one of them. A Follower
// reads all shards and a checkpoint covers them all. Checkpoints are opaque, and stay valid when the
// reader, the process or the store is restarted.
type Follower interface {
	// Next returns records that come after a checkpoint, at most limit; a limit below 1 counts as 1.
	// The checkpoint "" is the beginning of what the change stream still has. If there is none yet,
	// Next returns none, or with wait set it waits for the first until ctx ends.
	//
	// A record that cannot be decoded is returned with Err set; it does not stop the change stream.
	//
	// Errors: [ErrCheckpoint], a [TrimmedError], the error of ctx and, to be retried with the same
	// checkpoint, [ErrThrottled] and [ErrUnavailable]. After an error no record is skipped.
	Next(ctx context.Context, checkpoint string, limit int, wait bool) ([]Record, error)
}

// Replica is one region's log as replication sees it: it plays what a DynamoDB global table does
// by itself.
type Replica interface {
	Follower

	// Snapshot calls do with every event that is in the log when Snapshot is called, in batches and
	// in any order, with Event and, as far as it is known, At. It returns a checkpoint from which the
	// change stream continues: with everything inserted later, and maybe with records of events that
	// do has seen. An error of do ends it and is returned.
	Snapshot(ctx context.Context, do func([]Record) error) (checkpoint string, err error)

	// Replicate inserts events that other regions accepted; it reads Event and At. An event that is there
	// already, by its [Key], stays as it is and does not appear in the change stream again, even where the
	// Region is another. So logs that were given the same records hold the same events, whatever the
	// order, the batches and the duplicates. Replicate returns once everything is durable. After an error some
	// events may be stored; replicating all of them again is always safe. It does not keep the slice.
	Replicate(ctx context.Context, records []Record) error
}

// ErrCheckpoint: the checkpoint is not one of this change stream. It is not a checkpoint at all, it
// belongs to another log, or this log was deleted or restored to an earlier state. Whether to read
// from the beginning instead is up to the caller.
var ErrCheckpoint = errors.New("checkpoint is not one of this change stream")

// TrimmedError says that the change stream may no longer hold all records after a checkpoint:
// DynamoDB trims a record after 24 hours. The events themselves are still in the log. A caller that
// reads the missing ones from there, or can do without them, continues from Resume.
type TrimmedError struct {
	// Resume is the checkpoint before the oldest records that are left; shards that lost nothing
	// continue where they were. It may be "", the beginning.
	Resume string
}

func (e *TrimmedError) Error() string {
	return "change stream was trimmed: records after the checkpoint are missing"
}
