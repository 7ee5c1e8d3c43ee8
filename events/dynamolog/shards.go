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

// Shards are listed when one ends and its children are not known yet, and periodically, because a
// child may be listed later than its sibling. That is rare, and its records are kept for a day: 10 s
// are soon enough, and far from AWS's limit of 10 listings a second for an account. While a shard
// must be listed before reading continues, they are listed every second.
const (
	listEvery = 10 * time.Second
	listSoon  = time.Second
)

// lookup finds the table's current stream.
func (r *ChangeReader) lookup(ctx context.Context) error {
	out, err := r.tables.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &r.table})
	if err != nil {
		return readError(ctx, err)
	}
	arn := aws.ToString(out.Table.LatestStreamArn)
	if arn == "" {
		return fmt.Errorf("%w: the table has no stream", events.ErrUnavailable)
	}
	if arn != r.arn {
		r.arn, r.identity = arn, streamIdentity(r.region, arn)
		r.listing, r.started, r.cursors = listing{}, false, map[string]*cursor{}
	}
	return nil
}

// discover lists the shards if the listing is due.
func (r *ChangeReader) discover(ctx context.Context) error {
	if time.Now().Before(r.listAt) {
		return nil
	}
	list, status, err := r.list(ctx)
	var none *types.ResourceNotFoundException
	if errors.As(err, &none) {
		return r.ended(ctx)
	}
	if err != nil {
		return err
	}
	r.listing = list
	if err := r.adopt(r.state.join(list)); err != nil {
		return err
	}
	waiting := len(r.orphans) > 0
	readable := r.state.readable()
	if len(readable) == 0 && status == types.StreamStatusDisabled {
		return r.ended(ctx)
	}
	r.listAt = time.Now().Add(listEvery)
	if waiting || len(readable) < len(r.state.members) || len(readable) == 0 {
		r.listAt = time.Now().Add(listSoon)
	}
	return nil
}

// adopt handles orphans that are listed for the second time: a listing may lack a new shard, but not
// for long. An orphan that never had a parent becomes a member. Any other had a parent that was
// trimmed, maybe before it was read: that is a loss.
func (r *ChangeReader) adopt(orphans []listed) error {
	before, seen := r.orphans, make(map[string]bool, len(orphans))
	for _, o := range orphans {
		switch {
		case !before[o.id]:
			seen[o.id] = true
		case o.parent == "":
			r.state.put(o.id, place{kind: atFirst})
		default:
			return r.trimmed("")
		}
	}
	r.orphans = seen
	return nil
}

// trimmed returns the [events.TrimmedError] for a shard, "" if it is unknown.
func (r *ChangeReader) trimmed(shard string) error {
	resume := r.state.afterLoss(r.listing, shard)
	if len(resume.members) == 0 {
		return &events.TrimmedError{}
	}
	return &events.TrimmedError{Resume: resume.encode(r.identity)}
}

// ended returns the error of a stream without more records. It looks up the table's current stream.
func (r *ChangeReader) ended(ctx context.Context) error {
	before := r.arn
	r.arn, r.started = "", false
	if err := r.lookup(ctx); err != nil {
		return err
	}
	if r.arn != before {
		return ErrOtherStream
	}
	return fmt.Errorf("%w: the stream is disabled and was read to its end", events.ErrUnavailable)
}

// list returns all shards of the stream, and its status.
func (r *ChangeReader) list(ctx context.Context) (listing, types.StreamStatus, error) {
	var shards []listed
	in := &dynamodbstreams.DescribeStreamInput{StreamArn: &r.arn}
	for {
		out, err := r.streams.DescribeStream(ctx, in)
		if err != nil {
			return listing{}, "", r.listError(ctx, err)
		}
		for _, shard := range out.StreamDescription.Shards {
			l := listed{id: aws.ToString(shard.ShardId), parent: aws.ToString(shard.ParentShardId)}
			if span := shard.SequenceNumberRange; span != nil {
				l.first, l.last = aws.ToString(span.StartingSequenceNumber), aws.ToString(span.EndingSequenceNumber)
			}
			if !validShard(l.id) {
				return listing{}, "", fmt.Errorf("%w: the id of a shard is invalid", events.ErrUnavailable)
			}
			shards = append(shards, l)
		}
		in.ExclusiveStartShardId = out.StreamDescription.LastEvaluatedShardId
		if in.ExclusiveStartShardId == nil {
			return newListing(shards), out.StreamDescription.StreamStatus, nil
		}
	}
}

// listError returns the error of a listing. It keeps ResourceNotFoundException for discover.
func (r *ChangeReader) listError(ctx context.Context, err error) error {
	var none *types.ResourceNotFoundException
	if errors.As(err, &none) && ctx.Err() == nil {
		return err
	}
	return readError(ctx, err)
}
