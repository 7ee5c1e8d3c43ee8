package dynamolog

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"
	"golang.org/x/sync/errgroup"

	"parley/events"
	"parley/events/dynamolocal"
	"parley/events/dynamolocal/dynamotest"
)

// fastClock lets a day pass in 22 seconds. DynamoDB Local closes a shard after 4 hours, forgets
// an iterator after 15 minutes and a record after a day. Much faster it does not work: it also
// gives up a connection that was idle for 30 seconds of its time.
const fastClock = "+0 x4000"

// TestStreamThroughADay reads while events are written, for more than a day of the store's time.
func TestStreamThroughADay(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("-short: it takes a minute and a half, most of them waited for")
	}
	if found, _ := filepath.Glob("/usr/lib/*/faketime/libfaketimeMT.so.1"); len(found) == 0 {
		t.Skip("needs libfaketime, for a clock that runs fast; on Debian: apt-get install faketime")
	}
	server := dynamotest.Start(t, dynamolocal.Options{Clock: fastClock})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	d := &day{cfg: dynamolocal.Endpoint{URL: server.URL, Key: dynamolocal.NewKey()}.Config(region), done: make(chan struct{})}
	d.until(ctx, t, "there is a table", func() bool { return CreateTable(ctx, d.cfg, "events") == nil })

	writing, stop := context.WithCancel(ctx)
	defer stop()
	var g errgroup.Group
	g.Go(func() error { return d.write(writing, newRoom(t)) })
	g.Go(func() error { return d.follow(ctx, d.stream(), &d.followed) })
	d.expire(ctx, t)
	late, resumed := d.trim(ctx, t)
	g.Go(func() error { return d.follow(ctx, late, &resumed) })
	gone := d.gone(ctx, t)
	stop()
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}

	wantEvents(t, eventsOf(d.followed), d.written)
	if n := len(d.shards()); n < 5 {
		t.Errorf("it was read from %d shards; a day should have 6", n)
	}
	wantEvents(t, eventsOf(resumed), d.written[len(d.written)-len(resumed):])
	for _, got := range gone {
		from := slices.IndexFunc(d.written, func(e events.Event) bool { return e.ID == got[0].Event.ID })
		wantEvents(t, eventsOf(got), d.written[from:from+len(got)])
	}
	t.Logf("%d events in %d shards; after the first was trimmed %d were left", len(d.written), len(d.shards()), len(resumed))
}

// day is what is read and written in the test.
type day struct {
	cfg      aws.Config
	written  []events.Event
	done     chan struct{} // closed when all is written
	followed []Change
	first    string // the checkpoint of the first change
}

func (d *day) stream() *Stream { return NewStream(d.cfg, "events", StreamPoll(20*time.Millisecond)) }

// until waits until a condition holds.
func (d *day) until(ctx context.Context, t *testing.T, what string, holds func() bool) {
	t.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("waiting until %s: %v", what, ctx.Err())
		}
	}
}

// read reads a batch after a checkpoint, whatever passes in between.
func (d *day) read(ctx context.Context, t *testing.T, s *Stream, checkpoint string, limit int) (got []Change) {
	t.Helper()
	d.until(ctx, t, "there are changes", func() bool {
		var err error
		if got, err = s.Next(ctx, checkpoint, limit); err != nil && !passes(err) {
			t.Fatalf("read: %v", err)
		}
		return len(got) > 0
	})
	return got
}

// write writes some 50 events a second until ctx ends.
func (d *day) write(ctx context.Context, room events.Stream) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	defer close(d.done)
	for ctx.Err() == nil {
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
		one, err := write(ctx, New(d.cfg, "events"), room, 1)
		d.written = append(d.written, one...)
		if err != nil {
			return err
		}
	}
	return nil
}

// follow reads all that is written behind what was got, as it is written: what waits for a day is gone.
func (d *day) follow(ctx context.Context, s *Stream, got *[]Change) error {
	for !d.ends(*got) && ctx.Err() == nil {
		after := ""
		if n := len(*got); n > 0 {
			after = (*got)[n-1].Sequence
		}
		wait, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		more, err := s.Next(wait, after, mostRecords)
		cancel()
		if err != nil && !passes(err) && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		*got = append(*got, more...)
	}
	return ctx.Err()
}

// ends reports whether all is written, and the last of it was got.
func (d *day) ends(got []Change) bool {
	select {
	case <-d.done:
		return len(d.written) == 0 || len(got) > 0 && got[len(got)-1].Event.ID == d.written[len(d.written)-1].ID
	default:
		return false
	}
}

// shards returns the shards of which changes came.
func (d *day) shards() (ids []string) {
	for _, c := range d.followed {
		id := c.Sequence[strings.LastIndexAny(c.Sequence, "/,")+1:]
		id, _, _ = strings.Cut(id, "=")
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// expire waits until the iterator that a reader has in hand has expired, and lets it read on.
func (d *day) expire(ctx context.Context, t *testing.T) {
	s := d.stream()
	first := d.read(ctx, t, s, "", 1)
	var in dynamodbstreams.GetRecordsInput
	for _, c := range s.cursors {
		in.ShardIterator = &c.iterator
	}
	d.until(ctx, t, "the iterator has expired", func() bool {
		_, err := s.streams.GetRecords(ctx, &in)
		return errors.As(err, new(*types.ExpiredIteratorException))
	})
	got := append(first, d.read(ctx, t, s, first[0].Sequence, 1)...)
	got = append(got, d.read(ctx, t, s, got[1].Sequence, 1)...)
	want := d.read(ctx, t, d.stream(), "", 3)
	for len(want) < 3 {
		want = append(want, d.read(ctx, t, d.stream(), want[len(want)-1].Sequence, 3-len(want))...)
	}
	wantEvents(t, eventsOf(got), eventsOf(want))
}

// trim waits until the second change has been trimmed, and begins with what is left.
func (d *day) trim(ctx context.Context, t *testing.T) (*Stream, []Change) {
	d.first = d.read(ctx, t, d.stream(), "", 1)[0].Sequence
	return d.resume(ctx, t)
}

// resume goes on after a loss. There is less every moment: what is left may be gone before it is
// read, and then that is a loss, too.
func (d *day) resume(ctx context.Context, t *testing.T) (s *Stream, got []Change) {
	t.Helper()
	d.until(ctx, t, "it can go on", func() bool {
		var err error
		s = d.stream()
		if got, err = s.Next(ctx, d.trimmed(ctx, t).Resume, mostRecords); err != nil && !passes(err) && !errors.As(err, new(*TrimmedError)) {
			t.Fatalf("read: %v", err)
		}
		return len(got) > 0
	})
	return s, got
}

// trimmed waits until something is missing after the first change.
func (d *day) trimmed(ctx context.Context, t *testing.T) (trimmed *TrimmedError) {
	t.Helper()
	d.until(ctx, t, "changes are trimmed", func() bool {
		_, err := d.stream().Next(ctx, d.first, 1)
		if err != nil && !passes(err) && !errors.As(err, &trimmed) {
			t.Fatalf("read: %v", err)
		}
		return trimmed != nil
	})
	return trimmed
}

// gone waits until nothing is left of the first shard, and begins anew in both ways there are.
func (d *day) gone(ctx context.Context, t *testing.T) [][]Change {
	s := d.stream()
	d.until(ctx, t, "the first shard is gone", func() bool {
		if err := s.start(ctx, ""); err != nil {
			return false
		}
		if err := s.discover(ctx); err != nil || len(s.state.members) == 0 {
			return false
		}
		_, err := s.fetch(ctx, s.state.members[0], &cursor{}, 1)
		return errors.As(err, new(*types.ResourceNotFoundException))
	})
	_, resumed := d.resume(ctx, t)
	return [][]Change{resumed, d.read(ctx, t, d.stream(), "", 10)}
}
