package dynamolog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"

	"parley/events"
)

// Shards are listed when one ends and its children are not known yet, and every now and then:
// nothing tells of a child that was listed later than its sister. Such a one is rare and waits in
// the log for a day; 10 s are soon enough, and far from AWS's limit of 10 listings a second for
// an account. Where reading waits for a shard to be listed, it is sooner.
const (
	listEvery = 10 * time.Second
	listSoon  = time.Second
)

// lookup finds the table's stream.
func (s *Stream) lookup(ctx context.Context) error {
	out, err := s.tables.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &s.table})
	if err != nil {
		return readError(ctx, err)
	}
	arn := aws.ToString(out.Table.LatestStreamArn)
	if arn == "" {
		return fmt.Errorf("%w: the table has none", events.ErrUnavailable)
	}
	if arn != s.arn {
		s.arn, s.identity = arn, streamIdentity(s.region, arn)
		s.listing, s.started, s.cursors = listing{}, false, map[string]*cursor{}
	}
	return nil
}

// discover lists the shards if it is time to.
func (s *Stream) discover(ctx context.Context) error {
	if time.Now().Before(s.listAt) {
		return nil
	}
	list, status, err := s.list(ctx)
	var none *types.ResourceNotFoundException
	if errors.As(err, &none) {
		return s.ended(ctx)
	}
	if err != nil {
		return err
	}
	s.listing = list
	if err := s.adopt(s.state.join(list)); err != nil {
		return err
	}
	waiting := len(s.orphans) > 0
	readable := s.state.readable()
	if len(readable) == 0 && status == types.StreamStatusDisabled {
		return s.ended(ctx)
	}
	s.listAt = time.Now().Add(listEvery)
	if waiting || len(readable) < len(s.state.members) || len(readable) == 0 {
		s.listAt = time.Now().Add(listSoon)
	}
	return nil
}

// adopt takes in shards that cannot be placed once they are listed for the second time: a
// listing may lack a shard that was made just now, but not for long. One that never had a parent
// is a beginning. Any other had a parent that is gone, and something of it may not have been read.
func (s *Stream) adopt(orphans []listed) error {
	again, seen := s.orphans, make(map[string]bool, len(orphans))
	for _, o := range orphans {
		switch {
		case !again[o.id]:
			seen[o.id] = true
		case o.parent == "":
			s.state.put(o.id, place{kind: atFirst})
		default:
			return s.trimmed("")
		}
	}
	s.orphans = seen
	return nil
}

// trimmed is the error that says so; of which shard, if that is known.
func (s *Stream) trimmed(shard string) error {
	resume := s.state.afterLoss(s.listing, shard)
	if len(resume.members) == 0 {
		return &TrimmedError{}
	}
	return &TrimmedError{Resume: resume.encode(s.identity)}
}

// ended says why there is nothing more to come from the stream, and looks for another.
func (s *Stream) ended(ctx context.Context) error {
	before := s.arn
	s.arn, s.started = "", false
	if err := s.lookup(ctx); err != nil {
		return err
	}
	if s.arn != before {
		return ErrOtherStream
	}
	return fmt.Errorf("%w: it is turned off, and all of it has been read", events.ErrUnavailable)
}

// list lists all shards of the stream, and how it is.
func (s *Stream) list(ctx context.Context) (listing, types.StreamStatus, error) {
	var shards []listed
	in := &dynamodbstreams.DescribeStreamInput{StreamArn: &s.arn}
	for {
		out, err := s.streams.DescribeStream(ctx, in)
		if err != nil {
			return listing{}, "", s.listError(ctx, err)
		}
		for _, shard := range out.StreamDescription.Shards {
			l := listed{id: aws.ToString(shard.ShardId), parent: aws.ToString(shard.ParentShardId)}
			if r := shard.SequenceNumberRange; r != nil {
				l.first, l.last = aws.ToString(r.StartingSequenceNumber), aws.ToString(r.EndingSequenceNumber)
			}
			if !validShard(l.id) {
				return listing{}, "", fmt.Errorf("%w: the id of a shard has an unknown form", events.ErrUnavailable)
			}
			shards = append(shards, l)
		}
		in.ExclusiveStartShardId = out.StreamDescription.LastEvaluatedShardId
		if in.ExclusiveStartShardId == nil {
			return newListing(shards), out.StreamDescription.StreamStatus, nil
		}
	}
}

// listError leaves it to be seen that the stream is not there.
func (s *Stream) listError(ctx context.Context, err error) error {
	var none *types.ResourceNotFoundException
	if errors.As(err, &none) && ctx.Err() == nil {
		return err
	}
	return readError(ctx, err)
}
