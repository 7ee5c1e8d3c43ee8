package dynamolog

import (
	"errors"
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

// persist reads so many changes, and tries again as long as it fails with what passes.
func persist(t testing.TB, s *Stream, checkpoint string, n int) []Change {
	t.Helper()
	var all []Change
	for len(all) < n {
		got, err := s.Next(t.Context(), checkpoint, 100)
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
				if _, err := s.Next(t.Context(), "", 1); !errors.Is(err, kind) {
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

	if _, err := streamAt(newPlace(t)).Next(t.Context(), checkpoint, 1); !errors.Is(err, ErrOtherStream) {
		t.Errorf("the checkpoint of another table's stream: error %v", err)
	}
	if _, err := s.Next(t.Context(), "17", 1); !errors.Is(err, ErrCheckpoint) {
		t.Errorf("no checkpoint: error %v", err)
	}
	if _, err := NewStream(place.Config(region), "nothing").Next(t.Context(), "", 1); !errors.Is(err, events.ErrUnavailable) {
		t.Errorf("no table: error %v", err)
	}

	turn(t, l, false)
	if _, err := s.Next(t.Context(), checkpoint, 1); !errors.Is(err, events.ErrUnavailable) {
		t.Errorf("a stream that is turned off: error %v", err)
	}
	turn(t, l, true)
	for range 2 {
		if _, err := s.Next(t.Context(), checkpoint, 1); !errors.Is(err, ErrOtherStream) {
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
	reader := NewStream(cfg, "events", StreamPoll(10*time.Millisecond))
	var want []events.Event
	var g errgroup.Group
	g.Go(func() (err error) {
		want, err = write(t.Context(), New(cfg, "events"), newRoom(t), n)
		return err
	})

	got := persist(t, reader, "", n/4)
	server.Close()
	if _, err := reader.Next(t.Context(), got[len(got)-1].Sequence, 1); err != nil && !passes(err) {
		t.Fatalf("without a server: %v", err)
	}
	way.to(dynamotest.Start(t, o))
	after := got[len(got)-1].Sequence
	rest := persist(t, reader, after, n-len(got))
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	wantEvents(t, eventsOf(append(got, rest...)), want)
	another := persist(t, NewStream(cfg, "events", StreamPoll(10*time.Millisecond)), after, len(rest))
	wantEvents(t, eventsOf(another), eventsOf(rest))
}
