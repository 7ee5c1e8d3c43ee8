package dynamolog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"golang.org/x/sync/errgroup"

	"parley/events"
	"parley/events/dynamolocal"
	"parley/events/dynamolocal/dynamotest"
)

// pollEvery is how often tests look at an idle stream.
const pollEvery = 20 * time.Millisecond

func streamAt(place dynamolocal.Endpoint) *ChangeReader {
	return NewChangeReader(place.Config(region), "events", PollEvery(pollEvery))
}

// take reads so many changes after a checkpoint, in batches up to a limit.
func take(t fatal, s *ChangeReader, checkpoint string, limit, n int) []events.Record {
	t.Helper()
	all, err := tryTake(s, checkpoint, limit, n)
	if err != nil {
		t.Fatalf("after %d of %d changes: %v", len(all), n, err)
	}
	return all
}

func tryTake(s *ChangeReader, checkpoint string, limit, n int) ([]events.Record, error) {
	var all []events.Record
	for len(all) < n {
		got, err := s.Next(context.Background(), checkpoint, limit, true)
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

func eventsOf(changes []events.Record) []events.Event {
	all := make([]events.Event, len(changes))
	for i, c := range changes {
		all[i] = c.Event
	}
	return all
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
	if rest := s.restOfBatch(all[19].Sequence); len(rest) != 10 {
		t.Errorf("%d records of the last batch are cached, want 10", len(rest))
	}
	for operation, most := range map[string]int{"DescribeTable": 1, "DescribeStream": 1, "GetShardIterator": 1, "GetRecords": 3} {
		if n := len(calls.of(operation)); n != most {
			t.Errorf("%d calls of %s, want %d", n, operation, most)
		}
	}
}

func TestStreamOfWhatIsNoEvent(t *testing.T) {
	place := newPlace(t)
	l := logAt(place)
	room := newRoom(t)
	e := newMessage(t, room)
	mustAppend(t, l, e)
	again := e // accepted by another region, too
	again.Region = "there"
	putItem(t, l, itemOf(again))
	strange := newMessage(t, room)
	strange.Actor = "\xff" // such as only replication brings
	strange = strange.WithDigest()
	more := itemOf(strange)
	more["aws:rep:more"] = number("1")
	putItem(t, l, more)
	bad := itemOf(newMessage(t, room))
	bad[attrActor] = number("7")
	putItem(t, l, bad)
	putItem(t, l, map[string]types.AttributeValue{
		attrStream: &types.AttributeValueMemberS{Value: "nowhere"}, attrID: &types.AttributeValueMemberS{Value: "x"},
	})
	if _, err := l.client.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: &l.table, Key: keyOf(e.Key())}); err != nil {
		t.Fatal(err)
	}
	got := take(t, streamAt(place), "", 10, 6)
	wantEvents(t, eventsOf(got[:3]), []events.Event{e, again, strange})
	for i, c := range got[3:] {
		if c.Err == nil || c.Raw == nil {
			t.Fatalf("change %d: error %v, raw %s", i+3, c.Err, c.Raw)
		}
		asLambda, err := ParseRecords([]byte(`{"Records":[` + string(c.Raw) + `]}`))
		if err != nil || asLambda[0].Err == nil || asLambda[0].Err.Error() != c.Err.Error() {
			t.Errorf("change %d: %v; as Lambda gives it: %v, %+v; %s", i+3, c.Err, err, asLambda, c.Raw)
		}
	}
}

// persist reads so many changes, and tries again as long as it fails with what passes.
func persist(t testing.TB, s *ChangeReader, checkpoint string, n int) []events.Record {
	t.Helper()
	var all []events.Record
	for len(all) < n {
		got, err := s.Next(t.Context(), checkpoint, 100, true)
		if err != nil && !passes(err) {
			t.Fatalf("after %d of %d changes: %v", len(all), n, err)
		}
		if len(got) > 0 {
			all = append(all, got...)
			checkpoint = got[len(got)-1].Sequence
		}
	}
	return all
}

func passes(err error) bool {
	return errors.Is(err, events.ErrThrottled) || errors.Is(err, events.ErrUnavailable)
}

func TestStreamTellsFaults(t *testing.T) {
	t.Parallel()
	place := newPlace(t)
	want := appendAll(t, logAt(place), newRoom(t), 1)
	for operation := range map[string]bool{"DescribeTable": true, "DescribeStream": true, "GetShardIterator": true, "GetRecords": true} {
		for fault, kind := range map[dynamotest.Fault]error{
			dynamotest.Throttle: events.ErrThrottled,
			dynamotest.Fail:     events.ErrUnavailable,
			dynamotest.Drop:     events.ErrUnavailable,
		} {
			t.Run(operation, func(t *testing.T) {
				t.Parallel()
				var good atomic.Bool
				s := streamAt(dynamotest.Spoil(t, place, func(c dynamotest.Call) dynamotest.Fault {
					if c.Operation == operation && !good.Load() {
						return fault
					}
					return dynamotest.None
				}))
				if _, err := s.Next(t.Context(), "", 1, true); !errors.Is(err, kind) {
					t.Errorf("fault %d: error %v, want %v", fault, err, kind)
				}
				good.Store(true)
				wantEvents(t, eventsOf(take(t, s, "", 1, 1)), want)
			})
		}
	}
}

// While every third call fails, nothing is missing and nothing comes twice.
func TestStreamUnderFaults(t *testing.T) {
	t.Parallel()
	place := newPlace(t)
	s := streamAt(dynamotest.Spoil(t, place, func(dynamotest.Call) dynamotest.Fault {
		if rand.N(3) > 0 {
			return dynamotest.None
		}
		return []dynamotest.Fault{dynamotest.Throttle, dynamotest.Fail, dynamotest.Drop, dynamotest.Lose}[rand.N(4)]
	}))
	want := appendAll(t, logAt(place), newRoom(t), 300)
	wantEvents(t, eventsOf(persist(t, s, "", 300)), want)
}

func TestStreamOfAnother(t *testing.T) {
	place := newPlace(t)
	l := logAt(place)
	appendAll(t, l, newRoom(t), 1)
	s := streamAt(place)
	checkpoint := take(t, s, "", 1, 1)[0].Sequence

	if _, err := streamAt(newPlace(t)).Next(t.Context(), checkpoint, 1, true); !errors.Is(err, ErrOtherStream) {
		t.Errorf("the checkpoint of another table's stream: error %v", err)
	}
	if _, err := s.Next(t.Context(), "17", 1, true); !errors.Is(err, events.ErrCheckpoint) {
		t.Errorf("no checkpoint: error %v", err)
	}
	if _, err := NewChangeReader(place.Config(region), "nothing").Next(t.Context(), "", 1, true); !errors.Is(err, events.ErrUnavailable) {
		t.Errorf("no table: error %v", err)
	}

	turn(t, l, false)
	if _, err := s.Next(t.Context(), checkpoint, 1, true); !errors.Is(err, events.ErrUnavailable) {
		t.Errorf("a stream that is turned off: error %v", err)
	}
	turn(t, l, true)
	for range 2 {
		if _, err := s.Next(t.Context(), checkpoint, 1, true); !errors.Is(err, ErrOtherStream) {
			t.Errorf("a checkpoint of before the stream was made anew: error %v", err)
		}
	}
	want := appendAll(t, l, newRoom(t), 1)
	wantEvents(t, eventsOf(take(t, s, "", 1, 1)), want)
}

// turn turns the stream of a table on or off.
func turn(t *testing.T, l *Log, on bool) {
	t.Helper()
	spec := &types.StreamSpecification{StreamEnabled: &on}
	if on {
		spec.StreamViewType = types.StreamViewTypeNewImage
	}
	if _, err := l.client.UpdateTable(t.Context(), &dynamodb.UpdateTableInput{TableName: &l.table, StreamSpecification: spec}); err != nil {
		t.Fatal(err)
	}
}

// moving sends requests to wherever the server is now.
type moving struct{ host atomic.Pointer[string] }

func (m *moving) to(s *dynamolocal.Server) {
	m.host.Store(aws.String(s.URL[len("http://"):]))
}

func (m *moving) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Host = *m.host.Load()
	return http.DefaultTransport.RoundTrip(r)
}

// The server is killed with kill -9 while events are written and read, and started again.
func TestStreamOutlivesAKill(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("-short: DynamoDB Local is killed and started again, for most of a minute")
	}
	const n = 150
	o := dynamolocal.Options{Data: t.TempDir()}
	server := dynamotest.Start(t, o)
	var way moving
	way.to(server)
	cfg := dynamolocal.Endpoint{URL: server.URL, Key: dynamolocal.NewKey()}.Config(region)
	cfg.HTTPClient = &http.Client{Transport: &way}
	if err := CreateTable(t.Context(), cfg, "events"); err != nil {
		t.Fatal(err)
	}
	reader := NewChangeReader(cfg, "events", PollEvery(10*time.Millisecond))
	var want []events.Event
	var g errgroup.Group
	g.Go(func() (err error) {
		want, err = write(t.Context(), New(cfg, "events"), newRoom(t), n)
		return err
	})

	got := persist(t, reader, "", n/4)
	server.Close()
	if _, err := reader.Next(t.Context(), got[len(got)-1].Sequence, 1, true); err != nil && !passes(err) {
		t.Fatalf("without a server: %v", err)
	}
	way.to(dynamotest.Start(t, o))
	after := got[len(got)-1].Sequence
	rest := persist(t, reader, after, n-len(got))
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	wantEvents(t, eventsOf(append(got, rest...)), want)
	another := persist(t, NewChangeReader(cfg, "events", PollEvery(10*time.Millisecond)), after, len(rest))
	wantEvents(t, eventsOf(another), eventsOf(rest))
}

// What DynamoDB answers of itself only after hours: an iterator that expired is replaced, and what
// was trimmed after a checkpoint is an error from which reading resumes. At the beginning, where
// nothing is promised, it is none.
func TestStreamOfALongDay(t *testing.T) {
	t.Parallel()
	place := newPlace(t)
	want := appendAll(t, logAt(place), newRoom(t), 20)
	for name, tt := range map[string]struct {
		fault     dynamotest.Fault
		beginning bool // the fault strikes the first read, not one after a checkpoint
		trimmed   bool // it is an error
	}{
		"expired":                  {fault: dynamotest.Expire},
		"expired at the beginning": {fault: dynamotest.Expire, beginning: true},
		"trimmed":                  {fault: dynamotest.Trim, trimmed: true},
		"trimmed at the beginning": {fault: dynamotest.Trim, beginning: true},
		"the shard is gone":        {fault: dynamotest.Purge, trimmed: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var strike atomic.Bool
			spoilt := dynamotest.Spoil(t, place, func(c dynamotest.Call) dynamotest.Fault {
				if c.Operation == "GetRecords" && strike.CompareAndSwap(true, false) {
					return tt.fault
				}
				return dynamotest.None
			})
			s := streamAt(spoilt)
			checkpoint, got := "", []events.Record(nil)
			if !tt.beginning {
				got = take(t, s, "", 5, 5)
				checkpoint = got[4].Sequence
			}
			strike.Store(true)
			rest, err := tryTake(s, checkpoint, 5, 5)
			var trimmed *events.TrimmedError
			if errors.As(err, &trimmed) != tt.trimmed {
				t.Fatalf("error %v, want that of trimming: %v", err, tt.trimmed)
			}
			if !tt.trimmed {
				got = append(got, rest...)
				got = append(got, take(t, s, got[len(got)-1].Sequence, 20, len(want)-len(got))...)
				wantEvents(t, eventsOf(got), want)
				return
			}
			// The oldest that is left is the first, as nothing was trimmed in fact.
			wantEvents(t, eventsOf(take(t, streamAt(spoilt), trimmed.Resume, 20, len(want))), want)
		})
	}
}
