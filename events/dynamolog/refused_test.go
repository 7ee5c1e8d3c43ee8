package dynamolog

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"parley/events"
	ddb "parley/events/dynamodb"
	"parley/events/dynamolocal/dynamotest"
)

// answers starts a server that answers every call alike.
func answers(t *testing.T, status int, body string) aws.Config {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	return at(server.URL)
}

// TestRefused tries what DynamoDB Local never says.
func TestRefused(t *testing.T) {
	run, wait := sideBySide(t)
	defer wait()
	gone := httptest.NewServer(nil)
	gone.Close()
	anonymous := at(gone.URL)
	anonymous.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{}, errors.New("no credentials here")
	})
	const secret = "the text of a message"
	for _, tt := range []struct {
		name   string
		cfg    aws.Config
		append error
		read   error
	}{
		{"no access", answers(t, 400, `{"__type":"com.amazon.coral.service#AccessDeniedException","message":"`+secret+`"}`), events.ErrUnavailable, events.ErrUnavailable},
		{"no table", answers(t, 400, `{"__type":"com.amazonaws.dynamodb.v20120810#ResourceNotFoundException","message":"`+secret+`"}`), events.ErrUnavailable, events.ErrUnavailable},
		{"another schema", answers(t, 400, `{"__type":"com.amazon.coral.validate#ValidationException","message":"`+secret+`"}`), events.ErrUnavailable, events.ErrUnavailable},
		{"a limit of the account", answers(t, 400, `{"__type":"com.amazonaws.dynamodb.v20120810#RequestLimitExceeded","message":"`+secret+`"}`), events.ErrThrottled, events.ErrThrottled},
		{"a limit of the key", answers(t, 400, `{"__type":"com.amazon.coral.availability#ThrottlingException","message":"`+secret+`"}`), events.ErrThrottled, events.ErrThrottled},
		{"a write by another region", answers(t, 400, `{"__type":"com.amazonaws.dynamodb.v20120810#ReplicatedWriteConflictException","message":"`+secret+`"}`), events.ErrThrottled, events.ErrThrottled},
		{"no room", answers(t, 503, secret), events.ErrUnknownOutcome, events.ErrUnavailable},
		{"an answer that is cut off", answers(t, 200, `{"Attributes":{"data":{"S":"`+secret), events.ErrUnknownOutcome, events.ErrUnavailable},
		{"no server", at(gone.URL), events.ErrUnavailable, events.ErrUnavailable},
		{"no credentials", anonymous, events.ErrUnavailable, events.ErrUnavailable},
	} {
		l, e := New(tt.cfg, "events"), newMessage(t, newRoom(t))
		for what, call := range map[string]func() error{
			"append":    func() error { _, _, err := l.Append(t.Context(), e); return err },
			"replicate": func() error { return l.Replicate(t.Context(), []events.Record{{Event: e}}) },
			"get":       func() error { _, err := events.Get(t.Context(), l, e.Stream, e.ID); return err },
			"get many":  func() error { _, err := l.GetMany(t.Context(), []events.Key{e.Key()}); return err },
			"read":      func() error { _, err := collect(l.Read(t.Context(), e.Stream, events.Range{})); return err },
			"scan":      func() error { _, err := collect(l.Scan(t.Context(), events.Part{Of: 2}, events.Key{})); return err },
			"identity":  func() error { _, err := l.Identity(t.Context()); return err },
		} {
			run(tt.name+"/"+what, func(t *testing.T) {
				err, want := call(), tt.read
				if what == "append" || what == "replicate" {
					want = tt.append
				}
				if !errors.Is(err, want) {
					t.Errorf("error %v, want %v", err, want)
				}
				wantOneKind(t, err)
				if err != nil && (strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), e.ID.String())) {
					t.Errorf("error %q carries text of the user", err)
				}
			})
		}
	}
}

// TestReadFaults lets a page in the middle of a stream fail.
func TestReadFaults(t *testing.T) {
	run, wait := sideBySide(t)
	defer wait()
	place := newPlace(t)
	room := newRoom(t)
	all := fill(t, logAt(place), room, 2*maxPage+1)
	for _, tt := range []struct {
		name   string
		faults faults
		err    error
		n      int // events before it
	}{
		{"throttled for a while", faults{none, throttle, throttle, none}, nil, len(all)},
		{"broken for a while", faults{none, lose, drop, fail, none}, nil, len(all)},
		{"throttled at the beginning", faults{throttle}, events.ErrThrottled, 0},
		{"throttled in the middle", faults{none, throttle}, events.ErrThrottled, maxPage},
		{"broken in the middle", faults{none, none, drop}, events.ErrUnavailable, 2 * maxPage},
	} {
		run(tt.name, func(t *testing.T) {
			c := calls{faults: map[string][]dynamotest.Fault{"Query": tt.faults}}
			l := logAt(dynamotest.Spoil(t, place, c.fault))
			got, err := collect(l.Read(t.Context(), room, events.Range{}))
			if !errors.Is(err, tt.err) {
				t.Errorf("error %v, want %v", err, tt.err)
			}
			wantEvents(t, got, all[:tt.n])
		})
	}
}

func TestGetManyFaults(t *testing.T) {
	run, wait := sideBySide(t)
	defer wait()
	place := newPlace(t)
	room := newRoom(t)
	var keys []events.Key
	for _, e := range fill(t, logAt(place), room, ddb.BatchKeys+20) {
		keys = append(keys, e.Key())
	}
	const part = dynamotest.Part
	for _, tt := range []struct {
		name   string
		faults faults
		err    error
	}{
		{"parts", faults{part}, nil},
		{"parts and more", faults{part, throttle, part, drop, part, lose, none}, nil},
		{"throttled for a while", faults{throttle, throttle, none}, nil},
		{"throttled for good", faults{throttle}, events.ErrThrottled},
		{"throttled after a part", faults{part, throttle}, events.ErrThrottled},
	} {
		run(tt.name, func(t *testing.T) {
			c := calls{faults: map[string][]dynamotest.Fault{"BatchGetItem": tt.faults}}
			got, err := logAt(dynamotest.Spoil(t, place, c.fault)).GetMany(t.Context(), keys)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if err == nil && len(got) != len(keys) {
				t.Errorf("got %d of %d events", len(got), len(keys))
			}
		})
	}
	run("nothing processed", func(t *testing.T) {
		_, err := New(answers(t, 200, `{"Responses":{},"UnprocessedKeys":{"events":{"Keys":[{"id":{"S":"x"},"stream":{"S":"y"}}]}}}`), "events").
			GetMany(t.Context(), keys[:1])
		if !errors.Is(err, events.ErrThrottled) {
			t.Errorf("error %v, want %v", err, events.ErrThrottled)
		}
	})
}
