package dynamolog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"parley/events/dynamotable"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
)

// Stream reads the stream of the event table: what came into this region, by whatever way. One
// goroutine at a time may use it; any number of Streams may read one table.
//
// It reads shard after shard as DynamoDB's documentation wants it: a shard to its end, then its
// children. So changes of one item come in their order; of different items, and be they of one
// room, they may not.
type Stream struct {
	table   string
	region  string
	tables  *dynamodb.Client
	streams *dynamodbstreams.Client
	pace    pace

	// The stream, once it is known.
	arn      string
	identity string
	listing  listing
	listAt   time.Time       // when it is to be listed again; zero: at once
	orphans  map[string]bool // of the last listing

	// How far it has been read.
	at      string // the checkpoint of state
	state   frontier
	started bool // state is of this stream and of at
	cursors map[string]*cursor
	before  string   // the checkpoint before batch
	batch   []Change // what was returned last
}

// StreamOption is a setting of [NewStream].
type StreamOption func(*Stream)

// StreamPoll sets for how long an idle stream is left alone between two looks at it, at most.
// Just after a change it is looked at every millisecond, then ever less often. It is for a stream
// on this machine: AWS does not allow more than 5 looks a second at one shard, by all readers
// together; without this option a Stream takes 4 of them, as Lambda does.
func StreamPoll(longest time.Duration) StreamOption {
	return func(s *Stream) { s.pace = pace{min(time.Millisecond, longest), longest} }
}

// NewStream returns a reader of the table's stream, in the region of cfg. It makes no call. Calls
// that fail are repeated by the SDK as cfg says, by default twice.
func NewStream(cfg aws.Config, table string, options ...StreamOption) *Stream {
	tables, _ := newClient(cfg)
	s := &Stream{
		table: table, region: cfg.Region, tables: tables, pace: awsPace, cursors: map[string]*cursor{},
		streams: dynamodbstreams.NewFromConfig(cfg, func(o *dynamodbstreams.Options) {
			if c, ok := o.HTTPClient.(*awshttp.BuildableClient); ok && c.GetTimeout() == 0 {
				o.HTTPClient = c.WithTimeout(readTimeout)
			}
		}),
	}
	for _, o := range options {
		o(s)
	}
	return s
}

// readTimeout bounds one attempt to read from a stream: 1 MB at most.
const readTimeout = 10 * time.Second

// TrimmedError says that the stream no longer has all that comes after a checkpoint, as far as
// can be known: DynamoDB keeps a record for 24 hours. Whoever can do without what is missing, or
// gets it from the table, goes on with Resume; nothing of that is skipped.
type TrimmedError struct {
	// Resume is the checkpoint before the oldest records there are, and for shards of which nothing
	// is missing still the one that was given. It may be "", the beginning.
	Resume string
}

func (e *TrimmedError) Error() string {
	return "the stream no longer has all that comes after the checkpoint"
}

// Next returns changes that come after a checkpoint: at least one, at most limit and 1,000. The
// checkpoint "" is the beginning of what the stream has, up to 24 hours ago. Next waits for the
// first change until ctx ends. Each Change.Sequence is the checkpoint up to and including that
// change; it stays good when reader, process or store start anew. To go on from the last change
// returned is cheap, from another one of the last batch as well.
//
// Errors: [ErrCheckpoint], [ErrOtherStream], a [TrimmedError], and, to be tried again with the same
// checkpoint, [events.ErrThrottled], [events.ErrUnavailable] and those of ctx. After an error
// nothing is missing and, as long as the Stream lives, nothing comes twice.
func (s *Stream) Next(ctx context.Context, checkpoint string, limit int) ([]Change, error) {
	changes, err := s.next(ctx, checkpoint, max(limit, 1))
	if err != nil {
		return nil, fmt.Errorf("read the stream of the event table: %w", err)
	}
	return changes, nil
}

func (s *Stream) next(ctx context.Context, checkpoint string, limit int) ([]Change, error) {
	if again := s.again(checkpoint); len(again) > 0 {
		return slices.Clone(again[:min(limit, len(again))]), nil
	}
	if err := s.start(ctx, checkpoint); err != nil {
		return nil, err
	}
	for {
		if err := s.discover(ctx); err != nil {
			return nil, err
		}
		changes, err := s.round(ctx, limit)
		if err != nil {
			return nil, err
		}
		if len(changes) > 0 {
			s.before, s.batch, s.at = s.at, changes, changes[len(changes)-1].Sequence
			return slices.Clone(changes), nil
		}
		if err := dynamotable.Sleep(ctx, time.Until(s.due())); err != nil {
			return nil, err
		}
	}
}

// again returns what came after a checkpoint in the last batch.
func (s *Stream) again(checkpoint string) []Change {
	if checkpoint == s.at || len(s.batch) == 0 {
		return nil
	}
	if checkpoint == s.before {
		return s.batch
	}
	i := slices.IndexFunc(s.batch, func(c Change) bool { return c.Sequence == checkpoint })
	if i < 0 {
		return nil
	}
	return s.batch[i+1:]
}

// start makes state that of a checkpoint.
func (s *Stream) start(ctx context.Context, checkpoint string) error {
	if s.started && checkpoint == s.at {
		return nil
	}
	if s.arn == "" {
		if err := s.lookup(ctx); err != nil {
			return err
		}
	}
	state, err := s.decode(checkpoint)
	if errors.Is(err, ErrOtherStream) { // is this still the table's stream?
		if err := s.lookup(ctx); err != nil {
			return err
		}
		state, err = s.decode(checkpoint)
	}
	if err != nil {
		return err
	}
	s.state, s.at, s.started = state, checkpoint, true
	s.batch, s.orphans, s.listAt = nil, nil, time.Time{}
	return nil
}

func (s *Stream) decode(checkpoint string) (frontier, error) {
	if checkpoint == "" {
		return frontier{}, nil
	}
	return decodeFrontier(checkpoint, s.identity)
}

// round looks once at each shard that may be read and is due, in turn, until one has changes.
func (s *Stream) round(ctx context.Context, limit int) ([]Change, error) {
	for _, m := range s.state.readable() {
		if !s.state.has(m) || time.Until(s.cursor(m).due) > 0 { // a look at another may have told of it
			continue
		}
		changes, err := s.look(ctx, m, limit)
		if err != nil || len(changes) > 0 {
			return changes, err
		}
	}
	return nil, nil
}

// due is when there is something to do next.
func (s *Stream) due() time.Time {
	due := s.listAt
	for _, m := range s.state.readable() {
		if at := s.cursor(m).due; at.Before(due) {
			due = at
		}
	}
	return due
}
