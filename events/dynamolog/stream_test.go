package dynamolog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"parley/events"
	"parley/events/dynamolocal"
	"parley/events/dynamolocal/dynamotest"
)

func streamAt(place dynamolocal.Endpoint) *Stream {
	return NewStream(place.Config(region), "events", StreamPoll(20*time.Millisecond))
}

// take reads so many changes after a checkpoint, in batches up to a limit.
func take(t fatal, s *Stream, checkpoint string, limit, n int) []Change {
	t.Helper()
	all, err := tryTake(s, checkpoint, limit, n)
	if err != nil {
		t.Fatalf("after %d of %d changes: %v", len(all), n, err)
	}
	return all
}

func tryTake(s *Stream, checkpoint string, limit, n int) ([]Change, error) {
	var all []Change
	for len(all) < n {
		got, err := s.Next(context.Background(), checkpoint, limit)
		if err != nil {
			return all, err
		}
		if len(got) == 0 || len(got) > limit {
			return all, fmt.Errorf("a batch of %d changes, want 1 to %d", len(got), limit)
		}
		all = append(all, got...)
		checkpoint = all[len(all)-1].Sequence
	}
	return all, nil
}

// appendAll appends new events to a room, one after the other.
func appendAll(t fatal, l *Log, room events.Stream, n int) []events.Event {
	t.Helper()
	all, err := write(context.Background(), l, room, n)
	if err != nil {
		t.Fatalf("append: %v", err)
	}
	return all
}

// write appends new events to a room, one after the other, each until it is stored. It ends
// early with ctx.
func write(ctx context.Context, l *Log, room events.Stream, n int) (all []events.Event, err error) {
	for len(all) < n && ctx.Err() == nil {
		id, err := clock.Mint("ada")
		if err != nil {
			return all, err
		}
		e, err := events.New(id, room, "ada", "here", events.MessagePosted{Text: events.Plain("hello")})
		if err != nil {
			return all, err
		}
		for stored := false; !stored; {
			_, _, err := l.Append(context.WithoutCancel(ctx), e)
			if err != nil && !passes(err) && !errors.Is(err, events.ErrUnknownOutcome) {
				return all, err
			}
			stored = err == nil
		}
		all = append(all, e)
	}
	return all, nil
}

func eventsOf(changes []Change) []events.Event {
	all := make([]events.Event, len(changes))
	for i, c := range changes {
		all[i] = c.Event
	}
	return all
}

// ofRoom returns the changes of one room.
func ofRoom(changes []Change, room events.Stream) []Change {
	return slices.DeleteFunc(slices.Clone(changes), func(c Change) bool { return c.Event.Stream != room })
}

func TestStreamUnderWriters(t *testing.T) {
	const writers, each = 4, 60
	place := newPlace(t)
	want := make([][]events.Event, writers)
	got := make([][]Change, 2)
	var g errgroup.Group
	for i := range want {
		g.Go(func() (err error) {
			want[i], err = write(t.Context(), logAt(place), newRoom(t), each)
			return err
		})
	}
	for i := range got {
		g.Go(func() (err error) {
			got[i], err = tryTake(streamAt(place), "", 7, writers*each)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, changes := range got {
		for _, room := range want {
			wantEvents(t, eventsOf(ofRoom(changes, room[0].Stream)), room)
		}
	}
}

func TestStreamGoesOnFromAnyCheckpoint(t *testing.T) {
	const n = 50
	place := newPlace(t)
	want := appendAll(t, logAt(place), newRoom(t), n)
	all := take(t, streamAt(place), "", n, n)
	wantEvents(t, eventsOf(all), want)
	longLived := streamAt(place)
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.IntRange(0, n-1).Draw(t, "from")
		checkpoint := ""
		if from > 0 {
			checkpoint = all[from-1].Sequence
		}
		s := longLived
		if rapid.Bool().Draw(t, "new") {
			s = streamAt(place)
		}
		limit := rapid.IntRange(1, n).Draw(t, "limit")
		got := take(t, s, checkpoint, limit, rapid.IntRange(1, min(3*limit, n-from)).Draw(t, "at least"))
		wantEvents(t, eventsOf(got), want[from:from+len(got)])
		for i, c := range got {
			if c.Sequence != all[from+i].Sequence {
				t.Fatalf("change %d has the checkpoint %s, before it was %s", from+i, c.Sequence, all[from+i].Sequence)
			}
		}
	})
}

// A batch that was handled in part is not read again, and going on costs one call.
func TestStreamCallsNoMoreThanItMust(t *testing.T) {
	place := newPlace(t)
	appendAll(t, logAt(place), newRoom(t), 30)
	var calls calls
	s := streamAt(dynamotest.Spoil(t, place, calls.fault))
	all := take(t, s, "", 10, 30)
	for _, from := range []int{27, 22, 20} {
		take(t, s, all[from-1].Sequence, 2, 2)
	}
	if again := s.again(all[19].Sequence); len(again) != 10 {
		t.Errorf("of the last batch %d changes are kept, want 10", len(again))
	}
	for operation, most := range map[string]int{"DescribeTable": 1, "DescribeStream": 1, "GetShardIterator": 1, "GetRecords": 3} {
		if n := len(calls.of(operation)); n != most {
			t.Errorf("%d calls of %s, want %d", n, operation, most)
		}
	}
}

func TestStreamWaits(t *testing.T) {
	place := newPlace(t)
	s := streamAt(place)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if got, err := s.Next(ctx, "", 10); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("of an empty stream: %d changes, error %v", len(got), err)
	}
	var late []Change
	var g errgroup.Group
	g.Go(func() (err error) {
		late, err = tryTake(s, "", 10, 1)
		return err
	})
	want := appendAll(t, logAt(place), newRoom(t), 1)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	wantEvents(t, eventsOf(late), want)
}

func TestStreamOfWhatIsNoEvent(t *testing.T) {
	place := newPlace(t)
	l := logAt(place)
	room := newRoom(t)
	e := newMessage(t, room)
	mustAppend(t, l, e)
	other := message(t, room, e.ID, "there", "other")
	putItem(t, l, itemOf(other))
	strange := newMessage(t, room)
	strange.Actor = "\xff" // such as only replication brings
	more := itemOf(strange)
	more["aws:rep:more"] = number("1")
	putItem(t, l, more)
	bad := itemOf(newMessage(t, room))
	bad[attrActor] = number("7")
	putItem(t, l, bad)
	putItem(t, l, map[string]types.AttributeValue{
		attrStream: &types.AttributeValueMemberS{Value: "nowhere"}, attrID: &types.AttributeValueMemberS{Value: "x"},
	})
	if _, err := l.client.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: &l.table, Key: keyOf(room, e.ID)}); err != nil {
		t.Fatal(err)
	}
	got := take(t, streamAt(place), "", 10, 6)
	wantEvents(t, eventsOf(got[:3]), []events.Event{e, other, strange})
	if got[0].Replaced || !got[1].Replaced {
		t.Errorf("replaced: %v, then %v", got[0].Replaced, got[1].Replaced)
	}
	for i, c := range got[3:] {
		if c.Err == nil || c.Raw == nil {
			t.Fatalf("change %d: error %v, raw %s", i+3, c.Err, c.Raw)
		}
		asLambda, err := ParseChanges([]byte(`{"Records":[` + string(c.Raw) + `]}`))
		if err != nil || asLambda[0].Err == nil || asLambda[0].Err.Error() != c.Err.Error() {
			t.Errorf("change %d: %v; as Lambda gives it: %v, %+v; %s", i+3, c.Err, err, asLambda, c.Raw)
		}
	}
}
