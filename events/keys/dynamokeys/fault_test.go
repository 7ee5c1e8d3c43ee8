package dynamokeys_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"parley/events"
	"parley/events/dynamolocal/dynamotest"
	"parley/events/keys"
	"parley/events/keys/dynamokeys"
)

const always = 1 << 30

// spoiled makes a table with two keys of a user, and returns the store with a fault in the way of
// some calls of an operation, from the first or a later one on, and the store with none.
func spoiled(t *testing.T, operation string, fault dynamotest.Fault, from, times int64) (bad, good *dynamokeys.Store) {
	t.Helper()
	place := dynamotest.Open(t)
	good = dynamokeys.New(createTable(t, place), table)
	for id := range byte(2) {
		must(t, good.Add(t.Context(), "secret-user", keys.Wrapped{ID: keys.ID{id + 1}, Bytes: []byte("key")}))
	}
	var calls atomic.Int64
	bad = dynamokeys.New(dynamotest.Spoil(t, place, func(c dynamotest.Call) dynamotest.Fault {
		if c.Operation != operation {
			return dynamotest.None
		}
		if n := calls.Add(1); n >= from && n < from+times {
			return fault
		}
		return dynamotest.None
	}).Config(region), table)
	return bad, good
}

// steps are all operations, each with the calls to DynamoDB that it makes, and what there is after it.
var steps = []struct {
	name   string
	calls  []string
	do     func(context.Context, *dynamokeys.Store) error
	ids    []byte
	erased bool
}{
	{"Load", []string{"Query"}, func(ctx context.Context, s *dynamokeys.Store) error {
		_, err := s.Load(ctx, "secret-user")
		return err
	}, []byte{1, 2}, false},
	{"Users", []string{"Scan"}, func(ctx context.Context, s *dynamokeys.Store) error {
		for _, err := range s.Users(ctx) {
			if err != nil {
				return err
			}
		}
		return nil
	}, []byte{1, 2}, false},
	{"Add", []string{"PutItem", "GetItem"}, func(ctx context.Context, s *dynamokeys.Store) error {
		return s.Add(ctx, "secret-user", keys.Wrapped{ID: keys.ID{3}, Bytes: []byte("secret-key")})
	}, []byte{1, 2, 3}, false},
	{"Erase", []string{"PutItem", "Query", "DeleteItem"}, func(ctx context.Context, s *dynamokeys.Store) error {
		return s.Erase(ctx, "secret-user")
	}, nil, true},
}

// Two faults in a row are retried without an error. A fault that lasts is returned as a temporary
// error that names no user. A repeated call then succeeds.
func TestFaults(t *testing.T) {
	faults := map[dynamotest.Fault]string{
		dynamotest.Throttle: "Throttle", dynamotest.Fail: "Fail", dynamotest.Drop: "Drop", dynamotest.Lose: "Lose",
	}
	for _, step := range steps {
		done := func(t *testing.T, s *dynamokeys.Store) {
			t.Helper()
			if got, erased := ids(t, s, "secret-user"); !slices.Equal(got, step.ids) || erased != step.erased {
				t.Errorf("there are the keys %v, erased %t", got, erased)
			}
		}
		for _, call := range step.calls {
			for fault, name := range faults {
				t.Run(step.name+"/"+call+"/"+name, func(t *testing.T) {
					t.Parallel()
					bad, good := spoiled(t, call, fault, 1, 2)
					if err := step.do(t.Context(), bad); err != nil {
						t.Errorf("two faults are not retried: %v", err)
					}
					done(t, good)
					bad, good = spoiled(t, call, fault, 1, always)
					wantPassing(t, step.do(t.Context(), bad), fault == dynamotest.Throttle)
					must(t, step.do(t.Context(), good))
					done(t, good)
				})
			}
		}
	}
}

// wantPassing checks that an error is a temporary one of package events, and names no user.
func wantPassing(t *testing.T, err error, throttled bool) {
	t.Helper()
	if errors.Is(err, events.ErrThrottled) != throttled || errors.Is(err, events.ErrUnavailable) == throttled {
		t.Errorf("the error is %v", err)
	}
	if err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "spoiled")) {
		t.Errorf("the error says too much: %v", err)
	}
}

// An Erase that fails in the middle has erased the user: no key that is left may be used, and none can
// be added. A repeated Erase deletes what is left.
func TestEraseBreaksOff(t *testing.T) {
	for fault, name := range map[dynamotest.Fault]string{dynamotest.Throttle: "refused", dynamotest.Lose: "but deleted"} {
		t.Run(name, func(t *testing.T) {
			bad, good := spoiled(t, "DeleteItem", fault, 2, always)
			wantPassing(t, bad.Erase(t.Context(), "secret-user"), fault == dynamotest.Throttle)
			want := []byte{2}
			if fault == dynamotest.Lose {
				want = nil
			}
			if got, erased := ids(t, good, "secret-user"); !slices.Equal(got, want) || !erased {
				t.Errorf("there are the keys %v, erased %t", got, erased)
			}
			if err := good.Add(t.Context(), "secret-user", keys.Wrapped{ID: keys.ID{3}, Bytes: []byte("key")}); !errors.Is(err, keys.ErrErased) {
				t.Errorf("Add: %v", err)
			}
			must(t, good.Erase(t.Context(), "secret-user"))
			if got, erased := ids(t, good, "secret-user"); len(got) > 0 || !erased {
				t.Errorf("there are the keys %v, erased %t", got, erased)
			}
		})
	}
}

// A call whose context ends returns the context's error.
func TestCancelledMidway(t *testing.T) {
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			place := dynamotest.Open(t)
			createTable(t, place)
			ctx, cancel := context.WithCancel(t.Context())
			s := dynamokeys.New(dynamotest.Spoil(t, place, func(dynamotest.Call) dynamotest.Fault {
				cancel()
				return dynamotest.Lose
			}).Config(region), table)
			if err := step.do(ctx, s); !errors.Is(err, context.Canceled) || errors.Is(err, events.ErrThrottled) {
				t.Errorf("error %v, want %v", err, context.Canceled)
			}
		})
	}
}

// An error does not contain DynamoDB's message, which may quote its input. An error that is not
// temporary matches no error of package events.
func TestRefused(t *testing.T) {
	cfg := dynamotest.Open(t).Config(region)
	cfg.HTTPClient = answering{http.StatusBadRequest, `{"__type":"com.amazon.coral.service#AccessDeniedException","Message":"secret"}`}
	_, err := dynamokeys.New(cfg, table).Load(t.Context(), "secret-user")
	if err == nil || err.Error() != "load keys: AccessDeniedException" || errors.Is(err, events.ErrUnavailable) || errors.Is(err, events.ErrThrottled) {
		t.Errorf("Load: %v", err)
	}
	cfg.HTTPClient = answering{http.StatusBadRequest, `{"__type":"com.amazonaws.dynamodb.v20120810#ReplicatedWriteConflictException","message":"secret"}`}
	err = dynamokeys.New(cfg, table).Add(t.Context(), "secret-user", keys.Wrapped{})
	if err == nil || err.Error() != "add a key: ReplicatedWriteConflictException" || !errors.Is(err, events.ErrUnavailable) {
		t.Errorf("Add: %v", err)
	}
}

// answering answers every call instead of DynamoDB.
type answering struct {
	status int
	text   string
}

func (a answering) Do(r *http.Request) (*http.Response, error) {
	header := http.Header{"Content-Type": {"application/x-amz-json-1.0"}}
	return &http.Response{StatusCode: a.status, Header: header, Body: io.NopCloser(strings.NewReader(a.text)), Request: r}, nil
}
