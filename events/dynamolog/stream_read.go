package dynamolog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"
	"github.com/aws/smithy-go"

	"parley/events"
)

// mostRecords is what GetRecords returns at most.
const mostRecords = 1000

// pace is how often a shard is looked at. What has been idle for long is not expected to change
// at once: it is looked at again after an eighth of that time, within bounds, and so seen late by
// an eighth at most.
type pace struct{ shortest, longest time.Duration }

// awsPace is that of Lambda. AWS allows 5 looks a second at one shard.
var awsPace = pace{250 * time.Millisecond, 250 * time.Millisecond}

func (p pace) after(idle time.Duration) time.Duration {
	return min(max(idle/8, p.shortest), p.longest)
}

// cursor is where a shard is read next. An iterator of DynamoDB holds for 15 minutes; it may
// have passed records that were deleted since, so there is more in it than in a place.
type cursor struct {
	at       place // of the shard's member, when the iterator was got
	iterator string
	due      time.Time // not to be looked at earlier
	moved    time.Time // when there was something last
}

// cursor returns the cursor of a member.
func (s *Stream) cursor(m member) *cursor {
	c := s.cursors[m.id]
	if c == nil {
		c = &cursor{at: m.at, moved: time.Now()}
		s.cursors[m.id] = c
	}
	if c.at != m.at {
		c.at, c.iterator = m.at, ""
	}
	return c
}

// look looks once at a shard, and returns what comes next in it if it is there.
func (s *Stream) look(ctx context.Context, m member, limit int) ([]Change, error) {
	c := s.cursor(m)
	now := time.Now()
	c.due = now.Add(s.pace.after(now.Sub(c.moved)))
	out, err := s.fetch(ctx, m, c, limit)
	if err != nil {
		return nil, s.missed(ctx, m, c, err)
	}
	changes, err := s.changes(m, out.Records)
	if err != nil {
		return nil, err
	}
	c.iterator = aws.ToString(out.NextShardIterator)
	if n := len(out.Records); n > 0 {
		sequence := aws.ToString(out.Records[n-1].Dynamodb.SequenceNumber)
		s.state.read(m.id, sequence)
		c.at, c.moved, c.due = place{upTo, sequence}, now, now.Add(s.pace.shortest)
	}
	if out.NextShardIterator == nil {
		s.finish(m.id)
	}
	return changes, nil
}

// fetch gets the next records of a shard.
func (s *Stream) fetch(ctx context.Context, m member, c *cursor, limit int) (*dynamodbstreams.GetRecordsOutput, error) {
	if c.iterator == "" {
		iterator, err := s.iterator(ctx, m)
		if err != nil {
			return nil, err
		}
		c.iterator = iterator
	}
	return s.streams.GetRecords(ctx, &dynamodbstreams.GetRecordsInput{
		ShardIterator: &c.iterator,
		Limit:         aws.Int32(int32(min(limit, mostRecords))),
	})
}

// iterator gets an iterator for what comes after a place. Only one that names a sequence number
// notices that records are gone. A shard of which nothing has been read is asked for the number
// at which it begins; should that not be a number the store takes, for the oldest there is.
func (s *Stream) iterator(ctx context.Context, m member) (string, error) {
	in := &dynamodbstreams.GetShardIteratorInput{
		StreamArn: &s.arn, ShardId: &m.id, ShardIteratorType: types.ShardIteratorTypeTrimHorizon,
	}
	first := s.listing.byID[m.id].first
	switch {
	case m.at.kind == upTo:
		in.ShardIteratorType, in.SequenceNumber = types.ShardIteratorTypeAfterSequenceNumber, &m.at.sequence
	case m.at.kind == atFirst && first != "":
		in.ShardIteratorType, in.SequenceNumber = types.ShardIteratorTypeAtSequenceNumber, &first
	}
	out, err := s.streams.GetShardIterator(ctx, in)
	if isInvalid(err) && in.ShardIteratorType == types.ShardIteratorTypeAtSequenceNumber {
		in.ShardIteratorType, in.SequenceNumber = types.ShardIteratorTypeTrimHorizon, nil
		out, err = s.streams.GetShardIterator(ctx, in)
	}
	if isInvalid(err) {
		return "", fmt.Errorf("%w: it names no record of the stream", ErrCheckpoint)
	}
	if err != nil {
		return "", err
	}
	if aws.ToString(out.ShardIterator) == "" {
		return "", fmt.Errorf("%w: it gives no iterator", events.ErrUnavailable)
	}
	return *out.ShardIterator, nil
}

func isInvalid(err error) bool {
	var refusal smithy.APIError
	return errors.As(err, &refusal) && refusal.ErrorCode() == "ValidationException"
}

// missed says what it means that a look at a shard failed: nothing if it is to be looked at again.
func (s *Stream) missed(ctx context.Context, m member, c *cursor, err error) error {
	var expired *types.ExpiredIteratorException
	var trimmed *types.TrimmedDataAccessException
	var gone *types.ResourceNotFoundException
	switch {
	case errors.Is(err, ErrCheckpoint) || errors.Is(err, events.ErrUnavailable):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &expired):
		c.iterator, c.due = "", time.Now()
		return nil
	case errors.As(err, &trimmed):
		c.iterator = ""
		if m.at.kind == atOldest {
			return nil // it was, when the iterator was made
		}
	case errors.As(err, &gone):
		c.iterator = ""
		if m.at.kind == atOldest {
			s.finish(m.id)
			return nil
		}
	default:
		return readError(ctx, err)
	}
	return s.lost(ctx, m)
}

// lost says that what comes next in a shard is gone, unless the shard turns out to have had
// nothing more.
func (s *Stream) lost(ctx context.Context, m member) error {
	s.listAt = time.Time{}
	if err := s.discover(ctx); err != nil {
		return err
	}
	if !s.state.has(m) {
		return nil
	}
	return s.trimmed(m.id)
}

// finish notes that a shard has nothing more.
func (s *Stream) finish(id string) {
	s.state.finish(id)
	delete(s.cursors, id)
	if !s.listing.followed(id) {
		s.listAt = time.Time{}
		return
	}
	s.state.join(s.listing)
}
