package dynamolog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"

	"parley/events"
)

// ChangeReader is an [events.Replica] that reads the change stream of the event table.
//
// It reads shards as DynamoDB's documentation requires: a shard to its end, then its children. An event
// stream is one partition key and so in one shard at a time; its records come in order.
type ChangeReader struct {
	log     *Log
	table   string
	region  string
	tables  *dynamodb.Client
	streams *dynamodbstreams.Client
	pace    pace

	// The stream, once it was looked up.
	arn      string
	identity string
	listing  listing
	listAt   time.Time       // when the shards are listed next; zero: at once
	orphans  map[string]bool // of the last listing

	// The position in it.
	at      string // the checkpoint of state
	state   frontier
	started bool // state is the frontier of at, in this stream
	cursors map[string]*cursor
	before  string          // the checkpoint before batch
	batch   []events.Record // the last batch that was read
	readAt  time.Time       // when batch was read: later records were written after it
}

// ReaderOption is a setting of [NewChangeReader].
type ReaderOption func(*ChangeReader)

// PollEvery sets the longest time between two reads of an idle stream. Just after a change it is read
// every millisecond, then less and less often. It is for a stream on this machine: AWS allows 5 reads
// a second of one shard by all readers together. Without this option a ChangeReader makes 4 of them,
// as Lambda does.
func PollEvery(longest time.Duration) ReaderOption {
	return func(r *ChangeReader) { r.pace = pace{min(time.Millisecond, longest), longest} }
}

// NewChangeReader returns a reader of the table's change stream, in the region of cfg. It makes no
// call. The SDK retries failed calls as cfg says, by default twice.
func NewChangeReader(cfg aws.Config, table string, options ...ReaderOption) *ChangeReader {
	log := New(cfg, table)
	r := &ChangeReader{
		log: log, table: table, region: cfg.Region, tables: log.client, pace: awsPace, cursors: map[string]*cursor{},
		streams: dynamodbstreams.NewFromConfig(cfg, func(o *dynamodbstreams.Options) {
			if c, ok := o.HTTPClient.(*awshttp.BuildableClient); ok && c.GetTimeout() == 0 {
				o.HTTPClient = c.WithTimeout(readTimeout)
			}
		}),
	}
	for _, o := range options {
		o(r)
	}
	return r
}

// readTimeout bounds one attempt to read from a stream, which returns at most 1 MB.
const readTimeout = 10 * time.Second

// Next implements [events.Follower]. It returns at most 1,000 records. The checkpoint of any record of
// the last batch is cheap: it needs no lookup. A further error is [ErrOtherStream].
//
// At is an estimate: the time of the event's id, but not before the last read. The id has the time at
// which its client created it; the stream of DynamoDB Local has the time of the write to the minute.
func (r *ChangeReader) Next(ctx context.Context, checkpoint string, limit int, wait bool) ([]events.Record, error) {
	records, err := r.next(ctx, checkpoint, max(limit, 1), wait)
	if err != nil {
		return nil, fmt.Errorf("read change stream of the event table: %w", err)
	}
	return records, nil
}

// Snapshot implements [events.Replica]. It scans the table; records have no At. It returns the beginning
// of the change stream, which is up to a day ago.
func (r *ChangeReader) Snapshot(ctx context.Context, do func([]events.Record) error) (string, error) {
	batch := make([]events.Record, 0, mostRecords)
	for e, err := range r.log.Scan(ctx, events.Part{Of: 1}, events.Key{}) {
		if err != nil {
			return "", err
		}
		if batch = append(batch, events.Record{Event: e}); len(batch) < mostRecords {
			continue
		}
		if err := do(batch); err != nil {
			return "", err
		}
		batch = make([]events.Record, 0, mostRecords)
	}
	if len(batch) == 0 {
		return "", nil
	}
	return "", do(batch)
}

// Replicate implements [events.Replica], as [Log.Replicate] does.
func (r *ChangeReader) Replicate(ctx context.Context, records []events.Record) error {
	return r.log.Replicate(ctx, records)
}

func (r *ChangeReader) next(ctx context.Context, checkpoint string, limit int, wait bool) ([]events.Record, error) {
	if rest := r.restOfBatch(checkpoint); len(rest) > 0 {
		return slices.Clone(rest[:min(limit, len(rest))]), nil
	}
	if err := r.start(ctx, checkpoint); err != nil {
		return nil, err
	}
	for {
		if err := r.discover(ctx); err != nil {
			return nil, err
		}
		records, err := r.poll(ctx, limit)
		if err != nil {
			return nil, err
		}
		if len(records) > 0 {
			r.estimateTimes(records)
			r.before, r.batch, r.at = r.at, records, records[len(records)-1].Sequence
			return slices.Clone(records), nil
		}
		if !wait {
			return nil, nil
		}
		if err := events.Sleep(ctx, time.Until(r.nextPoll())); err != nil {
			return nil, err
		}
	}
}

// estimateTimes sets At of newly read records.
func (r *ChangeReader) estimateTimes(records []events.Record) {
	now := time.Now()
	for i := range records {
		at := records[i].Event.ID.Timestamp()
		if at.Before(r.readAt) {
			at = r.readAt
		}
		if at.After(now) {
			at = now
		}
		records[i].At = at
	}
	r.readAt = now
}

// restOfBatch returns the records of the last batch that come after a checkpoint.
func (r *ChangeReader) restOfBatch(checkpoint string) []events.Record {
	if checkpoint == r.at || len(r.batch) == 0 {
		return nil
	}
	if checkpoint == r.before {
		return r.batch
	}
	i := slices.IndexFunc(r.batch, func(record events.Record) bool { return record.Sequence == checkpoint })
	if i < 0 {
		return nil
	}
	return r.batch[i+1:]
}

// start sets state to the frontier of a checkpoint.
func (r *ChangeReader) start(ctx context.Context, checkpoint string) error {
	if r.started && checkpoint == r.at {
		return nil
	}
	if r.arn == "" {
		if err := r.lookup(ctx); err != nil {
			return err
		}
	}
	state, err := r.decode(checkpoint)
	if errors.Is(err, ErrOtherStream) { // the table may have a new stream
		if err := r.lookup(ctx); err != nil {
			return err
		}
		state, err = r.decode(checkpoint)
	}
	if err != nil {
		return err
	}
	r.state, r.at, r.started = state, checkpoint, true
	r.batch, r.orphans, r.listAt = nil, nil, time.Time{}
	return nil
}

func (r *ChangeReader) decode(checkpoint string) (frontier, error) {
	if checkpoint == "" {
		return frontier{}, nil
	}
	return decodeFrontier(checkpoint, r.identity)
}

// poll reads once from each shard that is readable and due, in order, until one has records.
func (r *ChangeReader) poll(ctx context.Context, limit int) ([]events.Record, error) {
	for _, m := range r.state.readable() {
		if !r.state.has(m) || time.Until(r.cursor(m).due) > 0 { // it may have changed by reading another
			continue
		}
		records, err := r.readShard(ctx, m, limit)
		if err != nil || len(records) > 0 {
			return records, err
		}
	}
	return nil, nil
}

// nextPoll returns when a shard or the listing is due next.
func (r *ChangeReader) nextPoll() time.Time {
	due := r.listAt
	for _, m := range r.state.readable() {
		if at := r.cursor(m).due; at.Before(due) {
			due = at
		}
	}
	return due
}

// mostRecords is the most records that GetRecords returns.
const mostRecords = 1000

// pace bounds how often a shard is read. A shard that has been idle is read again after an eighth of
// its idle time, within the bounds: the longer it was idle, the later a change may be seen.
type pace struct{ shortest, longest time.Duration }

// awsPace is that of Lambda. AWS allows 5 reads a second of one shard.
var awsPace = pace{250 * time.Millisecond, 250 * time.Millisecond}

func (p pace) after(idle time.Duration) time.Duration {
	return min(max(idle/8, p.shortest), p.longest)
}

// cursor is where a shard is read next. An iterator of DynamoDB is valid for 15 minutes. It may have
// passed records that were trimmed since, so it cannot be replaced by a place.
type cursor struct {
	at       place // the member's place that the iterator continues from
	iterator string
	due      time.Time // when it is read next
	moved    time.Time // when it last had records
}

// cursor returns the cursor of a member.
func (r *ChangeReader) cursor(m member) *cursor {
	c := r.cursors[m.id]
	if c == nil {
		c = &cursor{at: m.at, moved: time.Now()}
		r.cursors[m.id] = c
	}
	if c.at != m.at {
		c.at, c.iterator = m.at, ""
	}
	return c
}

// readShard reads a shard once and returns its next records, nil if there are none yet.
func (r *ChangeReader) readShard(ctx context.Context, m member, limit int) ([]events.Record, error) {
	c := r.cursor(m)
	now := time.Now()
	c.due = now.Add(r.pace.after(now.Sub(c.moved)))
	out, err := r.fetch(ctx, m, c, limit)
	if err != nil {
		return nil, r.readFailed(ctx, m, c, err)
	}
	records, err := r.records(m, out.Records)
	if err != nil {
		return nil, err
	}
	c.iterator = aws.ToString(out.NextShardIterator)
	if n := len(out.Records); n > 0 {
		sequence := aws.ToString(out.Records[n-1].Dynamodb.SequenceNumber)
		r.state.read(m.id, sequence)
		c.at, c.moved, c.due = place{upTo, sequence}, now, now.Add(r.pace.shortest)
	}
	if out.NextShardIterator == nil {
		r.finish(m.id)
	}
	return records, nil
}

// fetch calls GetRecords for the next records of a shard.
func (r *ChangeReader) fetch(ctx context.Context, m member, c *cursor, limit int) (*dynamodbstreams.GetRecordsOutput, error) {
	if c.iterator == "" {
		iterator, err := r.iterator(ctx, m)
		if err != nil {
			return nil, err
		}
		c.iterator = iterator
	}
	return r.streams.GetRecords(ctx, &dynamodbstreams.GetRecordsInput{
		ShardIterator: &c.iterator,
		Limit:         aws.Int32(int32(min(limit, mostRecords))),
	})
}

// iterator returns an iterator for the records after a member's place. Only an iterator with a sequence
// number detects trimmed records, so a shard that was not read yet is read from its first number. If
// DynamoDB rejects that number, it is read from its oldest record.
func (r *ChangeReader) iterator(ctx context.Context, m member) (string, error) {
	in := &dynamodbstreams.GetShardIteratorInput{
		StreamArn: &r.arn, ShardId: &m.id, ShardIteratorType: types.ShardIteratorTypeTrimHorizon,
	}
	first := r.listing.byID[m.id].first
	switch {
	case m.at.kind == upTo:
		in.ShardIteratorType, in.SequenceNumber = types.ShardIteratorTypeAfterSequenceNumber, &m.at.sequence
	case m.at.kind == atFirst && first != "":
		in.ShardIteratorType, in.SequenceNumber = types.ShardIteratorTypeAtSequenceNumber, &first
	}
	out, err := r.streams.GetShardIterator(ctx, in)
	if isInvalid(err) && in.ShardIteratorType == types.ShardIteratorTypeAtSequenceNumber {
		in.ShardIteratorType, in.SequenceNumber = types.ShardIteratorTypeTrimHorizon, nil
		out, err = r.streams.GetShardIterator(ctx, in)
	}
	if isInvalid(err) {
		return "", fmt.Errorf("%w: it refers to no record of the stream", events.ErrCheckpoint)
	}
	if err != nil {
		return "", err
	}
	if aws.ToString(out.ShardIterator) == "" {
		return "", fmt.Errorf("%w: DynamoDB returned no iterator", events.ErrUnavailable)
	}
	return *out.ShardIterator, nil
}

// readFailed handles the error of reading a shard. It returns nil if the shard is to be read again.
func (r *ChangeReader) readFailed(ctx context.Context, m member, c *cursor, err error) error {
	var expired *types.ExpiredIteratorException
	var trimmed *types.TrimmedDataAccessException
	var gone *types.ResourceNotFoundException
	switch {
	case errors.Is(err, events.ErrCheckpoint) || errors.Is(err, events.ErrUnavailable):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &expired):
		c.iterator, c.due = "", time.Now()
		return nil
	case errors.As(err, &trimmed):
		c.iterator = ""
		if m.at.kind == atOldest {
			return nil // it was the oldest when the iterator was created
		}
	case errors.As(err, &gone):
		c.iterator = ""
		if m.at.kind == atOldest {
			r.finish(m.id)
			return nil
		}
	default:
		return readError(ctx, err)
	}
	return r.checkLoss(ctx, m)
}

// checkLoss returns a [events.TrimmedError] if the next records of a shard were trimmed. A new listing
// may show that the shard had no more.
func (r *ChangeReader) checkLoss(ctx context.Context, m member) error {
	r.listAt = time.Time{}
	if err := r.discover(ctx); err != nil {
		return err
	}
	if !r.state.has(m) {
		return nil
	}
	return r.trimmed(m.id)
}

// finish sets that a shard has no more records.
func (r *ChangeReader) finish(id string) {
	r.state.finish(id)
	delete(r.cursors, id)
	if !r.listing.followed(id) {
		r.listAt = time.Time{}
		return
	}
	r.state.join(r.listing)
}
